/**
 * What was measured into a TD's runtime registers: a CCEL (the TCG crypto-agile log that virtual firmware keeps), or a
 * list of events in JSON as guest agents keep it. A log counts only as far as it replays to the RTMRs of a verified quote.
 */
import { limits } from "../../../schemas/limits.ts"
import { digest } from "../eventlog/bank.ts"
import { EventLogError } from "../eventlog/error.ts"
import { type EventLog, parseEventLog } from "../eventlog/log.ts"
import { replay, replayDigests, rtmrsOf } from "../eventlog/replay.ts"
import { toHex } from "../text.ts"
import { TdxError } from "./error.ts"
import { JsonObject } from "./json.ts"
import type { TdReport } from "./td-report.ts"

export type RtmrIndex = 0 | 1 | 2 | 3
type Rtmrs = TdReport["rtmrs"]

const all: readonly RtmrIndex[] = [0, 1, 2, 3]

export interface VerifiedCcel {
  readonly log: EventLog
  /** The registers that the log is proven for. Its events count register n+1 for RTMR n. */
  readonly rtmrs: readonly RtmrIndex[]
}

/**
 * @param bytes the CCEL with its padding, at most 1 MiB
 * @param td of a quote whose signatures held
 * @param wanted which RTMRs the log must explain; by default all four, those without an event being zeros
 * @returns the log, or TdxError EVENT_LOG_MALFORMED, EVENT_LOG_MISMATCH
 */
export const verifyCcel = (
  bytes: Uint8Array,
  td: TdReport,
  wanted: readonly RtmrIndex[] = all,
): VerifiedCcel | TdxError =>
  typed(() => {
    const log = parseEventLog(bytes)
    expectRtmrs(rtmrsOf(replay(log, "sha384")), td, wanted)
    return { log, rtmrs: wanted }
  })

/** One event of a JSON log. */
export interface RtmrEvent {
  readonly rtmr: RtmrIndex
  readonly type: number
  readonly digest: Uint8Array
  readonly name: string
  readonly payload: Uint8Array
  /** The digest is that of type, name and payload: then the register vouches for them too, not for the digest alone. */
  readonly isMeasured: boolean
}

const malformed = "EVENT_LOG_MALFORMED"
const mostEvents = 1_024

/**
 * A list of `{imr, event_type, digest, event, event_payload}`, as dstack's guest agent keeps it.
 * @param bytes JSON, at most 65,536 bytes
 * @returns the events, or TdxError EVENT_LOG_MALFORMED, EVENT_LOG_MISMATCH
 */
export const verifyRtmrEvents = (
  bytes: Uint8Array,
  td: TdReport,
  wanted: readonly RtmrIndex[] = all,
): { readonly events: readonly RtmrEvent[]; readonly rtmrs: readonly RtmrIndex[] } | TdxError =>
  typed(() => {
    const events = parseRtmrEvents(bytes)
    const measurements = events.map((event) => ({ register: event.rtmr + 1, digest: event.digest }))
    expectRtmrs(rtmrsOf(replayDigests(measurements, "sha384")), td, wanted)
    return { events, rtmrs: wanted }
  })

const parseRtmrEvents = (bytes: Uint8Array): RtmrEvent[] => {
  if (bytes.length > limits.evidenceBytes)
    throw new TdxError(malformed, "log", `${bytes.length} bytes`, `at most ${limits.evidenceBytes}`)
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString("utf8"))
  } catch {
    throw new TdxError(malformed, "log", "something else", "JSON")
  }
  if (!Array.isArray(parsed) || parsed.length > mostEvents)
    throw new TdxError(malformed, "log", "something else", `a list of at most ${mostEvents} events`)
  return parsed.map((one, i) => readRtmrEvent(new JsonObject(one, `log.events[${i}]`, malformed)))
}

const readRtmrEvent = (event: JsonObject): RtmrEvent => {
  const [rtmr] = all.slice(event.integer("imr", 3))
  if (rtmr === undefined) throw new TdxError(malformed, `${event.field}.imr`, "none", "0 to 3")
  const type = event.integer("event_type", 0xffff_ffff)
  const name = event.text("event", 256)
  const hex = event.text("event_payload", limits.evidenceBytes)
  const measured = event.hex("digest", 48)
  const payload = Buffer.from(hex, "hex")
  const typeBytes = new Uint8Array(4)
  new DataView(typeBytes.buffer).setUint32(0, type, true)
  const own = digest("sha384", Buffer.concat([typeBytes, Buffer.from(`:${name}:`), payload]))
  return {
    rtmr,
    type,
    digest: measured,
    name,
    payload: Uint8Array.from(payload),
    isMeasured: 2 * payload.length === hex.length && Buffer.compare(own, measured) === 0,
  }
}

const expectRtmrs = (found: Rtmrs, td: TdReport, wanted: readonly RtmrIndex[]): void => {
  for (const i of wanted)
    if (Buffer.compare(found[i], td.rtmrs[i]) !== 0)
      throw new TdxError(
        "EVENT_LOG_MISMATCH",
        `log.rtmr${i}`,
        toHex(found[i]),
        `${toHex(td.rtmrs[i])}, as in the quote`,
      )
}

const typed = <T>(verify: () => T): T | TdxError => {
  try {
    return verify()
  } catch (error) {
    if (error instanceof TdxError) return error
    if (error instanceof EventLogError) return new TdxError(malformed, error.field, error.found, error.wanted)
    throw error
  }
}

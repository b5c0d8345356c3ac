/** Where the time of a takeover goes, as the wire saw it: for a reader who wonders why one was slow. */
import type { Msg } from "nats"
import { EvidenceReply, HelloReply } from "../../schemas/messages/attestation.ts"
import { Event } from "../../schemas/messages/event.ts"
import { type Beacon, Beacon as BeaconMessage } from "../../schemas/messages/release.ts"
import { decode } from "../../services/common/codec/index.ts"
import { arrivedMs } from "../support/raw.ts"

/** What is said from the kill on, in the order in which a takeover needs it. */
const STEPS: ReadonlyArray<readonly [string, RegExp]> = [
  ["tries for the lead", /^\$KV\.leaders\./],
  ["beacons of the new term", /\.beacon\./],
  ["hellos", /\.hello\./],
  ["quotes asked for", /\.attest\.cp\d?\./],
  ["evidence", /\.evidence\./],
  ["pulls", /\.pull\./],
  ["releases", /\.release\./],
  ["acks", /\.ack\./],
]

const refusalOf = ({ data, subject }: Msg): string | undefined => {
  if (subject.includes(".event.")) {
    const found = decode(Event, data, { subject })
    if (!found.ok || !found.value.type.endsWith("refused")) return undefined
    const { type, data: said } = found.value
    return `${type.replace("vouchsafe.", "")} ${said.node ?? ""} ${said.code} ${said.field}`
  }
  if (!subject.startsWith("_INBOX.")) return undefined
  for (const schema of [HelloReply, EvidenceReply]) {
    const found = decode(schema, data, { subject })
    if (found.ok && found.value.kind === "refused") return `${found.value.code} ${found.value.field}`
  }
  return undefined
}

const isLater = (msg: Msg, from: Beacon): boolean => {
  const found = decode(BeaconMessage, msg.data, { subject: msg.subject })
  return found.ok && found.value.term > from.term && found.value.releaser !== "r9"
}

/** One line: step, how often, when first and last, ms since the kill. `messages` from before the kill are left out. */
export const takeoverTimes = (messages: ReadonlyArray<Msg>, from: Beacon, killedMs: number): string => {
  const after = messages.filter((msg) => arrivedMs(msg) >= killedMs)
  const ms = (msg: Msg): number => Math.round(arrivedMs(msg) - killedMs)
  const parts = STEPS.flatMap(([name, pattern]) => {
    const of = after.filter(
      (msg) => pattern.test(msg.subject) && (!msg.subject.includes(".beacon.") || isLater(msg, from)),
    )
    const [first, last] = [of[0], of.at(-1)]
    if (first === undefined || last === undefined) return []
    return [`${name} ${of.length}x ${ms(first)}..${ms(last)}`]
  })
  const refused = after.flatMap((msg) => {
    const why = refusalOf(msg)
    return why === undefined ? [] : [`${why} ${ms(msg)}`]
  })
  return [...parts, ...(refused.length === 0 ? [] : [`refused: ${refused.join(", ")}`])].join("; ")
}

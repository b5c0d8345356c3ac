/**
 * The TCG event log in its two forms: the one of TPM 1.2 (TCG_PCClientPCREvent, SHA-1 only) and the crypto-agile one
 * (TCG_PCR_EVENT2 after a "Spec ID Event03"), which Intel's CCEL uses too. Little-endian.
 *
 * A log proves nothing by itself: its digests count once they replay to quoted registers. Even then the type and the
 * data of an event are only what somebody wrote beside the digest; see `dataIsMeasured`.
 */
import { toHex } from "../text.ts"
import { type Bank, bankOf, banks, digest } from "./bank.ts"
import { EventLogError } from "./error.ts"
import { Reader } from "./reader.ts"
import { eventTypeName, eventTypes } from "./types.ts"

export const logLimits = {
  /** With its padding. Firmware sets aside 64 to 256 KiB. */
  bytes: 1_048_576,
  events: 8_192,
  algorithms: 8,
  digestBytes: 128,
  /** A PCR index, or a CC measurement register. */
  register: 23,
} as const

export type LogFormat = "tcg-1.2" | "crypto-agile"

export interface LogEvent {
  /** From 0; the header of a crypto-agile log isn't counted. */
  readonly index: number
  /** Where it begins in the log, in bytes. */
  readonly offset: number
  /** PCR index; in a CCEL 0 is MRTD and n+1 is RTMR n. 0xffffffff on informative events that belong to none. */
  readonly register: number
  readonly type: number
  readonly typeName: string
  readonly digests: ReadonlyMap<Bank, Uint8Array>
  readonly data: Uint8Array
}

export interface EventLog {
  readonly format: LogFormat
  /** Banks that the log declares and that can be replayed here. */
  readonly banks: readonly Bank[]
  readonly events: readonly LogEvent[]
  /** The locality of TPM2_Startup, where the firmware recorded one. */
  readonly startupLocality?: number
  /** Bytes of 00 or ff after the last event. */
  readonly paddingBytes: number
}

const truncated = (field: string, found: string, wanted: string): EventLogError =>
  new EventLogError("LOG_TRUNCATED", field, found, wanted)

/**
 * @param bytes the log as the firmware left it, at most 1 MiB; trailing bytes that are all 00 or all ff are padding
 * @throws EventLogError LOG_LENGTH, LOG_TRUNCATED, LOG_HEADER, LOG_EVENTS, EVENT_REGISTER, EVENT_DIGESTS, EVENT_LOCALITY
 */
export const parseEventLog = (bytes: Uint8Array): EventLog => {
  if (bytes.length === 0 || bytes.length > logLimits.bytes)
    throw new EventLogError("LOG_LENGTH", "log", `${bytes.length} bytes`, `1 to ${logLimits.bytes} bytes`)
  const own = Uint8Array.from(bytes)
  const padding = paddingFrom(own)
  if (padding === 0) throw new EventLogError("LOG_LENGTH", "log", "padding only", "at least one event")
  const reader = new Reader(own, true, truncated)
  const first = readLegacyEvent(reader, 0)
  const sizes = parseHeader(first)
  const events: LogEvent[] = sizes === undefined ? [first] : []
  while (reader.left > 0 && reader.offset < padding) {
    if (events.length === logLimits.events)
      throw new EventLogError("LOG_EVENTS", "log.events", `more than ${events.length}`, `${logLimits.events}`)
    events.push(
      sizes === undefined
        ? readLegacyEvent(reader, events.length)
        : readAgileEvent(reader, events.length, sizes),
    )
  }
  const startupLocality = localityOf(events)
  return {
    format: sizes === undefined ? "tcg-1.2" : "crypto-agile",
    banks: sizes === undefined ? ["sha1"] : declaredBanks(sizes),
    events,
    ...(startupLocality !== undefined && { startupLocality }),
    paddingBytes: reader.left,
  }
}

/** The start of the last run of equal bytes, 00 or ff: an event that would begin there or after it is padding. */
const paddingFrom = (bytes: Uint8Array): number => {
  const last = bytes[bytes.length - 1]
  if (last !== 0 && last !== 0xff) return bytes.length
  let from = bytes.length
  while (from > 0 && bytes[from - 1] === last) from--
  return from
}

const readRegister = (reader: Reader, field: string): { register: number; type: number } => {
  const register = reader.u32(`${field}.register`)
  const type = reader.u32(`${field}.type`)
  const isInformative = type === eventTypes.EV_NO_ACTION && register === 0xffff_ffff
  if (register > logLimits.register && !isInformative)
    throw new EventLogError(
      "EVENT_REGISTER",
      `${field}.register`,
      `${register}`,
      `0 to ${logLimits.register}`,
    )
  return { register, type }
}

const readLegacyEvent = (reader: Reader, index: number): LogEvent => {
  const field = `log.events[${index}]`
  const { offset } = reader
  const { register, type } = readRegister(reader, field)
  const digests = new Map<Bank, Uint8Array>([["sha1", reader.take(`${field}.digest`, banks.sha1.bytes)]])
  const data = reader.take(`${field}.data`, reader.u32(`${field}.size`))
  return { index, offset, register, type, typeName: eventTypeName(type), digests, data }
}

type DigestSizes = ReadonlyMap<number, number>

const readAgileEvent = (reader: Reader, index: number, sizes: DigestSizes): LogEvent => {
  const field = `log.events[${index}]`
  const { offset } = reader
  const { register, type } = readRegister(reader, field)
  const digests = readDigests(reader, `${field}.digests`, sizes)
  const data = reader.take(`${field}.data`, reader.u32(`${field}.size`))
  return { index, offset, register, type, typeName: eventTypeName(type), digests, data }
}

const readDigests = (reader: Reader, field: string, sizes: DigestSizes): ReadonlyMap<Bank, Uint8Array> => {
  const count = reader.u32(field)
  if (count > sizes.size)
    throw new EventLogError("EVENT_DIGESTS", field, `${count}`, `at most ${sizes.size}, as the header says`)
  const seen = new Set<number>()
  const digests = new Map<Bank, Uint8Array>()
  for (let i = 0; i < count; i++) {
    const algorithm = reader.u16(field)
    const size = sizes.get(algorithm)
    if (size === undefined || seen.has(algorithm))
      throw new EventLogError(
        "EVENT_DIGESTS",
        field,
        `algorithm 0x${algorithm.toString(16)}${size === undefined ? "" : " twice"}`,
        "each algorithm of the header at most once",
      )
    seen.add(algorithm)
    const value = reader.take(field, size)
    const bank = bankOf(algorithm)
    if (bank !== undefined) digests.set(bank, value)
  }
  return digests
}

const agileSignature = "Spec ID Event03\0"

/** The digest sizes that the header of a crypto-agile log declares; undefined for a log of the old form. */
const parseHeader = (first: LogEvent): DigestSizes | undefined => {
  if (first.type !== eventTypes.EV_NO_ACTION) return undefined
  if (Buffer.from(first.data.subarray(0, 16)).toString("latin1") !== agileSignature) return undefined
  const header = new Reader(first.data.subarray(16), true, (field, found, wanted) => {
    return new EventLogError("LOG_HEADER", field, found, wanted)
  })
  header.take("log.header.version", 8)
  const count = header.u32("log.header.algorithms")
  if (count < 1 || count > logLimits.algorithms)
    throw new EventLogError("LOG_HEADER", "log.header.algorithms", `${count}`, `1 to ${logLimits.algorithms}`)
  const sizes = new Map<number, number>()
  for (let i = 0; i < count; i++) {
    const field = `log.header.algorithms[${i}]`
    const algorithm = header.u16(field)
    const size = header.u16(field)
    const bank = bankOf(algorithm)
    const fits = bank === undefined ? size >= 1 && size <= logLimits.digestBytes : size === banks[bank].bytes
    if (!fits || sizes.has(algorithm))
      throw new EventLogError(
        "LOG_HEADER",
        field,
        `algorithm 0x${algorithm.toString(16)} with ${size} bytes${fits ? ", twice" : ""}`,
        "each algorithm once, with the size of its digest",
      )
    sizes.set(algorithm, size)
  }
  const vendorBytes = header.u8("log.header.vendorInfo")
  if (header.left !== vendorBytes)
    throw new EventLogError("LOG_HEADER", "log.header.vendorInfo", `${header.left} bytes`, `${vendorBytes}`)
  return sizes
}

const declaredBanks = (sizes: DigestSizes): readonly Bank[] =>
  [...sizes.keys()].map(bankOf).filter((bank) => bank !== undefined)

const localitySignature = "StartupLocality\0"

/** TPM2_Startup in locality 3 or an H-CRTM (4) begins PCR 0 at that number instead of at 0. */
const localityOf = (events: readonly LogEvent[]): number | undefined => {
  let found: number | undefined
  for (const { index, type, register, data } of events) {
    if (type !== eventTypes.EV_NO_ACTION || register !== 0 || data.length < 17) continue
    if (Buffer.from(data.subarray(0, 16)).toString("latin1") !== localitySignature) continue
    const locality = data[16]
    if (data.length !== 17 || (locality !== 0 && locality !== 3 && locality !== 4))
      throw new EventLogError(
        "EVENT_LOCALITY",
        `log.events[${index}]`,
        toHex(data.subarray(16, 20)),
        "0, 3 or 4",
      )
    if (found !== undefined && found !== locality)
      throw new EventLogError("EVENT_LOCALITY", `log.events[${index}]`, `${locality}`, `${found}, as before`)
    found = locality
  }
  return found
}

/** Whether the data of an event is what its digest was taken over, so that a replayed register vouches for it too. */
export const dataIsMeasured = (event: LogEvent, bank: Bank): boolean => {
  const measured = event.digests.get(bank)
  return measured !== undefined && Buffer.compare(measured, digest(bank, event.data)) === 0
}

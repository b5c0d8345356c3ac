/**
 * The measurement list of Linux IMA in its binary form (securityfs, `binary_runtime_measurements`), replayed to PCR 10.
 *
 * Templates `ima-ng`, `ima-sig`, `ima-ngv2`, `ima-sigv2`, `ima-buf` and `ima-modsig`: fields with a length each, whose
 * concatenation is what is hashed. The old `ima` template (SHA-1 only, without lengths) is refused.
 */
import { toHex } from "../text.ts"
import { type Bank, banks, digest } from "./bank.ts"
import { EventLogError } from "./error.ts"
import { Reader } from "./reader.ts"
import { extend, type Registers } from "./replay.ts"
import { plainText } from "./uefi.ts"

export const imaLimits = {
  bytes: 16_777_216,
  entries: 131_072,
  templateBytes: 65_536,
  pathCharacters: 4_096,
} as const

export interface ImaEntry {
  readonly index: number
  readonly register: number
  readonly template: string
  /** What the list says; all zero for a violation. */
  readonly templateHash: Uint8Array
  /** What was hashed. */
  readonly templateData: Uint8Array
  /** `sha256`; undefined where the kernel couldn't hash the file. */
  readonly algorithm?: string
  readonly digest: Uint8Array
  readonly path: string
  /** `ima-sig`: an IMA signature as found, not verified here. */
  readonly signature?: Uint8Array
  /** The file was written while it was measured: any content may have run. */
  readonly isViolation: boolean
}

export interface ImaLog {
  readonly entries: readonly ImaEntry[]
  readonly violations: number
  /** Which hash the list's own template hashes have: SHA-1 unless the kernel was asked for another file. */
  readonly hash: Bank
}

export interface ImaOptions {
  /** The register that the kernel was configured with. Default 10. */
  readonly register?: number
  /** `binary_runtime_measurements_sha256` has SHA-256 template hashes. Default sha1. */
  readonly hash?: Bank
}

const truncated = (field: string, found: string, wanted: string): EventLogError =>
  new EventLogError("LOG_TRUNCATED", field, found, wanted)

const misfit = (field: string, found: string, wanted: string): EventLogError =>
  new EventLogError("IMA_TEMPLATE", field, found, wanted)

/**
 * @param bytes the list, little-endian, at most 16 MiB; empty is an empty list
 * @throws EventLogError LOG_LENGTH, LOG_TRUNCATED, LOG_EVENTS, IMA_TEMPLATE, IMA_TEMPLATE_HASH, IMA_REGISTER
 */
export const parseImaLog = (bytes: Uint8Array, options: ImaOptions = {}): ImaLog => {
  const { register = 10, hash = "sha1" } = options
  if (bytes.length > imaLimits.bytes)
    throw new EventLogError("LOG_LENGTH", "ima", `${bytes.length} bytes`, `at most ${imaLimits.bytes} bytes`)
  const reader = new Reader(Uint8Array.from(bytes), true, truncated)
  const entries: ImaEntry[] = []
  while (reader.left > 0) {
    if (entries.length === imaLimits.entries)
      throw new EventLogError("LOG_EVENTS", "ima.entries", `more than ${entries.length}`, `${entries.length}`)
    const entry = readEntry(reader, entries.length, hash)
    if (entry.register !== register)
      throw new EventLogError(
        "IMA_REGISTER",
        `ima.entries[${entry.index}]`,
        `${entry.register}`,
        `${register}`,
      )
    entries.push(entry)
  }
  return { entries, violations: entries.filter(({ isViolation }) => isViolation).length, hash }
}

const readEntry = (reader: Reader, index: number, hash: Bank): ImaEntry => {
  const field = `ima.entries[${index}]`
  const register = reader.u32(`${field}.register`)
  const templateHash = reader.take(`${field}.templateHash`, banks[hash].bytes)
  const template = templateName(reader, field)
  const length = reader.u32(`${field}.templateData`)
  if (length > imaLimits.templateBytes)
    throw misfit(`${field}.templateData`, `${length} bytes`, `at most ${imaLimits.templateBytes}`)
  const templateData = reader.take(`${field}.templateData`, length)
  const isViolation = templateHash.every((byte) => byte === 0)
  if (!isViolation && Buffer.compare(digest(hash, templateData), templateHash) !== 0)
    throw new EventLogError(
      "IMA_TEMPLATE_HASH",
      `${field}.templateHash`,
      toHex(templateHash),
      `${toHex(digest(hash, templateData))}, the hash of the template data`,
    )
  return {
    index,
    register,
    template,
    templateHash,
    templateData,
    ...readFields(templateData, template, field),
    isViolation,
  }
}

const templateNames = new Set(["ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2", "ima-buf", "ima-modsig"])

const templateName = (reader: Reader, field: string): string => {
  const length = reader.u32(`${field}.template`)
  if (length > 32) throw misfit(`${field}.template`, `a name of ${length} bytes`, "at most 32")
  const name = Buffer.from(reader.take(`${field}.template`, length)).toString("latin1")
  if (!templateNames.has(name))
    throw misfit(`${field}.template`, JSON.stringify(plainText(name)), [...templateNames].join(", "))
  return name
}

type Fields = Pick<ImaEntry, "algorithm" | "digest" | "path" | "signature">

/** d-ng: `sha256:\0` and the digest; d-ngv2: `ima:sha256:\0` and the digest; n-ng: the path with its zero. */
const readFields = (data: Uint8Array, template: string, field: string): Fields => {
  const reader = new Reader(data, true, misfit)
  const next = (name: string) => reader.take(`${field}.${name}`, reader.u32(`${field}.${name}`))
  const hashed = next("digest")
  const path = next("path")
  const colon = hashed.indexOf(0)
  const prefix = Buffer.from(hashed.subarray(0, Math.max(colon, 0))).toString("latin1")
  const algorithm = /^(?:ima:|verity:)?([a-z0-9_-]{1,32}):$/.exec(prefix)?.[1]
  if (algorithm === undefined)
    throw misfit(
      `${field}.digest`,
      JSON.stringify(plainText(prefix).slice(0, 64)),
      "an algorithm and a colon",
    )
  if (path.length < 1 || path.length > imaLimits.pathCharacters || path.at(-1) !== 0)
    throw misfit(`${field}.path`, `${path.length} bytes`, "a path that ends in zero")
  const last = template.startsWith("ima-sig") ? next("signature") : undefined
  if (template === "ima-buf") next("buffer")
  else if (template === "ima-modsig") for (const name of ["signature", "modsigDigest", "modsig"]) next(name)
  if (reader.left > 0) throw misfit(`${field}.templateData`, `${reader.left} bytes more`, "nothing more")
  return {
    algorithm,
    digest: hashed.subarray(colon + 1),
    path: Buffer.from(path.subarray(0, -1)).toString("utf8"),
    ...(last !== undefined && last.length > 0 && { signature: last }),
  }
}

/**
 * How the kernel fills banks other than SHA-1: since 5.8 with that bank's own hash of the template data; before, with the
 * SHA-1 hash and zeros behind it.
 */
export type ImaExtension = "own-hash" | "padded-sha1"

/** PCR 10 after every entry, from zero; the last value is the register's. */
export const replayIma = (log: ImaLog, bank: Bank, extension: ImaExtension = "own-hash"): Uint8Array => {
  let register: Uint8Array = new Uint8Array(banks[bank].bytes)
  for (const entry of log.entries) register = extend(bank, register, extensionOf(entry, bank, extension))
  return register
}

const extensionOf = (entry: ImaEntry, bank: Bank, extension: ImaExtension): Uint8Array => {
  // A violation is extended as all ones, so that the register can never match a list without it.
  if (entry.isViolation) return new Uint8Array(banks[bank].bytes).fill(0xff)
  if (extension === "own-hash") return digest(bank, entry.templateData)
  const padded = new Uint8Array(banks[bank].bytes)
  padded.set(digest("sha1", entry.templateData))
  return padded
}

/** How many of the entries the quoted register vouches for. */
export interface ImaMatch {
  readonly proven: number
  /** Entries that were made after the quote, as a running machine goes on measuring. */
  readonly later: number
  readonly violations: number
}

/**
 * The list is read after the quote, so that it may be longer: the longest beginning that leads to the register counts.
 * @param quoted PCR 10 from a verified quote
 * @throws EventLogError REPLAY_MISMATCH where no beginning of the list leads to it
 */
export const matchIma = (
  log: ImaLog,
  bank: Bank,
  quoted: Uint8Array,
  extension: ImaExtension = "own-hash",
): ImaMatch => {
  let register: Uint8Array = new Uint8Array(banks[bank].bytes)
  let proven = Buffer.compare(register, quoted) === 0 ? 0 : -1
  for (const [i, entry] of log.entries.entries()) {
    register = extend(bank, register, extensionOf(entry, bank, extension))
    if (Buffer.compare(register, quoted) === 0) proven = i + 1
  }
  if (proven < 0)
    throw new EventLogError("REPLAY_MISMATCH", "ima", toHex(register), `${toHex(quoted)}, as quoted`)
  const violations = log.entries.slice(0, proven).filter(({ isViolation }) => isViolation).length
  return { proven, later: log.entries.length - proven, violations }
}

/**
 * The first entry ties the list to the boot before it: a hash over PCR 0 to 7, and since Linux 5.8 (other than SHA-1)
 * 0 to 9.
 * @param quoted verified values of the bank that the entry names
 */
export const bootAggregateHolds = (log: ImaLog, bank: Bank, quoted: Registers): boolean => {
  const [first] = log.entries
  if (first === undefined || first.path !== "boot_aggregate" || first.isViolation) return false
  if (first.algorithm !== bank) return false
  return [8, 10].some((count) => {
    const values = Array.from({ length: count }, (_, i) => quoted.get(i))
    if (values.some((value) => value === undefined)) return false
    const joined = Buffer.concat(values.filter((value) => value !== undefined))
    return Buffer.compare(digest(bank, joined), first.digest) === 0
  })
}

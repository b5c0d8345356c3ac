/**
 * What a TPM signs and how it writes signatures (TPM 2.0 Library, part 2): TPMS_ATTEST of a quote, TPMT_SIGNATURE.
 * Big-endian. Every structure is read to its last byte; bytes left over are an error.
 */
import { type Bank, bankOf } from "../eventlog/bank.ts"
import { Reader } from "../eventlog/reader.ts"
import { TpmError } from "./error.ts"

/** TPM_GENERATED_VALUE: a restricted key signs nothing else that begins so. */
export const tpmGenerated = 0xff54_4347
const attestQuote = 0x8018

/** The largest TPMS_ATTEST that a quote can be, with room: 16 selections and SHA-512 everywhere. */
const attestBytesMost = 1_024
const signatureBytesMost = 1_024
const selectionsMost = 16
/** PCRs 0 to 31. */
const selectBytesMost = 4

export interface PcrSelection {
  /** TPM_ALG_ID. */
  readonly algorithm: number
  /** Undefined for a bank that can't be computed here. */
  readonly bank?: Bank
  /** Ascending. */
  readonly pcrs: readonly number[]
}

export interface ClockInfo {
  /** Milliseconds that the TPM has been powered, over all resets. */
  readonly clock: bigint
  /** Resets since the TPM was last cleared. */
  readonly resetCount: number
  /** Restarts and resumes since the last reset. */
  readonly restartCount: number
  /** False: the clock may run behind a value that was given out before (power was lost). */
  readonly safe: boolean
}

export interface QuoteAttest {
  /** A TPM2B_NAME's content: the qualified name of the key that signed. */
  readonly qualifiedSigner: Uint8Array
  readonly extraData: Uint8Array
  readonly clockInfo: ClockInfo
  readonly firmwareVersion: bigint
  /** In the order of the quote, which is the order of the digest. */
  readonly selections: readonly PcrSelection[]
  readonly pcrDigest: Uint8Array
  /** The bytes that were signed. */
  readonly signed: Uint8Array
}

export const truncated = (field: string, found: string, wanted: string): TpmError =>
  new TpmError("STRUCTURE_LENGTH", field, found, wanted)

/** A copy of at most `most` bytes, to be read from its start. */
export const reading = (
  field: string,
  bytes: Uint8Array,
  most: number,
): { own: Uint8Array; reader: Reader } => {
  if (bytes.length > most)
    throw new TpmError("STRUCTURE_LENGTH", field, `${bytes.length} bytes`, `at most ${most} bytes`)
  const own = Uint8Array.from(bytes)
  return { own, reader: new Reader(own, false, truncated) }
}

export const expectEnd = (field: string, reader: Reader): void => {
  if (reader.left > 0)
    throw new TpmError("STRUCTURE_LENGTH", field, `${reader.left} bytes more`, "nothing after it")
}

/** A TPM2B: a length of two bytes and at most `most` bytes. */
export const readSized = (reader: Reader, field: string, most: number): Uint8Array => {
  const length = reader.u16(field)
  if (length > most) throw new TpmError("STRUCTURE_LENGTH", field, `${length} bytes`, `at most ${most} bytes`)
  return reader.take(field, length)
}

/**
 * @param bytes TPMS_ATTEST, without the length of a TPM2B_ATTEST
 * @throws TpmError ATTEST_MAGIC, ATTEST_TYPE, STRUCTURE_LENGTH, STRUCTURE_VALUE
 */
export const parseQuoteAttest = (bytes: Uint8Array): QuoteAttest => {
  const { own, reader } = reading("quote", bytes, attestBytesMost)
  const magic = reader.u32("quote.magic")
  if (magic !== tpmGenerated)
    throw new TpmError("ATTEST_MAGIC", "quote.magic", hex(magic), `${hex(tpmGenerated)} (made by a TPM)`)
  const type = reader.u16("quote.type")
  if (type !== attestQuote)
    throw new TpmError("ATTEST_TYPE", "quote.type", hex(type), `${hex(attestQuote)} (a quote)`)
  const attest = {
    // A handle's name has 4 bytes, an object's an algorithm and its digest.
    qualifiedSigner: readSized(reader, "quote.qualifiedSigner", 66),
    extraData: readSized(reader, "quote.extraData", 66),
    clockInfo: readClockInfo(reader),
    firmwareVersion: reader.u64("quote.firmwareVersion"),
    selections: readSelections(reader, "quote.selections"),
    pcrDigest: readSized(reader, "quote.pcrDigest", 64),
    signed: own,
  }
  expectEnd("quote", reader)
  return attest
}

const readClockInfo = (reader: Reader): ClockInfo => {
  const clock = reader.u64("quote.clock")
  const resetCount = reader.u32("quote.resetCount")
  const restartCount = reader.u32("quote.restartCount")
  const safe = reader.u8("quote.safe")
  if (safe > 1) throw new TpmError("STRUCTURE_VALUE", "quote.safe", `${safe}`, "0 or 1")
  return { clock, resetCount, restartCount, safe: safe === 1 }
}

/** TPML_PCR_SELECTION: each bank at most once, and none of them empty. */
export const readSelections = (reader: Reader, field: string): readonly PcrSelection[] => {
  const count = reader.u32(field)
  if (count > selectionsMost)
    throw new TpmError("STRUCTURE_VALUE", field, `${count}`, `at most ${selectionsMost}`)
  const seen = new Set<number>()
  return Array.from({ length: count }, (_, i) => {
    const algorithm = reader.u16(`${field}[${i}].hash`)
    if (seen.has(algorithm))
      throw new TpmError(
        "STRUCTURE_VALUE",
        `${field}[${i}].hash`,
        `${hex(algorithm)} twice`,
        "each bank once",
      )
    seen.add(algorithm)
    const size = reader.u8(`${field}[${i}].size`)
    if (size < 1 || size > selectBytesMost)
      throw new TpmError("STRUCTURE_VALUE", `${field}[${i}].size`, `${size}`, `1 to ${selectBytesMost}`)
    const bank = bankOf(algorithm)
    const pcrs = bitsOf(reader.take(`${field}[${i}].pcrs`, size))
    return { algorithm, ...(bank !== undefined && { bank }), pcrs }
  })
}

/** Bit n of byte m is PCR 8m+n. */
const bitsOf = (bytes: Uint8Array): readonly number[] =>
  [...bytes].flatMap((byte, m) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((n) => ((byte >> n) & 1) === 1).map((n) => 8 * m + n),
  )

export type SignatureScheme = "RSASSA" | "RSAPSS" | "ECDSA"

export interface TpmSignature {
  readonly scheme: SignatureScheme
  readonly hash: Bank
  /** RSA: as long as the modulus. ECDSA: r and s, big-endian, as the TPM wrote them (leading zeros may be left out). */
  readonly value: Uint8Array | { readonly r: Uint8Array; readonly s: Uint8Array }
}

export const algorithms = {
  rsa: 0x0001,
  sha256: 0x000b,
  aes: 0x0006,
  keyedHash: 0x0008,
  null: 0x0010,
  rsassa: 0x0014,
  rsaes: 0x0015,
  rsapss: 0x0016,
  oaep: 0x0017,
  ecdsa: 0x0018,
  ecc: 0x0023,
  symCipher: 0x0025,
  cfb: 0x0043,
} as const

const schemes = new Map<number, SignatureScheme>([
  [algorithms.rsassa, "RSASSA"],
  [algorithms.rsapss, "RSAPSS"],
  [algorithms.ecdsa, "ECDSA"],
])

export const schemeOf = (id: number): SignatureScheme | undefined => schemes.get(id)

/**
 * @param bytes TPMT_SIGNATURE
 * @throws TpmError SIGNATURE_ALGORITHM, STRUCTURE_LENGTH
 */
export const parseSignature = (bytes: Uint8Array): TpmSignature => {
  const { reader } = reading("signature", bytes, signatureBytesMost)
  const id = reader.u16("signature.scheme")
  const scheme = schemes.get(id)
  if (scheme === undefined)
    throw new TpmError("SIGNATURE_ALGORITHM", "signature.scheme", hex(id), "RSASSA, RSAPSS or ECDSA")
  const hashId = reader.u16("signature.hash")
  const hash = bankOf(hashId)
  if (hash === undefined)
    throw new TpmError("SIGNATURE_ALGORITHM", "signature.hash", hex(hashId), "SHA-256, SHA-384 or SHA-512")
  const value =
    scheme === "ECDSA"
      ? { r: readSized(reader, "signature.r", 66), s: readSized(reader, "signature.s", 66) }
      : readSized(reader, "signature.value", 512)
  expectEnd("signature", reader)
  return { scheme, hash, value }
}

export const hex = (value: number): string => `0x${value.toString(16)}`

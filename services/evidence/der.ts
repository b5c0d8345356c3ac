/**
 * The little of DER (X.690) that evidence needs by hand: a reader that takes one encoding only, for the outline of a
 * certificate before its signature is known to be good, and a writer for the certificates of emulated hardware.
 */

export class DerError extends Error {
  override readonly name = "DerError"
}

export interface Tlv {
  readonly tag: number
  /** Header and content, as found. */
  readonly raw: Uint8Array
  readonly content: Uint8Array
}

export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

/** The value at the start of `bytes`. Definite, shortest lengths below 64 KiB; tags of one byte. */
const readTlv = (bytes: Uint8Array): Tlv => {
  const [tag, first] = bytes
  if (tag === undefined || first === undefined) throw new DerError("ends inside a header")
  if ((tag & 0x1f) === 0x1f) throw new DerError("has a tag of several bytes")
  const { header, length } = readLength(bytes, first)
  if (header + length > bytes.length) throw new DerError("ends inside a value")
  return { tag, raw: bytes.subarray(0, header + length), content: bytes.subarray(header, header + length) }
}

const readLength = (bytes: Uint8Array, first: number): { header: number; length: number } => {
  if (first < 0x80) return { header: 2, length: first }
  const size = first & 0x7f
  if (size < 1 || size > 2) throw new DerError("has an indefinite or oversized length")
  let length = 0
  for (let i = 0; i < size; i++) {
    const byte = bytes[2 + i]
    if (byte === undefined) throw new DerError("ends inside a length")
    length = length * 256 + byte
  }
  if (length < (size === 1 ? 0x80 : 0x100)) throw new DerError("has a length in more bytes than it needs")
  return { header: 2 + size, length }
}

/** All values that lie end to end in `bytes`, at most `most` of them. */
export const readAll = (bytes: Uint8Array, most: number): Tlv[] => {
  const found: Tlv[] = []
  for (let at = 0; at < bytes.length; ) {
    if (found.length === most) throw new DerError(`holds more than ${most} values`)
    const tlv = readTlv(bytes.subarray(at))
    found.push(tlv)
    at += tlv.raw.length
  }
  return found
}

/** The one value that `bytes` consists of. */
export const readOnly = (bytes: Uint8Array, tag: number): Tlv => {
  const tlv = readTlv(bytes)
  if (tlv.raw.length !== bytes.length) throw new DerError("is followed by other bytes")
  if (tlv.tag !== tag) throw new DerError(`has tag ${tlv.tag}, not ${tag}`)
  return tlv
}

/** A non-negative INTEGER below 256, in its shortest form. */
export const readByte = (bytes: Uint8Array): number => {
  const { content } = readOnly(bytes, tags.integer)
  const [first, second] = content
  if (first === undefined) throw new DerError("is an empty integer")
  if (content.length === 1 && first < 0x80) return first
  if (content.length === 2 && first === 0 && second !== undefined && second >= 0x80) return second
  throw new DerError("isn't an integer from 0 to 255")
}

const asciiText = /^[\x20-\x7e]{1,128}$/

/** A printable IA5String of at most 128 characters. */
export const readText = (bytes: Uint8Array): string => {
  const text = Buffer.from(readOnly(bytes, tags.ia5String).content).toString("latin1")
  if (!asciiText.test(text)) throw new DerError("isn't 1 to 128 printable characters")
  return text
}

export const write = (tag: number, ...parts: readonly Uint8Array[]): Uint8Array => {
  const content = Buffer.concat(parts)
  const { length } = content
  if (length > 0xffff) throw new DerError("would be too long")
  const header =
    length < 0x80
      ? [tag, length]
      : length < 0x100
        ? [tag, 0x81, length]
        : [tag, 0x82, length >> 8, length & 0xff]
  return Uint8Array.from(Buffer.concat([Uint8Array.from(header), content]))
}

export const writeInteger = (value: number): Uint8Array => {
  const bytes: number[] = []
  for (let rest = value; rest > 0 || bytes.length === 0; rest = Math.floor(rest / 256))
    bytes.unshift(rest & 0xff)
  if ((bytes[0] ?? 0) >= 0x80) bytes.unshift(0)
  return write(tags.integer, Uint8Array.from(bytes))
}

/** An object identifier in dotted form; arcs below 2^28. */
export const writeOid = (dotted: string): Uint8Array => {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number)
  return write(tags.oid, Uint8Array.from([first * 40 + second, ...rest].flatMap(base128)))
}

const base128 = (arc: number): number[] => {
  const digits = [arc & 0x7f]
  for (let rest = arc >> 7; rest > 0; rest >>= 7) digits.unshift((rest & 0x7f) | 0x80)
  return digits
}

export const writeUtf8 = (text: string): Uint8Array => write(tags.utf8String, Buffer.from(text, "utf8"))
export const writeIa5 = (text: string): Uint8Array => write(tags.ia5String, Buffer.from(text, "latin1"))
export const writeBitString = (bytes: Uint8Array): Uint8Array =>
  write(tags.bitString, Uint8Array.of(0), bytes)

/** UTCTime until 2049, GeneralizedTime after (RFC 5280, 4.1.2.5). */
export const writeTime = (date: Date): Uint8Array => {
  const digits = `${date.toISOString().slice(0, 19).replaceAll(/[-:T]/g, "")}Z`
  return date.getUTCFullYear() < 2050
    ? write(tags.utcTime, Buffer.from(digits.slice(2)))
    : write(tags.generalizedTime, Buffer.from(digits))
}

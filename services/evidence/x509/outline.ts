/**
 * The outline of a certificate (RFC 5280, 4.1): what a check of its signature needs, as slices, cut out by a reader that
 * takes one encoding only. Nothing of it is to be believed before that check.
 */
import { DerError, readAll, readOnly, type Tlv, tags } from "../der.ts"
import { toHex } from "../text.ts"
import type { Refuse } from "./refuse.ts"

export interface Outline {
  readonly der: Uint8Array
  /** The signed part. */
  readonly tbs: Uint8Array
  /** As in the certificate: a signed number, big-endian, in hex. */
  readonly serial: string
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly spki: Uint8Array
  readonly signature: Uint8Array
}

const { sequence, integer, bitString } = tags
/** version, serial, algorithm, issuer, validity, subject, key, extensions; no unique ids. */
const tbsTags = [0xa0, integer, sequence, sequence, sequence, sequence, sequence, 0xa3] as const

type Tlvs<T extends readonly number[]> = { readonly [K in keyof T]: Tlv }

/** @throws DerError unless these are the tags found; `what` is what they should have made */
export const expectTags = <const T extends readonly number[]>(
  found: readonly Tlv[],
  wanted: T,
  what: string,
): Tlvs<T> => {
  if (found.length !== wanted.length || found.some((tlv, i) => tlv.tag !== wanted[i]))
    throw new DerError(`isn't built like ${what}`)
  return found as unknown as Tlvs<T>
}

/**
 * A copy, since what comes of it may outlive the message that it came in.
 * @param most bytes
 */
export const boundedCopy = (given: Uint8Array, most: number, refuse: Refuse): Uint8Array => {
  if (given.length > most)
    throw refuse("CERTIFICATE_MALFORMED", undefined, `${given.length} bytes`, `at most ${most}`)
  return Uint8Array.from(given)
}

/**
 * SIGNED{} of X.509, as certificates and revocation lists are.
 * @throws DerError
 */
export const readSigned = (der: Uint8Array, what: string) => {
  const parts = readAll(readOnly(der, sequence).content, 3)
  const [tbs, algorithm, signature] = expectTags(parts, [sequence, sequence, bitString], what)
  return { tbs, algorithm, signature }
}

/** The bytes of a signature's BIT STRING. @throws DerError */
export const signatureBytes = ({ content }: Tlv): Uint8Array => {
  if (content[0] !== 0) throw new DerError("has a signature of broken bytes")
  return content.subarray(1)
}

/** The signed part of a version 3 certificate. @throws DerError */
export const readTbs = ({ content }: Tlv) => {
  const parts = expectTags(readAll(content, tbsTags.length), tbsTags, "a certificate")
  const [version, serial, algorithm, issuer, , subject, spki] = parts
  if (toHex(version.raw) !== "a003020102") throw new DerError("isn't version 3")
  return { serial, algorithm, issuer, subject, spki }
}

/** The outer algorithm is outside of the signature: it counts only as a copy of the inner one. @throws DerError */
export const expectOneAlgorithm = (outer: Tlv, inner: Tlv): void => {
  if (Buffer.compare(outer.raw, inner.raw) !== 0) throw new DerError("names two algorithms")
}

/** The outline where any algorithm may be named: whoever checks the signature says which count. @throws DerError */
export const readOutline = (der: Uint8Array): Outline => {
  const { tbs, algorithm, signature } = readSigned(der, "a certificate")
  const inner = readTbs(tbs)
  expectOneAlgorithm(algorithm, inner.algorithm)
  return {
    der,
    tbs: tbs.raw,
    serial: toHex(inner.serial.content),
    issuer: inner.issuer.raw,
    subject: inner.subject.raw,
    spki: inner.spki.raw,
    signature: signatureBytes(signature),
  }
}

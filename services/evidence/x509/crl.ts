/**
 * A certificate revocation list (RFC 5280, section 5): version 2, complete and direct, and nothing of it that isn't
 * understood. Read by hand, by a reader that takes one encoding only. Whoever reads one says by which key and how it must
 * be signed, and is asked before anything of the content is looked at.
 */
import { DerError, readAll, readOnly, type Tlv, tags } from "../der.ts"
import { isoOf, toHex } from "../text.ts"
import { expectOneAlgorithm, expectTags, readSigned, signatureBytes } from "./outline.ts"

export interface CrlContent {
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  /** Serial numbers as in certificates, in hex. */
  readonly revoked: ReadonlySet<string>
  /** The CRL number (RFC 5280, 5.2.3), which rises with each list of an issuer; undefined where there is none. */
  readonly number: bigint | undefined
}

/** What a check of the signature needs, as slices. Nothing of it is to be believed before that check. */
export interface CrlOutline {
  /** The signed part. */
  readonly tbs: Uint8Array
  /** AlgorithmIdentifier; the inner and the outer one are the same. */
  readonly algorithm: Uint8Array
  /** The issuer's name. */
  readonly issuer: Uint8Array
  /** As in the BIT STRING. */
  readonly signature: Uint8Array
  /** To be called once the signature held. @throws DerError */
  readonly content: () => CrlContent
}

const mostEntries = 4_096
const mostExtensions = 16
const { sequence, integer } = tags

/** @throws DerError */
export const readCrl = (der: Uint8Array): CrlOutline => {
  const what = "a revocation list"
  const { tbs, algorithm, signature } = readSigned(der, what)
  const parts = readAll(tbs.content, 7)
  const [version, inner, issuer] = expectTags(parts.slice(0, 3), [integer, sequence, sequence], what)
  if (toHex(version.raw) !== "020101") throw new DerError("isn't version 2")
  expectOneAlgorithm(algorithm, inner)
  return {
    tbs: tbs.raw,
    algorithm: algorithm.raw,
    issuer: issuer.raw,
    signature: signatureBytes(signature),
    content: () => readContent(parts.slice(3)),
  }
}

const readContent = (parts: readonly Tlv[]): CrlContent => {
  const [thisUpdate, nextUpdate, ...rest] = parts
  if (thisUpdate === undefined || nextUpdate === undefined) throw new DerError("has no dates")
  const entries = rest[0]?.tag === sequence ? rest.shift() : undefined
  const extensions = rest.shift()
  if (rest.length > 0 || (extensions !== undefined && extensions.tag !== 0xa0))
    throw new DerError("isn't built like a revocation list")
  return {
    thisUpdate: readTime(thisUpdate),
    nextUpdate: readTime(nextUpdate),
    revoked: entries === undefined ? new Set<string>() : readRevoked(entries.content),
    number: extensions === undefined ? undefined : readNumber(readOnly(extensions.content, sequence)),
  }
}

const readRevoked = (content: Uint8Array): ReadonlySet<string> => {
  const revoked = new Set<string>()
  for (const entry of readAll(content, mostEntries)) {
    const [serial, date, extensions] = readAll(readOnly(entry.raw, sequence).content, 3)
    if (serial?.tag !== integer || date === undefined)
      throw new DerError("has an entry without serial and date")
    if (extensions !== undefined) extensionsOf(readOnly(extensions.raw, sequence))
    revoked.add(toHex(serial.content))
  }
  return revoked
}

const crlNumberOid = "0603551d14"

/** Critical here would be: a delta list, or one that speaks for other issuers or for some reasons only. */
const extensionsOf = (extensions: Tlv): Tlv[][] =>
  readAll(extensions.content, mostExtensions).map(({ raw }) => {
    const parts = readAll(readOnly(raw, sequence).content, 3)
    if (parts.some(({ tag }) => tag === tags.boolean)) throw new DerError("has a critical extension")
    return parts
  })

const readNumber = (extensions: Tlv): bigint | undefined => {
  const found = extensionsOf(extensions).filter(
    ([oid]) => oid !== undefined && toHex(oid.raw) === crlNumberOid,
  )
  const [first, ...more] = found
  if (first === undefined) return undefined
  const value = first[1]
  if (more.length > 0 || value?.tag !== tags.octetString) throw new DerError("has a number that isn't one")
  const { content } = readOnly(value.content, integer)
  const [top = 0x80] = content
  // RFC 5280: at most 20 bytes, never negative.
  if (top >= 0x80 || content.length > 20) throw new DerError("has a number that isn't one")
  return BigInt(`0x${toHex(content)}`)
}

/** UTCTime or GeneralizedTime in the one form that RFC 5280 allows: to the second, in UTC. */
const readTime = ({ tag, content }: Tlv): Date => {
  const text = Buffer.from(content).toString("latin1")
  const century = tag !== tags.utcTime ? "" : text < "5" ? "20" : "19"
  const match = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(century + text)
  if (match === null || (tag !== tags.utcTime && tag !== tags.generalizedTime))
    throw new DerError("has a time that isn't in UTC to the second")
  const [, year, month, day, hour, minute, second] = match
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`
  const date = new Date(iso)
  if (Number.isNaN(date.getTime()) || date.toISOString() !== iso)
    throw new DerError("has a date that there isn't")
  return date
}

type RefuseDate = (
  code: "CRL_NOT_YET_VALID" | "CRL_EXPIRED",
  part: "thisUpdate" | "nextUpdate",
  found: string,
  wanted: string,
) => Error

/** Written so that a date that isn't a number fails. */
export const checkCrlDates = (
  { thisUpdate, nextUpdate }: Pick<CrlContent, "thisUpdate" | "nextUpdate">,
  now: Date,
  refuse: RefuseDate,
): void => {
  if (!(thisUpdate.getTime() <= now.getTime()))
    throw refuse("CRL_NOT_YET_VALID", "thisUpdate", isoOf(thisUpdate), `at most ${isoOf(now)}`)
  if (!(now.getTime() <= nextUpdate.getTime()))
    throw refuse("CRL_EXPIRED", "nextUpdate", isoOf(nextUpdate), `at least ${isoOf(now)}`)
}

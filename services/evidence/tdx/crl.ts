/** A certificate revocation list of Intel's (RFC 5280, section 5): complete and direct, version 2. */
import { limits } from "../../../schemas/limits.ts"
import type { Crypto } from "../../common/crypto/index.ts"
import { native } from "../../common/crypto/native.ts"
import { DerError, readAll, readOnly, type Tlv, tags } from "../der.ts"
import { isoOf, toHex } from "../text.ts"
import { expectOneAlgorithm, expectTags } from "../x509/outline.ts"
import { type IntelOutline, readingDer, readSigned } from "./certificate.ts"
import { TdxError } from "./error.ts"

export interface Crl {
  /** What it is called in errors and results: `rootCrl`, `pckCrl`. */
  readonly name: CrlName
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  /** Serial numbers as in certificates, in hex. */
  readonly revoked: ReadonlySet<string>
  /** SHA-256 of the DER, in hex. */
  readonly digest: string
}

export type CrlName = "rootCrl" | "pckCrl"

const mostEntries = 4_096
const { sequence, integer } = tags

/**
 * @param der at most 65,536 bytes
 * @param issuer the certificate that must have signed it, itself verified
 * @throws TdxError CRL_MALFORMED, CRL_ISSUER, CRL_SIGNATURE, CERTIFICATE_ALGORITHM
 */
export const verifyCrl = (name: CrlName, der: Uint8Array, issuer: IntelOutline, crypto: Crypto): Crl => {
  const field = `collateral.${name}`
  if (der.length > limits.evidenceBytes)
    throw new TdxError("CRL_MALFORMED", field, `${der.length} bytes`, `at most ${limits.evidenceBytes}`)
  return readingDer(field, "CRL_MALFORMED", () => {
    const { tbs, algorithm, signature } = readSigned(field, der, "a revocation list")
    const parts = readAll(tbs.content, 7)
    const [version, innerAlgorithm, issuerName] = expectTags(
      parts.slice(0, 3),
      [integer, sequence, sequence],
      "a revocation list",
    )
    if (toHex(version.raw) !== "020101") throw new DerError("isn't version 2")
    expectOneAlgorithm(algorithm, innerAlgorithm)
    if (Buffer.compare(issuerName.raw, issuer.subject) !== 0)
      throw new TdxError(
        "CRL_ISSUER",
        `${field}.issuer`,
        "another name",
        "the authority that issued the certificate",
      )
    if (!crypto.ecdsaP256.verify(signature, tbs.raw, issuer.publicKey))
      throw new TdxError(
        "CRL_SIGNATURE",
        `${field}.signature`,
        "a signature that doesn't verify",
        "ECDSA P-256 with SHA-256 by the authority that issued the certificate",
      )
    return { name, ...readContent(parts.slice(3)), digest: toHex(native.sha256(der)) }
  })
}

const readContent = (parts: readonly Tlv[]) => {
  const [thisUpdate, nextUpdate, ...rest] = parts
  if (thisUpdate === undefined || nextUpdate === undefined) throw new DerError("has no dates")
  const entries = rest[0]?.tag === sequence ? rest.shift() : undefined
  const extensions = rest.shift()
  if (rest.length > 0 || (extensions !== undefined && extensions.tag !== 0xa0))
    throw new DerError("isn't built like a revocation list")
  // Critical here: a delta list, or one that speaks for other issuers or for some reasons only.
  if (extensions !== undefined) refuseCritical(readOnly(extensions.content, sequence))
  return {
    thisUpdate: readTime(thisUpdate),
    nextUpdate: readTime(nextUpdate),
    revoked: entries === undefined ? new Set<string>() : readRevoked(entries.content),
  }
}

const readRevoked = (content: Uint8Array): ReadonlySet<string> => {
  const revoked = new Set<string>()
  for (const entry of readAll(content, mostEntries)) {
    const [serial, date, extensions] = readAll(readOnly(entry.raw, sequence).content, 3)
    if (serial?.tag !== integer || date === undefined)
      throw new DerError("has an entry without serial and date")
    if (extensions !== undefined) refuseCritical(readOnly(extensions.raw, sequence))
    revoked.add(toHex(serial.content))
  }
  return revoked
}

const refuseCritical = (extensions: Tlv): void => {
  for (const { raw } of readAll(extensions.content, 16)) {
    const parts = readAll(readOnly(raw, sequence).content, 3)
    if (parts.some(({ tag }) => tag === tags.boolean)) throw new DerError("has a critical extension")
  }
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

/** @throws TdxError CRL_NOT_YET_VALID, CRL_EXPIRED */
export const checkCrlDates = ({ name, thisUpdate, nextUpdate }: Crl, now: Date): void => {
  if (!(thisUpdate.getTime() <= now.getTime()))
    throw new TdxError(
      "CRL_NOT_YET_VALID",
      `collateral.${name}.thisUpdate`,
      isoOf(thisUpdate),
      `at most ${isoOf(now)}`,
    )
  if (!(now.getTime() <= nextUpdate.getTime()))
    throw new TdxError(
      "CRL_EXPIRED",
      `collateral.${name}.nextUpdate`,
      isoOf(nextUpdate),
      `at least ${isoOf(now)}`,
    )
}

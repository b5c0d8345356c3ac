/**
 * One X.509 certificate of AWS's Nitro hierarchy: P-384 keys, ECDSA with SHA-384. It is read in two steps. The outline, by
 * a reader that takes one encoding only, is enough to check the signature. The rest is decoded by the library, and only
 * once the signature held: hostile bytes never reach it.
 */
import "reflect-metadata"
import { BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension, X509Certificate } from "@peculiar/x509"
import { type Crypto, crypto as chosen } from "../../common/crypto/index.ts"
import { DerError, readAll, readOnly, type Tlv, tags } from "../der.ts"
import { certificateBytesMost } from "./document.ts"
import { NitroError, toHex } from "./error.ts"

/** `root`, `issuer1` and so on downwards, `leaf`. */
export type CertificateRole = "root" | `issuer${number}` | "leaf"

/** What a signature check needs, as slices of the certificate. */
export interface Outline {
  readonly der: Uint8Array
  /** The signed part. */
  readonly tbs: Uint8Array
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly spki: Uint8Array
  /** 04 || x || y. */
  readonly publicKey: Uint8Array
  /** r || s, big-endian, 96 bytes. */
  readonly signature: Uint8Array
}

const fieldOf = (role: string, part?: string): string =>
  part === undefined ? `certificates.${role}` : `certificates.${role}.${part}`

const reading = <T>(role: string, read: () => T): T => {
  try {
    return read()
  } catch (error) {
    if (error instanceof NitroError) throw error
    const found = error instanceof DerError ? `DER that ${error.message}` : "an encoding that can't be read"
    throw new NitroError("CERTIFICATE_MALFORMED", fieldOf(role), found, "a DER-encoded certificate")
  }
}

const { sequence, integer } = tags
/** version, serial, algorithm, issuer, validity, subject, key, extensions; no unique ids. */
const tbsTags = [0xa0, integer, sequence, sequence, sequence, sequence, sequence, 0xa3]

/** AlgorithmIdentifier of ecdsa-with-SHA384 (RFC 5758): no parameters. */
const ecdsaSha384 = "300a06082a8648ce3d040303"
/** SubjectPublicKeyInfo of a P-384 key up to its uncompressed point. */
const p384Prefix = "3076301006072a8648ce3d020106052b81040022036200"
const p384SpkiBytes = 120

/** @throws NitroError CERTIFICATE_MALFORMED, CERTIFICATE_ALGORITHM */
export const outline = (role: string, given: Uint8Array): Outline => {
  if (given.length > certificateBytesMost)
    throw new NitroError(
      "CERTIFICATE_MALFORMED",
      fieldOf(role),
      `${given.length} bytes`,
      `at most ${certificateBytesMost}`,
    )
  const der = Uint8Array.from(given)
  return reading(role, () => {
    const [tbs, algorithm, signature] = readAll(readOnly(der, sequence).content, 3)
    if (tbs?.tag !== sequence || algorithm?.tag !== sequence || signature?.tag !== tags.bitString)
      throw new DerError("isn't built like a certificate")
    const parts = readAll(tbs.content, tbsTags.length)
    if (parts.length !== tbsTags.length || parts.some((part, i) => part.tag !== tbsTags[i]))
      throw new DerError("isn't built like a certificate")
    const [version, , inner, issuer, , subject, spki] = parts as [Tlv, Tlv, Tlv, Tlv, Tlv, Tlv, Tlv, Tlv]
    if (toHex(version.raw) !== "a003020102") throw new DerError("isn't version 3")
    for (const { raw } of [inner, algorithm])
      if (toHex(raw) !== ecdsaSha384)
        throw new NitroError(
          "CERTIFICATE_ALGORITHM",
          fieldOf(role, "signatureAlgorithm"),
          "another algorithm",
          "ECDSA with SHA-384",
        )
    return {
      der,
      tbs: tbs.raw,
      issuer: issuer.raw,
      subject: subject.raw,
      spki: spki.raw,
      publicKey: publicKeyOf(role, spki.raw),
      signature: readSignature(signature.content),
    }
  })
}

const publicKeyOf = (role: string, spki: Uint8Array): Uint8Array => {
  const prefixBytes = p384Prefix.length / 2
  if (spki.length !== p384SpkiBytes || toHex(spki.subarray(0, prefixBytes)) !== p384Prefix)
    throw new NitroError(
      "CERTIFICATE_ALGORITHM",
      fieldOf(role, "publicKey"),
      "another kind of key",
      "an uncompressed P-384 key",
    )
  return spki.slice(prefixBytes)
}

/** From ECDSA-Sig-Value (RFC 5480, appendix A) in a BIT STRING to r || s. One encoding only. */
const readSignature = (bits: Uint8Array): Uint8Array => {
  if (bits[0] !== 0) throw new DerError("has a signature of broken bytes")
  const numbers = readAll(readOnly(bits.subarray(1), sequence).content, 2)
  if (numbers.length !== 2) throw new DerError("has a signature of other than two numbers")
  const signature = new Uint8Array(96)
  for (const [i, { tag, content }] of numbers.entries()) {
    const [first = 0x80, second = 0] = content
    const padded = first === 0
    if (tag !== integer || first >= 0x80 || (padded && second < 0x80))
      throw new DerError("has a signature number that isn't positive and shortest")
    const number = padded ? content.subarray(1) : content
    if (number.length > 48) throw new DerError("has a signature number that is too long")
    signature.set(number, (i + 1) * 48 - number.length)
  }
  return signature
}

/** SHA-256 of a SubjectPublicKeyInfo, in hex. */
export const keyDigest = (spki: Uint8Array): string => toHex(chosen.sha256(spki))

/** @throws NitroError CERTIFICATE_ISSUER when the names don't chain, CERTIFICATE_SIGNATURE when the signature is wrong */
export const checkSignature = (
  role: string,
  certificate: Outline,
  issuer: Outline,
  crypto: Crypto = chosen,
): void => {
  if (Buffer.compare(certificate.issuer, issuer.subject) !== 0)
    throw new NitroError(
      "CERTIFICATE_ISSUER",
      fieldOf(role, "issuer"),
      "another name",
      "the subject of the certificate above",
    )
  if (!crypto.ecdsaP384.verify(certificate.signature, certificate.tbs, issuer.publicKey))
    throw new NitroError(
      "CERTIFICATE_SIGNATURE",
      fieldOf(role, "signature"),
      "a signature that doesn't verify",
      "ECDSA P-384 by the certificate above",
    )
}

/** A certificate whose signature held. */
export interface Certificate {
  readonly role: CertificateRole
  readonly commonName: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** SHA-256 of the DER, in hex. */
  readonly fingerprint: string
  /** How many issuers may stand below it; undefined where it doesn't say. */
  readonly pathLength: number | undefined
}

/**
 * Extensions of RFC 5280 that are looked at here or that may be passed over: key ids, key usage, constraints, where
 * revocation lists and issuers are found.
 */
const knownExtensions = new Set([
  "2.5.29.14",
  "2.5.29.15",
  "2.5.29.19",
  "2.5.29.31",
  "2.5.29.35",
  "1.3.6.1.5.5.7.1.1",
])

/**
 * Decodes a certificate whose signature has been checked, and checks that it may do what its role asks.
 * @throws NitroError CERTIFICATE_MALFORMED, CERTIFICATE_ROLE, CERTIFICATE_EXTENSION
 */
export const decode = (role: CertificateRole, from: Outline): Certificate =>
  reading(role, () => {
    const x509 = new X509Certificate(Uint8Array.from(from.der))
    checkExtensions(role, x509)
    const pathLength = checkUse(role, x509)
    const names = x509.subjectName.getField("CN")
    return {
      role,
      commonName: names.length === 1 ? (names[0] ?? "") : "",
      notBefore: x509.notBefore,
      notAfter: x509.notAfter,
      fingerprint: toHex(chosen.sha256(from.der)),
      pathLength,
    }
  })

const checkExtensions = (role: string, x509: X509Certificate): void => {
  const seen = new Set<string>()
  for (const { type, critical } of x509.extensions) {
    if (seen.has(type)) throw new NitroError("CERTIFICATE_EXTENSION", fieldOf(role, type), "twice", "once")
    seen.add(type)
    if (critical && !knownExtensions.has(type))
      throw new NitroError(
        "CERTIFICATE_EXTENSION",
        fieldOf(role, type),
        "critical",
        "only extensions that are understood",
      )
  }
}

/** Issuers must be authorities that may sign certificates; the leaf must not be one. Gives the path length, if any. */
const checkUse = (role: CertificateRole, x509: X509Certificate): number | undefined => {
  const isIssuer = role !== "leaf"
  const constraints = x509.getExtension(BasicConstraintsExtension)
  if ((constraints?.ca ?? false) !== isIssuer)
    throw new NitroError(
      "CERTIFICATE_ROLE",
      fieldOf(role, "basicConstraints"),
      `ca ${!isIssuer}`,
      `ca ${isIssuer}`,
    )
  const usage = x509.getExtension(KeyUsagesExtension)?.usages ?? 0
  if ((usage & (isIssuer ? KeyUsageFlags.keyCertSign : KeyUsageFlags.digitalSignature)) === 0)
    throw new NitroError(
      "CERTIFICATE_ROLE",
      fieldOf(role, "keyUsage"),
      `${usage}`,
      isIssuer ? "keyCertSign" : "digitalSignature",
    )
  return constraints?.pathLength
}

/**
 * @param issuersBelow how many issuers stand between this one and the leaf (RFC 5280, 4.2.1.9)
 * @throws NitroError CERTIFICATE_PATH_LENGTH
 */
export const checkPathLength = ({ role, pathLength }: Certificate, issuersBelow: number): void => {
  if (pathLength !== undefined && !(issuersBelow <= pathLength))
    throw new NitroError(
      "CERTIFICATE_PATH_LENGTH",
      fieldOf(role, "basicConstraints"),
      `${issuersBelow} issuers below`,
      `at most ${pathLength}`,
    )
}

/** @throws NitroError CERTIFICATE_NOT_YET_VALID, CERTIFICATE_EXPIRED */
export const checkDates = ({ role, notBefore, notAfter }: Certificate, at: Date): void => {
  // Written so that a date that isn't a number fails.
  if (!(notBefore.getTime() <= at.getTime()))
    throw new NitroError(
      "CERTIFICATE_NOT_YET_VALID",
      fieldOf(role, "notBefore"),
      isoOf(notBefore),
      `at most ${isoOf(at)}`,
    )
  // The last second counts whole: X.509 has no fractions.
  if (!(at.getTime() < notAfter.getTime() + 1_000))
    throw new NitroError(
      "CERTIFICATE_EXPIRED",
      fieldOf(role, "notAfter"),
      isoOf(notAfter),
      `at least ${isoOf(at)}`,
    )
}

const isoOf = (date: Date): string => (Number.isNaN(date.getTime()) ? "no date" : date.toISOString())

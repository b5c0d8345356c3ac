/**
 * One X.509 certificate of AMD's hierarchy (AMD 57230). It is read in two steps. The outline, by a reader that takes one
 * encoding only, is enough to check the signature. The rest is decoded by the library, and only once the signature
 * held: hostile bytes never reach it.
 */
import "reflect-metadata"
import { BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension, X509Certificate } from "@peculiar/x509"
import { limits } from "../../../schemas/limits.ts"
import { crypto } from "../../common/crypto/index.ts"
import { rsaPss4096Sha384 } from "../../common/crypto/native.ts"
import { DerError, readAll, readOnly, type Tlv, tags } from "../der.ts"
import { SnpError, toHex } from "./error.ts"

export type CertificateRole = "ark" | "ask" | "asvk" | "vcek" | "vlek"

/** What a signature check needs, as slices of the certificate. */
export interface Outline {
  readonly der: Uint8Array
  /** The signed part. */
  readonly tbs: Uint8Array
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly spki: Uint8Array
  readonly signature: Uint8Array
}

const field = (role: string, part?: string): string =>
  part === undefined ? `certificates.${role}` : `certificates.${role}.${part}`

/** Runs a reader of DER; what it finds wrong becomes a typed error. */
export const reading = <T>(
  role: string,
  part: string | undefined,
  code: SnpError["code"],
  read: () => T,
): T => {
  try {
    return read()
  } catch (error) {
    if (error instanceof SnpError) throw error
    const found = error instanceof DerError ? `DER that ${error.message}` : "an encoding that can't be read"
    throw new SnpError(code, field(role, part), found, "a DER-encoded value as AMD writes it")
  }
}

/**
 * @param given DER; copied, since what comes of it may outlive the message that it came in
 * @throws SnpError CERTIFICATE_MALFORMED
 */
export const outline = (role: string, given: Uint8Array): Outline => {
  if (given.length > limits.certificateBytes)
    throw new SnpError(
      "CERTIFICATE_MALFORMED",
      field(role),
      `${given.length} bytes`,
      `at most ${limits.certificateBytes}`,
    )
  const der = Uint8Array.from(given)
  return reading(role, undefined, "CERTIFICATE_MALFORMED", () => {
    const [tbs, algorithm, signature] = expectTags(readAll(readOnly(der, tags.sequence).content, 3), [
      tags.sequence,
      tags.sequence,
      tags.bitString,
    ])
    const parts = expectTags(readAll(tbs.content, 8), tbsTags)
    const [version, , innerAlgorithm, issuer, , subject, spki] = parts
    if (toHex(version.raw) !== "a003020102") throw new DerError("isn't version 3")
    // The outer algorithm is outside of the signature: it counts only as a copy of the inner one.
    if (Buffer.compare(algorithm.raw, innerAlgorithm.raw) !== 0) throw new DerError("names two algorithms")
    if (signature.content[0] !== 0) throw new DerError("has a signature of broken bytes")
    return {
      der,
      tbs: tbs.raw,
      issuer: issuer.raw,
      subject: subject.raw,
      spki: spki.raw,
      signature: signature.content.subarray(1),
    }
  })
}

const { sequence, integer } = tags
/** version, serial, algorithm, issuer, validity, subject, key, extensions; no unique ids. */
const tbsTags = [0xa0, integer, sequence, sequence, sequence, sequence, sequence, 0xa3] as const

type Tlvs<T extends readonly number[]> = { readonly [K in keyof T]: Tlv }

const expectTags = <const T extends readonly number[]>(found: readonly Tlv[], wanted: T): Tlvs<T> => {
  if (found.length !== wanted.length || found.some((tlv, i) => tlv.tag !== wanted[i]))
    throw new DerError("isn't built like a certificate")
  return found as unknown as Tlvs<T>
}

/** SHA-256 of a SubjectPublicKeyInfo, in hex. */
export const keyDigest = (spki: Uint8Array): string => toHex(crypto.sha256(spki))

/** @throws SnpError CERTIFICATE_ISSUER when the names don't chain, CERTIFICATE_SIGNATURE when the signature is wrong */
export const checkSignature = (role: string, certificate: Outline, issuer: Outline): void => {
  if (Buffer.compare(certificate.issuer, issuer.subject) !== 0)
    throw new SnpError(
      "CERTIFICATE_ISSUER",
      field(role, "issuer"),
      "another name",
      "the subject of the next certificate",
    )
  if (!rsaPss4096Sha384.verify(certificate.signature, certificate.tbs, issuer.spki))
    throw new SnpError(
      "CERTIFICATE_SIGNATURE",
      field(role, "signature"),
      "a signature that doesn't verify",
      "RSASSA-PSS with SHA-384 by the issuer's 4,096-bit key",
    )
}

/** A certificate whose signature held. */
export interface Certificate {
  readonly role: CertificateRole
  readonly commonName: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly spki: Uint8Array
  /** SHA-256 of the DER, in hex. */
  readonly fingerprint: string
  /** Values by OID, those that X.509 itself defines left out. */
  readonly extensions: ReadonlyMap<string, Uint8Array>
}

/** Extensions of RFC 5280 that are looked at or that may be passed over: key usage, constraints, key ids, CRL location. */
const standardExtensions = new Set(["2.5.29.14", "2.5.29.15", "2.5.29.19", "2.5.29.31", "2.5.29.35"])

/**
 * Decodes a certificate whose signature has been checked, and checks that it may do what its role asks.
 * @throws SnpError CERTIFICATE_MALFORMED, CERTIFICATE_ALGORITHM, CERTIFICATE_ROLE, CERTIFICATE_EXTENSION
 */
export const decode = (role: CertificateRole, from: Outline): Certificate => {
  const x509 = reading(
    role,
    undefined,
    "CERTIFICATE_MALFORMED",
    () => new X509Certificate(Uint8Array.from(from.der)),
  )
  return reading(role, undefined, "CERTIFICATE_MALFORMED", () => {
    checkAlgorithm(role, x509)
    checkUse(role, x509)
    const names = x509.subjectName.getField("CN")
    return {
      role,
      commonName: names.length === 1 ? (names[0] ?? "") : "",
      notBefore: x509.notBefore,
      notAfter: x509.notAfter,
      spki: from.spki,
      fingerprint: toHex(crypto.sha256(from.der)),
      extensions: vendorExtensions(role, x509),
    }
  })
}

const checkAlgorithm = (role: string, x509: X509Certificate): void => {
  const algorithm = x509.signatureAlgorithm as { name: string; hash?: { name: string }; saltLength?: number }
  if (algorithm.name !== "RSA-PSS" || algorithm.hash?.name !== "SHA-384" || algorithm.saltLength !== 48)
    throw new SnpError(
      "CERTIFICATE_ALGORITHM",
      field(role, "signatureAlgorithm"),
      `${algorithm.name}, ${algorithm.hash?.name ?? "no hash"}, salt ${algorithm.saltLength ?? "unknown"}`,
      "RSA-PSS, SHA-384, salt 48",
    )
}

/** Issuers must be authorities that may sign certificates; the others must not be authorities. */
const checkUse = (role: CertificateRole, x509: X509Certificate): void => {
  const isIssuer = role === "ark" || role === "ask" || role === "asvk"
  const constraints = x509.getExtension(BasicConstraintsExtension)
  if ((constraints?.ca ?? false) !== isIssuer)
    throw new SnpError(
      "CERTIFICATE_ROLE",
      field(role, "basicConstraints"),
      `ca ${!isIssuer}`,
      `ca ${isIssuer}`,
    )
  const usage = x509.getExtension(KeyUsagesExtension)?.usages
  const wanted = isIssuer ? KeyUsageFlags.keyCertSign : KeyUsageFlags.digitalSignature
  if ((isIssuer && usage === undefined) || (usage !== undefined && (usage & wanted) === 0))
    throw new SnpError(
      "CERTIFICATE_ROLE",
      field(role, "keyUsage"),
      usage === undefined ? "none" : `${usage}`,
      isIssuer ? "keyCertSign" : "digitalSignature, or no key usage",
    )
}

const vendorExtensions = (role: string, x509: X509Certificate): ReadonlyMap<string, Uint8Array> => {
  const seen = new Set<string>()
  const vendor = new Map<string, Uint8Array>()
  for (const { type, critical, value } of x509.extensions) {
    if (seen.has(type)) throw new SnpError("CERTIFICATE_EXTENSION", field(role, type), "twice", "once")
    seen.add(type)
    if (standardExtensions.has(type)) continue
    if (critical)
      throw new SnpError(
        "CERTIFICATE_EXTENSION",
        field(role, type),
        "critical",
        "only extensions that are understood",
      )
    vendor.set(type, new Uint8Array(value))
  }
  return vendor
}

/** @throws SnpError CERTIFICATE_NOT_YET_VALID, CERTIFICATE_EXPIRED */
export const checkDates = (certificate: Certificate, now: Date): void => {
  const { role, notBefore, notAfter } = certificate
  // Written so that a date that isn't a number fails.
  if (!(notBefore.getTime() <= now.getTime()))
    throw new SnpError(
      "CERTIFICATE_NOT_YET_VALID",
      field(role, "notBefore"),
      isoOf(notBefore),
      `at most ${isoOf(now)}`,
    )
  if (!(now.getTime() <= notAfter.getTime()))
    throw new SnpError(
      "CERTIFICATE_EXPIRED",
      field(role, "notAfter"),
      isoOf(notAfter),
      `at least ${isoOf(now)}`,
    )
}

const isoOf = (date: Date): string => (Number.isNaN(date.getTime()) ? "no date" : date.toISOString())

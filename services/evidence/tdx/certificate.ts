/**
 * One X.509 certificate of Intel's provisioning hierarchy (Intel SGX PCK Certificate and CRL Profile): ECDSA P-256 with
 * SHA-256 throughout. Read in two steps: the outline by a reader that takes one encoding only, enough to check the
 * signature; the rest by the library, and only once the signature held.
 */
import "reflect-metadata"
import { BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension, X509Certificate } from "@peculiar/x509"
import { limits } from "../../../schemas/limits.ts"
import type { Crypto } from "../../common/crypto/index.ts"
import { native } from "../../common/crypto/native.ts"
import { DerError, readAll, readOnly, type Tlv, tags } from "../der.ts"
import type { TdxCache } from "./cache.ts"
import { isoOf, TdxError, type TdxErrorCode, toHex } from "./error.ts"

export type IntelRole = "root" | "ca" | "pck" | "tcbSigning"

/** What a signature check needs, as slices of the certificate. */
export interface IntelOutline {
  readonly der: Uint8Array
  readonly tbs: Uint8Array
  /** As in the certificate: a signed number, big-endian, in hex. */
  readonly serial: string
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly spki: Uint8Array
  /** 04 || x || y. */
  readonly publicKey: Uint8Array
  /** r || s, big-endian, 64 bytes. */
  readonly signature: Uint8Array
}

/** Runs a reader of DER; what it finds wrong becomes a typed error. */
export const readingDer = <T>(field: string, code: TdxErrorCode, read: () => T): T => {
  try {
    return read()
  } catch (error) {
    if (error instanceof TdxError) throw error
    const found = error instanceof DerError ? `DER that ${error.message}` : "an encoding that can't be read"
    throw new TdxError(code, field, found, "a DER-encoded value as Intel writes it")
  }
}

/** AlgorithmIdentifier of ecdsa-with-SHA256. */
export const ecdsaSha256 = "300a06082a8648ce3d040302"
/** SubjectPublicKeyInfo of a P-256 key up to and with the 04 of its uncompressed point. */
const p256Prefix = "3059301306072a8648ce3d020106082a8648ce3d03010703420004"

const { sequence, integer, bitString } = tags
/** version, serial, algorithm, issuer, validity, subject, key, extensions; no unique ids. */
const tbsTags = [0xa0, integer, sequence, sequence, sequence, sequence, sequence, 0xa3] as const

type Tlvs<T extends readonly number[]> = { readonly [K in keyof T]: Tlv }

export const expectTags = <const T extends readonly number[]>(
  found: readonly Tlv[],
  wanted: T,
  what: string,
): Tlvs<T> => {
  if (found.length !== wanted.length || found.some((tlv, i) => tlv.tag !== wanted[i]))
    throw new DerError(`isn't built like ${what}`)
  return found as unknown as Tlvs<T>
}

/** SIGNED{} of X.509: what was signed, and the signature as r || s. */
export const readSigned = (field: string, der: Uint8Array, what: string) => {
  const [tbs, algorithm, signature] = expectTags(
    readAll(readOnly(der, sequence).content, 3),
    [sequence, sequence, bitString],
    what,
  )
  if (toHex(algorithm.raw) !== ecdsaSha256)
    throw new TdxError("CERTIFICATE_ALGORITHM", `${field}.signatureAlgorithm`, "another", "ecdsa-with-SHA256")
  if (signature.content[0] !== 0) throw new DerError("has a signature of broken bytes")
  return { tbs, algorithm, signature: rawSignature(signature.content.subarray(1)) }
}

/** ECDSA-Sig-Value to r || s. Both in their shortest form, so that one signature has one encoding. */
const rawSignature = (der: Uint8Array): Uint8Array => {
  const parts = expectTags(readAll(readOnly(der, sequence).content, 2), [integer, integer], "a signature")
  const signature = new Uint8Array(64)
  for (const [i, { content }] of parts.entries()) {
    const [first = 0x80, second = 0] = content
    if (first >= 0x80 || (first === 0 && content.length > 1 && second < 0x80))
      throw new DerError("has a signature of numbers that aren't positive and shortest")
    const digits = first === 0 ? content.subarray(1) : content
    if (digits.length > 32) throw new DerError("has a signature of numbers above 256 bits")
    signature.set(digits, 32 * (i + 1) - digits.length)
  }
  return signature
}

/**
 * @param given DER; copied, since what comes of it may outlive the message that it came in
 * @throws TdxError CERTIFICATE_MALFORMED, CERTIFICATE_ALGORITHM
 */
export const outlineOf = (role: IntelRole, given: Uint8Array): IntelOutline => {
  const field = `certificates.${role}`
  if (given.length > limits.certificateBytes)
    throw new TdxError(
      "CERTIFICATE_MALFORMED",
      field,
      `${given.length} bytes`,
      `at most ${limits.certificateBytes}`,
    )
  const der = Uint8Array.from(given)
  return readingDer(field, "CERTIFICATE_MALFORMED", () => {
    const { tbs, algorithm, signature } = readSigned(field, der, "a certificate")
    const parts = expectTags(readAll(tbs.content, 8), tbsTags, "a certificate")
    const [version, serial, innerAlgorithm, issuer, , subject, spki] = parts
    if (toHex(version.raw) !== "a003020102") throw new DerError("isn't version 3")
    // The outer algorithm is outside of the signature: it counts only as a copy of the inner one.
    if (Buffer.compare(algorithm.raw, innerAlgorithm.raw) !== 0) throw new DerError("names two algorithms")
    return {
      der,
      tbs: tbs.raw,
      serial: toHex(serial.content),
      issuer: issuer.raw,
      subject: subject.raw,
      spki: spki.raw,
      publicKey: p256Key(field, spki.raw),
      signature,
    }
  })
}

const p256Key = (field: string, spki: Uint8Array): Uint8Array => {
  const prefixBytes = p256Prefix.length / 2
  if (spki.length !== prefixBytes + 64 || toHex(spki.subarray(0, prefixBytes)) !== p256Prefix)
    throw new TdxError(
      "CERTIFICATE_ALGORITHM",
      `${field}.publicKey`,
      "another kind of key",
      "an uncompressed P-256 key",
    )
  return spki.slice(prefixBytes - 1)
}

/** SHA-256 of a SubjectPublicKeyInfo, in hex. */
export const spkiDigest = (spki: Uint8Array): string => toHex(native.sha256(spki))

/** @throws TdxError CERTIFICATE_ISSUER when the names don't chain, CERTIFICATE_SIGNATURE when the signature is wrong */
export const checkIssued = (
  role: IntelRole,
  certificate: IntelOutline,
  issuer: IntelOutline,
  crypto: Crypto,
): void => {
  if (Buffer.compare(certificate.issuer, issuer.subject) !== 0)
    throw new TdxError(
      "CERTIFICATE_ISSUER",
      `certificates.${role}.issuer`,
      "another name",
      "the subject of its issuer's certificate",
    )
  if (!crypto.ecdsaP256.verify(certificate.signature, certificate.tbs, issuer.publicKey))
    throw new TdxError(
      "CERTIFICATE_SIGNATURE",
      `certificates.${role}.signature`,
      "a signature that doesn't verify",
      "ECDSA P-256 with SHA-256 by the issuer's key",
    )
}

/** A certificate whose signature held. */
export interface IntelCertificate {
  readonly role: IntelRole
  readonly commonName: string
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** SHA-256 of the DER, in hex. */
  readonly fingerprint: string
  /** Values by OID, those that X.509 itself defines left out. */
  readonly extensions: ReadonlyMap<string, Uint8Array>
}

/** Extensions of RFC 5280 that are looked at or that may be passed over: key usage, constraints, key ids, CRL location. */
const standardExtensions = new Set(["2.5.29.14", "2.5.29.15", "2.5.29.19", "2.5.29.31", "2.5.29.35"])

/** Intel tells the parts of its hierarchy apart by their common names. */
const commonNames: Readonly<Record<IntelRole, readonly string[]>> = {
  root: ["Intel SGX Root CA"],
  ca: ["Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"],
  pck: ["Intel SGX PCK Certificate"],
  tcbSigning: ["Intel SGX TCB Signing"],
}

/**
 * Decodes a certificate whose signature has been checked, and checks that it may do what its role asks.
 * @throws TdxError CERTIFICATE_MALFORMED, CERTIFICATE_ROLE, CERTIFICATE_EXTENSION
 */
export const decodeCertificate = (role: IntelRole, from: IntelOutline): IntelCertificate => {
  const field = `certificates.${role}`
  return readingDer(field, "CERTIFICATE_MALFORMED", () => {
    const x509 = new X509Certificate(Uint8Array.from(from.der))
    checkUse(role, x509)
    const [commonName = "", ...more] = x509.subjectName.getField("CN")
    if (more.length > 0 || !commonNames[role].includes(commonName))
      throw new TdxError(
        "CERTIFICATE_ROLE",
        `${field}.subject`,
        `CN ${JSON.stringify(commonName.slice(0, 64))}`,
        `CN ${commonNames[role].join(" or ")}`,
      )
    return {
      role,
      commonName,
      serial: from.serial,
      notBefore: x509.notBefore,
      notAfter: x509.notAfter,
      fingerprint: toHex(native.sha256(from.der)),
      extensions: vendorExtensions(role, x509),
    }
  })
}

/** Issuers must be authorities that may sign certificates and CRLs; the others must not be authorities. */
const checkUse = (role: IntelRole, x509: X509Certificate): void => {
  const isIssuer = role === "root" || role === "ca"
  const ca = x509.getExtension(BasicConstraintsExtension)?.ca ?? false
  if (ca !== isIssuer)
    throw new TdxError(
      "CERTIFICATE_ROLE",
      `certificates.${role}.basicConstraints`,
      `ca ${ca}`,
      `ca ${isIssuer}`,
    )
  const usage = x509.getExtension(KeyUsagesExtension)?.usages ?? 0
  const wanted = isIssuer ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign : KeyUsageFlags.digitalSignature
  if ((usage & wanted) !== wanted)
    throw new TdxError(
      "CERTIFICATE_ROLE",
      `certificates.${role}.keyUsage`,
      `${usage}`,
      isIssuer ? "keyCertSign and cRLSign" : "digitalSignature",
    )
}

const vendorExtensions = (role: string, x509: X509Certificate): ReadonlyMap<string, Uint8Array> => {
  const seen = new Set<string>()
  const vendor = new Map<string, Uint8Array>()
  for (const { type, critical, value } of x509.extensions) {
    const field = `certificates.${role}.${type}`
    if (seen.has(type)) throw new TdxError("CERTIFICATE_EXTENSION", field, "twice", "once")
    seen.add(type)
    if (standardExtensions.has(type)) continue
    if (critical)
      throw new TdxError("CERTIFICATE_EXTENSION", field, "critical", "only extensions that are understood")
    vendor.set(type, new Uint8Array(value))
  }
  return vendor
}

/**
 * A certificate that its issuer has signed; known ones are neither checked nor decoded again.
 * @throws TdxError what `checkIssued` and `decodeCertificate` throw
 */
export const verifyIssued = (
  role: IntelRole,
  certificate: IntelOutline,
  issuer: IntelOutline,
  crypto: Crypto,
  cache?: TdxCache,
): IntelCertificate => {
  const make = (): IntelCertificate => {
    checkIssued(role, certificate, issuer, crypto)
    return decodeCertificate(role, certificate)
  }
  if (cache === undefined) return make()
  const key = `${role}:${spkiDigest(issuer.spki)}:${toHex(native.sha256(certificate.der))}`
  return cache.certificates.of(key, make)
}

/** @throws TdxError CERTIFICATE_NOT_YET_VALID, CERTIFICATE_EXPIRED */
export const checkCertificateDates = (certificate: IntelCertificate, now: Date): void => {
  const { role, notBefore, notAfter } = certificate
  // Written so that a date that isn't a number fails.
  if (!(notBefore.getTime() <= now.getTime()))
    throw new TdxError(
      "CERTIFICATE_NOT_YET_VALID",
      `certificates.${role}.notBefore`,
      isoOf(notBefore),
      `at most ${isoOf(now)}`,
    )
  if (!(now.getTime() <= notAfter.getTime()))
    throw new TdxError(
      "CERTIFICATE_EXPIRED",
      `certificates.${role}.notAfter`,
      isoOf(notAfter),
      `at least ${isoOf(now)}`,
    )
}

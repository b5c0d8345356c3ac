/**
 * One X.509 certificate of Intel's provisioning hierarchy (Intel SGX PCK Certificate and CRL Profile): ECDSA P-256 with
 * SHA-256 throughout. Read in two steps: the outline by a reader that takes one encoding only, enough to check the
 * signature; the rest by the library, and only once the signature held.
 */
import { limits } from "../../../schemas/limits.ts"
import type { Crypto } from "../../common/crypto/index.ts"
import { native } from "../../common/crypto/native.ts"
import { DerError, readAll, readOnly, tags } from "../der.ts"
import { toHex } from "../text.ts"
import { checkDates } from "../x509/dates.ts"
import {
  checkAuthority,
  decodeX509,
  KeyUsageFlags,
  keyUsageOf,
  type X509Certificate,
} from "../x509/decoded.ts"
import { otherExtensions, standardExtensions } from "../x509/extensions.ts"
import { checkIssuerName, checkIssuerSignature } from "../x509/issuer.ts"
import * as outlines from "../x509/outline.ts"
import { type Refuse, readingDer as reading, refuserOf } from "../x509/refuse.ts"
import type { TdxCache } from "./cache.ts"
import { TdxError, type TdxErrorCode } from "./error.ts"

export type IntelRole = "root" | "ca" | "pck" | "tcbSigning"

/** What a signature check needs, as slices of the certificate. */
export interface IntelOutline extends outlines.Outline {
  /** 04 || x || y. */
  readonly publicKey: Uint8Array
  /** r || s, big-endian, 64 bytes. */
  readonly signature: Uint8Array
}

const refuserFor = (role: IntelRole): Refuse => refuserOf(TdxError, `certificates.${role}`)

/** Runs a reader of DER; what it finds wrong becomes a typed error. */
export const readingDer = <T>(field: string, code: TdxErrorCode, read: () => T): T =>
  reading(read, (found) => new TdxError(code, field, found, "a DER-encoded value as Intel writes it"))

/** AlgorithmIdentifier of ecdsa-with-SHA256. */
export const ecdsaSha256 = "300a06082a8648ce3d040302"
/** SubjectPublicKeyInfo of a P-256 key up to and with the 04 of its uncompressed point. */
const p256Prefix = "3059301306072a8648ce3d020106082a8648ce3d03010703420004"

const { sequence, integer } = tags

/** @throws TdxError CERTIFICATE_ALGORITHM */
export const expectIntelAlgorithm = (field: string, algorithm: Uint8Array): void => {
  if (toHex(algorithm) !== ecdsaSha256)
    throw new TdxError("CERTIFICATE_ALGORITHM", `${field}.signatureAlgorithm`, "another", "ecdsa-with-SHA256")
}

/** ECDSA-Sig-Value to r || s. Both in their shortest form, so that one signature has one encoding. */
export const rawSignature = (der: Uint8Array): Uint8Array => {
  const numbers = readAll(readOnly(der, sequence).content, 2)
  const parts = outlines.expectTags(numbers, [integer, integer], "a signature")
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
  const der = outlines.boundedCopy(given, limits.certificateBytes, refuserFor(role))
  return readingDer(field, "CERTIFICATE_MALFORMED", () => {
    const { tbs, algorithm, signature } = outlines.readSigned(der, "a certificate")
    expectIntelAlgorithm(field, algorithm.raw)
    const inner = outlines.readTbs(tbs)
    outlines.expectOneAlgorithm(algorithm, inner.algorithm)
    return {
      der,
      tbs: tbs.raw,
      serial: toHex(inner.serial.content),
      issuer: inner.issuer.raw,
      subject: inner.subject.raw,
      spki: inner.spki.raw,
      publicKey: p256Key(field, inner.spki.raw),
      signature: rawSignature(outlines.signatureBytes(signature)),
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
  const refuse = refuserFor(role)
  checkIssuerName(certificate, issuer, "the subject of its issuer's certificate", refuse)
  checkIssuerSignature(
    crypto.ecdsaP256.verify(certificate.signature, certificate.tbs, issuer.publicKey),
    "ECDSA P-256 with SHA-256 by the issuer's key",
    refuse,
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

const known = new Set(standardExtensions)

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
const decodeCertificate = (role: IntelRole, from: IntelOutline): IntelCertificate => {
  const refuse = refuserFor(role)
  return readingDer(`certificates.${role}`, "CERTIFICATE_MALFORMED", () => {
    const x509 = decodeX509(from.der)
    checkUse(role, x509, refuse)
    const [commonName = "", ...more] = x509.subjectName.getField("CN")
    if (more.length > 0 || !commonNames[role].includes(commonName))
      throw refuse(
        "CERTIFICATE_ROLE",
        "subject",
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
      extensions: otherExtensions(x509, known, refuse),
    }
  })
}

/** Issuers must be authorities that may sign certificates and CRLs; the others must not be authorities. */
const checkUse = (role: IntelRole, x509: X509Certificate, refuse: Refuse): void => {
  const isIssuer = role === "root" || role === "ca"
  checkAuthority(x509, isIssuer, refuse)
  const usage = keyUsageOf(x509) ?? 0
  const wanted = isIssuer ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign : KeyUsageFlags.digitalSignature
  if ((usage & wanted) !== wanted)
    throw refuse(
      "CERTIFICATE_ROLE",
      "keyUsage",
      `${usage}`,
      isIssuer ? "keyCertSign and cRLSign" : "digitalSignature",
    )
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
export const checkCertificateDates = (certificate: IntelCertificate, now: Date): void =>
  checkDates(certificate, now, refuserFor(certificate.role))

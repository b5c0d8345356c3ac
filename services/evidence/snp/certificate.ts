/**
 * One X.509 certificate of AMD's hierarchy (AMD 57230). It is read in two steps. The outline, by a reader that takes one
 * encoding only, is enough to check the signature. The rest is decoded by the library, and only once the signature
 * held: hostile bytes never reach it.
 */
import { limits } from "../../../schemas/limits.ts"
import { crypto } from "../../common/crypto/index.ts"
import { rsaPss4096Sha384 } from "../../common/crypto/native.ts"
import { toHex } from "../text.ts"
import * as dates from "../x509/dates.ts"
import {
  checkAuthority,
  commonNameOf,
  decodeX509,
  KeyUsageFlags,
  keyUsageOf,
  type X509Certificate,
} from "../x509/decoded.ts"
import { otherExtensions, standardExtensions } from "../x509/extensions.ts"
import { checkIssuerName, checkIssuerSignature } from "../x509/issuer.ts"
import { boundedCopy, type Outline, readOutline } from "../x509/outline.ts"
import { type Refuse, readingDer, refuserOf } from "../x509/refuse.ts"
import { SnpError } from "./error.ts"

export type CertificateRole = "ark" | "ask" | "asvk" | "vcek" | "vlek"

const refuserFor = (role: string): Refuse => refuserOf(SnpError, `certificates.${role}`)

/** Runs a reader of DER in one certificate, or in `part` of it; what it finds wrong becomes a typed error. */
export const reading = <T>(
  role: string,
  part: string | undefined,
  code: "CERTIFICATE_MALFORMED" | "CERTIFICATE_EXTENSION",
  read: () => T,
): T =>
  readingDer(read, (found) => refuserFor(role)(code, part, found, "a DER-encoded value as AMD writes it"))

/**
 * @param given DER; copied, since what comes of it may outlive the message that it came in
 * @throws SnpError CERTIFICATE_MALFORMED
 */
export const outline = (role: string, given: Uint8Array): Outline => {
  const der = boundedCopy(given, limits.certificateBytes, refuserFor(role))
  return reading(role, undefined, "CERTIFICATE_MALFORMED", () => readOutline(der))
}

/** SHA-256 of a SubjectPublicKeyInfo, in hex. */
export const keyDigest = (spki: Uint8Array): string => toHex(crypto.sha256(spki))

/** @throws SnpError CERTIFICATE_ISSUER when the names don't chain, CERTIFICATE_SIGNATURE when the signature is wrong */
export const checkSignature = (role: string, certificate: Outline, issuer: Outline): void => {
  const refuse = refuserFor(role)
  checkIssuerName(certificate, issuer, "the subject of the next certificate", refuse)
  checkIssuerSignature(
    rsaPss4096Sha384.verify(certificate.signature, certificate.tbs, issuer.spki),
    "RSASSA-PSS with SHA-384 by the issuer's 4,096-bit key",
    refuse,
  )
}

/** A certificate whose signature held. */
export interface Certificate {
  readonly role: CertificateRole
  readonly commonName: string
  /** A signed number, big-endian, in hex; what it says to revocation lists. */
  readonly serial: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly spki: Uint8Array
  /** SHA-256 of the DER, in hex. */
  readonly fingerprint: string
  /** Values by OID, those that X.509 itself defines left out. */
  readonly extensions: ReadonlyMap<string, Uint8Array>
}

const known = new Set(standardExtensions)

/**
 * Decodes a certificate whose signature has been checked, and checks that it may do what its role asks.
 * @throws SnpError CERTIFICATE_MALFORMED, CERTIFICATE_ALGORITHM, CERTIFICATE_ROLE, CERTIFICATE_EXTENSION
 */
export const decode = (role: CertificateRole, from: Outline): Certificate =>
  reading(role, undefined, "CERTIFICATE_MALFORMED", () => {
    const refuse = refuserFor(role)
    const x509 = decodeX509(from.der)
    checkAlgorithm(x509, refuse)
    checkUse(role, x509, refuse)
    return {
      role,
      commonName: commonNameOf(x509),
      serial: from.serial,
      notBefore: x509.notBefore,
      notAfter: x509.notAfter,
      spki: from.spki,
      fingerprint: toHex(crypto.sha256(from.der)),
      extensions: otherExtensions(x509, known, refuse),
    }
  })

const checkAlgorithm = (x509: X509Certificate, refuse: Refuse): void => {
  const algorithm = x509.signatureAlgorithm as { name: string; hash?: { name: string }; saltLength?: number }
  if (algorithm.name !== "RSA-PSS" || algorithm.hash?.name !== "SHA-384" || algorithm.saltLength !== 48)
    throw refuse(
      "CERTIFICATE_ALGORITHM",
      "signatureAlgorithm",
      `${algorithm.name}, ${algorithm.hash?.name ?? "no hash"}, salt ${algorithm.saltLength ?? "unknown"}`,
      "RSA-PSS, SHA-384, salt 48",
    )
}

/** Issuers must be authorities that may sign certificates, and the root lists too; the others must not be authorities. */
const checkUse = (role: CertificateRole, x509: X509Certificate, refuse: Refuse): void => {
  const isIssuer = role === "ark" || role === "ask" || role === "asvk"
  checkAuthority(x509, isIssuer, refuse)
  const usage = keyUsageOf(x509)
  const wanted = isIssuer ? KeyUsageFlags.keyCertSign : KeyUsageFlags.digitalSignature
  const needed = role === "ark" ? wanted | KeyUsageFlags.cRLSign : wanted
  if ((isIssuer && usage === undefined) || (usage !== undefined && (usage & needed) !== needed))
    throw refuse(
      "CERTIFICATE_ROLE",
      "keyUsage",
      usage === undefined ? "none" : `${usage}`,
      role === "ark"
        ? "keyCertSign and cRLSign"
        : isIssuer
          ? "keyCertSign"
          : "digitalSignature, or no key usage",
    )
}

/** @throws SnpError CERTIFICATE_NOT_YET_VALID, CERTIFICATE_EXPIRED */
export const checkDates = (certificate: Certificate, now: Date): void =>
  dates.checkDates(certificate, now, refuserFor(certificate.role))

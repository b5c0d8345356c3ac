/**
 * One X.509 certificate of AWS's Nitro hierarchy: P-384 keys, ECDSA with SHA-384. It is read in two steps. The outline, by
 * a reader that takes one encoding only, is enough to check the signature. The rest is decoded by the library, and only
 * once the signature held: hostile bytes never reach it.
 */
import { type Crypto, crypto as chosen } from "../../common/crypto/index.ts"
import { DerError, readAll, readOnly, type Tlv, tags } from "../der.ts"
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
import * as outlines from "../x509/outline.ts"
import { type Refuse, readingDer, refuserOf } from "../x509/refuse.ts"
import { certificateBytesMost } from "./document.ts"
import { NitroError } from "./error.ts"

/** `root`, `issuer1` and so on downwards, `leaf`. */
export type CertificateRole = "root" | `issuer${number}` | "leaf"

/** What a signature check needs, as slices of the certificate. */
export interface Outline extends outlines.Outline {
  /** 04 || x || y. */
  readonly publicKey: Uint8Array
  /** r || s, big-endian, 96 bytes. */
  readonly signature: Uint8Array
}

const refuserFor = (role: string): Refuse => refuserOf(NitroError, `certificates.${role}`)

const reading = <T>(refuse: Refuse, read: () => T): T =>
  readingDer(read, (found) => refuse("CERTIFICATE_MALFORMED", undefined, found, "a DER-encoded certificate"))

const { sequence, integer } = tags

/** AlgorithmIdentifier of ecdsa-with-SHA384 (RFC 5758): no parameters. */
const ecdsaSha384 = "300a06082a8648ce3d040303"
/** SubjectPublicKeyInfo of a P-384 key up to its uncompressed point. */
const p384Prefix = "3076301006072a8648ce3d020106052b81040022036200"
const p384SpkiBytes = 120

/** @throws NitroError CERTIFICATE_MALFORMED, CERTIFICATE_ALGORITHM */
export const outline = (role: string, given: Uint8Array): Outline => {
  const refuse = refuserFor(role)
  const der = outlines.boundedCopy(given, certificateBytesMost, refuse)
  return reading(refuse, () => {
    const { tbs, algorithm, signature } = outlines.readSigned(der, "a certificate")
    const inner = outlines.readTbs(tbs)
    for (const { raw } of [inner.algorithm, algorithm])
      if (toHex(raw) !== ecdsaSha384)
        throw refuse("CERTIFICATE_ALGORITHM", "signatureAlgorithm", "another algorithm", "ECDSA with SHA-384")
    return {
      der,
      tbs: tbs.raw,
      serial: toHex(inner.serial.content),
      issuer: inner.issuer.raw,
      subject: inner.subject.raw,
      spki: inner.spki.raw,
      publicKey: publicKeyOf(inner.spki.raw, refuse),
      signature: readSignature(signature),
    }
  })
}

const publicKeyOf = (spki: Uint8Array, refuse: Refuse): Uint8Array => {
  const prefixBytes = p384Prefix.length / 2
  if (spki.length !== p384SpkiBytes || toHex(spki.subarray(0, prefixBytes)) !== p384Prefix)
    throw refuse("CERTIFICATE_ALGORITHM", "publicKey", "another kind of key", "an uncompressed P-384 key")
  return spki.slice(prefixBytes)
}

/** From ECDSA-Sig-Value (RFC 5480, appendix A) in a BIT STRING to r || s. One encoding only. */
const readSignature = (bits: Tlv): Uint8Array => {
  const numbers = readAll(readOnly(outlines.signatureBytes(bits), sequence).content, 2)
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
  const refuse = refuserFor(role)
  checkIssuerName(certificate, issuer, "the subject of the certificate above", refuse)
  checkIssuerSignature(
    crypto.ecdsaP384.verify(certificate.signature, certificate.tbs, issuer.publicKey),
    "ECDSA P-384 by the certificate above",
    refuse,
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

/** AWS also says where issuers are found. */
const knownExtensions = new Set([...standardExtensions, "1.3.6.1.5.5.7.1.1"])

/**
 * Decodes a certificate whose signature has been checked, and checks that it may do what its role asks.
 * @throws NitroError CERTIFICATE_MALFORMED, CERTIFICATE_ROLE, CERTIFICATE_EXTENSION
 */
export const decode = (role: CertificateRole, from: Outline): Certificate => {
  const refuse = refuserFor(role)
  return reading(refuse, () => {
    const x509 = decodeX509(from.der)
    otherExtensions(x509, knownExtensions, refuse)
    const pathLength = checkUse(role, x509, refuse)
    return {
      role,
      commonName: commonNameOf(x509),
      notBefore: x509.notBefore,
      notAfter: x509.notAfter,
      fingerprint: toHex(chosen.sha256(from.der)),
      pathLength,
    }
  })
}

/** Issuers must be authorities that may sign certificates; the leaf must not be one. Gives the path length, if any. */
const checkUse = (role: CertificateRole, x509: X509Certificate, refuse: Refuse): number | undefined => {
  const isIssuer = role !== "leaf"
  const pathLength = checkAuthority(x509, isIssuer, refuse)
  const usage = keyUsageOf(x509) ?? 0
  if ((usage & (isIssuer ? KeyUsageFlags.keyCertSign : KeyUsageFlags.digitalSignature)) === 0)
    throw refuse("CERTIFICATE_ROLE", "keyUsage", `${usage}`, isIssuer ? "keyCertSign" : "digitalSignature")
  return pathLength
}

/**
 * @param issuersBelow how many issuers stand between this one and the leaf (RFC 5280, 4.2.1.9)
 * @throws NitroError CERTIFICATE_PATH_LENGTH
 */
export const checkPathLength = ({ role, pathLength }: Certificate, issuersBelow: number): void => {
  if (pathLength !== undefined && !(issuersBelow <= pathLength))
    throw new NitroError(
      "CERTIFICATE_PATH_LENGTH",
      `certificates.${role}.basicConstraints`,
      `${issuersBelow} issuers below`,
      `at most ${pathLength}`,
    )
}

/** The last second counts whole: X.509 has no fractions. */
const wholeSecondMs = 999

/** @throws NitroError CERTIFICATE_NOT_YET_VALID, CERTIFICATE_EXPIRED */
export const checkDates = (certificate: Certificate, at: Date): void =>
  dates.checkDates(certificate, at, refuserFor(certificate.role), wholeSecondMs)

/**
 * One certificate of an attestation or endorsement key (TCG EK Credential Profile), or of an authority above it. It is
 * decoded only after the signature over its outline held.
 */
import { verify as nodeVerify } from "node:crypto"
import { crypto } from "../../common/crypto/index.ts"
import { DerError, readAll, readOnly, tags } from "../der.ts"
import type { Bank } from "../eventlog/bank.ts"
import { toHex } from "../text.ts"
import * as dates from "../x509/dates.ts"
import {
  checkAuthority as checkIsAuthority,
  decodeX509,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  keyUsageOf,
  type X509Certificate,
} from "../x509/decoded.ts"
import { otherExtensions, standardExtensions } from "../x509/extensions.ts"
import { checkIssuerName, checkIssuerSignature } from "../x509/issuer.ts"
import type { Outline } from "../x509/outline.ts"
import { type Refuse, readingDer, refuserOf } from "../x509/refuse.ts"
import { TpmError } from "./error.ts"
import { keyFromSpki } from "./public.ts"

/** What may stand at the top of a chain, known by its digest and never by its name. Digests: SHA-256, hex. */
export type TpmIssuer =
  /** A root by its SubjectPublicKeyInfo: its certificate must be signed by itself. */
  | { readonly name: string; readonly keyDigest: string }
  /** Any authority's certificate, by all of its bytes: for an operator who trusts less than a whole root. */
  | { readonly name: string; readonly certificateDigest: string }

/** Google's root for the keys of Compute Engine's virtual TPMs (tpm_ek_root_1.crt, at pki.goog/cloud_integrity). */
export const googleTpmRoot1: TpmIssuer = {
  name: "Google Cloud vTPM EK root 1",
  keyDigest: "f23057f4f97d1d90e4cae0ce91d5a0fc99069f0a1bc147021dca33b1e9c4d0d9",
}

export interface GoogleInstance {
  readonly zone: string
  readonly projectNumber: bigint
  readonly projectId: string
  readonly instanceId: bigint
  readonly instanceName: string
}

/** What an EK certificate says of its TPM: 2.23.133.2.1 to .3 of the alternative name. */
export interface TpmModel {
  readonly manufacturer?: string
  readonly model?: string
  readonly version?: string
}

export type LeafUse = "ak" | "ek"

export const at = (i: number, part?: string): string =>
  part === undefined ? `certificates[${i}]` : `certificates[${i}].${part}`

const refuserFor = (i: number): Refuse => refuserOf(TpmError, at(i))

export const reading = <T>(
  i: number,
  code: "CERTIFICATE_MALFORMED" | "CERTIFICATE_EXTENSION",
  read: () => T,
): T => readingDer(read, (found) => refuserFor(i)(code, undefined, found, "an X.509 certificate, DER"))

/** AlgorithmIdentifiers in DER. SHA-1 isn't among them. */
const signatureHashes: Readonly<Record<string, { readonly type: "rsa" | "ec"; readonly hash: Bank }>> = {
  "300d06092a864886f70d01010b0500": { type: "rsa", hash: "sha256" },
  "300d06092a864886f70d01010c0500": { type: "rsa", hash: "sha384" },
  "300d06092a864886f70d01010d0500": { type: "rsa", hash: "sha512" },
  "300a06082a8648ce3d040302": { type: "ec", hash: "sha256" },
  "300a06082a8648ce3d040303": { type: "ec", hash: "sha384" },
}

/**
 * @param issuerAt where the issuer's certificate stands; its own for a root
 * @throws TpmError CERTIFICATE_ISSUER, CERTIFICATE_ALGORITHM, CERTIFICATE_SIGNATURE, KEY_ALGORITHM, KEY_MALFORMED
 */
export const checkSignature = (i: number, certificate: Outline, issuer: Outline, issuerAt: number): void => {
  const refuse = refuserFor(i)
  checkIssuerName(certificate, issuer, "the subject of the certificate above", refuse)
  const algorithm = reading(i, "CERTIFICATE_MALFORMED", () => algorithmOf(certificate))
  const how = signatureHashes[algorithm]
  if (how === undefined)
    throw refuse(
      "CERTIFICATE_ALGORITHM",
      "signatureAlgorithm",
      algorithm.slice(0, 64),
      "RSA or ECDSA with SHA-256, SHA-384 or SHA-512",
    )
  const key = keyFromSpki(issuer.spki, at(issuerAt, "publicKey"))
  checkIssuerSignature(
    key.type === how.type && verifies(how.hash, certificate, key.object),
    `${how.type === "rsa" ? "RSASSA-PKCS1-v1_5" : "ECDSA"} with ${how.hash} by the issuer's key`,
    refuse,
  )
}

const algorithmOf = (certificate: Outline): string => {
  const inner = readAll(readOnly(certificate.tbs, tags.sequence).content, 8)[2]
  if (inner === undefined) throw new DerError("names no algorithm")
  return toHex(inner.raw)
}

const verifies = (
  hash: Bank,
  { tbs, signature }: Outline,
  key: Parameters<typeof nodeVerify>[2],
): boolean => {
  try {
    return nodeVerify(hash, tbs, key, signature)
  } catch {
    return false
  }
}

export interface Decoded {
  readonly x509: X509Certificate
  readonly fingerprint: string
  readonly notBefore: Date
  readonly notAfter: Date
}

/** Extensions that are looked at, or that a critical mark of theirs may be passed over. */
const knownExtensions = new Set([
  ...standardExtensions,
  "2.5.29.9", // subject directory attributes: the TPM's specification
  "2.5.29.17",
  "2.5.29.32",
  "2.5.29.37",
  "1.3.6.1.5.5.7.1.1",
])

export const decode = (i: number, { der }: Outline): Decoded => {
  const x509 = decodeX509(der)
  otherExtensions(x509, knownExtensions, refuserFor(i))
  return { x509, fingerprint: toHex(crypto.sha256(der)), notBefore: x509.notBefore, notAfter: x509.notAfter }
}

export const checkAuthority = (i: number, x509: X509Certificate): void => {
  const refuse = refuserFor(i)
  const pathLength = checkIsAuthority(x509, true, refuse)
  // Certificates between this one and the leaf.
  if (pathLength !== undefined && pathLength < i - 1)
    throw refuse("CERTIFICATE_ROLE", "basicConstraints", `path length ${pathLength}`, `at least ${i - 1}`)
  const usage = keyUsageOf(x509)
  if (usage === undefined || (usage & KeyUsageFlags.keyCertSign) === 0)
    throw refuse("CERTIFICATE_ROLE", "keyUsage", `${usage ?? "none"}`, "keyCertSign")
}

/** tcg-kp-EKCertificate and tcg-kp-AIKCertificate. Google writes the former into certificates of attestation keys. */
const purposes = { ek: "2.23.133.8.1", ak: "2.23.133.8.3" } as const

export const checkLeaf = (x509: X509Certificate, use: LeafUse): void => {
  const refuse = refuserFor(0)
  checkIsAuthority(x509, false, refuse)
  const usage = keyUsageOf(x509)
  const wanted =
    use === "ak" ? KeyUsageFlags.digitalSignature : KeyUsageFlags.keyEncipherment | KeyUsageFlags.keyAgreement
  if (usage === undefined || (usage & wanted) === 0)
    throw refuse(
      "CERTIFICATE_ROLE",
      "keyUsage",
      `${usage ?? "none"}`,
      use === "ak" ? "digitalSignature" : "keyEncipherment or keyAgreement",
    )
  const found = (x509.getExtension(ExtendedKeyUsageExtension)?.usages ?? []).map(String)
  const allowed: readonly string[] = use === "ak" ? [purposes.ak, purposes.ek] : [purposes.ek]
  if (!found.some((purpose) => allowed.includes(purpose)))
    throw refuse(
      "CERTIFICATE_ROLE",
      "extendedKeyUsage",
      found.join(", ").slice(0, 128) || "none",
      allowed.join(" or "),
    )
}

export const checkDates = (i: number, certificate: dates.Dates, now: Date): void =>
  dates.checkDates(certificate, now, refuserFor(i))

const extensionValue = (x509: X509Certificate, oid: string): Uint8Array | undefined => {
  const found = x509.extensions.find(({ type }) => type === oid)
  return found && new Uint8Array(found.value)
}

const textOf = (bytes: Uint8Array): string => {
  const text = Buffer.from(bytes).toString("utf8")
  if (!/^[\x20-\x7e]{0,128}$/.test(text)) throw new DerError("isn't at most 128 printable characters")
  return text
}

/** 2.23.133.2.1 manufacturer, .2 model, .3 version: the DER of the OIDs. */
const tpmAttributes: Readonly<Record<string, "manufacturer" | "model" | "version">> = {
  "06056781050201": "manufacturer",
  "06056781050202": "model",
  "06056781050203": "version",
}

export const tpmOf = (x509: X509Certificate): TpmModel | undefined => {
  const value = extensionValue(x509, "2.5.29.17")
  if (value === undefined) return undefined
  const found: { -readonly [K in keyof TpmModel]: TpmModel[K] } = {}
  for (const name of readAll(readOnly(value, tags.sequence).content, 16)) {
    if (name.tag !== 0xa4) continue
    for (const set of readAll(readOnly(name.content, tags.sequence).content, 16))
      for (const pair of readAll(set.content, 16)) {
        const [oid, text] = readAll(pair.content, 2)
        const key = oid && tpmAttributes[toHex(oid.raw)]
        if (key !== undefined && text !== undefined) found[key] = textOf(text.content)
      }
  }
  return Object.keys(found).length > 0 ? found : undefined
}

const googleInstanceOid = "1.3.6.1.4.1.11129.2.1.21"

/** SEQUENCE { zone, project number, project id, instance id, instance name, ... } as Google's vTPM issuer writes it. */
export const instanceOf = (x509: X509Certificate): GoogleInstance | undefined => {
  const value = extensionValue(x509, googleInstanceOid)
  if (value === undefined) return undefined
  const [zone, projectNumber, projectId, instanceId, instanceName] = readAll(
    readOnly(value, tags.sequence).content,
    8,
  )
  if (!zone || !projectNumber || !projectId || !instanceId || !instanceName)
    throw new DerError("names no instance")
  return {
    zone: textOf(zone.content),
    projectNumber: numberOf(projectNumber.content),
    projectId: textOf(projectId.content),
    instanceId: numberOf(instanceId.content),
    instanceName: textOf(instanceName.content),
  }
}

const numberOf = (bytes: Uint8Array): bigint => {
  if (bytes.length < 1 || bytes.length > 9) throw new DerError("has a number of odd size")
  return BigInt.asUintN(64, BigInt(`0x${toHex(bytes)}`))
}

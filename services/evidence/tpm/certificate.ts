/**
 * One certificate of an attestation or endorsement key (TCG EK Credential Profile), or of an authority above it. It is
 * decoded only after the signature over its outline held.
 */
import "reflect-metadata"
import { verify as nodeVerify } from "node:crypto"
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509Certificate,
} from "@peculiar/x509"
import { crypto } from "../../common/crypto/index.ts"
import { DerError, readAll, readOnly, tags } from "../der.ts"
import type { Bank } from "../eventlog/bank.ts"
import type { Outline } from "../snp/certificate.ts"
import { SnpError } from "../snp/error.ts"
import { TpmError, type TpmErrorCode, toHex } from "./error.ts"
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

export const reading = <T>(i: number, code: TpmErrorCode, read: () => T): T => {
  try {
    return read()
  } catch (error) {
    if (error instanceof TpmError) throw error
    const found =
      error instanceof SnpError
        ? error.found
        : error instanceof DerError
          ? `DER that ${error.message}`
          : "an encoding that can't be read"
    throw new TpmError(code, at(i), found, "an X.509 certificate, DER")
  }
}

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
  if (Buffer.compare(certificate.issuer, issuer.subject) !== 0)
    throw new TpmError(
      "CERTIFICATE_ISSUER",
      at(i, "issuer"),
      "another name",
      "the subject of the certificate above",
    )
  const algorithm = reading(i, "CERTIFICATE_MALFORMED", () => algorithmOf(certificate))
  const how = signatureHashes[algorithm]
  if (how === undefined)
    throw new TpmError(
      "CERTIFICATE_ALGORITHM",
      at(i, "signatureAlgorithm"),
      algorithm.slice(0, 64),
      "RSA or ECDSA with SHA-256, SHA-384 or SHA-512",
    )
  const key = keyFromSpki(issuer.spki, at(issuerAt, "publicKey"))
  if (key.type !== how.type || !verifies(how.hash, certificate, key.object))
    throw new TpmError(
      "CERTIFICATE_SIGNATURE",
      at(i, "signature"),
      "a signature that doesn't verify",
      `${how.type === "rsa" ? "RSASSA-PKCS1-v1_5" : "ECDSA"} with ${how.hash} by the issuer's key`,
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
  "2.5.29.9", // subject directory attributes: the TPM's specification
  "2.5.29.14",
  "2.5.29.15",
  "2.5.29.17",
  "2.5.29.19",
  "2.5.29.31",
  "2.5.29.32",
  "2.5.29.35",
  "2.5.29.37",
  "1.3.6.1.5.5.7.1.1",
])

export const decode = (i: number, { der }: Outline): Decoded => {
  const x509 = new X509Certificate(Uint8Array.from(der))
  const seen = new Set<string>()
  for (const { type, critical } of x509.extensions) {
    if (seen.has(type)) throw new TpmError("CERTIFICATE_EXTENSION", at(i, type), "twice", "once")
    seen.add(type)
    if (critical && !knownExtensions.has(type))
      throw new TpmError(
        "CERTIFICATE_EXTENSION",
        at(i, type),
        "critical",
        "only extensions that are understood",
      )
  }
  return { x509, fingerprint: toHex(crypto.sha256(der)), notBefore: x509.notBefore, notAfter: x509.notAfter }
}

export const checkAuthority = (i: number, x509: X509Certificate): void => {
  const constraints = x509.getExtension(BasicConstraintsExtension)
  if (constraints?.ca !== true)
    throw new TpmError("CERTIFICATE_ROLE", at(i, "basicConstraints"), "ca false", "ca true")
  // Certificates between this one and the leaf.
  if (constraints.pathLength !== undefined && constraints.pathLength < i - 1)
    throw new TpmError(
      "CERTIFICATE_ROLE",
      at(i, "basicConstraints"),
      `path length ${constraints.pathLength}`,
      `at least ${i - 1}`,
    )
  const usage = x509.getExtension(KeyUsagesExtension)?.usages
  if (usage === undefined || (usage & KeyUsageFlags.keyCertSign) === 0)
    throw new TpmError("CERTIFICATE_ROLE", at(i, "keyUsage"), `${usage ?? "none"}`, "keyCertSign")
}

/** tcg-kp-EKCertificate and tcg-kp-AIKCertificate. Google writes the former into certificates of attestation keys. */
const purposes = { ek: "2.23.133.8.1", ak: "2.23.133.8.3" } as const

export const checkLeaf = (x509: X509Certificate, use: LeafUse): void => {
  if (x509.getExtension(BasicConstraintsExtension)?.ca === true)
    throw new TpmError("CERTIFICATE_ROLE", at(0, "basicConstraints"), "ca true", "ca false")
  const usage = x509.getExtension(KeyUsagesExtension)?.usages
  const wanted =
    use === "ak" ? KeyUsageFlags.digitalSignature : KeyUsageFlags.keyEncipherment | KeyUsageFlags.keyAgreement
  if (usage === undefined || (usage & wanted) === 0)
    throw new TpmError(
      "CERTIFICATE_ROLE",
      at(0, "keyUsage"),
      `${usage ?? "none"}`,
      use === "ak" ? "digitalSignature" : "keyEncipherment or keyAgreement",
    )
  const found = (x509.getExtension(ExtendedKeyUsageExtension)?.usages ?? []).map(String)
  const allowed: readonly string[] = use === "ak" ? [purposes.ak, purposes.ek] : [purposes.ek]
  if (!found.some((purpose) => allowed.includes(purpose)))
    throw new TpmError(
      "CERTIFICATE_ROLE",
      at(0, "extendedKeyUsage"),
      found.join(", ").slice(0, 128) || "none",
      allowed.join(" or "),
    )
}

export const checkDates = (
  i: number,
  { notBefore, notAfter }: Pick<Decoded, "notBefore" | "notAfter">,
  now: Date,
): void => {
  // Written so that a date that isn't a number fails.
  if (!(notBefore.getTime() <= now.getTime()))
    throw new TpmError(
      "CERTIFICATE_NOT_YET_VALID",
      at(i, "notBefore"),
      isoOf(notBefore),
      `at most ${isoOf(now)}`,
    )
  if (!(now.getTime() <= notAfter.getTime()))
    throw new TpmError("CERTIFICATE_EXPIRED", at(i, "notAfter"), isoOf(notAfter), `at least ${isoOf(now)}`)
}

const isoOf = (date: Date): string => (Number.isNaN(date.getTime()) ? "no date" : date.toISOString())

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

/**
 * Certificates of attestation and endorsement keys (TCG EK Credential Profile), from a key that the operator named down
 * to the leaf. As with AMD's, nothing is decoded before the signature above it held.
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
import { type Outline, outline } from "../snp/certificate.ts"
import { SnpError } from "../snp/error.ts"
import { TpmError, type TpmErrorCode, toHex } from "./error.ts"
import { keyFromSpki } from "./public.ts"

/** A key that may stand at the top of a chain: known by the SHA-256 of its SubjectPublicKeyInfo, never by its name. */
export interface TpmIssuer {
  /** What the operator calls it; goes into results. */
  readonly name: string
  /** Hex. */
  readonly keyDigest: string
}

/** Google's root for the keys of Compute Engine's virtual TPMs (tpm_ek_root_1.crt, at pki.goog/cloud_integrity). */
export const googleTpmRoot1: TpmIssuer = {
  name: "Google Cloud vTPM EK root 1",
  keyDigest: "f23057f4f97d1d90e4cae0ce91d5a0fc99069f0a1bc147021dca33b1e9c4d0d9",
}

export interface TpmCertificate {
  readonly fingerprint: string
  readonly notBefore: Date
  readonly notAfter: Date
}

export interface TpmChain {
  readonly issuer: TpmIssuer
  /** SubjectPublicKeyInfo of the leaf. */
  readonly spki: Uint8Array
  /** What the certificate says of the TPM: 2.23.133.2.1 to .3 of its alternative name. */
  readonly tpm?: { readonly manufacturer?: string; readonly model?: string; readonly version?: string }
  /** The machine that Google issued it for. */
  readonly instance?: GoogleInstance
  /** Leaf first. */
  readonly certificates: readonly TpmCertificate[]
}

export interface GoogleInstance {
  readonly zone: string
  readonly projectNumber: bigint
  readonly projectId: string
  readonly instanceId: bigint
  readonly instanceName: string
}

export type LeafUse = "ak" | "ek"

const chainMost = 5

/**
 * @param ders DER, leaf first; the last one's key must be one of `issuers`
 * @param use an AK's certificate must allow signatures, an EK's deciphering
 * @throws TpmError CHAIN_LENGTH, CERTIFICATE_*, ISSUER_UNKNOWN, TIME_INVALID
 */
export const verifyTpmChain = (
  ders: readonly Uint8Array[],
  use: LeafUse,
  issuers: readonly TpmIssuer[],
  now: Date,
): TpmChain => {
  if (ders.length < 2 || ders.length > chainMost)
    throw new TpmError("CHAIN_LENGTH", "certificates", `${ders.length}`, `2 to ${chainMost}, leaf first`)
  if (Number.isNaN(now.getTime())) throw new TpmError("TIME_INVALID", "now", "no date", "a date")
  const outlines = ders.map((der, i) => reading(i, "CERTIFICATE_MALFORMED", () => outline(`${i}`, der)))
  const top = outlines.length - 1
  const issuer = namedIssuer(issuers, outlines[top])
  for (let i = top; i >= 0; i--) checkSignature(i, outlines[i], outlines[Math.min(i + 1, top)], i === top)
  const decoded = outlines.map((one, i) => reading(i, "CERTIFICATE_MALFORMED", () => decode(i, one)))
  for (const [i, one] of decoded.entries()) {
    if (i === 0) checkLeaf(one.x509, use)
    else checkAuthority(i, one.x509)
  }
  for (const [i, one] of [...decoded.entries()].toReversed()) checkDates(i, one, now)
  const [leaf] = decoded
  const [leafOutline] = outlines
  if (leaf === undefined || leafOutline === undefined)
    throw new TpmError("CHAIN_LENGTH", "certificates", "none", "2 or more")
  const tpm = reading(0, "CERTIFICATE_EXTENSION", () => tpmOf(leaf.x509))
  const instance = reading(0, "CERTIFICATE_EXTENSION", () => instanceOf(leaf.x509))
  return {
    issuer,
    spki: leafOutline.spki,
    ...(tpm && { tpm }),
    ...(instance && { instance }),
    certificates: decoded.map(({ fingerprint, notBefore, notAfter }) => ({
      fingerprint,
      notBefore,
      notAfter,
    })),
  }
}

const at = (i: number, part?: string): string =>
  part === undefined ? `certificates[${i}]` : `certificates[${i}].${part}`

const reading = <T>(i: number, code: TpmErrorCode, read: () => T): T => {
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

const namedIssuer = (issuers: readonly TpmIssuer[], top: Outline | undefined): TpmIssuer => {
  const keyDigest = toHex(crypto.sha256(top?.spki ?? new Uint8Array(0)))
  const issuer = issuers.find((one) => one.keyDigest === keyDigest)
  if (issuer === undefined)
    throw new TpmError("ISSUER_UNKNOWN", "certificates", keyDigest, "the key of a named issuer at the top")
  return issuer
}

/** AlgorithmIdentifiers in DER. SHA-1 isn't among them. */
const signatureHashes: Readonly<Record<string, { readonly type: "rsa" | "ec"; readonly hash: Bank }>> = {
  "300d06092a864886f70d01010b0500": { type: "rsa", hash: "sha256" },
  "300d06092a864886f70d01010c0500": { type: "rsa", hash: "sha384" },
  "300d06092a864886f70d01010d0500": { type: "rsa", hash: "sha512" },
  "300a06082a8648ce3d040302": { type: "ec", hash: "sha256" },
  "300a06082a8648ce3d040303": { type: "ec", hash: "sha384" },
}

/** A named issuer's certificate needs no signature to be trusted; where it claims to be its own, that must be true. */
const checkSignature = (
  i: number,
  certificate: Outline | undefined,
  issuer: Outline | undefined,
  isTop: boolean,
): void => {
  if (certificate === undefined || issuer === undefined) return
  const isOwnIssuer = Buffer.compare(certificate.issuer, certificate.subject) === 0
  if (isTop && !isOwnIssuer) return
  if (Buffer.compare(certificate.issuer, issuer.subject) !== 0)
    throw new TpmError(
      "CERTIFICATE_ISSUER",
      at(i, "issuer"),
      "another name",
      "the subject of the next certificate",
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
  const key = keyFromSpki(issuer.spki, at(isTop ? i : i + 1, "publicKey"))
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

interface Decoded {
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

const decode = (i: number, { der }: Outline): Decoded => {
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

const checkAuthority = (i: number, x509: X509Certificate): void => {
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

const checkLeaf = (x509: X509Certificate, use: LeafUse): void => {
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

const checkDates = (i: number, { notBefore, notAfter }: Decoded, now: Date): void => {
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

const tpmOf = (x509: X509Certificate): TpmChain["tpm"] => {
  const value = extensionValue(x509, "2.5.29.17")
  if (value === undefined) return undefined
  const found: { manufacturer?: string; model?: string; version?: string } = {}
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
const instanceOf = (x509: X509Certificate): GoogleInstance | undefined => {
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

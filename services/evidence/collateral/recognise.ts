/** What a piece of collateral says that it is, by its bytes, so that no name of a file or an address is believed. */
import { limits } from "../../../schemas/limits.ts"
import { DerError, tags } from "../der.ts"
import type { SnpProduct } from "../snp/product.ts"
import { productNames } from "../snp/product.ts"
import { readCrl } from "../x509/crl.ts"
import { commonNameIn } from "../x509/name.ts"
import { readOutline } from "../x509/outline.ts"

export type AmdCertificateRole = "ark" | "ask" | "asvk" | "vcek"
export type IntelCa = "platform" | "processor"

/** Unverified: it says by which key it has to be signed. */
export type Recognised =
  | { readonly kind: "amd-certificate"; readonly role: AmdCertificateRole; readonly product: SnpProduct }
  | { readonly kind: "amd-crl"; readonly product: SnpProduct }
  | { readonly kind: "intel-root" }
  | { readonly kind: "intel-ca"; readonly ca: IntelCa }
  | { readonly kind: "intel-tcb-signing" }
  | { readonly kind: "intel-root-crl" }
  | { readonly kind: "intel-pck-crl"; readonly ca: IntelCa }
  | { readonly kind: "intel-tcb-info" }
  | { readonly kind: "intel-qe-identity" }
  | { readonly kind: "tpm-certificate" }

const [openingBrace, firstPrintable] = [0x7b, 0x20]

/**
 * @param bytes one certificate or revocation list in DER, or one of Intel's signed JSON documents
 * @returns undefined where it is nothing that is known
 */
export const recognise = (bytes: Uint8Array): Recognised | undefined => {
  if (bytes.length === 0 || bytes.length > limits.evidenceBytes) return undefined
  const [first = 0] = bytes
  if (first === tags.sequence) return recogniseDer(bytes)
  return first === openingBrace || first <= firstPrintable ? recogniseJson(bytes) : undefined
}

const recogniseJson = (bytes: Uint8Array): Recognised | undefined => {
  const start = Buffer.from(bytes.subarray(0, 256)).toString("latin1")
  const member = /^\s*\{\s*"(\w{1,32})"\s*:/.exec(start)?.[1]
  if (member === "tcbInfo") return { kind: "intel-tcb-info" }
  if (member === "enclaveIdentity") return { kind: "intel-qe-identity" }
  // The signature may stand in front.
  if (member !== "signature") return undefined
  const second = /^\s*\{\s*"signature"\s*:\s*"[0-9a-f]{128}"\s*,\s*"(\w{1,32})"/.exec(start)?.[1]
  if (second === "tcbInfo") return { kind: "intel-tcb-info" }
  return second === "enclaveIdentity" ? { kind: "intel-qe-identity" } : undefined
}

const attempt = <T>(read: () => T): T | undefined => {
  try {
    return read()
  } catch (error) {
    if (error instanceof DerError) return undefined
    throw error
  }
}

const recogniseDer = (bytes: Uint8Array): Recognised | undefined => {
  const list = attempt(() => commonNameIn(readCrl(bytes).issuer))
  if (list !== undefined) return recogniseList(list)
  if (bytes.length > limits.certificateBytes) return undefined
  return attempt(() => {
    const { subject, issuer } = readOutline(bytes)
    return recogniseCertificate(commonNameIn(subject), commonNameIn(issuer))
  })
}

const productAfter = (prefix: string, name: string): SnpProduct | undefined =>
  productNames.find((product) => name === `${prefix}${product}`)

const recogniseList = (issuer: string): Recognised | undefined => {
  const product = productAfter("ARK-", issuer)
  if (product !== undefined) return { kind: "amd-crl", product }
  if (issuer === "Intel SGX Root CA") return { kind: "intel-root-crl" }
  const ca = intelCa(issuer)
  return ca && { kind: "intel-pck-crl", ca }
}

const intelCa = (name: string): IntelCa | undefined =>
  name === "Intel SGX PCK Platform CA"
    ? "platform"
    : name === "Intel SGX PCK Processor CA"
      ? "processor"
      : undefined

const amdRoles: readonly (readonly [prefix: string, role: AmdCertificateRole])[] = [
  ["ARK-", "ark"],
  ["SEV-VLEK-", "asvk"],
  ["SEV-", "ask"],
]

const recogniseCertificate = (subject: string, issuer: string): Recognised => {
  for (const [prefix, role] of amdRoles) {
    const product = productAfter(prefix, subject)
    if (product !== undefined) return { kind: "amd-certificate", role, product }
  }
  const endorsed = subject === "SEV-VCEK" ? productAfter("SEV-", issuer) : undefined
  if (endorsed !== undefined) return { kind: "amd-certificate", role: "vcek", product: endorsed }
  if (subject === "Intel SGX Root CA") return { kind: "intel-root" }
  if (subject === "Intel SGX TCB Signing") return { kind: "intel-tcb-signing" }
  const ca = intelCa(subject)
  return ca === undefined ? { kind: "tpm-certificate" } : { kind: "intel-ca", ca }
}

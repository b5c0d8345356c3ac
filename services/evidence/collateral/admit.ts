/**
 * Whether a piece of collateral may be kept: signed up to a pinned root. Mirrors, buckets and files aren't trusted for
 * anything: what they hand over is either what the vendor has signed or nothing.
 */
import type { Crypto } from "../../common/crypto/index.ts"
import { EvidenceError } from "../error.ts"
import * as amd from "../snp/certificate.ts"
import { verifyAmdCrl } from "../snp/crl.ts"
import { readEndorsement } from "../snp/endorsement.ts"
import { SnpError } from "../snp/error.ts"
import type { SnpProduct } from "../snp/product.ts"
import { acceptedRoot, type HardwareRoot } from "../snp/roots.ts"
import * as intel from "../tdx/certificate.ts"
import { verifyCrl } from "../tdx/crl.ts"
import { TdxError } from "../tdx/error.ts"
import { readQeIdentity } from "../tdx/qe-identity.ts"
import { acceptedIntelRoot, type IntelRoot } from "../tdx/roots.ts"
import { verifySignedJson } from "../tdx/signed-json.ts"
import { type Dated, readTcbInfo } from "../tdx/tcb-info.ts"
import { intelTcbSigning } from "../tdx/tcb-signing.ts"
import { toHex } from "../text.ts"
import type { Outline } from "../x509/outline.ts"
import { readOutline } from "../x509/outline.ts"
import type { CollateralItem } from "./item.ts"
import type { AmdCertificateRole, IntelCa, Recognised } from "./recognise.ts"

/** Roots under which collateral counts. */
export interface CollateralRoots {
  readonly amd: readonly HardwareRoot[]
  readonly intel: readonly IntelRoot[]
}

/** What is known already: issuers are looked up in it by key. */
export type Issuers = (key: string) => Uint8Array | undefined

/** Why something wasn't kept. */
export class AdmissionError extends Error {
  override readonly name = "AdmissionError"
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

export interface Admission {
  readonly bytes: Uint8Array
  readonly source: string
  /** AMD gives lists for VCEKs and for VLEKs at two addresses, and nothing in them says which it is. */
  readonly forVlek: boolean
}

type Told = Pick<CollateralItem, "key" | "kind" | "issued" | "expires" | "number">

/**
 * @returns the item; its dates haven't been looked at
 * @throws AdmissionError with the code and message of the vendor's error, or ISSUER_MISSING
 */
export const admit = (
  offered: Admission,
  what: Recognised,
  issuers: Issuers,
  roots: CollateralRoots,
  crypto: Crypto,
): CollateralItem => {
  const bytes = Uint8Array.from(offered.bytes)
  try {
    const told = tell({ ...offered, bytes }, what, issuers, roots, crypto)
    return { ...told, bytes, sha256: toHex(crypto.sha256(bytes)), source: offered.source }
  } catch (error) {
    if (error instanceof EvidenceError) throw new AdmissionError(error.code, error.message)
    throw error
  }
}

const tell = (
  { bytes, forVlek }: Admission,
  what: Recognised,
  issuers: Issuers,
  roots: CollateralRoots,
  crypto: Crypto,
): Told => {
  const at = { issuers, roots, crypto }
  switch (what.kind) {
    case "amd-certificate":
      return amdCertificate(bytes, what.role, what.product, at)
    case "amd-crl": {
      const { thisUpdate, nextUpdate, number = 0n } = verifyAmdCrl(bytes, amdIssuer("ark", what.product, at))
      const key = `amd-crl-${what.product}${forVlek ? "-vlek" : ""}`
      return { key, kind: "amd-crl", issued: thisUpdate, expires: nextUpdate, number }
    }
    case "intel-root":
    case "intel-ca":
    case "intel-tcb-signing":
      return intelCertificate(bytes, what, at)
    case "intel-root-crl":
    case "intel-pck-crl":
      return intelList(bytes, what, at)
    case "intel-tcb-info": {
      const info = readTcbInfo(
        verifySignedJson("collateral.tcbInfo", bytes, "tcbInfo", signingKey(at), crypto),
      )
      return dated(`intel-tcb-info-${toHex(info.fmspc)}`, "intel-tcb-info", info)
    }
    case "intel-qe-identity": {
      const key = signingKey(at)
      const identity = verifySignedJson("collateral.qeIdentity", bytes, "enclaveIdentity", key, crypto)
      return dated("intel-qe-identity", "intel-qe-identity", readQeIdentity(identity))
    }
    case "tpm-certificate": {
      // Unverified, and of no weight: it only helps to find a way to a root that a workflow names.
      const digest = toHex(crypto.sha256(readOutline(bytes).der))
      const [issued, expires] = [new Date(0), new Date(8_640_000_000_000_000)]
      return { key: `tpm-${digest.slice(0, 32)}`, kind: "tpm-certificate", issued, expires, number: 0n }
    }
  }
}

interface Surroundings {
  readonly issuers: Issuers
  readonly roots: CollateralRoots
  readonly crypto: Crypto
}

const missing = (what: string): AdmissionError =>
  new AdmissionError("ISSUER_MISSING", `${what} is needed to check it, and isn't here`)

export const amdCertificateKey = (role: AmdCertificateRole, product: SnpProduct): string =>
  `amd-${role}-${product}`

const vcekPrefix = "amd-vcek-"
export const isOfChip = ({ key }: Pick<CollateralItem, "key">): boolean => key.startsWith(vcekPrefix)

/** One certificate for each chip and TCB: both are in the key, shortened to fit. */
export const vcekKey = (crypto: Crypto, hardwareId: Uint8Array, tcb: Uint8Array): string =>
  `${vcekPrefix}${toHex(crypto.sha256(Buffer.concat([hardwareId, tcb]))).slice(0, 32)}`

const amdIssuer = (role: "ark" | "ask", product: SnpProduct, { issuers }: Surroundings): Outline => {
  const der = issuers(amdCertificateKey(role, product))
  if (der === undefined) throw missing(`the certificate of ${role === "ark" ? "ARK" : "SEV"}-${product}`)
  return amd.outline(role, der)
}

const amdCertificate = (
  der: Uint8Array,
  role: AmdCertificateRole,
  product: SnpProduct,
  at: Surroundings,
): Told => {
  const outline = amd.outline(role, der)
  if (role === "ark") {
    const root = acceptedRoot(at.roots.amd, amd.keyDigest(outline.spki))
    if (root.product !== product)
      throw new SnpError("PRODUCT_MISMATCH", "certificates.ark", product, root.product)
  }
  amd.checkSignature(
    role,
    outline,
    role === "ark" ? outline : amdIssuer(role === "vcek" ? "ask" : "ark", product, at),
  )
  const certificate = amd.decode(role, outline)
  const { notBefore: issued, notAfter: expires } = certificate
  const rest = { kind: "amd-certificate", issued, expires, number: 0n } as const
  if (role !== "vcek") return { key: amdCertificateKey(role, product), ...rest }
  const { hardwareId, tcb } = readEndorsement(certificate, "VCEK", product)
  if (hardwareId === undefined)
    throw new SnpError("CERTIFICATE_EXTENSION", "certificates.vcek.hwid", "none", "one")
  return { key: vcekKey(at.crypto, hardwareId, tcb), ...rest }
}

export const intelKeys = {
  root: "intel-root",
  platform: "intel-ca-platform",
  processor: "intel-ca-processor",
  tcbSigning: "intel-tcb-signing",
} as const

const intelIssuer = (role: "root" | IntelCa, { issuers }: Surroundings): intel.IntelOutline => {
  const der = issuers(intelKeys[role])
  if (der === undefined)
    throw missing(role === "root" ? "the certificate of Intel's root" : `Intel's ${role} CA certificate`)
  return intel.outlineOf(role === "root" ? "root" : "ca", der)
}

const intelCertificate = (
  der: Uint8Array,
  what: Extract<Recognised, { kind: "intel-root" | "intel-ca" | "intel-tcb-signing" }>,
  at: Surroundings,
): Told => {
  const role = what.kind === "intel-root" ? "root" : what.kind === "intel-ca" ? "ca" : "tcbSigning"
  const outline = intel.outlineOf(role, der)
  if (role === "root") acceptedIntelRoot(at.roots.intel, intel.spkiDigest(outline.spki))
  const issuer = role === "root" ? outline : intelIssuer("root", at)
  const { notBefore: issued, notAfter: expires } = intel.verifyIssued(role, outline, issuer, at.crypto)
  const key =
    what.kind === "intel-ca" ? intelKeys[what.ca] : intelKeys[role === "root" ? "root" : "tcbSigning"]
  const kind = role === "tcbSigning" ? "intel-tcb-signing" : "intel-certificate"
  return { key, kind, issued, expires, number: 0n }
}

const intelList = (
  der: Uint8Array,
  what: Extract<Recognised, { kind: "intel-root-crl" | "intel-pck-crl" }>,
  at: Surroundings,
): Told => {
  const [name, issuer] =
    what.kind === "intel-root-crl"
      ? (["rootCrl", intelIssuer("root", at)] as const)
      : (["pckCrl", intelIssuer(what.ca, at)] as const)
  const { thisUpdate, nextUpdate, number = 0n } = verifyCrl(name, der, issuer, at.crypto)
  const key = what.kind === "intel-root-crl" ? what.kind : `${what.kind}-${what.ca}`
  return { key, kind: what.kind, issued: thisUpdate, expires: nextUpdate, number }
}

/** The signer that is kept, or Intel's known ones, which have one key; in either case under the root. */
const signingKey = (at: Surroundings): Uint8Array => {
  const root = intelIssuer("root", at)
  const kept = at.issuers(intelKeys.tcbSigning)
  const isGenuine = at.roots.intel.some(
    (one) => !one.emulated && one.key_digest === intel.spkiDigest(root.spki),
  )
  const [der] = kept === undefined && isGenuine ? intelTcbSigning : [kept]
  if (der === undefined) throw missing("the certificate that signs TCB info")
  const outline = intel.outlineOf("tcbSigning", der)
  intel.verifyIssued("tcbSigning", outline, root, at.crypto)
  return outline.publicKey
}

const dated = (key: string, kind: CollateralItem["kind"], of: Dated): Told => {
  if (!Number.isSafeInteger(of.evaluationDataNumber))
    throw new TdxError("COLLATERAL_MALFORMED", key, `${of.evaluationDataNumber}`, "a whole number")
  return { key, kind, issued: of.issueDate, expires: of.nextUpdate, number: BigInt(of.evaluationDataNumber) }
}

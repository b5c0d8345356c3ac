/**
 * Is this report genuine? Every signature up to an accepted root, and everything that ties the report to the key that
 * signed it. Whether a genuine report is *good enough* is for the appraisal.
 */
import { type Crypto, crypto as chosen } from "../../common/crypto/index.ts"
import type { CollateralUse } from "../collateral/collateral.ts"
import { toHex } from "../text.ts"
import { type Chain, type ChainCache, verifyChain } from "./chain.ts"
import { type AmdCrl, checkRevocation, type SnpCollateral, type SnpRevocation, verifyAmdCrl } from "./crl.ts"
import { SnpError } from "./error.ts"
import { decodeTcb, productOfCpuid, products, type SnpProduct, type Tcb } from "./product.ts"
import { parseReport, type SigningKeyKind, type SnpReport } from "./report.ts"
import type { HardwareRoot } from "./roots.ts"

export interface SnpEvidence {
  readonly report: Uint8Array
  /** DER, leaf first: VCEK or VLEK, ASK or ASVK, ARK. */
  readonly certificates: readonly Uint8Array[]
  /** What AMD says beside it, or where to look for it by product. Without it nothing is known of revocation. */
  readonly collateral?: SnpCollateral | ((product: SnpProduct, root: HardwareRoot) => SnpCollateral)
}

export interface VerifyOptions {
  readonly roots: readonly HardwareRoot[]
  readonly now: Date
  readonly cache?: ChainCache
  readonly crypto?: Crypto
  /** With collateral: whether a missing revocation list is refused, which is the default, or reported. */
  readonly missingCrl?: "refuse" | "report"
}

export interface VerifiedSnp {
  readonly kind: "snp"
  /** The root that vouches for it is a lab's, not AMD's. */
  readonly emulated: boolean
  readonly root: HardwareRoot
  readonly product: SnpProduct
  /** As the certificate writes it: `Milan-B0`. */
  readonly productName: string
  readonly signingKey: SigningKeyKind
  readonly chip: Chip
  /** VLEK only: the cloud provider that the key was made for. */
  readonly cspId?: string
  readonly tcb: {
    readonly current: Tcb
    readonly committed: Tcb
    readonly reported: Tcb
    readonly launch: Tcb
  }
  readonly report: SnpReport
  readonly revocation: SnpRevocation
  readonly collateral: readonly CollateralUse[]
  /** Leaf first. */
  readonly certificates: readonly {
    readonly role: string
    readonly serial: string
    readonly fingerprint: string
    readonly notBefore: Date
    readonly notAfter: Date
  }[]
}

/**
 * Which chip made the report. A VCEK belongs to one chip, so its certificate says it even where the host had CHIP_ID
 * masked (all zero) in the report. A VLEK is shared by a provider's chips: masked, nothing says which one it was.
 */
export interface Chip {
  /** 64 bytes in hex; on Turin the 8 that count, then zeros. Undefined when unknown. */
  readonly id: string | undefined
  readonly masked: boolean
}

/**
 * @returns the verified report, or the first thing that was wrong with it
 */
export const verifyReport = (evidence: SnpEvidence, options: VerifyOptions): VerifiedSnp | SnpError => {
  try {
    return verifyOrThrow(evidence, options)
  } catch (error) {
    if (error instanceof SnpError) return error
    throw error
  }
}

const verifyOrThrow = (evidence: SnpEvidence, options: VerifyOptions): VerifiedSnp => {
  const crypto = options.crypto ?? chosen
  const report = parseReport(evidence.report)
  const chain = verifyChain(
    evidence.certificates,
    report.signingKey,
    options.roots,
    options.now,
    options.cache,
  )
  const { product, emulated } = chain.root
  const { revocation, uses } = revocationOf(evidence, chain, options)
  checkProduct(report, product)
  checkSigner(report)
  checkTcb(report, chain)
  const chip = checkChip(report, chain, product)
  if (!crypto.ecdsaP384.verify(report.signature, report.signed, chain.endorsement.publicKey))
    throw new SnpError(
      "REPORT_SIGNATURE",
      "report.signature",
      "a signature that doesn't verify",
      `ECDSA P-384 by the ${report.signingKey}`,
    )
  return {
    kind: "snp",
    emulated,
    root: chain.root,
    product,
    productName: chain.endorsement.productName,
    signingKey: report.signingKey,
    chip,
    ...(chain.endorsement.cspId !== undefined && { cspId: chain.endorsement.cspId }),
    tcb: {
      current: decodeTcb(product, report.currentTcb, "report.currentTcb"),
      committed: decodeTcb(product, report.committedTcb, "report.committedTcb"),
      reported: decodeTcb(product, report.reportedTcb, "report.reportedTcb"),
      launch: decodeTcb(product, report.launchTcb, "report.launchTcb"),
    },
    report,
    revocation,
    collateral: uses,
    certificates: chain.certificates.map(({ role, serial, fingerprint, notBefore, notAfter }) => ({
      role,
      serial,
      fingerprint,
      notBefore,
      notAfter,
    })),
  }
}

/** For results, events and screens: which machine it was, and that it was emulated if it was. */
export const describePlatform = ({ productName, signingKey, emulated }: VerifiedSnp): string =>
  `${emulated ? "EMULATED " : ""}AMD SEV-SNP ${productName} (${signingKey})`

/** The ARK's list speaks of what the ARK has issued: the intermediate and itself, never a VCEK or VLEK. */
const revocationOf = (evidence: SnpEvidence, chain: Chain, options: VerifyOptions) => {
  const { collateral } = evidence
  const { cache } = options
  const verified = (der: Uint8Array, field: string): AmdCrl => {
    const make = () => verifyAmdCrl(der, chain.arkOutline, field)
    if (cache === undefined) return make()
    return cache.crls.of(`${chain.root.key_digest}:${toHex(chosen.sha256(der))}`, make)
  }
  return checkRevocation(
    typeof collateral === "function" ? collateral(chain.root.product, chain.root) : collateral,
    chain.certificates.slice(1),
    options,
    verified,
  )
}

/** What the firmware says of its own keys must fit together (AMD 56860, table 23: AUTHOR_KEY_EN, MASK_CHIP_KEY). */
const checkSigner = (report: SnpReport): void => {
  const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0)
  const { authorKeyEnabled, authorKeyDigest, idKeyDigest, maskChipKey, signingKey } = report
  const fail = (field: string, found: string, wanted: string): never => {
    throw new SnpError("REPORT_VALUE", `report.${field}`, found, wanted)
  }
  if (maskChipKey && signingKey === "VCEK")
    fail("signer", "signed by the VCEK, which is masked", "a VLEK where the chip's key is masked")
  if (authorKeyEnabled && isZero(authorKeyDigest))
    fail("authorKeyDigest", "zero", "an author's key: the report says that there is one")
  if (!authorKeyEnabled && !isZero(authorKeyDigest))
    fail("authorKeyDigest", toHex(authorKeyDigest), "zero: the report says that there is no author's key")
  if (authorKeyEnabled && isZero(idKeyDigest))
    fail("idKeyDigest", "zero", "an id key, which the author's key has signed")
}

/** Version 2 has no CPUID; Turin never made it, and its TCB could be misread as Genoa's. */
const checkProduct = (report: SnpReport, product: SnpProduct): void => {
  if (report.cpuid === undefined) {
    if (product === "Turin")
      throw new SnpError("PRODUCT_MISMATCH", "report.version", "2", "at least 3 on Turin")
    return
  }
  const { family, model, stepping } = report.cpuid
  const found = productOfCpuid(report.cpuid)
  if (found !== product)
    throw new SnpError(
      "PRODUCT_MISMATCH",
      "report.cpuid",
      `family ${family}, model ${model}, stepping ${stepping} (${found ?? "unknown"})`,
      product,
    )
}

/** The key is derived from the TCB: certificate and report must agree in every byte, reserved ones too. */
const checkTcb = (report: SnpReport, chain: Chain): void => {
  if (Buffer.compare(report.reportedTcb, chain.endorsement.tcb) !== 0)
    throw new SnpError(
      "TCB_MISMATCH",
      "report.reportedTcb",
      toHex(report.reportedTcb),
      `${toHex(chain.endorsement.tcb)}, as in the certificate`,
    )
}

const checkChip = (report: SnpReport, chain: Chain, product: SnpProduct): Chip => {
  const masked = report.chipId.every((byte) => byte === 0)
  const { hardwareId } = chain.endorsement
  if (hardwareId === undefined) return { id: masked ? undefined : toHex(report.chipId), masked }
  const endorsed = new Uint8Array(64)
  endorsed.set(hardwareId.subarray(0, products[product].hardwareIdBytes))
  const id = toHex(endorsed)
  if (!masked && toHex(report.chipId) !== id)
    throw new SnpError(
      "CHIP_ID_MISMATCH",
      "report.chipId",
      toHex(report.chipId),
      `${id}, as in the certificate`,
    )
  return { id, masked }
}

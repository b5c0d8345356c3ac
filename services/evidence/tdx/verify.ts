/**
 * Is this quote genuine, and what does Intel say of the platform that made it? Every signature up to an accepted root,
 * everything that ties the quote to the platform's key, and the status of each part by the collateral. Whether that is
 * *good enough*, and whether the TD may be one that can be debugged, is for the appraisal.
 */
import { type Crypto, crypto as chosen } from "../../common/crypto/index.ts"
import type { CollateralUse } from "../collateral/index.ts"
import { toHex } from "../text.ts"
import type { TdxCache } from "./cache.ts"
import { type IntelChain, verifyPckChain } from "./chain.ts"
import { type CollateralRules, type Revocation, type TdxCollateral, verifyCollateral } from "./collateral.ts"
import { TdxError } from "./error.ts"
import { checkQeIdentity } from "./qe-identity.ts"
import { parseQuote, type TdxQuote } from "./quote.ts"
import { type IntelRoot, intelRoots } from "./roots.ts"
import type { PlatformIdentity } from "./sgx-extension.ts"
import { judgeTcb, type TdxStatus } from "./status.ts"

export interface TdxEvidence {
  /** At most 65,536 bytes; what follows the quote's end is counted, not read. */
  readonly quote: Uint8Array
  /** DER: PCK, Platform or Processor CA, root. Needed where the quote doesn't bring them itself. */
  readonly certificates?: readonly Uint8Array[]
}

export interface TdxOptions {
  readonly now: Date
  /** Intel's own when left out. */
  readonly roots?: readonly IntelRoot[]
  readonly crypto?: Crypto
  readonly cache?: TdxCache
}

/** A quote whose signatures hold up to an accepted root. Nothing is known yet of revocation or TCB levels. */
export interface GenuineTdx {
  readonly kind: "tdx"
  /** The root that vouches for it is a lab's, not Intel's. */
  readonly emulated: boolean
  readonly root: IntelRoot
  readonly quote: TdxQuote
  readonly platform: PlatformIdentity
  /** Which authority issued the PCK. */
  readonly ca: "platform" | "processor"
  /** Leaf first. */
  readonly certificates: readonly {
    readonly role: string
    readonly serial: string
    readonly fingerprint: string
    readonly notBefore: Date
    readonly notAfter: Date
  }[]
}

export interface VerifiedTdx extends GenuineTdx {
  readonly status: TdxStatus
  readonly revocation: Revocation
  /** Of TCB info and QE identity, the lower. */
  readonly tcbEvaluationDataNumber: number
  readonly collateral: readonly CollateralUse[]
}

/**
 * Without collateral: that the quote is genuine, not that its platform is fit for anything.
 * @returns the genuine quote, or the first thing that was wrong with it
 */
export const verifyQuoteSignatures = (evidence: TdxEvidence, options: TdxOptions): GenuineTdx | TdxError =>
  typed(() => {
    const { quote, chain } = verifyGenuine(evidence, options)
    return genuine(quote, chain)
  })

/** Where to look for collateral once the platform that it must speak of is known. What it throws as a TdxError is the answer. */
export type TdxCollateralLookup = (platform: {
  readonly fmspc: Uint8Array
  readonly ca: "platform" | "processor"
}) => TdxCollateral

/**
 * @returns the verified quote, or the first thing that was wrong with it. A platform that no TCB level fits, or that is
 * revoked, is refused here; the error's `status` says what its parts were.
 */
export const verifyQuote = (
  evidence: TdxEvidence & { readonly collateral: TdxCollateral | TdxCollateralLookup },
  options: TdxOptions & CollateralRules,
): VerifiedTdx | TdxError =>
  typed(() => {
    const { quote, chain } = verifyGenuine(evidence, options)
    const { collateral } = evidence
    const { tcbInfo, qeIdentity, revocation, uses } = verifyCollateral(
      typeof collateral === "function"
        ? collateral({ fmspc: chain.platform.fmspc, ca: chain.ca })
        : collateral,
      chain,
      options,
      options.crypto ?? chosen,
      options.cache,
    )
    const { platform } = chain
    expectSame("FMSPC_MISMATCH", "collateral.tcbInfo.fmspc", tcbInfo.fmspc, platform.fmspc)
    expectSame("PCE_ID_MISMATCH", "collateral.tcbInfo.pceId", tcbInfo.pceId, platform.pceId)
    checkQeIdentity(quote.qe, qeIdentity)
    const status = judgeTcb(quote.td, platform, quote.qe, tcbInfo, qeIdentity)
    refuseUnfit(status)
    return {
      ...genuine(quote, chain),
      status,
      revocation,
      tcbEvaluationDataNumber: Math.min(tcbInfo.evaluationDataNumber, qeIdentity.evaluationDataNumber),
      collateral: uses,
    }
  })

const typed = <T>(verify: () => T): T | TdxError => {
  try {
    return verify()
  } catch (error) {
    if (error instanceof TdxError) return error
    throw error
  }
}

const verifyGenuine = (
  evidence: TdxEvidence,
  options: TdxOptions,
): { quote: TdxQuote; chain: IntelChain } => {
  const crypto = options.crypto ?? chosen
  const quote = parseQuote(evidence.quote)
  const roots = options.roots ?? intelRoots
  const chain = verifyPckChain(quote, evidence.certificates, roots, options.now, crypto, options.cache)
  if (!crypto.ecdsaP256.verify(quote.qeSignature, quote.qe.raw, chain.pckKey))
    throw new TdxError(
      "QE_REPORT_SIGNATURE",
      "quote.qeReportSignature",
      "a signature that doesn't verify",
      "ECDSA P-256 by the PCK",
    )
  checkAttestationKey(quote, crypto)
  if (!crypto.ecdsaP256.verify(quote.signature, quote.signed, quote.attestationKey))
    throw new TdxError(
      "QUOTE_SIGNATURE",
      "quote.signature",
      "a signature that doesn't verify",
      "ECDSA P-256 by the attestation key",
    )
  return { quote, chain }
}

/** The QE vouches for the key that it signs with: its report data is the hash of key and auth data, then zeros. */
const checkAttestationKey = ({ qe, attestationKey, qeAuthData }: TdxQuote, crypto: Crypto): void => {
  const wanted = new Uint8Array(64)
  wanted.set(crypto.sha256(Buffer.concat([attestationKey, qeAuthData])))
  if (Buffer.compare(qe.reportData, wanted) !== 0)
    throw new TdxError(
      "ATTESTATION_KEY_MISMATCH",
      "quote.qeReport.reportData",
      toHex(qe.reportData),
      `${toHex(wanted)}, the hash of attestation key and auth data`,
    )
}

const genuine = (quote: TdxQuote, chain: IntelChain): GenuineTdx => ({
  kind: "tdx",
  emulated: chain.root.emulated,
  root: chain.root,
  quote,
  platform: chain.platform,
  ca: chain.ca,
  certificates: chain.certificates.map(({ role, serial, fingerprint, notBefore, notAfter }) => ({
    role,
    serial,
    fingerprint,
    notBefore,
    notAfter,
  })),
})

const expectSame = (code: TdxError["code"], field: string, found: Uint8Array, wanted: Uint8Array): void => {
  if (Buffer.compare(found, wanted) !== 0)
    throw new TdxError(code, field, toHex(found), `${toHex(wanted)}, as in the PCK certificate`)
}

const refuseUnfit = (status: TdxStatus): void => {
  if (status.converged === "NoMatchingLevel") {
    const part = (["platform", "module", "qe"] as const).find(
      (one) => status[one].status === "NoMatchingLevel",
    )
    throw new TdxError(
      "TCB_LEVEL_NONE",
      `status.${part ?? "platform"}`,
      "no level that fits",
      "a TCB level",
      status,
    )
  }
  if (status.converged === "Revoked")
    throw new TdxError("TCB_REVOKED", "status.converged", "Revoked", "a TCB that isn't revoked", status)
}

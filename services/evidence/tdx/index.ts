/** Intel TDX: quotes verified, statuses computed. Bytes in, values or typed errors out; time is an argument. */
export { TdxCache } from "./cache.ts"
export {
  type CollateralRules,
  type Revocation,
  type TdxCollateral,
  tdxCollateralOf,
} from "./collateral.ts"
export { TdxError, type TdxErrorCode } from "./error.ts"
export {
  type RtmrEvent,
  type RtmrIndex,
  type VerifiedCcel,
  verifyCcel,
  verifyRtmrEvents,
} from "./eventlog.ts"
export { parseQuote, type QeReport, type TdxQuote } from "./quote.ts"
export { type IntelRoot, intelRoots } from "./roots.ts"
export type { PlatformIdentity } from "./sgx-extension.ts"
export type { ConvergedStatus, NoLevel, PartStatus, TdxStatus } from "./status.ts"
export type { PartTcbStatus, TcbStatus } from "./tcb-info.ts"
export type { TdAttributes, TdReport, TdReportVersion, Xfam } from "./td-report.ts"
export {
  type GenuineTdx,
  type TdxCollateralLookup,
  type TdxEvidence,
  type TdxOptions,
  type VerifiedTdx,
  verifyQuote,
  verifyQuoteSignatures,
} from "./verify.ts"

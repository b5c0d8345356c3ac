/** Evidence: verified, appraised, and (emulated) produced. Bytes in, values or typed errors out; time is an argument. */
export { appraise } from "./appraisal/appraise.ts"
export type {
  Appraisal,
  AppraisalClaims,
  AppraisalPolicy,
  Assurance,
  Check,
  TcbFloor,
} from "./appraisal/policy.ts"
export { DeviceError, type DeviceErrorCode } from "./emulated/error.ts"
export { type EmulatedGuest, type Launch, launchGuest, plainPolicy } from "./emulated/guest.ts"
export { measure, measureFiles } from "./emulated/measure.ts"
export {
  createEmulatedChip,
  createEmulatedRoot,
  type EmulatedChip,
  type EmulatedRoot,
  plainTcb,
} from "./emulated/platform.ts"
export {
  decodeGuest,
  decodeRoot,
  encodeGuest,
  encodeRoot,
  readGuest,
  readRoot,
  writeState,
} from "./emulated/state.ts"
export { type AttestationDevice, type DeviceEvidence, emulatedSnpDevice } from "./provider.ts"
export { ChainCache } from "./snp/chain.ts"
export { SnpError, type SnpErrorCode } from "./snp/error.ts"
export { encodeGuestPolicy } from "./snp/guest-policy.ts"
export type { SnpProduct, Tcb } from "./snp/product.ts"
export { parseReport, type SnpReport } from "./snp/report.ts"
export { amdRoots, type HardwareRoot } from "./snp/roots.ts"
export {
  describePlatform,
  type SnpEvidence,
  type VerifiedSnp,
  type VerifyOptions,
  verifyReport,
} from "./snp/verify.ts"

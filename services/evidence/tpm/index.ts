/** TPM 2.0: quotes verified and bound to a machine; and, for attesters, a TPM that makes them. */
export {
  type Binding,
  type BindingEvidence,
  bindQuote,
  type VerifiedHardware,
} from "./binding.ts"
export {
  type GoogleInstance,
  googleTpmRoot1,
  type LeafUse,
  type TpmIssuer,
  type TpmModel,
} from "./certificate.ts"
export { type TpmCertificate, type TpmChain, TpmChainCache, verifyTpmChain } from "./chain.ts"
export {
  type CredentialChallenge,
  challengeAk,
  makeCredential,
  type PendingActivation,
} from "./credential.ts"
export { type DeviceOptions, type Selection, TpmDevice, type TpmObject } from "./device.ts"
export { TpmError, type TpmErrorCode } from "./error.ts"
export { type HclConfiguration, type HclReport, parseHclReport } from "./hcl.ts"
export { type KernelLogs, readKernelLogs } from "./logs.ts"
export { type GivenKey, type Hierarchy, parsePublic, readKey, type TpmPublic } from "./public.ts"
export {
  type PcrValues,
  type QuoteEvidence,
  type QuoteOptions,
  type QuoteRequest,
  type VerifiedQuote,
  verifyQuote,
} from "./quote.ts"
export {
  type ClockInfo,
  type PcrSelection,
  parseQuoteAttest,
  parseSignature,
  type QuoteAttest,
  type TpmSignature,
} from "./structures.ts"
export type { AkKind, EkKind } from "./templates.ts"
export { connectTpmSocket, openTpmDevice, type TpmTransport } from "./transport.ts"

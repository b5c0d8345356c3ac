/** AWS Nitro: attestation documents of enclaves and NitroTPMs, verified. Bytes in, values or typed errors out. */
export { NitroChainCache } from "./chain.ts"
export { type NitroDocument, type NitroPlatform, parseDocument } from "./document.ts"
export { NitroError, type NitroErrorCode } from "./error.ts"
export { awsRoots, type NitroRoot } from "./roots.ts"
export {
  describeNitro,
  type NitroEvidence,
  type NitroOptions,
  type VerifiedNitro,
  verifyNitro,
} from "./verify.ts"

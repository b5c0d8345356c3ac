/** Attestation Results for relying parties elsewhere: written here, never believed here. */
export { type EarOrder, earOf } from "./ear.ts"
export { EarError, type EarErrorCode } from "./error.ts"
export {
  createEarKey,
  type EarAlgorithm,
  type EarKey,
  earAlgorithms,
  jwksOf,
  looksLikeToken,
  readEar,
  readEarKey,
  readJwks,
  type ShownEar,
  signEar,
} from "./jws.ts"
export { statusOf, vectorOf } from "./vector.ts"

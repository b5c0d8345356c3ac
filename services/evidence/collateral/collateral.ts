/**
 * Collateral: what a vendor says beside the evidence (revocation lists, TCB levels, identities), as whoever collected it
 * has stored it. What a verdict rests on is named by digest and dates, so that it can be given again with the same.
 */
export type CollateralKind =
  | "intel-tcb-info"
  | "intel-qe-identity"
  | "intel-tcb-signing"
  | "intel-root-crl"
  | "intel-pck-crl"
  | "amd-crl"

/** One piece of collateral that a verdict rests on. */
export interface CollateralUse {
  readonly kind: CollateralKind
  /** SHA-256 of the bytes as they were stored, in hex. */
  readonly sha256: string
  readonly issued: Date
  /** From then on it doesn't count any more. */
  readonly expires: Date
  /** Intel's tcbEvaluationDataNumber, where the kind has one. */
  readonly evaluationDataNumber?: number
}

export type CollateralErrorCode =
  | "FOLDER_UNREADABLE"
  | "FILE_UNREADABLE"
  | "FILE_TOO_LARGE"
  | "FILES_TOO_MANY"

/** Why stored collateral couldn't be read. What is wrong with its content, the vendor's verifier says. */
export class CollateralError extends Error {
  override readonly name = "CollateralError"
  readonly code: CollateralErrorCode
  readonly path: string

  constructor(code: CollateralErrorCode, path: string, message: string) {
    super(`${path}: ${message}`)
    this.code = code
    this.path = path
  }
}

export type RecordErrorCode =
  | "RECORD_UNREADABLE"
  | "RECORD_TOO_LARGE"
  | "RECORD_MALFORMED"
  | "VERDICT_MALFORMED"
  /** The workflow document isn't in the record and doesn't lie beside it. */
  | "WORKFLOW_MISSING"
  /** The document isn't the one that the record names. */
  | "WORKFLOW_DIGEST"
  | "WORKFLOW_MALFORMED"
  /** Replayed, it comes out as another. */
  | "VERDICT_DIFFERS"
  /** Nobody said what the evidence must speak of, or it was judged too long ago: no token for others is made of it. */
  | "QUESTION_UNKNOWN"
  | "VERDICT_TOO_OLD"
  | "STAGE_UNKNOWN"
  | "NODE_UNKNOWN"
  /** The appraisal asks for collateral that the record doesn't hold. */
  | "COLLATERAL_UNRECORDED"

/** Why a record of a verdict can't be used. */
export class RecordError extends Error {
  override readonly name = "RecordError"
  readonly code: RecordErrorCode
  readonly field: string

  constructor(code: RecordErrorCode, field: string, message: string) {
    super(`${field}: ${message}`)
    this.code = code
    this.field = field
  }
}

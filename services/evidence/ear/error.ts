export type EarErrorCode = "KEY_UNFIT" | "TOKEN_TOO_LARGE" | "TOKEN_MALFORMED" | "CLAIMS_MALFORMED"

/** Why a token can't be shown or signed. */
export class EarError extends Error {
  override readonly name = "EarError"
  readonly code: EarErrorCode
  readonly field: string

  constructor(code: EarErrorCode, field: string, message: string) {
    super(`${field}: ${message}`)
    this.code = code
    this.field = field
  }
}

/** Why an SEV-SNP report or its certificates were not believed. */

export type SnpErrorCode =
  // The report's form.
  | "REPORT_LENGTH"
  | "REPORT_VERSION"
  | "REPORT_RESERVED"
  | "REPORT_VALUE"
  | "REPORT_BY_HOST"
  | "REPORT_UNSIGNED"
  // The certificates.
  | "CHAIN_LENGTH"
  | "CERTIFICATE_MALFORMED"
  | "CERTIFICATE_ALGORITHM"
  | "CERTIFICATE_ROLE"
  | "CERTIFICATE_ISSUER"
  | "CERTIFICATE_SIGNATURE"
  | "CERTIFICATE_EXTENSION"
  | "CERTIFICATE_NOT_YET_VALID"
  | "CERTIFICATE_EXPIRED"
  | "ROOT_UNKNOWN"
  | "ROOT_MISLABELLED"
  // What holds report and certificates together.
  | "SIGNING_KEY_MISMATCH"
  | "PRODUCT_MISMATCH"
  | "TCB_MISMATCH"
  | "CHIP_ID_MISMATCH"
  | "REPORT_SIGNATURE"
  | "TIME_INVALID"

export class SnpError extends Error {
  override readonly name = "SnpError"
  readonly code: SnpErrorCode
  /** Dotted path: `report.policy`, `certificates.vcek.hwid`. */
  readonly field: string
  readonly found: string
  readonly wanted: string

  constructor(code: SnpErrorCode, field: string, found: string, wanted: string) {
    super(`${field}: found ${found}, wanted ${wanted}`)
    this.code = code
    this.field = field
    this.found = found
    this.wanted = wanted
  }
}

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

/** Why an SEV-SNP report or its certificates were not believed. */
import { EvidenceError } from "../error.ts"

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
  | "CERTIFICATE_REVOKED"
  | "ROOT_UNKNOWN"
  | "ROOT_MISLABELLED"
  // The collateral.
  | "COLLATERAL_MISSING"
  | "COLLATERAL_STALE"
  | "CRL_MALFORMED"
  | "CRL_ISSUER"
  | "CRL_SIGNATURE"
  | "CRL_NOT_YET_VALID"
  | "CRL_EXPIRED"
  // What holds report and certificates together.
  | "SIGNING_KEY_MISMATCH"
  | "PRODUCT_MISMATCH"
  | "TCB_MISMATCH"
  | "CHIP_ID_MISMATCH"
  | "REPORT_SIGNATURE"
  | "TIME_INVALID"

/** Fields are dotted paths: `report.policy`, `certificates.vcek.hwid`. */
export class SnpError extends EvidenceError<SnpErrorCode> {
  override readonly name = "SnpError"
}

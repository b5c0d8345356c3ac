/** Why a TDX quote, its certificates or its collateral were not believed. */
import { EvidenceError } from "../error.ts"
import type { TdxStatus } from "./status.ts"

export type TdxErrorCode =
  // The quote's form.
  | "QUOTE_LENGTH"
  | "QUOTE_VERSION"
  | "QUOTE_NOT_TDX"
  | "QUOTE_STRUCTURE"
  | "QUOTE_VALUE"
  // The certificates.
  | "CHAIN_MISSING"
  | "CHAIN_MALFORMED"
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
  // What holds the quote together.
  | "QE_REPORT_SIGNATURE"
  | "ATTESTATION_KEY_MISMATCH"
  | "QUOTE_SIGNATURE"
  // The collateral.
  | "COLLATERAL_MISSING"
  | "COLLATERAL_MALFORMED"
  | "COLLATERAL_KIND"
  | "COLLATERAL_SIGNATURE"
  | "COLLATERAL_NOT_YET_VALID"
  | "COLLATERAL_EXPIRED"
  | "COLLATERAL_SUPERSEDED"
  | "COLLATERAL_STALE"
  | "CRL_MALFORMED"
  | "CRL_ISSUER"
  | "CRL_SIGNATURE"
  | "CRL_NOT_YET_VALID"
  | "CRL_EXPIRED"
  // What the collateral says of the quote.
  | "FMSPC_MISMATCH"
  | "PCE_ID_MISMATCH"
  | "QE_IDENTITY_MISMATCH"
  | "TDX_MODULE_MISMATCH"
  | "TCB_LEVEL_NONE"
  | "TCB_REVOKED"
  | "TIME_INVALID"
  // The event log.
  | "EVENT_LOG_MALFORMED"
  | "EVENT_LOG_MISMATCH"

/** Fields are dotted paths: `quote.header.version`, `certificates.pck.notAfter`, `collateral.tcbInfo.nextUpdate`. */
export class TdxError extends EvidenceError<TdxErrorCode> {
  override readonly name = "TdxError"
  /** With TCB_LEVEL_NONE and TCB_REVOKED: what each part of the platform was found to be. */
  readonly status: TdxStatus | undefined

  constructor(code: TdxErrorCode, field: string, found: string, wanted: string, status?: TdxStatus) {
    super(code, field, found, wanted)
    this.status = status
  }
}

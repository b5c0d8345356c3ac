/** Why a TPM's evidence was not believed, or why a TPM didn't give any. */
import { EvidenceError } from "../error.ts"

export type TpmErrorCode =
  // The form of structures.
  | "STRUCTURE_LENGTH"
  | "STRUCTURE_VALUE"
  | "ATTEST_MAGIC"
  | "ATTEST_TYPE"
  | "KEY_MALFORMED"
  | "KEY_ALGORITHM"
  | "KEY_ATTRIBUTES"
  | "SIGNATURE_ALGORITHM"
  | "SHA1_REFUSED"
  // What the quote says against what was asked.
  | "QUOTE_SIGNATURE"
  | "NONCE_MISMATCH"
  | "SELECTION_MISMATCH"
  | "PCR_ABSENT"
  | "PCR_LENGTH"
  | "PCR_DIGEST_MISMATCH"
  // Certificates.
  | "CHAIN_LENGTH"
  | "CERTIFICATE_MALFORMED"
  | "CERTIFICATE_ALGORITHM"
  | "CERTIFICATE_ROLE"
  | "CERTIFICATE_ISSUER"
  | "CERTIFICATE_SIGNATURE"
  | "CERTIFICATE_EXTENSION"
  | "CERTIFICATE_NOT_YET_VALID"
  | "CERTIFICATE_EXPIRED"
  | "ISSUER_UNKNOWN"
  | "TIME_INVALID"
  // What holds the key to a machine.
  | "HCL_MALFORMED"
  | "BINDING_KEY_MISMATCH"
  | "BINDING_REPORT_MISMATCH"
  | "BINDING_REPORT_KIND"
  | "BINDING_PRIVILEGE"
  | "BINDING_ACTIVATION"
  | "BINDING_KEY_UNNAMED"
  // The device.
  | "DEVICE_IO"
  | "DEVICE_TIMEOUT"
  | "DEVICE_RESPONSE"
  | "DEVICE_REFUSED"
  | "DEVICE_INPUT"

/** Fields are dotted paths: `quote.extraData`, `ak.attributes`, `certificates[0].validity`. */
export class TpmError extends EvidenceError<TpmErrorCode> {
  override readonly name = "TpmError"
}

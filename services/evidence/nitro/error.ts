/** Why a Nitro attestation document was not believed. */
import { EvidenceError } from "../error.ts"

export type NitroErrorCode =
  // The document's form.
  | "DOCUMENT_LENGTH"
  | "DOCUMENT_MALFORMED"
  | "DOCUMENT_ALGORITHM"
  | "DOCUMENT_HEADER"
  | "DOCUMENT_FIELD"
  | "DOCUMENT_VALUE"
  // The certificates.
  | "CHAIN_LENGTH"
  | "CERTIFICATE_MALFORMED"
  | "CERTIFICATE_ALGORITHM"
  | "CERTIFICATE_ROLE"
  | "CERTIFICATE_PATH_LENGTH"
  | "CERTIFICATE_ISSUER"
  | "CERTIFICATE_SIGNATURE"
  | "CERTIFICATE_EXTENSION"
  | "CERTIFICATE_NOT_YET_VALID"
  | "CERTIFICATE_EXPIRED"
  | "ROOT_UNKNOWN"
  | "ROOT_MISLABELLED"
  // The document itself.
  | "DOCUMENT_SIGNATURE"
  | "DEBUG_MODE"
  | "TIME_INVALID"

/** Fields are dotted paths: `document.pcrs[3]`, `certificates.leaf.notAfter`. */
export class NitroError extends EvidenceError<NitroErrorCode> {
  override readonly name = "NitroError"
}

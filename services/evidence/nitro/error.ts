/** Why a Nitro attestation document was not believed. */

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

export class NitroError extends Error {
  override readonly name = "NitroError"
  readonly code: NitroErrorCode
  /** Dotted path: `document.pcrs[3]`, `certificates.leaf.notAfter`. */
  readonly field: string
  readonly found: string
  readonly wanted: string

  constructor(code: NitroErrorCode, field: string, found: string, wanted: string) {
    super(`${field}: found ${found}, wanted ${wanted}`)
    this.code = code
    this.field = field
    this.found = found
    this.wanted = wanted
  }
}

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

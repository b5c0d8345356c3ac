/** How the checks here, which all vendors share, throw the error of the vendor at hand. */
import { DerError } from "../der.ts"
import { EvidenceError } from "../error.ts"

/** The codes that every vendor has for a certificate of its own. */
export type CertificateErrorCode =
  | "CERTIFICATE_MALFORMED"
  | "CERTIFICATE_ALGORITHM"
  | "CERTIFICATE_ROLE"
  | "CERTIFICATE_ISSUER"
  | "CERTIFICATE_SIGNATURE"
  | "CERTIFICATE_EXTENSION"
  | "CERTIFICATE_NOT_YET_VALID"
  | "CERTIFICATE_EXPIRED"

/** Makes the error about one certificate, or about `part` of it. */
export type Refuse = (
  code: CertificateErrorCode,
  part: string | undefined,
  found: string,
  wanted: string,
) => Error

type VendorError = new (code: CertificateErrorCode, field: string, found: string, wanted: string) => Error

/** @param path of the certificate in the vendor's errors: `certificates.vcek`, `certificates[0]` */
export const refuserOf =
  (VendorError: VendorError, path: string): Refuse =>
  (code, part, found, wanted) =>
    new VendorError(code, part === undefined ? path : `${path}.${part}`, found, wanted)

/** Runs a reader of DER; what it finds wrong becomes the error that `refuse` makes of it. */
export const readingDer = <T>(read: () => T, refuse: (found: string) => Error): T => {
  try {
    return read()
  } catch (error) {
    if (error instanceof EvidenceError) throw error
    throw refuse(error instanceof DerError ? `DER that ${error.message}` : "an encoding that can't be read")
  }
}

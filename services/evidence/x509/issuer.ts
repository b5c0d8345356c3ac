/** Whether one certificate was issued by the next. Which algorithms and keys count is the vendor's to say. */
import type { Outline } from "./outline.ts"
import type { Refuse } from "./refuse.ts"

/** @param wanted whose name the issuer's should be, for the error */
export const checkIssuerName = (
  certificate: Pick<Outline, "issuer">,
  issuer: Pick<Outline, "subject">,
  wanted: string,
  refuse: Refuse,
): void => {
  if (Buffer.compare(certificate.issuer, issuer.subject) !== 0)
    throw refuse("CERTIFICATE_ISSUER", "issuer", "another name", wanted)
}

/** @param verifies what checking the signature with the issuer's key gave */
export const checkIssuerSignature = (verifies: boolean, wanted: string, refuse: Refuse): void => {
  if (!verifies) throw refuse("CERTIFICATE_SIGNATURE", "signature", "a signature that doesn't verify", wanted)
}

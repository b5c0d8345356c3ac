/**
 * A certificate decoded by the library. Only for one whose signature held: hostile bytes never reach the library, which
 * takes more encodings than one.
 */
import "reflect-metadata"
import { BasicConstraintsExtension, KeyUsagesExtension, X509Certificate } from "@peculiar/x509"
import type { Refuse } from "./refuse.ts"

// From here, so that what the library needs to be there before it always is.
export { ExtendedKeyUsageExtension, KeyUsageFlags, type X509Certificate } from "@peculiar/x509"

/** @throws whatever the library does; to be called in `readingDer` */
export const decodeX509 = (der: Uint8Array): X509Certificate => new X509Certificate(Uint8Array.from(der))

/** The subject's common name; empty where it has none, or several. */
export const commonNameOf = (x509: X509Certificate): string => {
  const names = x509.subjectName.getField("CN")
  return names.length === 1 ? (names[0] ?? "") : ""
}

/**
 * Issuers must be authorities, others must not be.
 * @returns how many issuers may stand below it; undefined where it doesn't say (RFC 5280, 4.2.1.9)
 */
export const checkAuthority = (
  x509: X509Certificate,
  isIssuer: boolean,
  refuse: Refuse,
): number | undefined => {
  const constraints = x509.getExtension(BasicConstraintsExtension)
  if ((constraints?.ca ?? false) !== isIssuer)
    throw refuse("CERTIFICATE_ROLE", "basicConstraints", `ca ${!isIssuer}`, `ca ${isIssuer}`)
  return constraints?.pathLength
}

/** Bits of KeyUsageFlags; undefined where the certificate has no such extension. */
export const keyUsageOf = (x509: X509Certificate): number | undefined =>
  x509.getExtension(KeyUsagesExtension)?.usages

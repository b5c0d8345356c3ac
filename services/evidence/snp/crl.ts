/**
 * AMD's certificate revocation lists (AMD 57230): one for each product, signed by its ARK with RSASSA-PSS and SHA-384.
 * Every VCEK and VLEK has serial number 0 and is issued by an ASK or ASVK, whose lists there are none of: so a list can
 * revoke an ASK or an ASVK, and with it all chips that it has endorsed, and never a single chip.
 */
import { limits } from "../../../schemas/limits.ts"
import { crypto } from "../../common/crypto/index.ts"
import { rsaPss4096Sha384 } from "../../common/crypto/native.ts"
import type { CollateralUse } from "../collateral/collateral.ts"
import { DerError } from "../der.ts"
import { toHex } from "../text.ts"
import * as crls from "../x509/crl.ts"
import type { Outline } from "../x509/outline.ts"
import { readingDer } from "../x509/refuse.ts"
import { SnpError } from "./error.ts"

export interface SnpCollateral {
  /**
   * DER: lists of the product's ARK, as AMD's service gives them for VCEKs and for VLEKs. At least one; each that is given
   * is checked, and what any of them names is revoked.
   */
  readonly crls?: readonly Uint8Array[]
}

/** `unknown`: there was no list to look at, and the caller allowed that, or asked for none. */
export interface SnpRevocation {
  readonly issuers: "good" | "unknown"
}

/** A list whose signature held. Its dates haven't been looked at. */
export interface AmdCrl extends crls.CrlContent {
  /** SHA-256 of the DER, in hex. */
  readonly digest: string
}

const mostCrls = 2

/** AlgorithmIdentifier of RSASSA-PSS with SHA-384, MGF1 with SHA-384, salt 48; with and without what is the default. */
const pssSha384 = [
  "304606092a864886f70d01010a3039a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130a303020101",
  "304106092a864886f70d01010a3034a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130",
] as const

/**
 * @param der at most 65,536 bytes
 * @param ark the root of the product, itself verified, that may sign lists
 * @param field of the list in errors
 * @throws SnpError CRL_MALFORMED, CRL_ISSUER, CRL_SIGNATURE, CERTIFICATE_ALGORITHM
 */
export const verifyAmdCrl = (der: Uint8Array, ark: Outline, field = "collateral.crl"): AmdCrl => {
  if (der.length > limits.evidenceBytes)
    throw new SnpError("CRL_MALFORMED", field, `${der.length} bytes`, `at most ${limits.evidenceBytes}`)
  const malformed = (found: string) =>
    new SnpError("CRL_MALFORMED", field, found, "a DER-encoded list as AMD writes it")
  return readingDer(() => {
    const outline = crls.readCrl(der)
    if (!pssSha384.some((one) => one === toHex(outline.algorithm)))
      throw new SnpError(
        "CERTIFICATE_ALGORITHM",
        `${field}.signatureAlgorithm`,
        "another",
        "RSA-PSS, SHA-384, salt 48",
      )
    if (Buffer.compare(outline.issuer, ark.subject) !== 0)
      throw new SnpError("CRL_ISSUER", `${field}.issuer`, "another name", "the ARK of the report's product")
    if (!rsaPss4096Sha384.verify(outline.signature, outline.tbs, ark.spki))
      throw new SnpError(
        "CRL_SIGNATURE",
        `${field}.signature`,
        "a signature that doesn't verify",
        "RSASSA-PSS with SHA-384 by the ARK",
      )
    const content = outline.content()
    if (content.number === undefined) throw new DerError("has no number")
    return { ...content, digest: toHex(crypto.sha256(der)) }
  }, malformed)
}

/** What of a chain the lists are asked about: the serial numbers of what the ARK has issued. */
export interface Revocable {
  readonly role: string
  /** As in the certificate, in hex. */
  readonly serial: string
}

export interface RevocationRules {
  readonly now: Date
  /** Whether it is refused, which is the default, or reported that there is no list. */
  readonly missingCrl?: "refuse" | "report"
}

/**
 * @param collateral undefined: revocation isn't looked at
 * @param issued certificates that the ARK has issued, itself among them
 * @param verified gives a list whose signature held
 * @throws SnpError COLLATERAL_MISSING, CRL_NOT_YET_VALID, CRL_EXPIRED, CERTIFICATE_REVOKED
 */
export const checkRevocation = (
  collateral: SnpCollateral | undefined,
  issued: readonly Revocable[],
  { now, missingCrl = "refuse" }: RevocationRules,
  verified: (der: Uint8Array, field: string) => AmdCrl,
): { readonly revocation: SnpRevocation; readonly uses: readonly CollateralUse[] } => {
  const lists = collateral?.crls ?? []
  if (lists.length > mostCrls)
    throw new SnpError("CRL_MALFORMED", "collateral.crls", `${lists.length} lists`, `at most ${mostCrls}`)
  if (lists.length === 0) {
    if (collateral === undefined || missingCrl === "report")
      return { revocation: { issuers: "unknown" }, uses: [] }
    throw new SnpError("COLLATERAL_MISSING", "collateral.crls", "none", "the product's revocation list")
  }
  const uses = lists.map((der, i): CollateralUse => {
    const field = lists.length === 1 ? "collateral.crl" : `collateral.crls[${i}]`
    const crl = verified(der, field)
    crls.checkCrlDates(
      crl,
      now,
      (code, part, found, wanted) => new SnpError(code, `${field}.${part}`, found, wanted),
    )
    for (const { role, serial } of issued)
      if (crl.revoked.has(serial))
        throw new SnpError(
          "CERTIFICATE_REVOKED",
          `certificates.${role}.serial`,
          `${serial}, revoked`,
          `a serial number that ${field} doesn't name`,
        )
    return { kind: "amd-crl", sha256: crl.digest, issued: crl.thisUpdate, expires: crl.nextUpdate }
  })
  return { revocation: { issuers: "good" }, uses }
}

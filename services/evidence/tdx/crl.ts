/** A certificate revocation list of Intel's: signed by the authority whose certificates it names. */
import { limits } from "../../../schemas/limits.ts"
import type { Crypto } from "../../common/crypto/index.ts"
import { native } from "../../common/crypto/native.ts"
import { toHex } from "../text.ts"
import * as crls from "../x509/crl.ts"
import { expectIntelAlgorithm, type IntelOutline, rawSignature, readingDer } from "./certificate.ts"
import { TdxError } from "./error.ts"

export interface Crl extends crls.CrlContent {
  /** What it is called in errors and results: `rootCrl`, `pckCrl`. */
  readonly name: CrlName
  /** SHA-256 of the DER, in hex. */
  readonly digest: string
}

export type CrlName = "rootCrl" | "pckCrl"

/**
 * @param der at most 65,536 bytes
 * @param issuer the certificate that must have signed it, itself verified
 * @throws TdxError CRL_MALFORMED, CRL_ISSUER, CRL_SIGNATURE, CERTIFICATE_ALGORITHM
 */
export const verifyCrl = (name: CrlName, der: Uint8Array, issuer: IntelOutline, crypto: Crypto): Crl => {
  const field = `collateral.${name}`
  if (der.length > limits.evidenceBytes)
    throw new TdxError("CRL_MALFORMED", field, `${der.length} bytes`, `at most ${limits.evidenceBytes}`)
  return readingDer(field, "CRL_MALFORMED", () => {
    const outline = crls.readCrl(der)
    expectIntelAlgorithm(field, outline.algorithm)
    if (Buffer.compare(outline.issuer, issuer.subject) !== 0)
      throw new TdxError(
        "CRL_ISSUER",
        `${field}.issuer`,
        "another name",
        "the authority that issued the certificate",
      )
    if (!crypto.ecdsaP256.verify(rawSignature(outline.signature), outline.tbs, issuer.publicKey))
      throw new TdxError(
        "CRL_SIGNATURE",
        `${field}.signature`,
        "a signature that doesn't verify",
        "ECDSA P-256 with SHA-256 by the authority that issued the certificate",
      )
    return { name, ...outline.content(), digest: toHex(native.sha256(der)) }
  })
}

/** @throws TdxError CRL_NOT_YET_VALID, CRL_EXPIRED */
export const checkCrlDates = (crl: Crl, now: Date): void =>
  crls.checkCrlDates(
    crl,
    now,
    (code, part, found, wanted) => new TdxError(code, `collateral.${crl.name}.${part}`, found, wanted),
  )

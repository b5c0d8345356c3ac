/** From Intel's pinned root key to the key that certifies a platform: root -> Platform or Processor CA -> PCK. */
import { createHash } from "node:crypto"
import type { Crypto } from "../../common/crypto/index.ts"
import type { TdxCache } from "./cache.ts"
import {
  checkCertificateDates,
  type IntelCertificate,
  type IntelOutline,
  outlineOf,
  spkiDigest,
  verifyIssued,
} from "./certificate.ts"
import { TdxError } from "./error.ts"
import { splitCertificates } from "./pem.ts"
import type { TdxQuote } from "./quote.ts"
import { acceptedIntelRoot, type IntelRoot } from "./roots.ts"
import { type PlatformIdentity, readPlatform } from "./sgx-extension.ts"

/** The part of a chain that neither the time nor the list of roots changes. */
export interface SignedIntelChain {
  readonly rootKeyDigest: string
  /** Leaf first. */
  readonly certificates: readonly IntelCertificate[]
  readonly rootOutline: IntelOutline
  readonly caOutline: IntelOutline
  readonly ca: "platform" | "processor"
  readonly pck: IntelCertificate
  /** 04 || x || y. */
  readonly pckKey: Uint8Array
  readonly platform: PlatformIdentity
  /** What identifies all of it. */
  readonly digest: string
}

export interface IntelChain extends SignedIntelChain {
  readonly root: IntelRoot
}

/**
 * @param certificates DER: PCK, CA, root. Without them the quote must bring them itself.
 * @throws TdxError
 */
export const verifyPckChain = (
  quote: TdxQuote,
  certificates: readonly Uint8Array[] | undefined,
  roots: readonly IntelRoot[],
  now: Date,
  crypto: Crypto,
  cache?: TdxCache,
): IntelChain => {
  if (Number.isNaN(now.getTime())) throw new TdxError("TIME_INVALID", "now", "no date", "a date")
  if (certificates === undefined && quote.certification.type !== 5)
    throw new TdxError(
      "CHAIN_MISSING",
      "certificates",
      `certification data of type ${quote.certification.type} and no certificates beside the quote`,
      "the PCK certificate and its issuers",
    )
  const digest = digestOf(certificates ?? [quote.certification.data], certificates === undefined)
  const make = (): SignedIntelChain => verifySignatures(quote, certificates, digest, roots, crypto, cache)
  const signed = cache === undefined ? make() : cache.chains.of(digest, make)
  const root = acceptedIntelRoot(roots, signed.rootKeyDigest)
  for (const certificate of signed.certificates.toReversed()) checkCertificateDates(certificate, now)
  return { ...signed, root }
}

const digestOf = (parts: readonly Uint8Array[], inQuote: boolean): string => {
  const hash = createHash("sha256").update(inQuote ? "quote" : "beside")
  for (const part of parts) hash.update(`:${part.length}:`).update(part)
  return hash.digest("base64")
}

/** Top down: nothing is decoded, and no key used, before what stands above it is known to be right. */
const verifySignatures = (
  quote: TdxQuote,
  given: readonly Uint8Array[] | undefined,
  digest: string,
  roots: readonly IntelRoot[],
  crypto: Crypto,
  cache?: TdxCache,
): SignedIntelChain => {
  const chain = leafFirst(given ?? splitCertificates("quote.qeCertificationData", quote.certification.data))
  const [pckDer, caDer, rootDer] = chain
  if (pckDer === undefined || caDer === undefined || rootDer === undefined || chain.length !== 3)
    throw new TdxError(
      "CHAIN_LENGTH",
      "certificates",
      `${chain.length}`,
      "3: PCK, Platform or Processor CA, root",
    )

  const rootOutline = outlineOf("root", rootDer)
  const rootKeyDigest = spkiDigest(rootOutline.spki)
  acceptedIntelRoot(roots, rootKeyDigest)
  const root = verifyIssued("root", rootOutline, rootOutline, crypto, cache)

  const caOutline = outlineOf("ca", caDer)
  const ca = verifyIssued("ca", caOutline, rootOutline, crypto, cache)

  const pckOutline = outlineOf("pck", pckDer)
  const pck = verifyIssued("pck", pckOutline, caOutline, crypto)
  return {
    rootKeyDigest,
    certificates: [pck, ca, root],
    rootOutline,
    caOutline,
    ca: ca.commonName.includes("Platform") ? "platform" : "processor",
    pck,
    pckKey: pckOutline.publicKey,
    platform: readPlatform(pck),
    digest,
  }
}

/** Intel writes leaf first; its own sample data has the root first. */
const leafFirst = (chain: readonly Uint8Array[]): readonly Uint8Array[] => {
  const [first] = chain
  if (first === undefined) return chain
  const { issuer, subject } = outlineOf("pck", first)
  return Buffer.compare(issuer, subject) === 0 ? chain.toReversed() : chain
}

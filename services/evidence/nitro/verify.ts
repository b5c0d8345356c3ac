/**
 * Is this attestation document genuine? The certificates up to AWS's root, at the time when the document was made and at
 * the caller's, and the document's signature by the leaf. Whether a genuine document is good enough (its PCRs, nonce, user
 * data) is for the appraisal; only enclaves in debug mode are refused here already, unless the caller says otherwise.
 */
import { type Crypto, crypto as chosen } from "../../common/crypto/index.ts"
import { type NitroChainCache, verifyChain } from "./chain.ts"
import { type NitroDocument, type NitroPlatform, parseDocument } from "./document.ts"
import { NitroError } from "./error.ts"
import { awsRoots, type NitroRoot } from "./roots.ts"

export interface NitroEvidence {
  /** COSE_Sign1, with or without its tag. */
  readonly document: Uint8Array
}

export interface NitroOptions {
  /**
   * The certificates must be good at this time as well as at the document's own. A leaf lives three hours: "document" is
   * for looking back, and says nothing about freshness.
   */
  readonly now: Date | "document"
  /** AWS's by default. */
  readonly roots?: readonly NitroRoot[]
  /** Whether PCRs 0 to 2, all zero, are a reason to refuse; "refuse" by default. */
  readonly debug?: "refuse" | "accept"
  readonly cache?: NitroChainCache
  readonly crypto?: Crypto
}

export interface VerifiedNitro {
  readonly kind: "nitro"
  readonly platform: NitroPlatform
  /** The root that vouches for it is a lab's, not AWS's. */
  readonly emulated: boolean
  readonly root: NitroRoot
  /** The enclave ran so that its parent could read its console: AWS then gives PCRs 0, 1 and 2 as zeros. */
  readonly debug: boolean
  readonly document: NitroDocument
  /** Leaf first. */
  readonly certificates: readonly {
    readonly role: string
    readonly commonName: string
    readonly fingerprint: string
    readonly notBefore: Date
    readonly notAfter: Date
  }[]
}

/** @returns the verified document, or the first thing that was wrong with it */
export const verifyNitro = (evidence: NitroEvidence, options: NitroOptions): VerifiedNitro | NitroError => {
  try {
    return verifyOrThrow(evidence, options)
  } catch (error) {
    if (error instanceof NitroError) return error
    throw error
  }
}

const verifyOrThrow = (evidence: NitroEvidence, options: NitroOptions): VerifiedNitro => {
  const { now, roots = awsRoots, debug: onDebug = "refuse", cache, crypto = chosen } = options
  if (now !== "document" && Number.isNaN(now.getTime()))
    throw new NitroError("TIME_INVALID", "now", "no date", "a date")
  const document = parseDocument(evidence.document)
  const times = now === "document" ? [document.timestamp] : [document.timestamp, now]
  const chain = verifyChain(document.certificate, document.cabundle, { roots, times, cache, crypto })
  if (!crypto.ecdsaP384.verify(document.signature, document.signed, chain.publicKey))
    throw new NitroError(
      "DOCUMENT_SIGNATURE",
      "document.signature",
      "a signature that doesn't verify",
      "ECDSA P-384 by the leaf",
    )
  const debug = isDebug(document)
  if (debug && onDebug !== "accept")
    throw new NitroError("DEBUG_MODE", "document.pcrs", "PCRs 0, 1 and 2 all zero", "a measured boot")
  return {
    kind: "nitro",
    platform: document.platform,
    emulated: chain.root.emulated,
    root: chain.root,
    debug,
    document,
    certificates: chain.certificates,
  }
}

const isDebug = ({ pcrs }: NitroDocument): boolean =>
  [0, 1, 2].every((index) => pcrs.get(index)?.every((byte) => byte === 0) ?? true)

/** For results, events and screens. */
export const describeNitro = ({ platform, emulated, debug }: VerifiedNitro): string =>
  `${emulated ? "EMULATED " : ""}AWS ${platform === "nitro-tpm" ? "NitroTPM" : "Nitro Enclaves"}${debug ? " (debug mode)" : ""}`

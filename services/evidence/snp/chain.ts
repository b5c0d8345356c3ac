/** From a pinned root key to the key that signs reports: ARK -> ASK -> VCEK, or ARK -> ASVK -> VLEK. */
import { createHash } from "node:crypto"
import {
  type Certificate,
  type CertificateRole,
  checkDates,
  checkSignature,
  decode,
  keyDigest,
  outline,
} from "./certificate.ts"
import { type Endorsement, readEndorsement } from "./endorsement.ts"
import { SnpError } from "./error.ts"
import type { SnpProduct } from "./product.ts"
import type { SigningKeyKind } from "./report.ts"
import { acceptedRoot, type HardwareRoot } from "./roots.ts"

export interface Chain {
  readonly root: HardwareRoot
  readonly endorsement: Endorsement
  /** Leaf first. */
  readonly certificates: readonly Certificate[]
}

/** The part of a chain that neither the time nor the list of roots changes. */
interface SignedChain {
  readonly rootKeyDigest: string
  readonly product: SnpProduct
  readonly endorsement: Endorsement
  readonly certificates: readonly Certificate[]
}

/**
 * Remembers chains whose signatures held, by the digest of all their bytes, so that the next report of the same chip
 * costs one signature instead of four. Roots and dates are looked at every time. Holds at most `most` chains; the one
 * longest unused goes first.
 */
export class ChainCache {
  readonly #chains = new Map<string, SignedChain>()
  readonly #most: number

  constructor(most = 1_024) {
    this.#most = most
  }

  get size(): number {
    return this.#chains.size
  }

  get(key: string): SignedChain | undefined {
    const chain = this.#chains.get(key)
    if (chain === undefined) return undefined
    this.#chains.delete(key)
    this.#chains.set(key, chain)
    return chain
  }

  set(key: string, chain: SignedChain): void {
    this.#chains.set(key, chain)
    const [oldest] = this.#chains.keys()
    if (this.#chains.size > this.#most && oldest !== undefined) this.#chains.delete(oldest)
  }
}

/**
 * @param certificates DER: the VCEK or VLEK, then the ASK or ASVK, then the ARK
 * @param kind which of the two the report says has signed it
 * @param roots the accepted roots; the ARK's key must be one of them
 * @throws SnpError
 */
export const verifyChain = (
  certificates: readonly Uint8Array[],
  kind: SigningKeyKind,
  roots: readonly HardwareRoot[],
  now: Date,
  cache?: ChainCache,
): Chain => {
  const [leaf, intermediate, ark] = certificates
  if (leaf === undefined || intermediate === undefined || ark === undefined || certificates.length !== 3)
    throw new SnpError(
      "CHAIN_LENGTH",
      "certificates",
      `${certificates.length}`,
      "3: VCEK or VLEK, ASK or ASVK, ARK",
    )
  if (Number.isNaN(now.getTime())) throw new SnpError("TIME_INVALID", "now", "no date", "a date")

  const key = cache && cacheKey(kind, [leaf, intermediate, ark])
  const known = key === undefined ? undefined : cache?.get(key)
  const signed = known ?? verifySignatures(kind, leaf, intermediate, ark, roots)
  const root = acceptedRoot(roots, signed.rootKeyDigest)
  if (root.product !== signed.product)
    throw new SnpError("PRODUCT_MISMATCH", "certificates.ark", signed.product, root.product)
  if (key !== undefined && known === undefined) cache?.set(key, signed)
  for (const certificate of signed.certificates.toReversed()) checkDates(certificate, now)
  return { root, endorsement: signed.endorsement, certificates: signed.certificates }
}

const cacheKey = (kind: SigningKeyKind, certificates: readonly Uint8Array[]): string => {
  const hash = createHash("sha256").update(kind)
  for (const der of certificates) hash.update(`:${der.length}:`).update(der)
  return hash.digest("base64")
}

/** Top down: nothing is decoded, and no key used, before what stands above it is known to be right. */
const verifySignatures = (
  kind: SigningKeyKind,
  leafDer: Uint8Array,
  intermediateDer: Uint8Array,
  arkDer: Uint8Array,
  roots: readonly HardwareRoot[],
): SignedChain => {
  const roles = rolesOf(kind)
  const ark = outline("ark", arkDer)
  const rootKeyDigest = keyDigest(ark.spki)
  const { product } = acceptedRoot(roots, rootKeyDigest)
  checkSignature("ark", ark, ark)
  const root = named(decode("ark", ark), `ARK-${product}`)

  const intermediate = outline(roles.intermediate, intermediateDer)
  checkSignature(roles.intermediate, intermediate, ark)
  const issuer = named(
    decode(roles.intermediate, intermediate),
    kind === "VCEK" ? `SEV-${product}` : `SEV-VLEK-${product}`,
  )

  const leaf = outline(roles.leaf, leafDer)
  checkSignature(roles.leaf, leaf, intermediate)
  const signer = named(decode(roles.leaf, leaf), `SEV-${kind}`)
  return {
    rootKeyDigest,
    product,
    endorsement: readEndorsement(signer, kind, product),
    certificates: [signer, issuer, root],
  }
}

const rolesOf = (kind: SigningKeyKind): { leaf: CertificateRole; intermediate: CertificateRole } =>
  kind === "VCEK" ? { leaf: "vcek", intermediate: "ask" } : { leaf: "vlek", intermediate: "asvk" }

/** AMD tells the parts of its hierarchy apart by their common names. */
const named = (certificate: Certificate, commonName: string): Certificate => {
  if (certificate.commonName !== commonName)
    throw new SnpError(
      "CERTIFICATE_ROLE",
      `certificates.${certificate.role}.subject`,
      `CN ${JSON.stringify(certificate.commonName.slice(0, 64))}`,
      `CN ${commonName}`,
    )
  return certificate
}

/** From a pinned root key to the key that signs reports: ARK -> ASK -> VCEK, or ARK -> ASVK -> VLEK. */
import { createHash } from "node:crypto"
import { Recent } from "../recent.ts"
import type { Outline } from "../x509/outline.ts"
import {
  type Certificate,
  type CertificateRole,
  checkDates,
  checkSignature,
  decode,
  keyDigest,
  outline,
} from "./certificate.ts"
import type { AmdCrl } from "./crl.ts"
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
  /** Of the root, for what else it has signed. */
  readonly arkOutline: Outline
}

/** The part of a chain that neither the time nor the list of roots changes. */
interface SignedChain {
  readonly issuers: Issuers
  readonly endorsement: Endorsement
  readonly leaf: Certificate
}

/** What thousands of chips share: the root, and what it has signed. */
interface Issuers {
  readonly rootKeyDigest: string
  readonly product: SnpProduct
  readonly arkOutline: Outline
  readonly intermediateOutline: Outline
  readonly intermediate: Certificate
  readonly ark: Certificate
}

/**
 * Remembers chains whose signatures held, by the digest of all their bytes, so that the next report of the same chip
 * costs one signature instead of four. Roots, dates and revocations are looked at every time.
 */
export class ChainCache {
  readonly chains: Recent<SignedChain>
  readonly issuers: Recent<Issuers>
  /** Revocation lists, by the root's key and their own bytes. */
  readonly crls: Recent<AmdCrl>

  constructor(chainsMost = 1_024, issuersMost = 64, crlsMost = 16) {
    this.chains = new Recent(chainsMost)
    this.issuers = new Recent(issuersMost)
    this.crls = new Recent(crlsMost)
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

  const key = digestOf(kind, certificates)
  const known = cache?.chains.get(key)
  const signed = known ?? verifySignatures(kind, [leaf, intermediate, ark], roots, cache)
  const { issuers } = signed
  const root = acceptedRoot(roots, issuers.rootKeyDigest)
  if (root.product !== issuers.product)
    throw new SnpError("PRODUCT_MISMATCH", "certificates.ark", issuers.product, root.product)
  if (known === undefined) cache?.chains.set(key, signed)
  const chain = [signed.leaf, issuers.intermediate, issuers.ark]
  for (const certificate of chain.toReversed()) checkDates(certificate, now)
  return { root, endorsement: signed.endorsement, certificates: chain, arkOutline: issuers.arkOutline }
}

const digestOf = (kind: SigningKeyKind, certificates: readonly Uint8Array[]): string => {
  const hash = createHash("sha256").update(kind)
  for (const der of certificates) hash.update(`:${der.length}:`).update(der)
  return hash.digest("base64")
}

/** Top down: nothing is decoded, and no key used, before what stands above it is known to be right. */
const verifySignatures = (
  kind: SigningKeyKind,
  [leafDer, ...above]: readonly [Uint8Array, Uint8Array, Uint8Array],
  roots: readonly HardwareRoot[],
  cache?: ChainCache,
): SignedChain => {
  const key = digestOf(kind, above)
  const known = cache?.issuers.get(key)
  const issuers = known ?? verifyIssuers(kind, above, roots)
  if (known === undefined) cache?.issuers.set(key, issuers)

  const { leaf: role } = rolesOf(kind)
  const unsure = outline(role, leafDer)
  checkSignature(role, unsure, issuers.intermediateOutline)
  const leaf = named(decode(role, unsure), `SEV-${kind}`)
  return { issuers, leaf, endorsement: readEndorsement(leaf, kind, issuers.product) }
}

const verifyIssuers = (
  kind: SigningKeyKind,
  [intermediateDer, arkDer]: readonly [Uint8Array, Uint8Array],
  roots: readonly HardwareRoot[],
): Issuers => {
  const arkOutline = outline("ark", arkDer)
  const rootKeyDigest = keyDigest(arkOutline.spki)
  const { product } = acceptedRoot(roots, rootKeyDigest)
  checkSignature("ark", arkOutline, arkOutline)
  const ark = named(decode("ark", arkOutline), `ARK-${product}`)

  const { intermediate: role } = rolesOf(kind)
  const intermediateOutline = outline(role, intermediateDer)
  checkSignature(role, intermediateOutline, arkOutline)
  const name = kind === "VCEK" ? `SEV-${product}` : `SEV-VLEK-${product}`
  const intermediate = named(decode(role, intermediateOutline), name)
  return { rootKeyDigest, product, arkOutline, intermediateOutline, intermediate, ark }
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

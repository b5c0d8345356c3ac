/** From AWS's pinned root key down to the key that signs documents: root, issuers by region, zone and instance, leaf. */
import { createHash } from "node:crypto"
import type { Crypto } from "../../common/crypto/index.ts"
import {
  type Certificate,
  type CertificateRole,
  checkDates,
  checkSignature,
  decode,
  keyDigest,
  type Outline,
  outline,
} from "./certificate.ts"
import { NitroError } from "./error.ts"
import { acceptedRoot, type NitroRoot } from "./roots.ts"

export interface Chain {
  readonly root: NitroRoot
  /** 04 || x || y. */
  readonly publicKey: Uint8Array
  /** Leaf first. */
  readonly certificates: readonly Certificate[]
}

/** The part of a chain that neither the time nor the list of roots changes. */
interface SignedChain {
  readonly rootKeyDigest: string
  readonly publicKey: Uint8Array
  readonly certificates: readonly Certificate[]
}

/**
 * Remembers chains whose signatures held, by the digest of all their bytes: the next document of the same enclave costs
 * one signature instead of six. Roots and dates are looked at every time. The chain longest unused goes first.
 */
export class NitroChainCache {
  readonly #chains = new Map<string, SignedChain>()
  readonly #most: number

  constructor(most = 1_024) {
    this.#most = most
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

export interface ChainOptions {
  readonly roots: readonly NitroRoot[]
  /** Every certificate must be within its dates at each of them. */
  readonly times: readonly Date[]
  readonly cache?: NitroChainCache | undefined
  readonly crypto: Crypto
}

/**
 * @param leaf DER
 * @param cabundle DER, the root first, the leaf's issuer last
 * @throws NitroError
 */
export const verifyChain = (
  leaf: Uint8Array,
  cabundle: readonly Uint8Array[],
  { roots, times, cache, crypto }: ChainOptions,
): Chain => {
  const key = digestOf([...cabundle, leaf])
  const known = cache?.get(key)
  const signed = known ?? verifySignatures(leaf, cabundle, roots, crypto)
  const root = acceptedRoot(roots, signed.rootKeyDigest)
  if (known === undefined) cache?.set(key, signed)
  for (const certificate of signed.certificates.toReversed())
    for (const time of times) checkDates(certificate, time)
  return { root, publicKey: signed.publicKey, certificates: signed.certificates }
}

const digestOf = (ders: readonly Uint8Array[]): string => {
  const hash = createHash("sha256")
  for (const der of ders) hash.update(`:${der.length}:`).update(der)
  return hash.digest("base64")
}

/** Top down: nothing is decoded, and no key used, before what stands above it is known to be right. */
const verifySignatures = (
  leafDer: Uint8Array,
  cabundle: readonly Uint8Array[],
  roots: readonly NitroRoot[],
  crypto: Crypto,
): SignedChain => {
  const [rootDer, ...issuerDers] = cabundle
  if (rootDer === undefined) throw new NitroError("CHAIN_LENGTH", "certificates", "0", "at least the root")
  const root = outline("root", rootDer)
  const rootKeyDigest = keyDigest(root.spki)
  acceptedRoot(roots, rootKeyDigest)
  checkSignature("root", root, root, crypto)
  const certificates = [decode("root", root, issuerDers.length)]

  let above: Outline = root
  for (const [i, der] of issuerDers.entries()) {
    const role: CertificateRole = `issuer${i + 1}`
    const issuer = outline(role, der)
    checkSignature(role, issuer, above, crypto)
    certificates.unshift(decode(role, issuer, issuerDers.length - 1 - i))
    above = issuer
  }
  const leaf = outline("leaf", leafDer)
  checkSignature("leaf", leaf, above, crypto)
  certificates.unshift(decode("leaf", leaf, undefined))
  return { rootKeyDigest, publicKey: leaf.publicKey, certificates }
}

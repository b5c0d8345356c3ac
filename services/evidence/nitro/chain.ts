/** From AWS's pinned root key down to the key that signs documents: root, issuers by region, zone and instance, leaf. */
import { createHash } from "node:crypto"
import type { Crypto } from "../../common/crypto/index.ts"
import { Recent } from "../recent.ts"
import {
  type Certificate,
  type CertificateRole,
  checkDates,
  checkPathLength,
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

/** A certificate whose signature held, and those above it. Neither the time nor the list of roots changes that. */
interface Link {
  readonly outline: Outline
  readonly certificate: Certificate
}

/**
 * Remembers certificates whose signatures held, by the digest of their bytes and of all bytes above: the next document of
 * the same enclave costs one signature instead of six, and that of a new enclave on the same machine two. Roots, dates and
 * path lengths are looked at every time. What was longest unused goes first.
 */
export class NitroChainCache extends Recent<Link> {
  constructor(most = 4_096) {
    super(most)
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
 * Top down: nothing is decoded, and no key used, before what stands above it is known to be right.
 * @param leaf DER
 * @param cabundle DER, the root first, the leaf's issuer last
 * @throws NitroError
 */
export const verifyChain = (
  leaf: Uint8Array,
  cabundle: readonly Uint8Array[],
  { roots, times, cache, crypto }: ChainOptions,
): Chain => {
  const links: Link[] = []
  let root: NitroRoot | undefined
  let key = ""
  for (const [i, der] of [...cabundle, leaf].entries()) {
    const role: CertificateRole = i === cabundle.length ? "leaf" : i === 0 ? "root" : `issuer${i}`
    key = createHash("sha256").update(`${key}:${role}:`).update(der).digest("base64")
    const known = cache?.get(key)
    const found = known?.outline ?? outline(role, der)
    root ??= acceptedRoot(roots, keyDigest(found.spki))
    const link = known ?? verifyLink(role, found, links.at(-1)?.outline ?? found, crypto)
    if (known === undefined) cache?.set(key, link)
    links.push(link)
  }
  const signer = links.at(-1)
  if (root === undefined || signer === undefined || cabundle.length === 0)
    throw new NitroError("CHAIN_LENGTH", "certificates", "0", "at least the root")
  for (const [i, { certificate }] of links.slice(0, -1).entries())
    checkPathLength(certificate, cabundle.length - 1 - i)
  for (const { certificate } of links) for (const time of times) checkDates(certificate, time)
  const certificates = links.map(({ certificate }) => certificate).reverse()
  return { root, publicKey: signer.outline.publicKey, certificates }
}

const verifyLink = (role: CertificateRole, found: Outline, above: Outline, crypto: Crypto): Link => {
  checkSignature(role, found, above, crypto)
  return { outline: found, certificate: decode(role, found) }
}

/**
 * Merkle trees as in RFC 9162, section 2.1: leaves hashed behind 0x00, inner nodes behind 0x01, no leaf doubled to fill
 * a level. SHA-256. One control-plane report answers all hellos under one root.
 */
import { limits } from "../../schemas/limits.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { expectBytes, MakeError } from "./errors.ts"
import { labels } from "./labels.ts"
import { encodeFields } from "./transcript.ts"

/** Of the largest tree: ceil(log2(4,096)). */
export const PATH_MAX = Math.ceil(Math.log2(limits.batchLeaves))

export interface Inclusion {
  readonly index: number
  readonly size: number
  /** Sibling hashes, from the leaf's to the root's. */
  readonly path: ReadonlyArray<Uint8Array>
}

/** The leaf of one hello: who asks in which role, and its nonce N (32 bytes). */
export const helloLeaf = (role: string, nodeId: string, nonce: Uint8Array): Uint8Array => {
  expectBytes("nonce", nonce, 32)
  return encodeFields(labels.helloLeaf, role, nodeId, nonce)
}

export const HASH_BYTES = 32
/** Two hashes behind their prefix, put together in one place: making room for each pair costs as much as hashing it. */
const pair = new Uint8Array(1 + 2 * HASH_BYTES)
pair[0] = 1

/** Leaves are short, and no secret. */
const short = new Uint8Array(256)

/** 32 bytes. */
export const hashLeaf = (crypto: Crypto, leaf: Uint8Array): Uint8Array => {
  const length = 1 + leaf.length
  const prefixed = length <= short.length ? short.subarray(0, length) : new Uint8Array(length)
  prefixed.set(leaf, 1)
  return crypto.sha256(prefixed)
}

/** @throws MakeError MALFORMED unless both have 32 bytes: of a shorter one's place something would be left */
export const hashNode = (crypto: Crypto, left: Uint8Array, right: Uint8Array): Uint8Array => {
  expectBytes("merkle.hash", left, HASH_BYTES)
  expectBytes("merkle.hash", right, HASH_BYTES)
  pair.set(left, 1)
  pair.set(right, 1 + HASH_BYTES)
  return crypto.sha256(pair)
}

/** @throws MakeError LIMIT for what no tree here has as its size */
export const expectSize = (field: string, size: number): void => {
  if (!Number.isInteger(size) || size < 1 || size > limits.batchLeaves)
    throw new MakeError("LIMIT", field, `must be 1..${limits.batchLeaves}`)
}

/**
 * All levels, leaves first. Pairing neighbours and carrying an odd last node up unchanged gives the same tree as the
 * RFC's split at the largest power of two.
 */
const levels = (
  crypto: Crypto,
  hashed: ReadonlyArray<Uint8Array>,
): ReadonlyArray<ReadonlyArray<Uint8Array>> => {
  expectSize("merkle.size", hashed.length)
  let level = hashed
  const all = [level]
  while (level.length > 1) {
    const next: Array<Uint8Array> = []
    for (let i = 0; i < level.length; i += 2) {
      const [left, right] = [level[i], level[i + 1]]
      if (left !== undefined) next.push(right === undefined ? left : hashNode(crypto, left, right))
    }
    level = next
    all.push(level)
  }
  return all
}

export interface Tree {
  readonly root: Uint8Array
  readonly size: number
  /** @throws MakeError MALFORMED for an index outside the tree. */
  readonly inclusion: (index: number) => Inclusion
}

/**
 * @param leaves 1..4,096 of any length
 * @throws MakeError LIMIT for none or more
 */
export const buildTree = (crypto: Crypto, leaves: ReadonlyArray<Uint8Array>): Tree => {
  const all = levels(
    crypto,
    leaves.map((leaf) => hashLeaf(crypto, leaf)),
  )
  const root = all.at(-1)?.[0]
  if (root === undefined) throw new MakeError("LIMIT", "merkle.size", "is zero")
  const inclusion = (index: number): Inclusion => {
    if (!Number.isInteger(index) || index < 0 || index >= leaves.length)
      throw new MakeError("MALFORMED", "merkle.index", "is outside the tree")
    const path: Array<Uint8Array> = []
    let at = index
    for (const level of all.slice(0, -1)) {
      const sibling = level[at ^ 1]
      if (sibling !== undefined) path.push(sibling)
      at >>= 1
    }
    return { index, size: leaves.length, path }
  }
  return { root, size: leaves.length, inclusion }
}

/**
 * The root over leaves that are hashed already, in their order.
 * @param hashed 1..4,096 of 32 bytes
 * @throws MakeError LIMIT for none or more, MALFORMED for a hash of another length
 */
export const rootOf = (crypto: Crypto, hashed: ReadonlyArray<Uint8Array>): Uint8Array => {
  const root = levels(crypto, hashed).at(-1)?.[0]
  if (root === undefined) throw new MakeError("LIMIT", "merkle.size", "is zero")
  return root
}

/**
 * RFC 9162, section 2.1.3.2. Size and index decide how long the path must be; one hash more or less is refused.
 * @returns whether `leaf` is at that index of the tree of that size with that root; never throws on what a peer sent
 */
export const verifyInclusion = (
  crypto: Crypto,
  root: Uint8Array,
  leaf: Uint8Array,
  { index, size, path }: Inclusion,
): boolean => {
  const sound = Number.isInteger(size) && size >= 1 && size <= limits.batchLeaves
  if (!sound || !Number.isInteger(index) || index < 0 || index >= size) return false
  if (path.length > PATH_MAX || path.some((hash) => hash.length !== 32)) return false
  let hash = hashLeaf(crypto, leaf)
  let at = index
  let last = size - 1
  for (const sibling of path) {
    if (last === 0) return false
    if ((at & 1) === 1 || at === last) {
      hash = hashNode(crypto, sibling, hash)
      while ((at & 1) === 0 && at !== 0) {
        at >>= 1
        last >>= 1
      }
    } else {
      hash = hashNode(crypto, hash, sibling)
    }
    at >>= 1
    last >>= 1
  }
  return last === 0 && crypto.equalConstantTime(hash, root)
}

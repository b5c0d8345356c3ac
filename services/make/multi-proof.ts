/**
 * Many leaves of one tree (see `merkle.ts`) proven together: their proof are the hashes that they lack on the way to the
 * root, level by level from the leaves' own, from left to right. What two of them share is there once, and what they make
 * together not at all.
 */
import type { Crypto } from "../common/crypto/port.ts"
import { expectBytes, MakeError } from "./errors.ts"
import { expectSize, HASH_BYTES, hashNode } from "./merkle.ts"

interface Placed<A> {
  readonly at: number
  readonly node: A
}

interface Joining<A> {
  readonly both: (left: A, right: A) => A
  /** One whose sibling none of the leaves is under. */
  readonly alone: (node: A, side: "left" | "right") => A
}

/** From one level to the next; an odd last node goes up as it is. */
const rise = <A>(
  width: number,
  level: ReadonlyArray<Placed<A>>,
  { both, alone }: Joining<A>,
): ReadonlyArray<Placed<A>> => {
  const next: Array<Placed<A>> = []
  let waiting: Placed<A> | undefined
  const settle = (): void => {
    if (waiting === undefined) return
    const { at, node } = waiting
    next.push({ at: at >> 1, node: at + 1 === width ? node : alone(node, "left") })
    waiting = undefined
  }
  for (const placed of level) {
    const { at, node } = placed
    if ((at & 1) === 0) {
      settle()
      waiting = placed
    } else if (waiting !== undefined && waiting.at === at - 1) {
      next.push({ at: at >> 1, node: both(waiting.node, node) })
      waiting = undefined
    } else {
      settle()
      next.push({ at: at >> 1, node: alone(node, "right") })
    }
  }
  settle()
  return next
}

/** @param leaves at least one, each further right than the one before, all inside the tree */
const climb = <A>(size: number, leaves: ReadonlyArray<Placed<A>>, joining: Joining<A>): A | undefined => {
  let level = leaves
  for (let width = size; width > 1; width = (width + 1) >> 1) level = rise(width, level, joining)
  return level[0]?.node
}

/** A leaf with its own path, see `Inclusion`. */
export interface PathOf {
  readonly index: number
  readonly path: ReadonlyArray<Uint8Array>
}

/**
 * Puts together what single paths under one root say.
 * @param size of the tree
 * @param leaves of rising index; their paths were verified
 * @returns the hashes one behind another
 * @throws MakeError MALFORMED for a path that is too short
 */
export const joinPaths = (size: number, leaves: ReadonlyArray<PathOf>): Uint8Array => {
  const proof: Array<Uint8Array> = []
  const level = leaves.map(({ index, path }) => ({ at: index, node: { path, used: 0 } }))
  climb(size, level, {
    both: (left) => {
      left.used += 1
      return left
    },
    alone: (node) => {
      const hash = node.path[node.used]
      if (hash === undefined) throw new MakeError("MALFORMED", "merkle.path", "is too short")
      proof.push(hash)
      node.used += 1
      return node
    },
  })
  const joined = new Uint8Array(proof.length * HASH_BYTES)
  proof.forEach((hash, i) => {
    joined.set(hash, i * HASH_BYTES)
  })
  return joined
}

/** A leaf that is hashed already. */
export interface HashedLeaf {
  readonly index: number
  /** See `hashLeaf`. */
  readonly hash: Uint8Array
}

/**
 * The only root that a tree of that size with these leaves and the hashes of the proof can have: who believes the root, and
 * the size, believes all of them. Size and indexes decide how many hashes there must be. O(leaves + hashes).
 * @param field what the errors call the tree
 * @throws MakeError LIMIT for a size outside 1..4,096; MALFORMED for no leaf, one outside the tree or not further right than
 *   the one before, a leaf of another length than 32 bytes, and a proof that is too short or too long
 */
export const rootUnder = (
  crypto: Crypto,
  field: string,
  size: number,
  leaves: ReadonlyArray<HashedLeaf>,
  proof: Uint8Array,
): Uint8Array => {
  expectSize(`${field}.size`, size)
  const level = expectRising(field, size, leaves)
  let used = 0
  const take = (): Uint8Array => {
    const hash = proof.subarray(used, used + HASH_BYTES)
    if (hash.length < HASH_BYTES) throw new MakeError("MALFORMED", `${field}.proof`, "is too short")
    used += HASH_BYTES
    return hash
  }
  const root = climb(size, level, {
    both: (left, right) => hashNode(crypto, left, right),
    alone: (node, side) =>
      side === "left" ? hashNode(crypto, node, take()) : hashNode(crypto, take(), node),
  })
  if (root === undefined) throw new MakeError("MALFORMED", field, "names no leaf")
  if (used !== proof.length) throw new MakeError("MALFORMED", `${field}.proof`, "is too long")
  return root
}

const expectRising = (
  field: string,
  size: number,
  leaves: ReadonlyArray<HashedLeaf>,
): ReadonlyArray<Placed<Uint8Array>> => {
  let last = -1
  return leaves.map(({ index, hash }) => {
    if (!Number.isInteger(index) || index < 0 || index >= size)
      throw new MakeError("MALFORMED", `${field}.index`, "is outside the tree")
    if (index <= last) throw new MakeError("MALFORMED", `${field}.index`, "doesn't rise")
    expectBytes(`${field}.leaf`, hash, HASH_BYTES)
    last = index
    return { at: index, node: hash }
  })
}

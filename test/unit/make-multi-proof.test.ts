import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { MakeError } from "../../services/make/errors.ts"
import { buildTree, hashLeaf } from "../../services/make/merkle.ts"
import { type HashedLeaf, joinPaths, rootUnder } from "../../services/make/multi-proof.ts"

const HASH = 32
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")
const leafAt = (i: number) => Uint8Array.of(i >> 8, i & 0xff)

/** Seeded (mulberry32): the same choices in every run. */
const seeded = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * below)
  }
}

const treeOf = (size: number) => {
  const tree = buildTree(
    crypto,
    Array.from({ length: size }, (_, i) => leafAt(i)),
  )
  const leaves = Array.from(
    { length: size },
    (_, i): HashedLeaf => ({
      index: i,
      hash: hashLeaf(crypto, leafAt(i)),
    }),
  )
  const paths = Array.from({ length: size }, (_, i) => tree.inclusion(i))
  return {
    root: tree.root,
    leaves: (chosen: ReadonlyArray<number>) => leaves.filter(({ index }) => chosen.includes(index)),
    proof: (chosen: ReadonlyArray<number>) =>
      joinPaths(
        size,
        paths.filter(({ index }) => chosen.includes(index)),
      ),
  }
}

/**
 * The definition, by RFC 9162's own recursion (2.1.1) and without a thought of speed: what must be given of a subtree
 * with none of the leaves is its root.
 */
const lacking = (
  hashes: ReadonlyArray<Uint8Array>,
  first: number,
  chosen: ReadonlySet<number>,
  whole = true,
): ReadonlyArray<{ readonly level: number; readonly at: number; readonly hash: string }> => {
  const has = hashes.some((_, i) => chosen.has(first + i))
  const level = Math.ceil(Math.log2(hashes.length))
  if (!has && !whole) return [{ level, at: first, hash: hex(naiveRoot(hashes)) }]
  if (hashes.length === 1) return []
  const k = split(hashes.length)
  return [
    ...lacking(hashes.slice(0, k), first, chosen, false),
    ...lacking(hashes.slice(k), first + k, chosen, false),
  ]
}
const split = (size: number) => 2 ** (Math.ceil(Math.log2(size)) - 1)
const naiveRoot = (hashes: ReadonlyArray<Uint8Array>): Uint8Array => {
  const [only] = hashes
  if (hashes.length === 1 && only !== undefined) return only
  const k = split(hashes.length)
  return crypto.sha256(Uint8Array.of(1, ...naiveRoot(hashes.slice(0, k)), ...naiveRoot(hashes.slice(k))))
}
/** Level by level, each from left to right. A lone last subtree goes up to where it meets another. */
const naiveProof = (size: number, chosen: ReadonlyArray<number>): string => {
  const hashes = Array.from({ length: size }, (_, i) => hashLeaf(crypto, leafAt(i)))
  const meets = ({ level, at }: { level: number; at: number }): number => {
    let up = level
    while (((at >> up) & 1) === 0 && (at >> up) + 1 >= Math.ceil(size / 2 ** up) && up < 12) up++
    return up
  }
  return lacking(hashes, 0, new Set(chosen))
    .map((each) => ({ ...each, meets: meets(each) }))
    .toSorted((a, b) => a.meets - b.meets || a.at - b.at)
    .map(({ hash }) => hash)
    .join("")
}

const outcome = (run: () => Uint8Array): string => {
  try {
    return hex(run())
  } catch (error) {
    if (error instanceof MakeError) return `${error.code} ${error.field}`
    throw error
  }
}

describe("leaves that are proven together", () => {
  it("lack what RFC 9162's recursion says, and give the root: every subset of every tree of 1..8", () => {
    for (let size = 1; size <= 8; size++) {
      const tree = treeOf(size)
      for (let mask = 1; mask < 2 ** size; mask++) {
        const chosen = Array.from({ length: size }, (_, i) => i).filter((i) => (mask >> i) & 1)
        const proof = tree.proof(chosen)
        expect(hex(proof), `${chosen} of ${size}`).toBe(naiveProof(size, chosen))
        expect(hex(rootUnder(crypto, "tree", size, tree.leaves(chosen), proof))).toBe(hex(tree.root))
      }
    }
  })

  it("do so for one, some and all of every tree of 1..70, and for some of 4,096", () => {
    const below = seeded(9162)
    for (const size of [...Array.from({ length: 70 }, (_, i) => i + 1), 255, 257, limits.batchLeaves]) {
      const tree = treeOf(size)
      const all = Array.from({ length: size }, (_, i) => i)
      const some = (share: number) => all.filter(() => below(share) === 0)
      const sets = [all.slice(0, 1_024), [0], [size - 1], some(2).slice(0, 900), some(5), some(20)]
      for (const chosen of sets.filter(({ length }) => length > 0)) {
        const proof = tree.proof(chosen)
        if (size <= 70) expect(hex(proof), `${chosen} of ${size}`).toBe(naiveProof(size, chosen))
        expect(hex(rootUnder(crypto, "tree", size, tree.leaves(chosen), proof))).toBe(hex(tree.root))
      }
    }
  })

  it("take no hash more than is needed: none for a whole tree, a path for one, at most 2,048 for 1,024", () => {
    const tree = treeOf(limits.batchLeaves)
    const every = (step: number) => Array.from({ length: limits.batchLeaves / step }, (_, i) => i * step)
    expect(tree.proof(every(1))).toHaveLength(0)
    expect(tree.proof([77])).toHaveLength(12 * HASH)
    expect(tree.proof(every(4))).toHaveLength(2_048 * HASH)
  })

  it("give another root, or none, whatever is changed", () => {
    const below = seeded(70)
    for (let size = 1; size <= 40; size++) {
      const tree = treeOf(size)
      const chosen = Array.from({ length: size }, (_, i) => i).filter(
        (i) => i === size >> 1 || below(3) === 0,
      )
      const [leaves, proof] = [tree.leaves(chosen), tree.proof(chosen)]
      const found = (of: ReadonlyArray<HashedLeaf> = leaves, by = proof, width = size) =>
        outcome(() => rootUnder(crypto, "tree", width, of, by))
      const root = hex(tree.root)
      expect(found()).toBe(root)
      for (let at = 0; at < proof.length; at++) {
        const bent = proof.with(at, (proof[at] ?? 0) ^ (1 << below(8)))
        expect(found(leaves, bent)).toMatch(/^[0-9a-f]{64}$/)
        expect(found(leaves, bent)).not.toBe(root)
      }
      for (const [i, leaf] of leaves.entries()) {
        const bent = { ...leaf, hash: leaf.hash.with(below(32), below(256)) }
        if (hex(bent.hash) !== hex(leaf.hash)) expect(found(leaves.with(i, bent))).not.toBe(root)
        for (const index of [leaf.index - 1, leaf.index + 1, leaf.index ^ 1])
          expect(found(leaves.with(i, { ...leaf, index }))).not.toBe(root)
        expect(found(leaves.toSpliced(i, 1))).not.toBe(root)
        expect(found(leaves.toSpliced(i, 0, leaf))).toBe("MALFORMED tree.index")
      }
      for (let from = 0; from < proof.length; from += HASH) {
        expect(found(leaves, Buffer.concat([proof.subarray(0, from), proof.subarray(from + HASH)]))).toBe(
          "MALFORMED tree.proof",
        )
        const later = Buffer.concat([proof.subarray(from + HASH), proof.subarray(from, from + HASH)])
        const swapped = Buffer.concat([proof.subarray(0, from), later])
        if (hex(swapped) !== hex(proof)) expect(found(leaves, swapped)).not.toBe(root)
      }
      for (const more of [1, 31, 32, 64])
        expect(found(leaves, Buffer.concat([proof, Buffer.alloc(more)]))).toBe("MALFORMED tree.proof")
      if (leaves.length > 1) expect(found(leaves.toReversed())).toBe("MALFORMED tree.index")
    }
  })

  it("are refused for what no tree has", () => {
    const tree = treeOf(5)
    const [leaves, proof] = [tree.leaves([1, 3]), tree.proof([1, 3])]
    const found = (size: number, of: ReadonlyArray<HashedLeaf>, by = proof) =>
      outcome(() => rootUnder(crypto, "tree", size, of, by))
    for (const size of [0, -1, 2.5, Number.NaN, limits.batchLeaves + 1, Number.POSITIVE_INFINITY])
      expect(found(size, leaves)).toBe("LIMIT tree.size")
    const [first, second] = leaves
    if (first === undefined || second === undefined) throw new Error("unreachable")
    for (const index of [-1, 5, 0.5, Number.NaN, 2 ** 32, 2 ** 32 + 3])
      expect(found(5, [first, { ...second, index }])).toBe("MALFORMED tree.index")
    for (const length of [0, 31, 33])
      expect(found(5, [first, { ...second, hash: new Uint8Array(length) }])).toBe("MALFORMED tree.leaf")
    expect(found(5, [])).toBe("MALFORMED tree")
    expect(found(5, [], new Uint8Array(0))).toBe("MALFORMED tree")
    expect(() => joinPaths(5, [{ index: 1, path: [] }])).toThrow(MakeError)
  })

  it("cost no more hashing than they and their proof have hashes, however they are spread", () => {
    let hashed = 0
    const counting = {
      ...crypto,
      sha256: (data: Uint8Array) => {
        hashed += 1
        return crypto.sha256(data)
      },
    }
    for (const size of [1_000, limits.batchLeaves])
      for (const step of [1, 3, 4, 37]) {
        const tree = treeOf(size)
        const chosen = Array.from({ length: size }, (_, i) => i).filter((i) => i % step === 0)
        hashed = 0
        const [leaves, proof] = [tree.leaves(chosen), tree.proof(chosen)]
        rootUnder(counting, "tree", size, leaves, proof)
        expect(hashed).toBe(leaves.length + proof.length / HASH - 1)
        hashed = 0
        expect(outcome(() => rootUnder(counting, "tree", size, leaves, new Uint8Array(0)))).toMatch(/./)
        expect(hashed).toBeLessThan(leaves.length)
      }
  })
})

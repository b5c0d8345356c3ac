import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { MakeError } from "../../services/make/errors.ts"
import {
  buildTree,
  hashLeaf,
  helloLeaf,
  PATH_MAX,
  rootOf,
  verifyInclusion,
} from "../../services/make/merkle.ts"

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")
const leavesOf = (count: number) => Array.from({ length: count }, (_, i) => Uint8Array.of(i >> 8, i & 0xff))

/** RFC 9162, 2.1.1, word for word: split at the largest power of two below the size. */
const naiveRoot = (leaves: ReadonlyArray<Uint8Array>): Uint8Array => {
  const [only] = leaves
  if (leaves.length === 1 && only !== undefined) return crypto.sha256(Uint8Array.of(0, ...only))
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return crypto.sha256(Uint8Array.of(1, ...naiveRoot(leaves.slice(0, k)), ...naiveRoot(leaves.slice(k))))
}

/** RFC 9162, 2.1.3.1. */
const naivePath = (index: number, leaves: ReadonlyArray<Uint8Array>): ReadonlyArray<Uint8Array> => {
  if (leaves.length === 1) return []
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return index < k
    ? [...naivePath(index, leaves.slice(0, k)), naiveRoot(leaves.slice(k))]
    : [...naivePath(index - k, leaves.slice(k)), naiveRoot(leaves.slice(0, k))]
}

describe("Merkle tree", () => {
  it("is RFC 9162's for every size 1..70: root, every path, every verification", () => {
    for (let size = 1; size <= 70; size++) {
      const leaves = leavesOf(size)
      const tree = buildTree(crypto, leaves)
      expect(hex(tree.root)).toBe(hex(naiveRoot(leaves)))
      leaves.forEach((leaf, index) => {
        const inclusion = tree.inclusion(index)
        expect(inclusion.path.map(hex)).toEqual(naivePath(index, leaves).map(hex))
        expect(verifyInclusion(crypto, tree.root, leaf, inclusion)).toBe(true)
      })
    }
  })

  it("refuses a wrong leaf, index, size, root, hash or path length, for every size 1..20", () => {
    for (let size = 1; size <= 20; size++) {
      const leaves = leavesOf(size)
      const tree = buildTree(crypto, leaves)
      leaves.forEach((leaf, index) => {
        const good = tree.inclusion(index)
        const refused = (change: Partial<typeof good>, of = leaf, root = tree.root) =>
          expect(verifyInclusion(crypto, root, of, { ...good, ...change })).toBe(false)
        refused({}, Uint8Array.of(9, 9))
        refused({}, leaf, crypto.sha256(tree.root))
        refused({}, leaf, tree.root.subarray(1))
        for (const other of [index - 1, index + 1, size, -1, 0.5, Number.NaN])
          if (other !== index) refused({ index: other })
        refused({ path: [...good.path, tree.root] })
        if (good.path.length > 0) refused({ path: good.path.slice(0, -1) })
        if (good.path.length > 0) refused({ path: good.path.slice(1) })
        good.path.forEach((hash, at) => {
          refused({ path: good.path.with(at, crypto.sha256(hash)) })
          refused({ path: good.path.with(at, hash.subarray(1)) })
        })
        for (const bad of [0, -1, 1.5, limits.batchLeaves + 1, Number.POSITIVE_INFINITY])
          refused({ size: bad })
      })
    }
  })

  it("never lets a proof of one size pass for a size whose paths have another length", () => {
    const leaves = leavesOf(5)
    const tree = buildTree(crypto, leaves)
    const inclusion = tree.inclusion(4)
    const leaf = leaves[4] ?? new Uint8Array()
    const passing = []
    for (let size = 1; size <= 64; size++)
      if (verifyInclusion(crypto, tree.root, leaf, { ...inclusion, size })) passing.push(size)
    expect(passing).toEqual([5])
  })

  it("doesn't take an inner node for a leaf", () => {
    const leaves = leavesOf(4)
    const tree = buildTree(crypto, leaves)
    const [a, b] = leaves.map((leaf) => crypto.sha256(Uint8Array.of(0, ...leaf)))
    const inner = Uint8Array.of(...(a ?? []), ...(b ?? []))
    const path = tree.inclusion(0).path.slice(1)
    expect(verifyInclusion(crypto, tree.root, inner, { index: 0, size: 2, path })).toBe(false)
  })

  it("doesn't double a last leaf: n leaves and n + 1 with the last repeated differ", () => {
    const leaves = leavesOf(3)
    const doubled = [...leaves, leaves[2] ?? new Uint8Array()]
    expect(hex(buildTree(crypto, leaves).root)).not.toBe(hex(buildTree(crypto, doubled).root))
  })

  it("holds 1..4,096 leaves and indexes inside it", () => {
    expect(() => buildTree(crypto, [])).toThrow(MakeError)
    expect(() => buildTree(crypto, leavesOf(limits.batchLeaves + 1))).toThrow(MakeError)
    const leaves = leavesOf(limits.batchLeaves)
    const tree = buildTree(crypto, leaves)
    const last = tree.inclusion(limits.batchLeaves - 1)
    expect(last.path).toHaveLength(PATH_MAX)
    expect(verifyInclusion(crypto, tree.root, leaves.at(-1) ?? new Uint8Array(), last)).toBe(true)
    for (const index of [-1, 4_096, 0.5]) expect(() => tree.inclusion(index)).toThrow(MakeError)
  })
})

describe("a root over hashed leaves", () => {
  it("is that over the leaves themselves", () => {
    for (const count of [1, 2, 3, 7, 100]) {
      const leaves = leavesOf(count)
      const hashed = leaves.map((leaf) => hashLeaf(crypto, leaf))
      expect(hex(rootOf(crypto, hashed))).toBe(hex(naiveRoot(leaves)))
    }
  })

  it("is of whole hashes only: of a shorter one's place nothing is made up", () => {
    const [a, b] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)]
    rootOf(crypto, [a, b])
    for (const length of [0, 31, 33])
      for (const hashed of [
        [a, new Uint8Array(length)],
        [new Uint8Array(length), b],
      ])
        expect(() => rootOf(crypto, hashed)).toThrow(MakeError)
  })
})

describe("helloLeaf", () => {
  it("differs by role, node and nonce, and by where one ends and the next begins", () => {
    const nonce = new Uint8Array(32).fill(1)
    const all = [
      helloLeaf("node", "a", nonce),
      helloLeaf("control-plane", "a", nonce),
      helloLeaf("nod", "ea", nonce),
      helloLeaf("node", "b", nonce),
      helloLeaf("node", "a", new Uint8Array(32)),
    ]
    expect(new Set(all.map(hex)).size).toBe(all.length)
    expect(() => helloLeaf("node", "a", new Uint8Array(31))).toThrow(MakeError)
  })
})

/** What a node remembers of a boot beyond its sessions, and beyond the keys that its kernel holds. */
import { describe, expect, it } from "vitest"
import type { UsedEpoch } from "../../services/dataplane-loader/dataplane/plane.ts"
import { rememberedEpochs } from "../../services/dataplane-loader/kernel-actions.ts"
import { edgeId, type Rules } from "../../services/dataplane-loader/rules.ts"
import { MakeError } from "../../services/make/errors.ts"
import { joinMemories } from "../../services/make/node-state.ts"
import { attest, crypto, filled, newNode } from "../support/make-lab.ts"

const rules = {
  edges: [{ edge: { id: "ask:alpha:beta" }, record: { id: edgeId(crypto, "ask:alpha:beta") } }],
} as unknown as Rules
const used: ReadonlyArray<UsedEpoch> = [
  { id: edgeId(crypto, "ask:alpha:beta"), epoch: { term: 6n, n: 4n } },
  { id: edgeId(crypto, "gone:alpha:beta"), epoch: { term: 9n, n: 1n } },
]

const codeOf = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    if (error instanceof MakeError) return `${error.code} ${error.field}`
    throw error
  }
  return "accepted"
}

describe("a node", () => {
  it("knows from the kernel's tombstones which epochs were used and whom it followed", () => {
    const memory = rememberedEpochs({ used: () => used }, rules)
    expect(memory).toEqual({ tombstones: new Map([["ask:alpha:beta", { term: 6n, n: 4n }]]), term: 9n })
    const node = newNode(attest("alpha", filled(32, 1)), { memory })
    expect(codeOf(() => node.followTerm(8n))).toBe("NOT_RISING term")
    expect(codeOf(() => node.followTerm(9n))).toBe("accepted")
  })

  it("hands what it has followed to its next session, also when it holds nothing", () => {
    const first = newNode(attest("alpha", filled(32, 1)))
    first.followTerm(7n)
    expect(first.held).toEqual([])
    const second = newNode(attest("alpha", filled(32, 1)), { memory: first.memory })
    expect(codeOf(() => second.followTerm(6n))).toBe("NOT_RISING term")
    expect(second.memory.term).toBe(7n)
  })

  it("joins what it knows with what the kernel does, the higher of each", () => {
    const of = (term: bigint | undefined, ...epochs: ReadonlyArray<readonly [string, bigint]>) => ({
      tombstones: new Map(epochs.map(([edge, n]) => [edge, { term: 5n, n }])),
      term,
    })
    expect(joinMemories(of(5n, ["a", 3n], ["b", 1n]), of(8n, ["b", 2n], ["c", 1n]))).toEqual(
      of(8n, ["a", 3n], ["b", 2n], ["c", 1n]),
    )
    expect(joinMemories(of(5n, ["a", 3n]), of(undefined, ["a", 2n]))).toEqual(of(5n, ["a", 3n]))
  })
})

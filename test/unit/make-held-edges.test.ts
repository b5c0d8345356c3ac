import { describe, expect, it } from "vitest"
import { beginGeneration, type Generation, newEdgeRecord } from "../../services/make/generation.ts"
import { heldOf } from "../../services/make/held-edges.ts"
import type { AckEdge } from "../../services/make/release.ts"
import { SpiAllocator } from "../../services/make/spi.ts"
import { attest, crypto, filled } from "../support/make-lab.ts"

const beacon = filled(32, 1)
const results = [attest("alpha", beacon).result, attest("beta", beacon).result] as const
const spis = { initiator: new SpiAllocator(crypto), responder: new SpiAllocator(crypto) }

const generation = (edge: string, n: bigint): Generation => {
  const instance = {
    id: `${edge}:alpha:beta`,
    edge,
    initiator: "alpha",
    responder: "beta",
    protocol: "tcp",
    port: 1,
    lanes: 1,
    suite: "chacha20-poly1305",
    peers: "results",
  } as const
  return beginGeneration(crypto, { ...newEdgeRecord(instance), n: n - 1n }, 5n, results, spis, 0)
}

const entry = ({ edge, epoch }: Generation, change: Partial<AckEdge> = {}): AckEdge => ({
  instance: edge.id,
  term: epoch.term,
  epoch: epoch.n,
  state: "active",
  exporter: filled(16, Number(epoch.n)),
  ...change,
})

const all = [generation("a", 1n), generation("a", 2n), generation("b", 1n), generation("c", 7n)]
const said = all.map((each) => ({ generation: each, state: each.state }))
const found = (edges: ReadonlyArray<AckEdge>) => {
  const held = heldOf(edges, said)
  return all.map((each, i) => held(each, i))
}

describe("what an acknowledgement says of what the node was told", () => {
  const entries = all.map((each) => entry(each))

  it("is found in whatever order it comes", () => {
    expect(found(entries)).toEqual(entries)
    expect(found(entries.toReversed())).toEqual(entries)
    for (let i = 1; i < entries.length; i++)
      expect(found([...entries.slice(i), ...entries.slice(0, i)])).toEqual(entries)
  })

  it("is missing where the node doesn't hold it, or speaks of another epoch, term or edge", () => {
    for (let i = 0; i < entries.length; i++) {
      const without = entries.map((each, j) => (i === j ? undefined : each))
      expect(found(entries.filter((_, j) => j !== i))).toEqual(without)
      for (const change of [{ epoch: 99n }, { term: 4n }, { instance: "d:alpha:beta" }])
        expect(found(entries.map((each, j) => (i === j ? { ...each, ...change } : each)))).toEqual(without)
    }
    expect(found([])).toEqual(all.map(() => undefined))
  })

  it("is refused when it names an epoch twice, or more of an edge than a release can", () => {
    const [first] = entries
    if (first === undefined) throw new Error("none")
    expect(() => found([...entries, first])).toThrow(/twice/)
    // As many as the node was told of, but not the same.
    expect(() => found([first, ...entries.slice(0, 3)])).toThrow(/twice/)
    const many = [1n, 2n, 3n, 4n].map((epoch) => ({ ...first, epoch }))
    expect(() => found(many)).toThrow(/too many/)
  })
})

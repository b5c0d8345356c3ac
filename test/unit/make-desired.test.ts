import { describe, expect, it } from "vitest"
import { DesiredStates } from "../../services/make/desired.ts"
import { EdgeMachine } from "../../services/make/edge-machine.ts"
import { crypto, workflow } from "../support/make-lab.ts"

const edges = new EdgeMachine({
  crypto,
  workflow,
  term: 5n,
  leaseMs: 30_000,
  graceMs: 2_000,
  rotateMs: Number.POSITIVE_INFINITY,
  nodes: { live: () => undefined, leaseOver: () => false },
  say: () => {},
  touch: () => {},
})

describe("what a node is to hold", () => {
  it("is the same object until something changes", () => {
    const states = new DesiredStates({ edges, heritage: { ended: () => new Map() }, leaseMs: 30_000 })
    const first = states.of("alpha", 0)
    expect(first.payload).toEqual({ lease_ms: 30_000, batches: [], edges: [] })
    expect(states.of("alpha", 1)).toBe(first)
    expect(states.of("beta", 1)).not.toBe(first)
    states.changed("beta")
    expect(states.of("alpha", 2)).toBe(first)
    states.changed("alpha")
    expect(states.of("alpha", 3)).not.toBe(first)
  })

  it("names what is to end of terms before no longer than that can last", () => {
    const heritage = {
      ended: (nowMs: number) => new Map(nowMs < 100 ? [["beta", 3n]] : []),
    }
    const states = new DesiredStates({ edges, heritage, leaseMs: 30_000 })
    expect(states.of("alpha", 99).payload.ended?.map(({ instance, term }) => `${instance} ${term}`)).toEqual([
      "ask:alpha:beta 3",
      "bulk:alpha:beta 3",
    ])
    expect(states.of("alpha", 100).payload.ended).toBeUndefined()
  })
})

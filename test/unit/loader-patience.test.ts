import { describe, expect, it } from "vitest"
import { Patience } from "../../services/dataplane-loader/patience.ts"

const LONG = 60_000

describe("a node that waits for a release", () => {
  it("is more patient with each request that stays without an answer, up to four seconds", () => {
    const patience = new Patience()
    patience.follows(1n)
    const waits = Array.from({ length: 5 }, () => {
      const ms = patience.waitMs(LONG)
      patience.waited(false)
      return ms
    })
    expect(waits).toEqual([1_000, 2_000, 4_000, 4_000, 4_000])
    patience.waited(true)
    expect(patience.waitMs(LONG)).toBe(1_000)
  })
  it("never waits past the time at which a new session is due, and asks no more than once a second", () => {
    const patience = new Patience()
    patience.follows(1n)
    expect([patience.waitMs(500), patience.waitMs(-7_000)]).toEqual([1_000, 1_000])
    for (let i = 0; i < 3; i++) patience.waited(false)
    expect([3_999, 1_500, 1_000, 500, -1].map((left) => patience.waitMs(left))).toEqual([
      3_999, 1_500, 1_000, 1_000, 1_000,
    ])
  })
  it("remembers in its next session that the releaser is slow, and nothing of another's", () => {
    const patience = new Patience()
    patience.follows(1n)
    patience.waited(false)
    patience.waited(false)
    patience.follows(1n)
    expect(patience.waitMs(LONG)).toBe(4_000)
    patience.follows(2n)
    expect(patience.waitMs(LONG)).toBe(1_000)
  })
})

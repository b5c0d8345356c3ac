import { describe, expect, it } from "vitest"
import { AHEAD_MAX, nextTerm } from "../../services/make/term.ts"
import { ToldTerm } from "../../services/verifier/told-term.ts"

const AT = Date.UTC(2026, 10, 23)
const honest = nextTerm({ last: undefined, heard: undefined, wallMs: AT, random: 7 })

describe("the term that nodes tell a verifier", () => {
  it("is the highest of a minute", () => {
    const told = new ToldTerm()
    expect(told.term).toBe(0n)
    told.hear(honest, AT, 0)
    told.hear(honest - 1n, AT, 60_000)
    expect(told.term).toBe(honest)
    told.hear(honest - 1n, AT, 60_001)
    expect(told.term).toBe(honest - 1n)
  })

  it("is not hidden by one that no releaser would believe", () => {
    const told = new ToldTerm()
    told.hear(2n ** 64n - 1n, AT, 0)
    told.hear(honest + 2n * AHEAD_MAX, AT, 1)
    expect(told.term).toBe(0n)
    told.hear(honest, AT, 2)
    told.hear(2n ** 64n - 1n, AT, 100_000)
    expect(told.term).toBe(honest)
  })
})

import { describe, expect, it } from "vitest"
import { AHEAD_MAX, nextTerm } from "../../services/make/term.ts"
import { ToldTerm } from "../../services/verifier/told-term.ts"

const AT = Date.UTC(2026, 10, 23)
const END = AT + 30 * 86_400_000
const honest = nextTerm({ last: undefined, heard: undefined, wallMs: AT, random: 7 })

describe("the term that nodes tell a verifier", () => {
  it("is the highest of a minute", () => {
    const told = new ToldTerm()
    expect(told.term).toBe(0n)
    told.hear(honest, AT, END, 0)
    told.hear(honest - 1n, AT, END, 60_000)
    expect(told.term).toBe(honest)
    told.hear(honest - 1n, AT, END, 60_001)
    expect(told.term).toBe(honest - 1n)
  })

  it("is not hidden by one that no releaser would believe", () => {
    const told = new ToldTerm()
    told.hear(2n ** 64n - 1n, AT, END, 0)
    told.hear(honest + 2n * AHEAD_MAX, AT, END, 1)
    told.hear(
      nextTerm({ last: undefined, heard: undefined, wallMs: END + 2 * 86_400_000, random: 0 }),
      AT,
      END,
      1,
    )
    expect(told.term).toBe(0n)
    told.hear(honest, AT, END, 2)
    told.hear(2n ** 64n - 1n, AT, END, 100_000)
    expect(told.term).toBe(honest)
  })

  it("may be what a releaser with a wrong clock has begun: no later than its document's end, and a day", () => {
    const at = (wallMs: number) => nextTerm({ last: undefined, heard: undefined, wallMs, random: 0 })
    for (const wallMs of [AT + 7 * 86_400_000, END, END + 86_400_000]) {
      const told = new ToldTerm()
      told.hear(at(wallMs), AT, END, 0)
      expect(told.term).toBe(at(wallMs))
    }
    const told = new ToldTerm()
    told.hear(at(END + 86_400_001), AT, END, 0)
    expect(told.term).toBe(0n)
    // Whatever end a document has.
    told.hear(honest + AHEAD_MAX + 4_096n, AT, AT + 1_000 * 86_400_000, 0)
    expect(told.term).toBe(0n)
  })
})

import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { expectTermMayFollow, TERM_MAX } from "../../services/make/epoch.ts"
import { AHEAD_MAX, isCredible, nextTerm } from "../../services/make/term.ts"

const AT = Date.UTC(2026, 10, 23)
const of = (wallMs: number, random = 0, last?: bigint, heard?: bigint) =>
  nextTerm({ last, heard, wallMs, random })

describe("a term", () => {
  it("differs between two releasers that begin in the same millisecond", () => {
    expect(of(AT, 17)).not.toBe(of(AT, 18))
    expect(of(AT, 4_095)).toBeLessThan(of(AT + 1, 0))
  })
  it("rises within a process, whatever the clock does", () => {
    for (const wallMs of [AT, AT - 86_400_000, 0, -1])
      expect(of(wallMs, 0, of(AT, 5))).toBeGreaterThan(of(AT, 5))
  })
  it("rises above what was heard of, unless that is beyond belief", () => {
    const heard = of(AT + 3_600_000, 9)
    expect(of(AT, 0, undefined, heard)).toBeGreaterThan(heard)
    for (const absurd of [2n ** 53n, TERM_MAX, 2n ** 64n - 1n])
      expect(of(AT, 3, undefined, absurd)).toBe(of(AT, 3))
  })
  it("that was driven as far ahead as can be is passed by another releaser once its clock has caught up", () => {
    const driven = of(AT, 4_095, undefined, of(AT, 0) + AHEAD_MAX)
    expect(isCredible(driven, AT - 1_000)).toBe(false)
    expect(isCredible(driven, AT + 1_001)).toBe(true)
    expect(of(AT + 1_001, 0, undefined, driven)).toBeGreaterThan(driven)
  })
  it("fits the step that nodes accept: years without a new leader, then one that was driven ahead", () => {
    const years = 10 * 365.25 * 86_400_000
    const [first, then] = [of(AT, 0), of(AT + years, 4_095, undefined, of(AT + years) + AHEAD_MAX)]
    expect(() => expectTermMayFollow(first, then)).not.toThrow()
    expect(() => expectTermMayFollow(first, first + BigInt(limits.termStepMax) + 1n)).toThrow()
    expect(Number.isSafeInteger(Number(of(Date.UTC(2095, 0, 1), 4_095)))).toBe(true)
    expect(TERM_MAX / BigInt(limits.termStepMax)).toBe(4_096n)
  })
})

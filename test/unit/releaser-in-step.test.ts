import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { untilStep } from "../../services/key-releaser/in-step.ts"
import { Candidate, RENEW_MS } from "../../services/key-releaser/leadership.ts"

describe("loops that look together", () => {
  it("meet at whole multiples of their periods, and rest for a quarter of one at least", () => {
    for (const begunMs of [0, 0.4, 17.3, 62.5, 187.6, 249.9, 1_000_003.7]) {
      const restMs = untilStep(250, begunMs)
      expect(restMs).toBeGreaterThanOrEqual(62.5)
      expect(restMs).toBeLessThanOrEqual(312.5)
      expect((begunMs + restMs) % 250).toBeCloseTo(0, 5)
    }
  })

  it("don't look twice when a timer was early", () => {
    let nowMs = 3.2
    const looks = Array.from({ length: 40 }, () => {
      nowMs += untilStep(250, nowMs) - 1.3
      return nowMs
    })
    const rests = looks.slice(1).map((at, i) => at - (looks[i] ?? 0))
    expect(Math.min(...rests)).toBeGreaterThan(200)
  })
})

describe("the rest of who leads", () => {
  it("ends when its entry is to be put again, well before that lapses", () => {
    const candidate = new Candidate(0)
    expect(candidate.restMs(0)).toBeUndefined()
    expect(candidate.wants(0)).toBe(0)
    candidate.stored(1, 3)
    expect(candidate.restMs(3)).toBe(RENEW_MS - 3)
    expect(candidate.wants(RENEW_MS - 1)).toBeUndefined()
    expect(candidate.restMs(RENEW_MS)).toBe(0)
    expect(candidate.wants(RENEW_MS)).toBe(1)
    expect(RENEW_MS).toBeLessThan(limits.leaderMs / 3)
    // Refused: at once.
    candidate.taken(RENEW_MS + 1)
    expect(candidate.restMs(RENEW_MS + 1)).toBe(0)
  })
})

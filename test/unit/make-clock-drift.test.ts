import { describe, expect, it } from "vitest"
import { ClockDrift, type Drift } from "../../services/make/clock-drift.ts"
import { dice } from "../support/hostile.ts"

/** A node whose clock goes `rate` times as fast as ours, acknowledging releases every ten seconds for `ms`. */
const watch = (
  rate: number,
  ms: number,
  delays: (i: number) => { readonly there: number; readonly back: number },
): Drift => {
  const drift = new ClockDrift()
  for (let i = 0, sentMs = 1_000; sentMs < ms; i++, sentMs += 10_000) {
    const { there, back } = delays(i)
    const found = drift.take({
      nodeMs: 5e9 + (sentMs + there) * rate,
      sentMs,
      arrivedMs: sentMs + there + back,
    })
    if (found !== "none") return found
  }
  return "none"
}
const prompt = () => ({ there: 3, back: 2 })

describe("a node's clock", () => {
  it("is found fast or slow beyond one part in a hundred, within a minute", () => {
    expect(watch(1.011, 60_000, prompt)).toBe("fast")
    expect(watch(0.989, 60_000, prompt)).toBe("slow")
    expect(watch(0, 60_000, prompt)).toBe("slow")
    expect(watch(20, 60_000, prompt)).toBe("fast")
  })

  it("is left alone within that, for ever", () => {
    for (const rate of [0.9905, 0.9995, 1, 1.0005, 1.0095])
      expect(watch(rate, 5_000_000, prompt)).toBe("none")
  })

  it("is never blamed for what the bus holds back, in whatever pattern", () => {
    const patterns: ReadonlyArray<(i: number) => { there: number; back: number }> = [
      (i) => ({ there: 0, back: i === 0 ? 9_000 : 1 }),
      (i) => ({ there: i < 5 ? 8_000 : 0, back: 0 }),
      (i) => ({ there: i % 2 === 0 ? 9_900 : 0, back: i % 3 === 0 ? 60_000 : 0 }),
      (i) => ({ there: Math.max(0, 25_000 - i * 1_000), back: Math.max(0, 60_000 - i * 900) }),
      (i) => ({ there: i * 900, back: 0 }),
    ]
    for (const pattern of patterns) expect(watch(1, 2_000_000, pattern)).toBe("none")
    for (let seed = 1; seed <= 200; seed++) {
      const roll = dice(seed)
      const late = () => (roll() % 4 === 0 ? roll() % 120_000 : roll() % 50)
      expect(watch(1 + ((roll() % 19) - 9) / 1_000, 1_000_000, () => ({ there: late(), back: late() }))).toBe(
        "none",
      )
    }
  })

  it("is found out as soon as a few messages come through promptly, whatever was held back before", () => {
    expect(watch(1.02, 600_000, (i) => ({ there: 0, back: i < 20 ? 50_000 : 5 }))).toBe("fast")
    expect(watch(0.98, 600_000, (i) => ({ there: i < 20 ? 9_000 : 5, back: 0 }))).toBe("slow")
  })

  it("begins anew with another boot", () => {
    const drift = new ClockDrift()
    drift.take({ nodeMs: 1e9, sentMs: 0, arrivedMs: 5 })
    drift.forget()
    expect(drift.take({ nodeMs: 10, sentMs: 40_000, arrivedMs: 40_005 })).toBe("none")
  })
})

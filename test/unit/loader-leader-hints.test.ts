import { describe, expect, it } from "vitest"
import { LeaderHints } from "../../services/dataplane-loader/leader-hints.ts"

/** What a node does for `ms` while somebody claims something each 100 ms; gives how many sessions it began. */
const sessions = (
  hints: LeaderHints,
  ms: number,
  claim: (at: number) => bigint,
  real: (at: number) => bigint,
) => {
  let followed = real(0)
  let began = 0
  hints.follows(followed)
  for (let at = 0; at < ms; at += 100) {
    if (!hints.heard(claim(at), followed, at)) continue
    began++
    hints.looked(at)
    followed = real(at)
    hints.follows(followed)
  }
  return began
}

describe("a claim that a new leader reigns", () => {
  it("makes a node look at once when it is true", () => {
    expect(
      sessions(
        new LeaderHints(),
        10_000,
        (at) => (at < 5_000 ? 7n : 9n),
        (at) => (at < 5_000 ? 7n : 9n),
      ),
    ).toBe(1)
  })
  it("makes a node look again soon when the verifier has not heard of it yet", () => {
    const hints = new LeaderHints()
    expect(
      sessions(
        hints,
        2_000,
        () => 9n,
        (at) => (at < 500 ? 7n : 9n),
      ),
    ).toBe(3)
  })
  it("costs a bounded number of sessions when it never is, whatever terms are claimed", () => {
    for (const claim of [() => 2n ** 50n, (at: number) => BigInt(at) + 8n]) {
      const began = sessions(new LeaderHints(), 3_600_000, claim, () => 7n)
      expect(began).toBeGreaterThan(50)
      expect(began).toBeLessThan(70)
    }
    for (const claim of [() => 2n ** 63n, () => 2n ** 64n - 1n])
      expect(sessions(new LeaderHints(), 3_600_000, claim, () => 7n)).toBe(0)
  })
  it("is looked into soon though others lately were not true", () => {
    const hints = new LeaderHints()
    hints.follows(7n)
    for (let at = 0; at < 2_000; at += 100) if (hints.heard(2n ** 50n, 7n, at)) hints.looked(at)
    expect(hints.due(7n, 2_100)).toBe(false)
    expect(hints.heard(9n, 7n, 2_100)).toBe(true)
    // The pause after the last look.
    hints.looked(2_100)
    expect(hints.heard(10n, 7n, 2_200)).toBe(false)
    expect(hints.due(7n, 2_350)).toBe(true)
  })
  it("does not end the look that it has made a node take", () => {
    const hints = new LeaderHints()
    hints.heard(9n, 7n, 0)
    hints.looked(0)
    for (let at = 0; at < 3_000; at += 100) {
      hints.heard(9n, 7n, at)
      expect(hints.dueAnew(7n, at)).toBe(false)
    }
    hints.heard(10n, 7n, 3_000)
    expect(hints.dueAnew(7n, 3_000)).toBe(true)
  })
  it("is forgotten when nobody repeats it", () => {
    const hints = new LeaderHints()
    hints.heard(9n, 7n, 0)
    expect(hints.due(7n, 2_900)).toBe(true)
    expect(hints.due(7n, 3_100)).toBe(false)
  })
  it("is followed also after many that were not", () => {
    const hints = new LeaderHints()
    sessions(
      hints,
      600_000,
      () => 2n ** 50n,
      () => 7n,
    )
    hints.looked(600_000)
    hints.follows(9n)
    hints.looked(660_000)
    hints.follows(10n)
    expect(
      sessions(
        hints,
        1_000,
        () => 11n,
        (at) => (at === 0 ? 10n : 11n),
      ),
    ).toBeLessThanOrEqual(1)
  })
  it("means nothing to a node that has followed nobody, or of a term that is not higher", () => {
    expect(new LeaderHints().heard(9n, undefined, 0)).toBe(false)
    expect(new LeaderHints().heard(7n, 7n, 0)).toBe(false)
  })
})

/** What wakes a node: a claim of a new leader, in its time; and nobody looks while nothing is claimed. */
import { setTimeout as pause } from "node:timers/promises"
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { makeWakes } from "../../services/dataplane-loader/wakes.ts"

const FOLLOWED = 7n
/** Longer than a claim has to wait after a session began. */
const LATER_MS = 300

const wakesAt = (followed: bigint | undefined) => {
  const clock = { ms: 10_000, looks: 0 }
  const wakes = makeWakes(
    () => followed,
    () => {
      clock.looks++
      return clock.ms
    },
  )
  return { clock, wakes }
}

/** Whether the effect ends while this goes on. */
const ends = (effect: Effect.Effect<unknown>, meanwhile: () => Promise<void>): Promise<boolean> =>
  Effect.runPromise(
    Effect.raceFirst(
      Effect.as(effect, true),
      Effect.as(
        Effect.promise(async () => {
          await meanwhile()
          await pause(100)
        }),
        false,
      ),
    ),
  )

describe("a claim of a new leader", () => {
  it("is waited for without a look at the clock, as long as there is none", async () => {
    const { clock, wakes } = wakesAt(FOLLOWED)
    wakes.sessionBegins()
    const before = clock.looks
    expect(await ends(wakes.claimed, () => pause(200))).toBe(false)
    expect(clock.looks - before).toBeLessThanOrEqual(2)
  })

  it("ends an attestation that it came after, but not at once after the session began", async () => {
    const { clock, wakes } = wakesAt(FOLLOWED)
    wakes.sessionBegins()
    expect(await ends(wakes.claimed, async () => wakes.heard(FOLLOWED + 1n))).toBe(false)
    const later = async () => {
      clock.ms += LATER_MS
    }
    expect(await ends(wakes.claimed, later)).toBe(true)
    expect(await ends(wakes.woken, async () => {})).toBe(true)
  })

  it("ends it also when it is the second that is heard", async () => {
    const { clock, wakes } = wakesAt(FOLLOWED)
    wakes.heard(FOLLOWED + 1n)
    wakes.sessionBegins()
    clock.ms += LATER_MS
    const second = async () => {
      await pause(50)
      wakes.heard(FOLLOWED + 2n)
    }
    expect(await ends(wakes.claimed, second)).toBe(true)
  })

  it("ends none that it came before, nor one of a node that follows nobody or that very leader", async () => {
    const { clock, wakes } = wakesAt(FOLLOWED)
    wakes.heard(FOLLOWED + 1n)
    expect(wakes.due()).toBe(true)
    wakes.sessionBegins()
    expect(wakes.due()).toBe(false)
    clock.ms += LATER_MS
    expect(await ends(wakes.claimed, async () => wakes.heard(FOLLOWED + 1n))).toBe(false)
    for (const [followed, claim] of [
      [undefined, FOLLOWED + 1n],
      [FOLLOWED, FOLLOWED],
      [FOLLOWED, FOLLOWED - 1n],
    ] as const) {
      const other = wakesAt(followed)
      expect(await ends(other.wakes.claimed, async () => other.wakes.heard(claim))).toBe(false)
    }
  })
})

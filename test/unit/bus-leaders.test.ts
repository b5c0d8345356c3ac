/** The bucket of leaders on a real server: whose entry counts, and what is a sign that somebody leads. */
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { withBuses } from "../support/buses.ts"
import { startNats, type TestNats } from "../support/nats.ts"

let nats: TestNats

beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "releaser", instance: "r1" },
    { role: "releaser", instance: "r2" },
  ])
})
afterAll(() => nats?.stop())

const entry = (releaser: string) => ({ v: 1 as const, releaser, control: "cp", term: 1n })

describe("who stands by", () => {
  it("hears an entry that is renewed, but neither its own vain attempts nor another's", async () => {
    const seen = await withBuses(
      nats,
      [
        ["operator", "lab"],
        ["releaser", "r1"],
        ["releaser", "r2"],
      ],
      (operator, leader, standby) =>
        Effect.gen(function* () {
          yield* operator.ensureStreams
          let heard = 0
          yield* standby.leaders.watch("lab", () => {
            heard++
          })
          const first = yield* leader.leaders.put("lab", entry("r1"), 0)
          const vain = [
            yield* standby.leaders.put("lab", entry("r2"), 0),
            yield* standby.leaders.put("lab", entry("r2"), 0),
          ]
          const before = heard
          const second = yield* leader.leaders.put("lab", entry("r1"), first ?? 0)
          for (let i = 0; i < 1_000 && heard === before; i++) yield* Effect.sleep("10 millis")
          yield* Effect.sleep("100 millis")
          return { first, vain, before, second, after: heard }
        }),
    )
    expect(seen.vain).toEqual([undefined, undefined])
    expect(seen.second).toBeGreaterThan(seen.first ?? Number.POSITIVE_INFINITY)
    expect(seen).toMatchObject({ before: 0, after: 1 })
  })
})

/** Whom a releaser asks for Evidence, and whom it believes; and which leader a verifier turns to. */
import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import type { BusShape } from "../../services/common/bus/bus.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { makeKnownVerifiers } from "../../services/key-releaser/known-verifiers.ts"
import { VerifierTable } from "../../services/key-releaser/verifier-table.ts"
import { Leaders } from "../../services/verifier/leaders.ts"
import { workflow } from "./verifier-support.ts"

const filled = (value: number) => new Uint8Array(32).fill(value)
const WORKFLOW = filled(0x77)
const table = (): VerifierTable => {
  const made = new VerifierTable("cp")
  made.during(WORKFLOW)
  return made
}

describe("a request under a key that nobody knows", () => {
  it("waits for no guest for long, since all others' requests wait for it; which is no failure of the guest", async () => {
    let asked = 0
    const bus = {
      identity: { name: "releaser-r1" },
      request: () => {
        asked++
        return Effect.never
      },
    } as unknown as BusShape
    const trust = {
      domain: "lab",
      operatorKeys: [crypto.ed25519.generate().publicKey],
      threshold: 1,
      controlPlane: { roots: [], assurance: "hardware" as const, platforms: [], chips: "any" as const },
    }
    const guest = { crypto, trust, instance: "r1", control: "cp", ownKey: filled(1) }
    const { keysFor, ownFailures } = makeKnownVerifiers(bus, guest)
    const no = await Effect.runPromise(Effect.flip(keysFor(workflow, filled(9))))
    expect(no).toMatchObject({ code: "NOT_VOUCHED", field: "result.key" })
    expect([asked, ownFailures()]).toEqual([1, 0])
  })
})

describe("a releaser's table of verifiers", () => {
  it("believes nobody whose guest has not proven itself, however often it is announced", () => {
    const known = table()
    for (let at = 0; at < 10_000; at += 100) known.announced("cp2", filled(2), at)
    expect(known.keys(10_000)).toEqual([])
    known.vouched("cp2", filled(3), 10_000)
    expect(known.keys(10_000)).toEqual([filled(3)])
  })

  it("keeps apart its own guest's verifier and the others, and keeps those that died for as long as results live", () => {
    const known = table()
    known.announced("cp2", filled(2), 0)
    known.vouched("cp", filled(1), 0)
    known.vouched("cp2", filled(2), 0)
    expect(known.others(1)).toEqual([filled(2)])
    known.vouched("cp2", filled(4), 10_000)
    known.vouched("cp", filled(5), 10_000)
    expect(known.others(10_001)).toEqual([filled(1), filled(2), filled(4)])
    expect(known.keys(360_001)).toEqual([filled(4), filled(5)])
    expect(known.keys(800_000)).toEqual([])
  })

  it("asks a new guest within a second, one that fails ever more rarely, one that is known each minute", () => {
    const known = table()
    const asked: string[] = []
    for (let at = 0; at < 120_000; at += 100) {
      if (at % 1_000 === 0) {
        known.announced("good", filled(2), at)
        known.announced("bad", filled(3), at)
      }
      const control = known.due(at)
      if (control === undefined) continue
      asked.push(control)
      if (control === "bad") known.refused(control, at)
      else known.vouched(control, filled(control === "good" ? 2 : 1), at)
    }
    const count = (control: string) => asked.filter((each) => each === control).length
    expect(asked.slice(0, 3).sort()).toEqual(["bad", "cp", "good"])
    expect(count("good")).toBe(2)
    expect(count("bad")).toBeLessThan(10)
    expect(count("cp")).toBeLessThan(30)
  })

  it("is not driven out of its own by invented guests, nor made to ask more than four times a second", () => {
    const known = table()
    known.announced("cp2", filled(2), 0)
    known.vouched("cp2", filled(2), 0)
    known.vouched("cp", filled(1), 0)
    let asked = 0
    for (let at = 0; at < 800_000; at += 50) {
      known.announced(`invented-${at}`, filled(at % 251), at)
      if (at % 1_000 === 0) known.announced("cp2", filled(2), at)
      const control = known.due(at)
      if (control === undefined) continue
      asked++
      if (control.startsWith("invented")) known.refused(control, at)
      else known.vouched(control, control === "cp" ? filled(1) : filled(2), at)
    }
    expect(asked).toBeLessThan(3_600)
    expect(known.keys(800_000)).toEqual(expect.arrayContaining([filled(1), filled(2)]))
    expect(known.keys(800_000)).toHaveLength(2)
  })

  it("starts anew with another document", () => {
    const known = table()
    known.vouched("cp", filled(1), 0)
    known.during(WORKFLOW)
    expect(known.keys(1)).toHaveLength(1)
    known.during(filled(0x78))
    expect(known.keys(1)).toEqual([])
    expect(known.due(1)).toBe("cp")
  })

  it("answers a flood of results under unknown keys with one question a second", () => {
    const known = table()
    let asked = 0
    for (let at = 0; at < 5_000; at += 1) if (known.mayAsk(filled(at % 256), at) !== undefined) asked++
    expect(asked).toBe(5)
  })
})

describe("a verifier", () => {
  const beacon = (releaser: string, term: bigint) => ({
    v: 1 as const,
    releaser,
    control: `c-${releaser}`,
    term,
    nonce: filled(9),
  })
  const order = (leaders: Leaders, at: number) => leaders.inOrder(at).map(({ releaser }) => releaser)

  it("turns to the highest term, and to the next when that was not confirmed", () => {
    const leaders = new Leaders()
    leaders.heard(beacon("r1", 5n), 0)
    leaders.heard(beacon("r9", 2n ** 62n), 0)
    expect(order(leaders, 1)).toEqual(["r9", "r1"])
    leaders.failed({ ...beacon("r9", 2n ** 62n), atMs: 0 }, 1)
    expect(order(leaders, 2)).toEqual(["r1", "r9"])
    leaders.heard(beacon("r2", 6n), 3)
    expect(order(leaders, 4)).toEqual(["r2", "r1", "r9"])
  })
  it("turns to one that speaks before one that has just fallen silent, and to that before one that failed", () => {
    const leaders = new Leaders()
    leaders.heard(beacon("r2", 9n), 0)
    leaders.heard(beacon("r1", 5n), 3_000)
    expect(order(leaders, 3_000)).toEqual(["r2", "r1"])
    expect(order(leaders, 3_001)).toEqual(["r1", "r2"])
    leaders.failed({ ...beacon("r1", 5n), atMs: 3_000 }, 3_001)
    expect(order(leaders, 3_001)).toEqual(["r2", "r1"])
  })
  it("has a refusal name the beacon of whom nodes follow, not of the highest term that is claimed", () => {
    const leaders = new Leaders()
    const of = (releaser: string, term: bigint, byte: number) => ({
      ...beacon(releaser, term),
      nonce: filled(byte),
    })
    leaders.heard(of("r1", 5n, 1), 0)
    leaders.heard(of("r9", 2n ** 62n, 9), 0)
    expect(leaders.beaconOf(["r1", undefined], 100)).toEqual(filled(1))
    leaders.heard(of("r1", 5n, 2), 1_000)
    leaders.heard(of("r9", 2n ** 62n, 9), 1_000)
    expect(leaders.beaconOf(["r1"], 1_100)).toEqual(filled(2))
    expect(leaders.beaconOf([undefined, "r1"], 1_100)).toEqual(filled(2))
    // It has gone, and another one is followed already; or nobody knows yet whom nodes will follow.
    leaders.heard(of("r2", 6n, 3), 5_000)
    expect(leaders.beaconOf(["r1", "r2"], 5_000)).toEqual(filled(3))
    leaders.heard(of("r9", 2n ** 62n, 9), 5_000)
    expect(leaders.beaconOf(["r1", undefined], 5_000)).toEqual(filled(9))
    expect(new Leaders().beaconOf(["r1"], 0)).toBeUndefined()
  })

  it("forgets whoever is silent, does not count who stands by, and remembers few", () => {
    const leaders = new Leaders()
    leaders.heard(beacon("r1", 5n), 0)
    leaders.heard(beacon("r2", 0n), 0)
    expect(order(leaders, 30_000)).toEqual(["r1"])
    expect(order(leaders, 30_001)).toEqual([])
    for (let i = 0; i < 100; i++) leaders.heard(beacon(`x${i}`, BigInt(i + 1)), 30_001)
    expect(order(leaders, 30_002)).toHaveLength(8)
  })
})

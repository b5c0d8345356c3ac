/** The bucket of collateral at a real server: filled by the operator, read by who verifies, whatever is in it. */
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { CollateralPiece } from "../../schemas/messages/collateral.ts"
import { withBuses } from "../support/buses.ts"
import { startNats, type TestNats } from "../support/nats.ts"
import { rawUser } from "../support/raw.ts"

let nats: TestNats

beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "verifier", instance: "v1" },
    { role: "auditor", instance: "lab" },
  ])
  await withBuses(nats, [["operator", "lab"]], (operator) => operator.ensureStreams)
}, 60_000)
afterAll(() => nats.stop())

const piece = (fill: number, length = 100): CollateralPiece => ({
  v: 1,
  bytes: new Uint8Array(length).fill(fill),
  source: "test",
  confirmed_ms: 1_700_000_000_000 + fill,
})

describe("the bucket of collateral", () => {
  it("holds the latest of each key, for verifiers, not for others", () =>
    withBuses(
      nats,
      [
        ["operator", "lab"],
        ["verifier", "v1"],
        ["auditor", "lab"],
      ],
      (operator, verifier, auditor) =>
        Effect.gen(function* () {
          expect(yield* verifier.collateral.list).toEqual([])
          for (const [key, fill] of [
            ["amd-crl-Milan", 1],
            ["intel-root-crl", 2],
            ["amd-crl-Milan", 3],
          ] as const)
            yield* operator.collateral.put(key, piece(fill))
          const wanted = [
            { key: "intel-root-crl", piece: piece(2) },
            { key: "amd-crl-Milan", piece: piece(3) },
          ]
          expect(yield* verifier.collateral.list).toEqual(wanted)
          expect(yield* operator.collateral.list).toEqual(wanted)
          expect((yield* Effect.flip(verifier.collateral.put("amd-crl-Milan", piece(4)))).reason).toBe(
            "Denied",
          )
          expect((yield* Effect.flip(auditor.collateral.list)).reason).toBe("Denied")
        }),
    ))

  it("takes no piece that is too large, and no key that isn't one token", () =>
    withBuses(nats, [["operator", "lab"]], (operator) =>
      Effect.gen(function* () {
        yield* operator.collateral.put("largest", piece(5, 65_536))
        expect((yield* Effect.flip(operator.collateral.put("larger", piece(5, 65_537)))).reason).toBe(
          "Invalid",
        )
        for (const key of ["a.b", "*", ">", "", "a b", "a\nb"])
          expect((yield* Effect.flip(operator.collateral.put(key, piece(6)))).reason).toBe("Invalid")
        expect((yield* operator.collateral.list).map(({ key }) => key)).toContain("largest")
      }),
    ))

  it("is read past what is no piece of collateral, and that is counted", async () => {
    const raw = await rawUser(nats, { role: "operator", instance: "lab" })
    try {
      for (const [key, bytes] of [
        ["noise", Uint8Array.of(0xc1, 0, 1)],
        ["empty", new Uint8Array(0)],
        ["text", Buffer.from("not msgpack")],
      ] as const)
        raw.send(`$KV.collateral.${key}`, Uint8Array.from(bytes))
      await raw.settle()
      await withBuses(
        nats,
        [
          ["operator", "lab"],
          ["verifier", "v1"],
        ],
        (operator, verifier) =>
          Effect.gen(function* () {
            yield* operator.collateral.put("last", piece(7))
            const found = (yield* verifier.collateral.list).map(({ key }) => key)
            expect(found).toContain("last")
            for (const key of ["noise", "empty", "text"]) expect(found).not.toContain(key)
            expect(verifier.counters().refused.BAD_COLLATERAL).toBeGreaterThanOrEqual(3)
          }),
      )
    } finally {
      await raw.close()
    }
  })
})

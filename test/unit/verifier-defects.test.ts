/** A defect is answered and logged; what comes after it is served as before. */
import { Effect, Logger, Result } from "effect"
import { describe, expect, it } from "vitest"
import { crypto } from "../../services/common/crypto/index.ts"
import type { Crypto } from "../../services/common/crypto/port.ts"
import { surviving } from "../../services/common/process/defects.ts"
import { makeHelloBatch } from "../../services/verifier/hello-batch.ts"
import { makeResultBatch } from "../../services/verifier/result-batch.ts"

const quiet = Effect.provide(Logger.layer([]))
const failing = (): never => {
  throw new Error("a defect")
}
const result = {
  domain: "lab",
  workflow: new Uint8Array(32),
  node: "n1",
  dhKey: new Uint8Array(32),
  body: new Uint8Array(8),
}

describe("after a defect", () => {
  it("hellos are quoted again, and those that it hit are refused", () =>
    Effect.gen(function* () {
      let calls = 0
      const { quoted } = yield* makeHelloBatch(crypto, () =>
        Effect.sync(() => (++calls === 1 ? failing() : { control: {} as never, releaser: "r" })),
      )
      const hello = quoted("n1", new Uint8Array(32), 5_000).pipe(Effect.result, Effect.timeout("10 seconds"))
      const first = yield* hello
      expect(Result.isFailure(first) && first.failure.code).toBe("INTERNAL")
      expect(Result.isSuccess(yield* hello)).toBe(true)
    }).pipe(Effect.scoped, quiet, Effect.runPromise))

  it("results are signed again, and those that it hit are refused", () =>
    Effect.gen(function* () {
      let calls = 0
      const sign: Crypto["ed25519"]["sign"] = (...given) =>
        ++calls === 1 ? failing() : crypto.ed25519.sign(...given)
      const once = { ...crypto, ed25519: { ...crypto.ed25519, sign } }
      const signed = yield* makeResultBatch(once, crypto.ed25519.generate(), () => 0)
      const ask = signed(result).pipe(Effect.result, Effect.timeout("10 seconds"))
      const first = yield* ask
      expect(Result.isFailure(first) && first.failure.code).toBe("INTERNAL")
      expect(Result.isSuccess(yield* ask)).toBe(true)
    }).pipe(Effect.scoped, quiet, Effect.runPromise))

  it("errors and values stay what they are", async () => {
    const run = <A, E>(effect: Effect.Effect<A, E>) =>
      Effect.runPromise(surviving("it")(effect).pipe(Effect.result, quiet))
    expect(await run(Effect.succeed(1))).toEqual(Result.succeed(1))
    expect(await run(Effect.fail("no"))).toEqual(Result.fail("no"))
    expect(await run(Effect.sync(failing))).toEqual(Result.succeed(undefined))
  })
})

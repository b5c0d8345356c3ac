import { Context, Deferred, Effect, Fiber, Layer, type Scope } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { HelloReply } from "../../schemas/messages/attestation.ts"
import { Bus, BusError, type BusShape, Refused } from "../../services/common/bus/bus.ts"
import { startNats, type TestNats } from "../support/nats.ts"

let nats: TestNats

beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "auditor", instance: "lab" },
    { role: "verifier", instance: "v1" },
    { role: "releaser", instance: "r1" },
    { role: "loader", instance: "n1" },
    { role: "loader", instance: "n2" },
    { role: "attester", instance: "n1" },
  ])
})
afterAll(() => nats.stop())

type Who = Parameters<TestNats["config"]>

/** Runs a program with one bus per identity, all closed at its end. */
const withBuses = <A>(
  who: ReadonlyArray<Who>,
  program: (...buses: BusShape[]) => Effect.Effect<A, unknown, Scope.Scope>,
) =>
  Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const buses: BusShape[] = []
        for (const [role, instance] of who) {
          const context = yield* Effect.scope.pipe(
            Effect.flatMap((scope) => Layer.buildWithScope(Bus.layer(nats.config(role, instance)), scope)),
          )
          buses.push(Context.get(context, Bus))
        }
        return yield* program(...buses)
      }),
    ),
  )

const hello = {
  v: 1,
  domain: "lab",
  node: "n1",
  session: new Uint8Array(16),
  nonce: new Uint8Array(32),
} as const
const refusal: HelloReply = {
  v: 1,
  kind: "refused",
  by: "verifier-v1",
  code: "NO_ROOM",
  field: "node",
  message: "later",
}

describe("requests", () => {
  it("are answered by the handler, with the sender's identity", () =>
    withBuses(
      [
        ["verifier", "v1"],
        ["loader", "n1"],
      ],
      (verifier, loader) =>
        Effect.gen(function* () {
          let seen = ""
          yield* verifier.serve("hello", {}, (value, from) =>
            Effect.sync(() => {
              seen = `${from.sender} ${from.tokens.node} ${value.domain}`
              return refusal
            }),
          )
          expect(yield* loader.request("hello", { node: "n1" }, hello, { timeoutMs: 1_000 })).toEqual(refusal)
          expect(seen).toBe("loader-n1 n1 lab")
        }),
    ))
})
void [Deferred, Fiber, BusError, Refused]

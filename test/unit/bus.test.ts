import { Deferred, Effect, Exit, Fiber, Layer, Logger, Redacted, Result, Schedule } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { AttestReply, Hello, HelloReply } from "../../schemas/messages/attestation.ts"
import type { Event } from "../../schemas/messages/event.ts"
import { Beacon } from "../../schemas/messages/release.ts"
import type { SignedWorkflow } from "../../schemas/workflow.ts"
import { Bus, type BusError, newUser, Refused } from "../../services/common/bus/bus.ts"
import { Allowances, Pace } from "../../services/common/bus/counters.ts"
import { Pending } from "../../services/common/bus/pending.ts"
import { encode } from "../../services/common/codec/index.ts"
import { openBus, withBuses } from "../support/buses.ts"
import { countLostTime } from "../support/lost-time.ts"
import { startNats, type TestNats } from "../support/nats.ts"
import { rawUser } from "../support/raw.ts"

let nats: TestNats

beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "auditor", instance: "lab" },
    { role: "verifier", instance: "v1" },
    { role: "verifier", instance: "v2" },
    { role: "releaser", instance: "r1" },
    { role: "loader", instance: "n1" },
    { role: "loader", instance: "n2" },
    { role: "attester", instance: "n1" },
  ])
  await withBuses(nats, [["operator", "lab"]], (operator) => operator.ensureStreams)
})
afterAll(() => nats.stop())

const hello: Hello = {
  v: 1,
  domain: "lab",
  node: "n1",
  session: new Uint8Array(16),
  nonce: new Uint8Array(32),
  term: 0n,
}
const no = (code: string): HelloReply & AttestReply => ({
  v: 1,
  kind: "refused",
  by: "v1",
  code,
  field: "",
  message: "",
})
const beacon = (term: bigint): Beacon => ({
  v: 1,
  releaser: "r1",
  control: "cp",
  term,
  nonce: new Uint8Array(32),
})
const workflow = (fill: number): SignedWorkflow => ({
  v: 1,
  document: new Uint8Array(1_000).fill(fill),
  signatures: [{ key: new Uint8Array(32), signature: new Uint8Array(64) }],
})
const n1 = { node: "n1" }
/** An answer comes at once, but for what a busy machine takes. */
const soon = { timeoutMs: 15_000 }
const until = (done: () => boolean) =>
  Effect.gen(function* () {
    for (let i = 0; i < 500 && !done(); i++) yield* Effect.sleep("10 millis")
    expect(done()).toBe(true)
  })

describe("requests", () => {
  it("reach the handler with the sender's identity, and its answer comes back", () =>
    withBuses(
      nats,
      [
        ["verifier", "v1"],
        ["loader", "n1"],
      ],
      (verifier, loader) =>
        Effect.gen(function* () {
          let seen = ""
          yield* verifier.serve("hello", {}, (value, { sender, tokens }) =>
            Effect.sync(() => {
              seen = `${sender} ${tokens.node} ${value.domain}`
              return no("LATER")
            }),
          )
          expect(yield* loader.request("hello", n1, hello, soon)).toEqual(no("LATER"))
          expect(seen).toBe("loader-n1 n1 lab")
        }),
    ))

  it("take the sender from the identity token where there is one", () =>
    withBuses(
      nats,
      [
        ["attester", "n1"],
        ["loader", "n1"],
        ["verifier", "v1"],
      ],
      (attester, loader, verifier) =>
        Effect.gen(function* () {
          yield* attester.serve("attest", n1, (_, { sender }) =>
            Effect.succeed(no(`FROM_${sender?.toUpperCase().replace("-", "_")}`)),
          )
          const ask = { v: 1, kind: "attest-control", merkle_root: new Uint8Array(32), leaves: 1 } as const
          expect(yield* loader.request("attest", { node: "n1", identity: "loader-n1" }, ask, soon)).toEqual(
            no("FROM_LOADER_N1"),
          )
          expect(
            yield* verifier.request("attest", { node: "n1", identity: "verifier-v1" }, ask, soon),
          ).toEqual(no("FROM_VERIFIER_V1"))
        }),
    ))

  it("are shared by the instances of a queue, each answered once", () =>
    withBuses(
      nats,
      [
        ["verifier", "v1"],
        ["verifier", "v2"],
        ["loader", "n1"],
      ],
      (one, two, loader) =>
        Effect.gen(function* () {
          let count = 0
          for (const bus of [one, two])
            yield* bus.serve("hello", {}, () => Effect.sync(() => no(`N${count++}`)))
          for (let i = 0; i < 20; i++) yield* loader.request("hello", n1, hello, soon)
          expect(count).toBe(20)
        }),
    ))

  it(
    "fail by kind: nobody there, no answer, not allowed, not encodable",
    () =>
      withBuses(
        nats,
        [
          ["verifier", "v1"],
          ["loader", "n1"],
        ],
        (verifier, loader) =>
          Effect.gen(function* () {
            const reason = (effect: Effect.Effect<unknown, BusError>) =>
              Effect.flip(effect).pipe(Effect.map((e) => e.reason))
            expect(yield* reason(loader.request("hello", n1, hello, soon))).toBe("NoResponders")
            yield* verifier.serve("hello", {}, () => Effect.sleep("500 millis").pipe(Effect.as(no("LATE"))))
            expect(yield* reason(loader.request("hello", n1, hello, { timeoutMs: 100 }))).toBe("Timeout")
            expect(yield* reason(loader.request("hello", { node: "n2" }, hello, soon))).toBe("Denied")
            yield* until(() => loader.counters().violations === 1)
            expect(yield* reason(loader.request("hello", { node: "n.1" }, hello, soon))).toBe("Invalid")
            expect(
              yield* reason(loader.request("hello", n1, { ...hello, nonce: new Uint8Array(31) }, soon)),
            ).toBe("Invalid")
            expect(
              yield* reason(Effect.scoped(loader.serve("hello", {}, () => Effect.succeed(no("NO"))))),
            ).toBe("Denied")
          }),
      ),
    15_000,
  )

  it("answered with anything but the table's reply fail, and name the field", async () => {
    const impostor = await rawUser(nats, { role: "verifier", instance: "v2" })
    try {
      const answers = [new Uint8Array([0xc1]), encode(Beacon, beacon(1n)), new Uint8Array(200_000)]
      await impostor.answer("vs.v1.hello.*", "verifier", () => answers.shift() ?? new Uint8Array(0))
      await withBuses(nats, [["loader", "n1"]], (loader) =>
        Effect.gen(function* () {
          for (const wanted of ["NOT_MSGPACK", "BAD_FIELD", "TRAILING"]) {
            const error = yield* Effect.flip(loader.request("hello", n1, hello, soon))
            expect(error.reason).toBe("Decode")
            expect(error.message).toContain(wanted)
          }
        }),
      )
    } finally {
      await impostor.close()
    }
  })

  it("are refused by the handler in its words, and never with a defect's", () =>
    withBuses(
      nats,
      [
        ["verifier", "v1"],
        ["loader", "n1"],
      ],
      (verifier, loader) =>
        Effect.gen(function* () {
          yield* verifier.serve("hello", {}, ({ domain }) =>
            domain === "lab"
              ? Effect.fail(new Refused({ code: "NOT_MINE", field: "domain", message: "another one" }))
              : Effect.die(new Error("hunter2")),
          )
          expect(yield* loader.request("hello", n1, hello, soon)).toEqual({
            v: 1,
            kind: "refused",
            by: "verifier-v1",
            code: "NOT_MINE",
            field: "domain",
            message: "another one",
          })
          const failed = yield* loader.request("hello", n1, { ...hello, domain: "other" }, soon)
          expect(failed).toMatchObject({ kind: "refused", code: "INTERNAL" })
          expect(JSON.stringify(failed)).not.toContain("hunter2")
        }),
    ))

  it("beyond the places are told so, and the places come back", () =>
    withBuses(
      nats,
      [
        ["verifier", "v1"],
        ["loader", "n1"],
        ["loader", "n2"],
      ],
      (verifier, one, two) =>
        Effect.gen(function* () {
          const open = yield* Deferred.make<void>()
          yield* verifier.serve("hello", {}, () => Deferred.await(open).pipe(Effect.as(no("DONE"))), {
            perSenderMax: 2,
            inFlightMax: 3,
          })
          const ask = (bus: typeof one, node: string) =>
            Effect.forkChild(bus.request("hello", { node }, { ...hello, node }, soon))
          const first = [yield* ask(one, "n1"), yield* ask(one, "n1")]
          yield* Effect.sleep("50 millis")
          expect(yield* one.request("hello", n1, hello, soon)).toMatchObject({ code: "BUSY" })
          const other = yield* ask(two, "n2")
          yield* Effect.sleep("50 millis")
          expect(yield* two.request("hello", { node: "n2" }, hello, soon)).toMatchObject({ code: "BUSY" })
          yield* Deferred.succeed(open, undefined)
          for (const fiber of [...first, other]) expect(yield* Fiber.join(fiber)).toEqual(no("DONE"))
          expect(yield* one.request("hello", n1, hello, soon)).toEqual(no("DONE"))
        }),
    ))

  it("that come faster than their sender may are dropped, and nobody else's", () =>
    withBuses(
      nats,
      [
        ["verifier", "v1"],
        ["loader", "n1"],
        ["loader", "n2"],
      ],
      (verifier, one, two) =>
        Effect.gen(function* () {
          let handled = 0
          const count = Effect.sync(() => {
            handled++
            return no("DONE")
          })
          yield* verifier.serve("hello", {}, () => count, { pace: { burst: 3, aSecond: 0.001, senders: 8 } })
          const ask = (bus: typeof one, node: string, { timeoutMs } = soon) =>
            Effect.result(bus.request("hello", { node }, { ...hello, node }, { timeoutMs }))
          for (let i = 0; i < 3; i++) expect(Result.isSuccess(yield* ask(one, "n1"))).toBe(true)
          expect(Result.isSuccess(yield* ask(one, "n1", { timeoutMs: 300 }))).toBe(false)
          expect(handled).toBe(3)
          expect(Result.isSuccess(yield* ask(two, "n2"))).toBe(true)
          expect(verifier.counters().displaced).toBe(1)
        }),
    ))

  it("under way are answered while the service's scope closes", () =>
    withBuses(
      nats,
      [
        ["verifier", "v1"],
        ["loader", "n1"],
      ],
      (verifier, loader) =>
        Effect.gen(function* () {
          const serving = yield* Deferred.make<void>()
          const begun = yield* Deferred.make<void>()
          const service = yield* Effect.forkChild(
            Effect.scoped(
              Effect.gen(function* () {
                yield* verifier.serve("hello", {}, () =>
                  Deferred.succeed(begun, undefined).pipe(
                    Effect.andThen(Effect.sleep("200 millis")),
                    Effect.as(no("DONE")),
                  ),
                )
                yield* Deferred.succeed(serving, undefined)
                return yield* Effect.never
              }),
            ),
          )
          yield* Deferred.await(serving)
          const asking = yield* Effect.forkChild(loader.request("hello", n1, hello, soon))
          yield* Deferred.await(begun)
          yield* Fiber.interrupt(service)
          expect(yield* Fiber.join(asking)).toEqual(no("DONE"))
          expect((yield* Effect.flip(loader.request("hello", n1, hello, soon))).reason).toBe("NoResponders")
        }),
    ))

  it(
    "survive a server that goes away and comes back",
    () =>
      withBuses(
        nats,
        [
          ["verifier", "v1"],
          ["loader", "n1"],
          ["releaser", "r1"],
        ],
        (verifier, loader, releaser) =>
          Effect.gen(function* () {
            yield* verifier.serve("hello", {}, () => Effect.succeed(no("DONE")))
            const restarting = yield* Effect.forkChild(Effect.promise(() => nats.restart({ downMs: 1_000 })))
            let reason: string | undefined
            for (let i = 0; i < 2_000 && reason === undefined; i++) {
              const said = yield* Effect.result(releaser.publish("beacon", { instance: "r1" }, beacon(1n)))
              if (Result.isFailure(said)) reason = said.failure.reason
              else yield* Effect.sleep("5 millis")
            }
            expect(reason).toBe("Closed")
            const answer = yield* loader.request("hello", n1, hello, { timeoutMs: 4_000 }).pipe(
              Effect.retry({
                times: 100,
                // The one that answers may be back later than the one that asks.
                schedule: Schedule.spaced("50 millis"),
                while: (error) => error.reason === "NoResponders" || error.reason === "Closed",
              }),
            )
            expect(answer).toEqual(no("DONE"))
            yield* Fiber.join(restarting)
            expect(loader.counters().reconnects).toBe(1)
          }),
      ),
    20_000,
  )
})

describe("publications", () => {
  it("are handed over in order, and a failing handler does not stop them", () =>
    withBuses(
      nats,
      [
        ["releaser", "r1"],
        ["verifier", "v1"],
      ],
      (releaser, verifier) =>
        Effect.gen(function* () {
          const seen: bigint[] = []
          yield* verifier.subscribe(
            "beacon",
            {},
            ({ term }, { sender }) => {
              expect(sender).toBe("releaser-r1")
              seen.push(term)
              return term === 2n ? Effect.die("boom") : Effect.void
            },
            { perSenderMax: 100 },
          )
          for (const term of [1n, 2n, 3n, 4n])
            yield* releaser.publish("beacon", { instance: "r1" }, beacon(term))
          yield* until(() => seen.length === 4)
          expect(seen).toEqual([1n, 2n, 3n, 4n])
        }),
    ))

  it("of a sender that floods push out only its own older ones", () => {
    const pending = new Pending<string>(5, 2)
    for (const item of ["a1", "a2", "a3", "a4"]) pending.add("a", item)
    for (const item of ["b1", "b2", "c1"]) expect(pending.add(item.slice(0, 1), item)).toBe(true)
    expect(pending.add("d", "d1")).toBe(false)
    const taken = Array.from({ length: 6 }, () => pending.take())
    expect(taken).toEqual(["a3", "b1", "c1", "a4", "b2", undefined])
    expect(pending.size).toBe(0)
  })
})

describe("events", () => {
  it("are stored, heard, and read back in order with their publisher", () =>
    withBuses(
      nats,
      [
        ["verifier", "v1"],
        ["auditor", "lab"],
      ],
      (verifier, auditor) =>
        Effect.gen(function* () {
          const before = yield* auditor.history({ after: 0, most: 10_000 })
          const after = before.at(-1)?.sequence ?? 0
          const heard: Event[] = []
          yield* auditor.subscribe(
            "event",
            {},
            (event, { sender }) => {
              expect(sender).toBe("verifier-v1")
              return Effect.sync(() => heard.push(event))
            },
            { perSenderMax: 100 },
          )
          for (let i = 0; i < 5; i++)
            yield* verifier.event({
              type: "vouchsafe.hello.refused",
              subject: "n1",
              data: { code: `C${i}`, term: 3n },
            })
          yield* until(() => heard.length === 5)
          const stored = yield* auditor.history({ after, most: 100 })
          expect(stored.map(({ identity, event }) => [identity, event.data.code])).toEqual(
            [0, 1, 2, 3, 4].map((i) => ["verifier-v1", `C${i}`]),
          )
          expect(stored.map(({ event }) => event)).toEqual(heard)
          expect(heard[0]).toMatchObject({
            source: "/vouchsafe/verifier-v1",
            specversion: "1.0",
            data: { term: 3n },
          })
          expect(yield* auditor.history({ after, most: 2 })).toHaveLength(2)
        }),
    ))

  it("never make a service wait; what finds no room is counted", () =>
    withBuses(nats, [["verifier", "v1"]], (verifier) =>
      Effect.gen(function* () {
        const lost = countLostTime()
        const began = performance.now()
        for (let i = 0; i < 3_000; i++)
          yield* verifier.event({ type: "vouchsafe.hello.refused", data: { code: `F${i}` } })
        expect(performance.now() - began - lost().most).toBeLessThan(1_000)
        expect(verifier.counters().eventsDropped).toBeGreaterThan(1_000)
      }),
    ))

  it("have an allowance for each sender by itself, tell how many were left out, and forget the oldest of too many", () => {
    const allowances = new Allowances(2, 1, 2)
    const take = (name: string, nowMs: number) => allowances.take(name, nowMs)
    expect(["a", "a", "a", "b", "a"].map((name) => take(name, 0))).toEqual([0, 0, undefined, 0, undefined])
    expect([take("a", 999), take("a", 1_000), take("a", 1_000)]).toEqual([undefined, 3, undefined])
    expect([take("a", 9_000), take("a", 9_000), take("a", 9_000)]).toEqual([1, 0, undefined])
    expect([take("c", 9_000), take("b", 9_000), take("a", 9_000)]).toEqual([0, 0, 0])
  })

  it("of our own making do not follow an attack's pace", () => {
    const pace = new Pace(10, 1_000)
    const taken = Array.from({ length: 100 }, (_, i) => pace.take(i * 50))
    expect(taken.filter(Boolean)).toHaveLength(50)
    const burst = Array.from({ length: 100 }, () => pace.take(10_000))
    expect(burst.filter(Boolean)).toHaveLength(10)
  })
})

describe("workflows", () => {
  it("are put, read and followed", () =>
    withBuses(
      nats,
      [
        ["operator", "lab"],
        ["loader", "n1"],
      ],
      (operator, loader) =>
        Effect.gen(function* () {
          expect(yield* loader.workflows.get("lab")).toBeUndefined()
          const first = yield* operator.workflows.put("lab", workflow(1))
          expect((yield* loader.workflows.get("lab"))?.revision).toBe(first)
          const seen: number[] = []
          yield* loader.workflows.watch("lab", ({ document }) =>
            Effect.sync(() => seen.push(document[0] ?? -1)),
          )
          expect(seen).toEqual([1])
          yield* operator.workflows.put("lab", workflow(2))
          yield* until(() => seen.length === 2)
          expect(yield* operator.workflows.put("lab", workflow(3))).toBeGreaterThan(first)
          yield* until(() => seen.length === 3)
          expect(seen).toEqual([1, 2, 3])
          expect((yield* loader.workflows.get("lab"))?.value).toEqual(workflow(3))
          expect((yield* Effect.flip(loader.workflows.put("lab", workflow(4)))).reason).toBe("Denied")
          expect((yield* Effect.flip(loader.workflows.get("other"))).reason).toBe("Denied")
          expect((yield* Effect.flip(loader.workflows.get("*"))).reason).toBe("Invalid")
        }),
    ))

  it("are in streams that are made once and brought up to date after", () =>
    withBuses(
      nats,
      [
        ["operator", "lab"],
        ["loader", "n1"],
      ],
      (operator, loader) =>
        Effect.gen(function* () {
          yield* operator.ensureStreams
          yield* operator.ensureStreams
          expect((yield* Effect.flip(loader.ensureStreams)).reason).toBe("Denied")
        }),
    ))
})

describe("a connection", () => {
  it("is not made for an identity that the server does not know", async () => {
    const config = { ...nats.config("verifier", "v1"), seed: Redacted.make(newUser().seed) }
    const exit = await Effect.runPromiseExit(Effect.scoped(Layer.build(Bus.layer(config))))
    expect(Exit.isFailure(exit)).toBe(true)
    expect(JSON.stringify(exit)).toContain("does not accept this identity")
  })

  it("is not made in the clear when TLS was asked for", async () => {
    const config = { ...nats.config("verifier", "v1"), url: nats.url.replace("nats://", "tls://") }
    const exit = await Effect.runPromiseExit(Effect.scoped(Layer.build(Bus.layer(config))))
    expect(JSON.stringify(exit)).toContain("does not speak TLS")
  })

  it("that is closed for good ends the service", async () => {
    const own = await startNats([{ role: "verifier", instance: "v1" }])
    try {
      const error = await Effect.runPromise(
        Effect.scoped(
          Effect.gen(function* () {
            const bus = yield* openBus(own, "verifier", "v1")
            yield* Effect.promise(() => own.restart({ without: ["verifier-v1"] }))
            return yield* Effect.flip(bus.closed)
          }),
        ).pipe(Effect.provide(Logger.layer([]))),
      )
      expect(error.reason).toBe("Closed")
    } finally {
      await own.stop()
    }
  }, 20_000)

  it("whose subscription the server takes away ends the service too", async () => {
    const own = await startNats([{ role: "verifier", instance: "v1" }])
    try {
      const error = await Effect.runPromise(
        Effect.scoped(
          Effect.gen(function* () {
            const bus = yield* openBus(own, "verifier", "v1")
            yield* bus.serve("hello", {}, () => Effect.succeed(no("DONE")))
            yield* Effect.promise(() =>
              own.restart({ edit: (text) => text.replace('"vs.v1.hello.* verifier"', "") }),
            )
            return yield* Effect.flip(bus.closed)
          }),
        ).pipe(Effect.provide(Logger.layer([]))),
      )
      expect(error).toMatchObject({ reason: "Denied", subject: "vs.v1.hello.*" })
    } finally {
      await own.stop()
    }
  }, 20_000)
})

/** More nodes than can be challenged at once: all are served in the order of their asking, and none holds the others up for long. */
import { Deferred, Effect, Fiber, Logger, Result } from "effect"
import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { Refused } from "../../services/common/bus/types.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { inTurn } from "../../services/dataplane-loader/in-turn.ts"
import { stepMs } from "../../services/dataplane-loader/patience.ts"
import { ChallengeWindow } from "../../services/verifier/challenge-window.ts"
import { makeHelloBatch, type Quoted, WINDOW } from "../../services/verifier/hello-batch.ts"
import { HelloQueue, TURN_MS } from "../../services/verifier/hello-queue.ts"
import { makeResultBatch } from "../../services/verifier/result-batch.ts"

const quiet = Effect.provide(Logger.layer([]))
const asks = (node: string, untilMs: number) => ({ node, item: node, untilMs })
const nodesOf = (all: ReadonlyArray<{ readonly node: string }>) => all.map(({ node }) => node)
const names = (many: number) => Array.from({ length: many }, (_, i) => `n${i}`)
const QUOTE = { control: {} as never, releaser: "r" }
const nonce = new Uint8Array(32)

describe("hellos that wait", () => {
  it("have their turn in the order of their first asking, one of each node", () => {
    const queue = new HelloQueue<string>()
    for (const node of ["a", "b", "c"]) expect(queue.add(asks(node, 100), 0)).toBeUndefined()
    expect(queue.add(asks("a", 200), 1)).toEqual(asks("a", 100))
    expect(queue.size).toBe(3)
    expect(queue.take(2)).toEqual([asks("a", 200), asks("b", 100)])
    expect(queue.add(asks("a", 300), 2)).toBeUndefined()
    expect(nodesOf(queue.take(9))).toEqual(["c", "a"])
    expect(queue.size).toBe(0)
  })

  it("keep their turn when they are told to ask again, for a while", () => {
    const queue = new HelloQueue<string>()
    for (const node of ["a", "b"]) queue.add(asks(node, 10), 0)
    queue.add(asks("c", 50), 0)
    expect(queue.late(9)).toEqual([])
    expect(nodesOf(queue.late(10))).toEqual(["a", "b"])
    expect(queue.late(11)).toEqual([])
    expect(queue.size).toBe(1)
    queue.add(asks("b", 60), 20)
    expect(nodesOf(queue.take(1))).toEqual(["b"])
    queue.late(10 + TURN_MS)
    queue.add(asks("d", TURN_MS + 90), 10 + TURN_MS)
    queue.add(asks("a", TURN_MS + 90), 11 + TURN_MS)
    expect(nodesOf(queue.take(9))).toEqual(["d", "a"])
  })
})

describe("the window", () => {
  it("has no more room than for so many, and theirs when they were judged", () => {
    const window = new ChallengeWindow(2)
    for (const node of ["a", "b", "b"]) window.enter(node, 0)
    expect(window.room(1)).toBe(0)
    window.leave("a")
    window.leave("unknown")
    expect(window.room(1)).toBe(1)
  })

  it("is not held for long by who doesn't answer, and longer only where answers that were accepted take longer", () => {
    const window = new ChallengeWindow(1)
    window.enter("silent", 0)
    expect(window.room(window.holdMs - 1)).toBe(0)
    expect(window.room(window.holdMs)).toBe(1)
    const least = window.holdMs
    for (let i = 0; i < 100; i++) window.accepted(1_000)
    expect(window.holdMs).toBeGreaterThan(2 * least)
    for (let i = 0; i < 100; i++) window.accepted(1e9)
    expect(window.holdMs).toBeLessThan(limits.challengeMs)
    for (let i = 0; i < 100; i++) window.accepted(0)
    expect(window.holdMs).toBe(least)
  })

  it("is smaller where answers take long, by half at most", () => {
    const window = new ChallengeWindow(100)
    for (let i = 0; i < 100; i++) window.accepted(1_900)
    expect(window.room(0)).toBe(100)
    for (let i = 0; i < 100; i++) window.accepted(2_500)
    expect(window.room(0)).toBeLessThan(90)
    for (let i = 0; i < 100; i++) window.accepted(1e9)
    expect(window.room(0)).toBe(50)
  })
})

describe("hellos", () => {
  const outcome = (hello: Effect.Effect<Quoted, Refused>) => hello.pipe(Effect.result, Effect.forkChild)

  it("beyond the window wait for those before them, and are refused before their patience ends", () =>
    Effect.gen(function* () {
      const { quoted, judged } = yield* makeHelloBatch(crypto, () => Effect.succeed(QUOTE))
      const all = names(WINDOW + 2)
      const [late = "", last = ""] = all.slice(WINDOW)
      for (const node of all.slice(0, WINDOW)) yield* outcome(quoted(node, nonce, 60_000))
      yield* Effect.sleep(100)
      const impatient = yield* outcome(quoted(late, nonce, 50))
      const patient = yield* outcome(quoted(last, nonce, 60_000))
      const refused = yield* Fiber.join(impatient)
      expect(Result.isFailure(refused) && refused.failure.code).toBe("BUSY")
      const again = yield* outcome(quoted(late, nonce, 60_000))
      judged("n0")
      expect(Result.isSuccess(yield* Fiber.join(again))).toBe(true)
      judged("n1")
      expect(Result.isSuccess(yield* Fiber.join(patient))).toBe(true)
    }).pipe(Effect.scoped, quiet, Effect.timeout("20 seconds"), Effect.runPromise))

  it("are quoted while a report before theirs is lost", () =>
    Effect.gen(function* () {
      const lost = yield* Deferred.make<typeof QUOTE, Refused>()
      let calls = 0
      const { quoted } = yield* makeHelloBatch(crypto, () =>
        ++calls === 1 ? Deferred.await(lost) : Effect.succeed(QUOTE),
      )
      const first = yield* outcome(quoted("n0", nonce, 60_000))
      yield* Effect.sleep(50)
      const second = yield* outcome(quoted("n1", nonce, 60_000))
      expect(Result.isSuccess(yield* Fiber.join(second))).toBe(true)
      yield* Deferred.fail(lost, new Refused({ code: "NO_LEADER", field: "control", message: "lost" }))
      const refused = yield* Fiber.join(first)
      expect(Result.isFailure(refused) && refused.failure.code).toBe("NO_LEADER")
    }).pipe(Effect.scoped, quiet, Effect.timeout("20 seconds"), Effect.runPromise))
})

describe("results", () => {
  const one = (node: string) => ({
    domain: "lab",
    workflow: new Uint8Array(32),
    node,
    dhKey: new Uint8Array(32),
    body: new Uint8Array(8),
  })

  it("that no more are to follow than have come are signed when the first wait is over", () =>
    Effect.gen(function* () {
      const askedMs: number[] = []
      const due = () => {
        askedMs.push(performance.now())
        return 1
      }
      const signed = yield* makeResultBatch(crypto, crypto.ed25519.generate(), due)
      expect((yield* signed(one("a"))).batch.size).toBe(1)
      const [from = 0] = askedMs
      // Once, and the answer was that it isn't worth it.
      expect(askedMs.filter((ms) => ms - from > limits.resultGatherMs).length).toBeLessThanOrEqual(1)
    }).pipe(Effect.scoped, quiet, Effect.timeout("20 seconds"), Effect.runPromise))

  it("of a crowd wait for more of them, and not for ever", () =>
    Effect.gen(function* () {
      const signed = yield* makeResultBatch(crypto, crypto.ed25519.generate(), () => 100)
      let together = 1
      // A machine that stands still for longer than a crowd's wait proves nothing.
      for (let i = 0; i < 10 && together === 1; i++) {
        const first = yield* signed(one("a")).pipe(Effect.forkChild)
        yield* Effect.sleep(limits.resultGatherMs + 20)
        yield* signed(one("b"))
        together = (yield* Fiber.join(first)).batch.size
      }
      expect(together).toBe(2)
    }).pipe(Effect.scoped, quiet, Effect.timeout("20 seconds"), Effect.runPromise))
})

describe("a node", () => {
  it("whose traffic is at stake waits longer after answers that stayed out; nobody waits for more than five seconds", () => {
    const waits = (hurried: boolean) => [0, 1, 2, 3].map((unanswered) => stepMs(hurried, unanswered))
    expect(waits(true)).toEqual([1_500, 3_000, 5_000, 5_000])
    expect(waits(false)).toEqual([5_000, 5_000, 5_000, 5_000])
  })

  it("asks again as long as it is told to, and takes any other answer", async () => {
    const answers = ["BUSY", "BUSY", "REVOKED", "BUSY"]
    const ask = Effect.sync(() => ({ kind: "refused", code: answers.shift() ?? "" }))
    expect(await Effect.runPromise(inTurn(ask))).toEqual({ kind: "refused", code: "REVOKED" })
    expect(answers).toEqual(["BUSY"])
    expect(await Effect.runPromise(inTurn(Effect.succeed({ kind: "offer" })))).toEqual({ kind: "offer" })
  })
})

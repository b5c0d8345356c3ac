/**
 * Joins results that are accepted within a short time under one signature: who relies on them all then verifies one. A
 * result waits only while other challenges are unanswered, and never for longer than `limits.resultGatherMs`; or than
 * `limits.resultCrowdMs` while more are still to come than have been gathered: nodes that all start together meet all the
 * others' results, and few signatures cost each of them less than it waits.
 */
import { Deferred, Effect, Queue } from "effect"
import { limits } from "../../schemas/limits.ts"
import type { Refused } from "../common/bus/types.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { surviving } from "../common/process/defects.ts"
import { refuse } from "../guest/refusals.ts"
import { type SignedResult, signResults, type UnsignedResult } from "../make/result.ts"

interface Waiting {
  readonly result: UnsignedResult
  readonly signed: Deferred.Deferred<SignedResult, Refused>
}

const STEP_MS = 5

/**
 * @param due how many answers are still to come that a batch could wait for
 * @returns a function that waits for the signature
 */
export const makeResultBatch = Effect.fn("makeResultBatch")(function* (
  crypto: Crypto,
  key: SecretKey,
  due: () => number,
) {
  const waiting = yield* Queue.bounded<Waiting>(limits.batchLeaves)

  const failAll = (batch: ReadonlyArray<Waiting>) =>
    Effect.forEach(
      batch,
      ({ signed }) => Deferred.fail(signed, refuse("INTERNAL", "result", "the verifier failed")),
      { discard: true },
    )

  const isWorthMore = (waitedMs: number): boolean => {
    if (waitedMs < limits.resultGatherMs) return due() > 0
    return waitedMs < limits.resultCrowdMs && due() > 1 + Queue.sizeUnsafe(waiting)
  }

  const signBatch = Effect.gen(function* () {
    const first = yield* Queue.take(waiting)
    const began = performance.now()
    while (isWorthMore(performance.now() - began)) yield* Effect.sleep(STEP_MS)
    const rest = yield* Queue.clear(waiting)
    const batch = [first, ...rest].slice(0, limits.batchLeaves)
    yield* sign(batch).pipe(
      Effect.tapDefect(() => failAll(batch)),
      surviving("signing results"),
    )
  })

  const sign = Effect.fnUntraced(function* (batch: ReadonlyArray<Waiting>) {
    const results = signResults(
      crypto,
      key,
      batch.map(({ result }) => result),
    )
    for (const [i, { signed }] of batch.entries()) {
      const result = results[i]
      if (result !== undefined) yield* Deferred.succeed(signed, result)
    }
  })
  yield* Effect.forkScoped(Effect.forever(signBatch))

  return (result: UnsignedResult) =>
    Effect.gen(function* () {
      const signed = yield* Deferred.make<SignedResult, Refused>()
      yield* Queue.offer(waiting, { result, signed })
      return yield* Deferred.await(signed)
    })
})

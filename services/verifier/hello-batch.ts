/**
 * Joins hellos that arrive within a few milliseconds under one Merkle root, so that one control-plane report answers them
 * all: real hardware takes milliseconds for a report and is throttled.
 */
import { Deferred, Effect, Queue, Result } from "effect"
import { limits } from "../../schemas/limits.ts"
import type { ControlEvidence } from "../../schemas/messages/attestation.ts"
import type { Refused } from "../common/bus/types.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { surviving } from "../common/process/defects.ts"
import { refuse } from "../guest/refusals.ts"
import { buildTree, helloLeaf, type Inclusion } from "../make/merkle.ts"

export interface Quoted {
  readonly control: ControlEvidence
  /** The releaser that this Evidence vouches for. */
  readonly releaser: string
  readonly inclusion: Inclusion
  /** All that stand under the root, in their order. */
  readonly leaves: ReadonlyArray<Uint8Array>
}

interface Waiting {
  readonly node: string
  readonly leaf: Uint8Array
  readonly answer: Deferred.Deferred<Quoted, Refused>
}

/**
 * @param quote asks the attester of the leader's guest for Evidence over a root
 * @param beside leaves that are to stand under the root too, by who is asking; as many as there is room for
 * @returns a function that waits until a nonce has been quoted
 */
export const makeHelloBatch = Effect.fn("makeHelloBatch")(function* (
  crypto: Crypto,
  quote: (root: Uint8Array, leaves: number) => Effect.Effect<Pick<Quoted, "control" | "releaser">, Refused>,
  beside: (asking: ReadonlyArray<string>) => ReadonlyArray<Uint8Array> = () => [],
) {
  const waiting = yield* Queue.bounded<Waiting>(limits.batchLeaves)

  const failAll = (batch: ReadonlyArray<Waiting>) =>
    Effect.forEach(
      batch,
      ({ answer }) => Deferred.fail(answer, refuse("INTERNAL", "control", "the verifier failed")),
      { discard: true },
    )

  const answerBatch = Effect.gen(function* () {
    const first = yield* Queue.take(waiting)
    yield* Effect.sleep(limits.batchGatherMs)
    const rest = yield* Queue.clear(waiting)
    const batch = [first, ...rest].slice(0, limits.batchLeaves)
    yield* answer(batch).pipe(
      Effect.tapDefect(() => failAll(batch)),
      surviving("quoting hellos"),
    )
  })

  const answer = Effect.fnUntraced(function* (batch: ReadonlyArray<Waiting>) {
    const own = batch.map(({ leaf }) => leaf)
    const asking = batch.map(({ node }) => node)
    const leaves = [...own, ...beside(asking)].slice(0, limits.batchLeaves)
    const tree = buildTree(crypto, leaves)
    const quoted = yield* Effect.result(quote(tree.root, tree.size))
    for (const [index, { answer }] of batch.entries()) {
      yield* Result.isSuccess(quoted)
        ? Deferred.succeed(answer, { ...quoted.success, inclusion: tree.inclusion(index), leaves })
        : Deferred.fail(answer, quoted.failure)
    }
  })
  yield* Effect.forkScoped(Effect.forever(answerBatch))

  return (node: string, nonce: Uint8Array) =>
    Effect.gen(function* () {
      const answer = yield* Deferred.make<Quoted, Refused>()
      yield* Queue.offer(waiting, { node, leaf: helloLeaf("node", node, nonce), answer })
      return yield* Deferred.await(answer)
    })
})

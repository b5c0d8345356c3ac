/**
 * Joins hellos that arrive within a few milliseconds under one Merkle root, so that one control-plane report answers them
 * all: real hardware takes milliseconds for a report and is throttled. Of more nodes than can be served together the
 * others wait, and are told to ask again before their patience ends.
 */
import { Deferred, Effect, Fiber, Latch, Result } from "effect"
import { limits } from "../../schemas/limits.ts"
import type { ControlEvidence } from "../../schemas/messages/attestation.ts"
import type { Refused } from "../common/bus/types.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { surviving } from "../common/process/defects.ts"
import { refuse } from "../guest/refusals.ts"
import { buildTree, helloLeaf, type Inclusion } from "../make/merkle.ts"
import { ChallengeWindow } from "./challenge-window.ts"
import { HelloQueue, type Waiting } from "./hello-queue.ts"

/** Nodes from challenge to answer at once: more than a verifier serves in the time that hardware takes for an answer. */
export const WINDOW = 128
/** Fewer than this share of the window aren't worth a report of their own, unless no more are waiting. */
const SHARE = WINDOW / 4
/** A report that takes longer may be lost: what has arrived meanwhile asks for another. */
const SLOW_MS = 250

export interface Quoted {
  readonly control: ControlEvidence
  /** The releaser that this Evidence vouches for. */
  readonly releaser: string
  readonly inclusion: Inclusion
  /** All that stand under the root, in their order. */
  readonly leaves: ReadonlyArray<Uint8Array>
}

interface Asking {
  readonly leaf: Uint8Array
  readonly answer: Deferred.Deferred<Quoted, Refused>
}

const monotonicMs = () => performance.now()

const busy = () => refuse("BUSY", "hello", "others are being challenged; ask again")

/**
 * @param quote asks the attester of the leader's guest for Evidence over a root
 * @param beside leaves that are to stand under the root too, by who is asking; as many as there is room for
 * @returns `quoted` waits until a nonce has been quoted, `patienceMs` at most: BUSY after that. Who was quoted has a place in
 * the window until `judged`
 */
export const makeHelloBatch = Effect.fn("makeHelloBatch")(function* (
  crypto: Crypto,
  quote: (root: Uint8Array, leaves: number) => Effect.Effect<Pick<Quoted, "control" | "releaser">, Refused>,
  beside: (asking: ReadonlyArray<string>) => ReadonlyArray<Uint8Array> = () => [],
) {
  const queue = new HelloQueue<Asking>()
  const window = new ChallengeWindow(WINDOW)
  const waiting = yield* Latch.make(false)

  const failAll = (batch: ReadonlyArray<Waiting<Asking>>, why: Refused) =>
    Effect.forEach(
      batch,
      ({ node, item }) => {
        window.leave(node)
        return Deferred.fail(item.answer, why)
      },
      { discard: true },
    )

  const answer = Effect.fnUntraced(function* (batch: ReadonlyArray<Waiting<Asking>>) {
    const own = batch.map(({ item }) => item.leaf)
    const asking = batch.map(({ node }) => node)
    const leaves = [...own, ...beside(asking)].slice(0, limits.batchLeaves)
    const tree = buildTree(crypto, leaves)
    const quoted = yield* Effect.result(quote(tree.root, tree.size))
    if (Result.isFailure(quoted)) return yield* failAll(batch, quoted.failure)
    for (const [index, { item }] of batch.entries())
      yield* Deferred.succeed(item.answer, { ...quoted.success, inclusion: tree.inclusion(index), leaves })
  })

  /** Those whose turn it is, when it is worth it. */
  const taken = (): ReadonlyArray<Waiting<Asking>> => {
    const now = monotonicMs()
    const room = Math.min(window.room(now), limits.batchLeaves)
    if (room < Math.min(queue.size, SHARE)) return []
    const batch = queue.take(room)
    for (const { node } of batch) window.enter(node, now)
    return batch
  }

  const answerBatch = Effect.gen(function* () {
    yield* waiting.await
    yield* Effect.sleep(limits.batchGatherMs)
    yield* Effect.forEach(queue.late(monotonicMs()), ({ item }) => Deferred.fail(item.answer, busy()), {
      discard: true,
    })
    const batch = taken()
    if (batch.length > 0) {
      const quoting = yield* Effect.forkScoped(
        answer(batch).pipe(
          Effect.tapDefect(() => failAll(batch, refuse("INTERNAL", "control", "the verifier failed"))),
          surviving("quoting hellos"),
        ),
      )
      yield* Fiber.await(quoting).pipe(Effect.timeoutOption(SLOW_MS))
    }
    if (queue.size === 0) waiting.closeUnsafe()
  })
  yield* Effect.forkScoped(Effect.forever(answerBatch))

  return {
    quoted: (node: string, nonce: Uint8Array, patienceMs: number) =>
      Effect.gen(function* () {
        const answer = yield* Deferred.make<Quoted, Refused>()
        const now = monotonicMs()
        const item = { leaf: helloLeaf("node", node, nonce), answer }
        const before = queue.add({ node, item, untilMs: now + patienceMs }, now)
        waiting.openUnsafe()
        if (before !== undefined) yield* Deferred.fail(before.item.answer, busy())
        return yield* Deferred.await(answer)
      }),
    /** How many are challenged, and likely to answer soon. */
    answersDue: (): number => window.size(monotonicMs()),
    judged: (node: string, tookMs?: number): void => {
      window.leave(node)
      if (tookMs !== undefined) window.accepted(tookMs)
    },
  }
})

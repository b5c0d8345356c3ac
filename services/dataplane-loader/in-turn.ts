/** Of many nodes that start together some are told to ask again: a session that waits for its turn is kept, not begun anew. */
import { Effect } from "effect"

/** As long as verifiers say BUSY: that they are there, and what can be asked again is the same. */
const QUEUE_MS = 30_000
/** A verifier keeps a place for whoever asks again soon; not all at once. */
const AGAIN_MS = 100
const SPREAD_MS = 300

/** Asks again as long as the answer is BUSY, for half a minute at most: whatever the answer is then. */
export const inTurn = <A extends { readonly kind: string }, E>(
  ask: Effect.Effect<A, E>,
): Effect.Effect<A, E> =>
  Effect.gen(function* () {
    const until = performance.now() + QUEUE_MS
    for (;;) {
      const reply = yield* ask
      const busy = reply.kind === "refused" && "code" in reply && reply.code === "BUSY"
      if (!busy || performance.now() >= until) return reply
      yield* Effect.sleep(AGAIN_MS + Math.random() * SPREAD_MS)
    }
  })

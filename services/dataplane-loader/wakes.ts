/** What wakes a node before its time: somebody claims that a new leader reigns. */
import { Effect, Latch } from "effect"
import { LeaderHints } from "./leader-hints.ts"

/** While there is a claim that may not be looked into yet. */
const CLAIM_LOOK_MS = 20

/**
 * @param followed the highest term that this node has followed
 * @param nowMs of a monotonic clock
 */
export const makeWakes = (followed: () => bigint | undefined, nowMs: () => number) => {
  const hints = new LeaderHints()
  /** Opened when there is a claim to look into; and when there is one that came after the session under way began. */
  const woken = Latch.makeUnsafe(false)
  const claims = Latch.makeUnsafe(false)

  return {
    /** Somebody says who leads: nothing but Evidence makes that true, and a new session asks for it. */
    heard: (term: bigint): void => {
      if (hints.heard(term, followed(), nowMs())) woken.openUnsafe()
      if (hints.hasNew) claims.openUnsafe()
    },

    /** Whether a new session is due because of what was claimed. */
    due: (): boolean => hints.due(followed(), nowMs()),

    /** A session begins, for whatever reason. */
    sessionBegins: (): void => {
      woken.closeUnsafe()
      hints.looked(nowMs())
    },

    /** A session follows this term. */
    follows: (term: bigint): void => hints.follows(term),

    /** Until a new leader is claimed that the session under way can't have met; soon after another claim it has its turn a little later. */
    claimed: Effect.gen(function* () {
      while (!hints.dueAnew(followed(), nowMs())) {
        if (hints.hasNew) yield* Effect.sleep(CLAIM_LOOK_MS)
        else {
          claims.closeUnsafe()
          yield* claims.await
        }
      }
      woken.openUnsafe()
    }),

    /** Until this node is woken. */
    woken: woken.await,

    /** Until this node is woken, for so long at most; gives nothing when that was over first. */
    sleep: (ms: number) => woken.await.pipe(Effect.timeoutOption(ms)),

    /** What woke it was seen to. */
    slept: (): void => void woken.closeUnsafe(),
  }
}

/**
 * How many nodes are on the way from a challenge to its answer. When a thousand start together, those that are challenged
 * are served in time and the others wait with a hello, which costs nothing, instead of all of them waiting in each step
 * until none has the patience for the next. Pure; times are ms of a monotonic clock.
 */
import { limits } from "../../schemas/limits.ts"

/** What answers that were accepted take may grow to this; then fewer at once are as fast together. */
const USUAL_MS = 2_000
/** Hardware answers within this, or is so slow that the verifier has time for others meanwhile. */
const HOLD_MS = 1_000
/** Where whole machines are slow, all of their answers are: still well within a challenge's life. */
const HOLD_MS_MAX = 3_000
/** An answer in thrice the usual time is one that is under way. */
const PATIENCE = 3
const SMOOTHING = 1 / 16

export class ChallengeWindow {
  readonly #most: number
  /** By node, the oldest first. */
  readonly #since = new Map<string, number>()
  /** From a hello's turn to the verdict, of those that were accepted lately. */
  #usualMs = 0

  constructor(most: number) {
    this.#most = most
  }

  /** A node that takes no answer back holds a place for so long. */
  get holdMs(): number {
    return Math.min(HOLD_MS_MAX, Math.max(HOLD_MS, PATIENCE * this.#usualMs))
  }

  /** How many may be on the way. Half of what there is at most is left away, however slow somebody makes answers seem. */
  get most(): number {
    return Math.ceil(this.#most * Math.max(1 / 2, Math.min(1, USUAL_MS / this.#usualMs)))
  }

  /** How many are on the way. */
  size(nowMs: number): number {
    const hold = this.holdMs
    for (const [node, sinceMs] of this.#since) {
      if (nowMs - sinceMs < hold) break
      this.#since.delete(node)
    }
    return this.#since.size
  }

  /** How many more may be challenged now. */
  room(nowMs: number): number {
    return Math.max(0, this.most - this.size(nowMs))
  }

  enter(node: string, nowMs: number): void {
    this.#since.delete(node)
    this.#since.set(node, nowMs)
  }

  /** Judged, or refused earlier. */
  leave(node: string): void {
    this.#since.delete(node)
  }

  /** Only good Evidence says how long it takes: nobody else can make others wait for a place. */
  accepted(tookMs: number): void {
    this.#usualMs += (Math.min(tookMs, limits.challengeMs) - this.#usualMs) * SMOOTHING
  }
}

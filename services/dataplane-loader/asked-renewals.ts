/**
 * When a node follows its peers' wish for fresh Evidence. It costs a whole attestation and new epochs on all its edges: wishes
 * are gathered, and whoever wishes all the time is followed more and more rarely. Times are ms of one monotonic clock.
 */

/** Peers that began at the same time wish at the same time. */
const GATHER_MS = 300
const PAUSE_MS_MIN = 2_000
const PAUSE_MS_MAX = 60_000
/** After so long without a wish the next one is followed soon again. */
const QUIET_MS = 300_000

export class AskedRenewals {
  #dueMs: number | undefined
  #followedMs = Number.NEGATIVE_INFINITY
  #pauseMs = PAUSE_MS_MIN

  heard(nowMs: number): void {
    if (nowMs - this.#followedMs >= QUIET_MS) this.#pauseMs = PAUSE_MS_MIN
    this.#dueMs ??= Math.max(nowMs + GATHER_MS, this.#followedMs + this.#pauseMs)
  }

  due(nowMs: number): boolean {
    return this.#dueMs !== undefined && nowMs >= this.#dueMs
  }

  /** An attestation begins, for whatever reason: wishes that were heard before are granted by it. */
  began(nowMs: number): void {
    if (this.#dueMs === undefined) return
    this.#dueMs = undefined
    this.#pauseMs =
      nowMs - this.#followedMs >= QUIET_MS ? PAUSE_MS_MIN : Math.min(PAUSE_MS_MAX, 2 * this.#pauseMs)
    this.#followedMs = nowMs
  }
}

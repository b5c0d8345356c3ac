/**
 * When a node follows its peers' wish for fresh Evidence. It costs a whole attestation and new epochs on all its edges: wishes
 * are gathered, and whoever wishes all the time is followed more and more rarely. Times are ms of one monotonic clock.
 */

/** Peers that began at the same time wish at the same time. */
const GATHER_MS = 300
const PAUSE_MS_MIN = 2_000
const PAUSE_MS_MAX = 60_000
/** So many are followed after the least pause: somebody who wished in others' names for some seconds delays nobody for longer. */
const AT_ONCE = 6
/** After so long without a wish the next one is followed soon again. */
const QUIET_MS = 300_000

export class AskedRenewals {
  #dueMs: number | undefined
  #followedMs = Number.NEGATIVE_INFINITY
  /** Without a quiet time between them. */
  #followed = 0
  #isGranting = false

  heard(nowMs: number): void {
    if (this.#isQuiet(nowMs)) this.#followed = 0
    this.#dueMs ??= Math.max(nowMs + GATHER_MS, this.#nextMs)
  }

  due(nowMs: number): boolean {
    return this.#dueMs !== undefined && nowMs >= this.#dueMs
  }

  /** An attestation begins, for whatever reason: wishes that were heard before are granted by it. */
  began(nowMs: number): void {
    this.#isGranting = this.#dueMs !== undefined
    if (!this.#isGranting) return
    this.#dueMs = undefined
    this.#followed = this.#isQuiet(nowMs) ? 1 : this.#followed + 1
    this.#followedMs = nowMs
  }

  /** It came to nothing: nobody's wish was granted, and it counts all the same. */
  failed(): void {
    if (this.#isGranting) this.#dueMs = this.#nextMs
    this.#isGranting = false
  }

  #isQuiet(nowMs: number): boolean {
    return nowMs - this.#followedMs >= QUIET_MS
  }

  get #nextMs(): number {
    const doublings = Math.max(0, this.#followed - AT_ONCE)
    return this.#followedMs + Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** doublings)
  }
}

/**
 * When a node begins a new session because somebody said that a new leader reigns. Anybody on the bus can say that, so it
 * is worth one look, and less each time that it was not true. Pure; times are ms of a monotonic clock.
 */

const PAUSE_MS = 250
const PAUSE_MS_MAX = 60_000

export class LeaderHints {
  #claimed: bigint | undefined
  #notBeforeMs = Number.NEGATIVE_INFINITY
  #futile = 0
  #following: bigint | undefined

  /** @returns whether to begin a new session now */
  heard(term: bigint, followed: bigint | undefined, nowMs: number): boolean {
    if (followed === undefined || term <= followed) return false
    this.#claimed = term
    return this.due(followed, nowMs)
  }

  /** Whether something that was heard is still to be looked into. */
  due(followed: bigint | undefined, nowMs: number): boolean {
    return (
      this.#claimed !== undefined &&
      followed !== undefined &&
      this.#claimed > followed &&
      nowMs >= this.#notBeforeMs
    )
  }

  /** A session begins, or ends in a refusal: whatever was claimed has had its look. */
  looked(nowMs: number): void {
    this.#notBeforeMs = nowMs + Math.min(PAUSE_MS * 2 ** Math.min(this.#futile, 12), PAUSE_MS_MAX)
    if (this.#claimed !== undefined) this.#futile += 1
  }

  /** A session follows this term. */
  follows(term: bigint): void {
    if (this.#following !== undefined && term > this.#following) this.#futile = 0
    this.#following = term
    if (this.#claimed !== undefined && this.#claimed <= term) this.#claimed = undefined
  }
}

/**
 * When many nodes come at once, how long one that is ready waits for the others, so that one release says what their
 * coming changes for it. Only the time between what arrives is looked at: as long as it comes thick and fast, more of it is
 * likely to come. Pure; times are ms of one monotonic clock.
 */

/** Nothing for so long, and longer than usual: what comes next has nothing to do with what came before. */
const APART_MS = 100
/** A pause of so many usual ones is the end. */
const PAUSES = 8
const QUIET_MS_MIN = 10
const QUIET_MS_MAX = 250
const PATIENCE_MS = 750

export class Burst {
  #lastMs = Number.NEGATIVE_INFINITY
  /** When it began. */
  #sinceMs = 0
  /** Between arrivals, on a moving average. */
  #gapMs = 0
  /** The longest that an acknowledgement took. */
  #ackMs = 0

  /** Something arrived that is likely not to come alone: a first request, or an acknowledgement after `ackMs`. */
  heard(nowMs: number, ackMs = 0): void {
    const gapMs = nowMs - this.#lastMs
    const another = gapMs >= APART_MS && this.over(nowMs)
    if (another) this.#sinceMs = nowMs
    this.#gapMs = another ? 0 : this.#gapMs + (gapMs - this.#gapMs) / 4
    this.#ackMs = another ? ackMs : Math.max(this.#ackMs, ackMs)
    this.#lastMs = nowMs
  }

  /** Whether nothing more is likely to come soon. */
  over(nowMs: number): boolean {
    const quietMs = Math.min(QUIET_MS_MAX, Math.max(QUIET_MS_MIN, PAUSES * this.#gapMs))
    return nowMs - this.#lastMs >= quietMs
  }

  /**
   * No node waits for longer. With a request to answer: less than it takes nodes to ask again. Without: twice what an
   * acknowledgement takes now, since nodes that are so busy gain nothing from hearing more often; and as long as others
   * have been coming so far, so that the more of them there are, a node hears no more often for it.
   */
  patienceMs(leaseMs: number, answered: boolean): number {
    if (!answered) return Math.min(PATIENCE_MS, leaseMs / 40)
    return Math.min(Math.max(PATIENCE_MS, 2 * this.#ackMs, this.#lastMs - this.#sinceMs), leaseMs / 10)
  }
}

/**
 * How long a node waits for the answer to its request: an answer that is late because the machine is slow is no good once
 * the next is asked for, so twice as long after one that stayed out, and four times. A wait ends with its answer. Pure.
 */
const ASK_AGAIN_MS = 1_000
const DOUBLINGS = 2

export class Patience {
  #term: bigint | undefined
  #unanswered = 0

  /** A session follows this term: of another releaser it isn't known that it is slow. */
  follows(term: bigint): void {
    if (term !== this.#term) this.#unanswered = 0
    this.#term = term
  }

  /**
   * @param leftMs until a new session is due: no longer than that, but for the first second, which is the least between two requests
   */
  waitMs(leftMs: number): number {
    const patient = ASK_AGAIN_MS * 2 ** Math.min(this.#unanswered, DOUBLINGS)
    return Math.max(ASK_AGAIN_MS, Math.min(patient, leftMs))
  }

  waited(answered: boolean): void {
    this.#unanswered = answered ? 0 : this.#unanswered + 1
  }
}

/**
 * How long a node waits for the answer to its request: an answer that is late because the machine is slow is no good once
 * the next is asked for, so twice as long after one that stayed out, and four times. A wait ends with its answer. Pure.
 */
const ASK_AGAIN_MS = 1_000
const DOUBLINGS = 2
/** The longest wait for a step of a session: whoever keeps answers back must not make nodes wait long for those of others. */
const STEP_MS = 5_000
/** A verifier that died may have taken the question with it: a node whose traffic is at stake asks another soon. */
const HURRIED_MS = 1_500

/**
 * How long a node waits for each answer of a verifier or its own attester. After the last that was lost it has yet to pause,
 * to ask anew and to be told keys, all within the third of a lease in which nothing is missed.
 * @param hurried its traffic is at stake
 * @param unanswered sessions in a row that ended because no answer came
 */
export const stepMs = (hurried: boolean, unanswered: number): number =>
  hurried ? Math.min(HURRIED_MS * 2 ** Math.min(unanswered, DOUBLINGS), STEP_MS) : STEP_MS

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

/**
 * How long a node waits for the answer to its request: an answer that is late because the machine is slow is no good once
 * the next is asked for, so twice as long after one that stayed out, and four times. A wait ends with its answer. Pure.
 */
import { limits } from "../../schemas/limits.ts"

const ASK_AGAIN_MS = 1_000
const DOUBLINGS = 2
/** A verifier that died may have taken the question with it: a node whose traffic is at stake asks another soon. */
const VERIFIER_MS = 5_000
const VERIFIER_HURRIED_MS = 1_500

/**
 * How long a node waits for each of a verifier's answers: no longer than a challenge lives.
 * @param hurried its traffic is at stake
 * @param unanswered sessions in a row that ended because no answer came
 */
export const verifierMs = (hurried: boolean, unanswered: number): number =>
  Math.min(
    (hurried ? VERIFIER_HURRIED_MS : VERIFIER_MS) * 2 ** Math.min(unanswered, DOUBLINGS),
    limits.challengeMs,
  )

/**
 * And for its own attester, which is the only one to ask: as long as the challenge lives, unless the traffic can't wait.
 * @param forVerifierMs what `verifierMs` gave
 */
export const attesterMs = (forVerifierMs: number): number =>
  forVerifierMs < VERIFIER_MS ? forVerifierMs : limits.challengeMs

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

/**
 * The highest term that a node says it has followed: a releaser that reigns below it has to rise. Any node may say anything:
 * what no releaser would believe is not taken, as it would hide what the others say. Pure.
 */
import { isCredible } from "../make/term.ts"

const TOLD_MS = 60_000

export class ToldTerm {
  #term = 0n
  #atMs = Number.NEGATIVE_INFINITY

  get term(): bigint {
    return this.#term
  }

  /**
   * @param wallMs ms since 1970
   * @param endMs the latest end of all documents that were in force here, ms since 1970
   * @param nowMs of a monotonic clock
   */
  hear(term: bigint, wallMs: number, endMs: number | undefined, nowMs: number): void {
    if (!isCredible(term, wallMs, endMs)) return
    if (term <= this.#term && nowMs - this.#atMs <= TOLD_MS) return
    this.#term = term
    this.#atMs = nowMs
  }
}

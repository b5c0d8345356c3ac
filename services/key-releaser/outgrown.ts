/**
 * Higher terms that nodes say they have followed, under a result that is believed in this reign. Nobody on the bus can say
 * that for them, so that whoever lies about terms there, for however long, keeps no leader from rising above what is true.
 * Pure; times are ms of a monotonic clock.
 */
import { limits } from "../../schemas/limits.ts"
import { Allowances } from "../common/bus/counters.ts"

/** All that say so at once have one answer. */
const PAUSE_MS = 2_000
/** One node that is not what it was vouched for moves the others so often at once, and then once a minute. */
const RISES = 8
const RISES_A_SECOND = 1 / 60
/**
 * And all of them together so often at once, and then twice a minute: each time costs every node a session. Nobody is kept
 * waiting for longer by that, whoever else says so all the time: a leader rises above all that was told meanwhile.
 */
const TOGETHER = 4
const TOGETHER_EVERY_MS = 30_000

export class OutgrownTerms {
  readonly #allowances = new Allowances(RISES, RISES_A_SECOND, limits.nodes)
  #notBeforeMs = Number.NEGATIVE_INFINITY
  /** What is left for all, as it stood at `#sinceMs`. */
  #left = TOGETHER
  #sinceMs = 0

  /** @returns whether a leader of `own` is to begin a new term now */
  claim(node: string, term: bigint, own: bigint | undefined, nowMs: number): boolean {
    if (own === undefined || term <= own || nowMs < this.#notBeforeMs) return false
    const left = Math.min(TOGETHER, this.#left + (nowMs - this.#sinceMs) / TOGETHER_EVERY_MS)
    // Who waits for the others uses nothing up.
    if (left < 1 || this.#allowances.take(node, nowMs) === undefined) return false
    this.#left = left - 1
    this.#sinceMs = nowMs
    this.#notBeforeMs = nowMs + PAUSE_MS
    return true
  }
}

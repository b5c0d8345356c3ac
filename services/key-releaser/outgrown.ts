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

export class OutgrownTerms {
  readonly #allowances = new Allowances(RISES, RISES_A_SECOND, limits.nodes)
  #notBeforeMs = Number.NEGATIVE_INFINITY

  /** @returns whether a leader of `own` is to begin a new term now */
  claim(node: string, term: bigint, own: bigint | undefined, nowMs: number): boolean {
    if (own === undefined || term <= own || nowMs < this.#notBeforeMs) return false
    if (this.#allowances.take(node, nowMs) === undefined) return false
    this.#notBeforeMs = nowMs + PAUSE_MS
    return true
  }
}

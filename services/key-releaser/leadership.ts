/**
 * Who of several releasers leads. The bucket of leaders only suggests it: whoever finds no entry puts one there and leads
 * for as long as it can renew it. Nothing rests on that: with two leaders at once, or none, keys stay right, since a node
 * follows the one that Evidence over its own nonce binds, and both ends of an edge switch within one term. Pure; times are
 * ms of a monotonic clock.
 */
import { limits } from "../../schemas/limits.ts"

/** Three times in the life of an entry. */
export const RENEW_MS = 0.3 * limits.leaderMs
/** Without an answer of the bucket, and without a sign of a leader for so long, a releaser leads all the same. */
const ALONE_MS = 3_000
/** Who gave way because its own guest can't prove itself lets others go first for so long. */
const MODEST_MS = 5_000

export class Candidate {
  #leads = false
  /** Of our own entry, while we believe that it is there. */
  #sequence: number | undefined
  #triedMs = Number.NEGATIVE_INFINITY
  #heardMs: number
  #silentMs: number
  #modestUntilMs = Number.NEGATIVE_INFINITY

  constructor(nowMs: number) {
    this.#heardMs = Number.NEGATIVE_INFINITY
    this.#silentMs = nowMs
  }

  get leads(): boolean {
    return this.#leads
  }

  /** The sequence that the entry is expected to have when ours is put there now; undefined: nothing is to be put. */
  wants(nowMs: number): number | undefined {
    if (this.#leads) {
      if (nowMs - this.#triedMs < RENEW_MS) return undefined
    } else if (nowMs < this.#modestUntilMs || nowMs - this.#heardMs < limits.leaderMs) return undefined
    this.#triedMs = nowMs
    return this.#sequence ?? 0
  }

  /** How long until the entry is to be put again, in ms; undefined for who doesn't lead: a lead may fall free at any time. */
  restMs(nowMs: number): number | undefined {
    return this.#leads ? Math.max(0, RENEW_MS - (nowMs - this.#triedMs)) : undefined
  }

  /** Ours is the entry. */
  stored(sequence: number, nowMs: number): void {
    this.#sequence = sequence
    this.#leads = true
    this.#silentMs = nowMs
  }

  /** Somebody else's is, or ours has lapsed, which the next attempt tells. */
  taken(nowMs: number): void {
    this.#silentMs = nowMs
    if (this.#sequence === undefined) this.#leads = false
    this.#sequence = undefined
    this.#triedMs = Number.NEGATIVE_INFINITY
  }

  /** The bucket did not answer, or is not there: who leads goes on, and one that hears of nobody begins. */
  unanswered(nowMs: number): void {
    if (this.#leads) return
    if (nowMs - this.#silentMs >= ALONE_MS && nowMs - this.#heardMs >= ALONE_MS) this.#leads = true
  }

  /** An entry of somebody else's was put, or its beacon came. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs
  }

  /** A leader without an entry, which another one's higher term was heard of. */
  yields(nowMs: number): void {
    if (this.#sequence === undefined) this.resign(nowMs, 0)
  }

  /** Gives way: for a while others go first. */
  resign(nowMs: number, forMs: number = MODEST_MS): void {
    this.#leads = false
    this.#sequence = undefined
    this.#silentMs = nowMs
    this.#modestUntilMs = nowMs + forMs
  }
}

const AGAIN_MS = 30_000
const AGAIN_MS_MAX = 600_000

/**
 * Higher terms than the own one, as anybody on the bus may claim them: nodes follow somebody whom nobody hears, so that a
 * leader has to rise above. Each time costs every node a session, so it happens ever more rarely.
 */
export class HigherTerms {
  #heard: bigint | undefined
  #notBeforeMs = Number.NEGATIVE_INFINITY
  #pauseMs = AGAIN_MS

  /** Of whatever was heard, the highest; a term that nobody could rise above is none. */
  get heard(): bigint | undefined {
    return this.#heard
  }

  hear(term: bigint): void {
    if (this.#heard === undefined || term > this.#heard) this.#heard = term
  }

  /** @returns whether a leader of `own` is to begin a new term now */
  claim(term: bigint, own: bigint | undefined, nowMs: number): boolean {
    this.hear(term)
    if (own === undefined || term < own || nowMs < this.#notBeforeMs) return false
    this.#pauseMs =
      nowMs - this.#notBeforeMs > AGAIN_MS_MAX ? AGAIN_MS : Math.min(2 * this.#pauseMs, AGAIN_MS_MAX)
    this.#notBeforeMs = nowMs + this.#pauseMs
    return true
  }
}

/**
 * When a node begins a new session because somebody said that a new leader reigns. Anybody on the bus can say that, so it
 * is worth a look, some at first and one a minute in the long run, until a new term is really followed. Each claim has a
 * pause of its own, which doubles: one that was not true doesn't keep the node from looking into another. A claim that
 * isn't repeated is forgotten. Pure; times are ms of a monotonic clock.
 */
import { limits } from "../../schemas/limits.ts"

/** Between two looks, and after the first futile one into a claim. */
const PAUSE_MS = 250
const PAUSE_MS_MAX = 60_000
const LOOKS = 8
const LOOK_EVERY_MS = 60_000
/** A leader repeats its beacon each second. */
const HEARD_MS = 3_000
const CLAIMS = 8

interface Claim {
  heardMs: number
  looks: number
  notBeforeMs: number
}

export class LeaderHints {
  readonly #claims = new Map<bigint, Claim>()
  #lookedMs = Number.NEGATIVE_INFINITY
  /** What is left of the looks, as it stood at `#sinceMs`. */
  #left = LOOKS
  #sinceMs = Number.NEGATIVE_INFINITY
  #following: bigint | undefined

  /** @returns whether to begin a new session now */
  heard(term: bigint, followed: bigint | undefined, nowMs: number): boolean {
    // Further ahead than a node would ever follow: not worth a look.
    if (followed === undefined || term <= followed || term - followed > BigInt(limits.termStepMax))
      return false
    const claim = this.#claims.get(term) ?? { heardMs: nowMs, looks: 0, notBeforeMs: nowMs }
    claim.heardMs = nowMs
    this.#claims.delete(term)
    this.#claims.set(term, claim)
    const [oldest] = this.#claims.keys()
    if (this.#claims.size > CLAIMS && oldest !== undefined) this.#claims.delete(oldest)
    return this.due(followed, nowMs)
  }

  /** Whether something that was heard is still to be looked into. */
  due(followed: bigint | undefined, nowMs: number): boolean {
    return this.#some(followed, nowMs, ({ notBeforeMs }) => nowMs >= notBeforeMs)
  }

  /** Whether something is to be looked into that was not yet heard when the last session began. */
  dueAnew(followed: bigint | undefined, nowMs: number): boolean {
    return this.#some(followed, nowMs, ({ looks }) => looks === 0)
  }

  /** Whether anything was heard since the last session began: until then, `dueAnew` needn't be asked. */
  get hasNew(): boolean {
    for (const { looks } of this.#claims.values()) if (looks === 0) return true
    return false
  }

  /** A session begins, for whatever reason: all that was claimed has its look. */
  looked(nowMs: number): void {
    this.#lookedMs = nowMs
    if (this.#claims.size === 0) return
    this.#left = Math.max(0, this.#looksLeft(nowMs) - 1)
    this.#sinceMs = nowMs
    for (const [term, claim] of this.#claims) {
      if (nowMs - claim.heardMs > PAUSE_MS_MAX) this.#claims.delete(term)
      claim.notBeforeMs = nowMs + Math.min(PAUSE_MS * 2 ** Math.min(claim.looks, 12), PAUSE_MS_MAX)
      claim.looks += 1
    }
  }

  /** A session follows this term. */
  follows(term: bigint): void {
    if (this.#following !== undefined && term > this.#following) this.#left = LOOKS
    this.#following = term
    for (const claimed of this.#claims.keys()) if (claimed <= term) this.#claims.delete(claimed)
  }

  #some(followed: bigint | undefined, nowMs: number, wanted: (claim: Claim) => boolean): boolean {
    if (followed === undefined || nowMs < this.#lookedMs + PAUSE_MS || this.#looksLeft(nowMs) < 1)
      return false
    for (const [term, claim] of this.#claims)
      if (term > followed && nowMs - claim.heardMs <= HEARD_MS && wanted(claim)) return true
    return false
  }

  #looksLeft(nowMs: number): number {
    return this.#left >= LOOKS ? LOOKS : Math.min(LOOKS, this.#left + (nowMs - this.#sinceMs) / LOOK_EVERY_MS)
  }
}

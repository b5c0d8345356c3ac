import type { SenderPace } from "./types.ts"

/** What a bus counts. Refusals are by code, so that an attack can be told from a fault. */
export interface Counters {
  readonly violations: number
  readonly reconnects: number
  readonly refused: Readonly<Record<string, number>>
  /** Messages that gave way to newer ones of the same sender, found no room, or came faster than their sender may. */
  readonly displaced: number
  /** Events that found no room, and events that the stream did not acknowledge after all attempts. */
  readonly eventsDropped: number
  readonly eventsLost: number
}

export class Counting {
  violations = 0
  reconnects = 0
  displaced = 0
  eventsDropped = 0
  eventsLost = 0
  readonly #refused = new Map<string, number>()

  refuse(code: string): void {
    this.#refused.set(code, (this.#refused.get(code) ?? 0) + 1)
  }

  snapshot(): Counters {
    const { violations, reconnects, displaced, eventsDropped, eventsLost } = this
    const refused = Object.fromEntries(this.#refused)
    return { violations, reconnects, refused, displaced, eventsDropped, eventsLost }
  }
}

/** At most `most` in each period of `periodMs`: what strangers can cause must not become a flood of our own. */
export class Pace {
  readonly #most: number
  readonly #periodMs: number
  #since = Number.NEGATIVE_INFINITY
  #used = 0

  constructor(most: number, periodMs: number) {
    this.#most = most
    this.#periodMs = periodMs
  }

  /** Whether one more may go now. */
  take(nowMs: number = performance.now()): boolean {
    if (nowMs - this.#since >= this.#periodMs) {
      this.#since = nowMs
      this.#used = 0
    }
    return ++this.#used <= this.#most
  }
}

interface Allowance {
  /** What may still go, as it stood at `sinceMs`. */
  left: number
  sinceMs: number
  unrecorded: number
}

/**
 * For each of many names `burst` at once and `aSecond` from then on: one of them can't use up what the others may say. Remembers
 * `names` of them, the newest.
 */
export class Allowances {
  readonly #burst: number
  readonly #aSecond: number
  readonly #names: number
  readonly #of = new Map<string, Allowance>()

  constructor(burst: number, aSecond: number, names: number) {
    this.#burst = burst
    this.#aSecond = aSecond
    this.#names = names
  }

  /** How many of this name were turned away since the last that was not; undefined when this one is turned away too. */
  take(name: string, nowMs: number = performance.now()): number | undefined {
    const own = this.#of.get(name) ?? { left: this.#burst, sinceMs: nowMs, unrecorded: 0 }
    this.#of.delete(name)
    this.#of.set(name, own)
    const [oldest] = this.#of.keys()
    if (this.#of.size > this.#names && oldest !== undefined) this.#of.delete(oldest)
    own.left = Math.min(this.#burst, own.left + ((nowMs - own.sinceMs) / 1_000) * this.#aSecond)
    own.sinceMs = nowMs
    if (own.left < 1) {
      own.unrecorded++
      return undefined
    }
    own.left--
    const { unrecorded } = own
    own.unrecorded = 0
    return unrecorded
  }
}

/** Whether one more message of a sender may be looked at; always, without a bound. */
export const senderPace = (pace: SenderPace | undefined): ((sender: string) => boolean) => {
  if (pace === undefined) return () => true
  const allowances = new Allowances(pace.burst, pace.aSecond, pace.senders)
  return (sender) => allowances.take(sender) !== undefined
}

/**
 * Of hints, which are said about once a second, and once more for what happens: who says more has nothing to say, and must
 * not keep everybody who listens busy.
 */
export const hintPace: SenderPace = { burst: 64, aSecond: 10, senders: 256 }

/** What a service records of refusals by each sender: all of them, unless somebody does nothing else. */
export const refusalAllowances = (names: number): Allowances => new Allowances(100, 10, names)

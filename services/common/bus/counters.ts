/** What a bus counts. Refusals are by code, so that an attack can be told from a fault. */
export interface Counters {
  readonly violations: number
  readonly reconnects: number
  readonly refused: Readonly<Record<string, number>>
  /** Messages that gave way to newer ones of the same sender, or found no room. */
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

/** The same for each of many: one of them can't use up what the others may say. Remembers `most` names, the newest. */
export class PaceEach {
  readonly #make: () => Pace
  readonly #names: number
  readonly #paces = new Map<string, Pace>()

  constructor(most: number, periodMs: number, names: number) {
    this.#make = () => new Pace(most, periodMs)
    this.#names = names
  }

  take(name: string, nowMs?: number): boolean {
    const pace = this.#paces.get(name) ?? this.#make()
    this.#paces.delete(name)
    this.#paces.set(name, pace)
    const [oldest] = this.#paces.keys()
    if (this.#paces.size > this.#names && oldest !== undefined) this.#paces.delete(oldest)
    return pace.take(nowMs)
  }
}

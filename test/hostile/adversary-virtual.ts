/**
 * A machine's time and chance, taken out of its hands: one clock for all parties of a simulated run, moved from one event to
 * the next, and one seed for everything that is random. What runs twice with the same seed does the same twice.
 */
import { type Clock, Duration, Effect, Scheduler } from "effect"

/** Small, seeded, good enough to choose what happens next (mulberry32). */
export class Chance {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }

  chance(p: number): boolean {
    return this.next() < p
  }

  below(n: number): number {
    return Math.floor(this.next() * n)
  }

  pick<T>(all: ReadonlyArray<T>): T | undefined {
    return all[this.below(all.length)]
  }

  /** A generator that depends on this one's seed and a number only, not on how much was drawn. */
  static of(seed: number, n: number): Chance {
    const mixed = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(n + 0x7f4a7c15, 0xc2b2ae35)
    const own = new Chance(mixed ^ (mixed >>> 13))
    own.next()
    return own
  }
}

interface Due {
  readonly atMs: number
  readonly order: number
  readonly run: () => void
  cancelled: boolean
}

const immediately = globalThis.setImmediate

export class VirtualTime {
  /** Milliseconds since the run began. */
  nowMs = 0
  /** The wall's clock at the start of the run: it may be set anew. */
  wallMs: number
  #due: Due[] = []
  #order = 0
  #tasks: Array<{ readonly run: () => void; cancelled: boolean }> = []

  constructor(wallMs: number) {
    this.wallMs = wallMs
  }

  /** @returns what takes it back */
  after(ms: number, run: () => void): () => void {
    const due: Due = { atMs: this.nowMs + Math.max(0, ms), order: this.#order++, run, cancelled: false }
    this.#push(due)
    return () => {
      due.cancelled = true
    }
  }

  /** Does what is due next, with all that follows from it at once. False when nothing is due before `endMs`. */
  async step(endMs: number): Promise<boolean> {
    const first = this.#pop(endMs)
    if (first === undefined) {
      this.nowMs = Math.max(this.nowMs, endMs)
      return false
    }
    this.nowMs = Math.max(this.nowMs, first.atMs)
    first.run()
    await this.settle()
    return true
  }

  /** Runs fibers and promises until none of them can go on by itself. */
  async settle(): Promise<void> {
    for (;;) {
      for (let task = this.#tasks.shift(); task !== undefined; task = this.#tasks.shift())
        if (!task.cancelled) task.run()
      await new Promise<void>((resolve) => immediately(resolve))
      if (this.#tasks.length === 0) return
    }
  }

  readonly scheduler = new Scheduler.MixedScheduler("async", (run) => {
    const task = { run, cancelled: false }
    this.#tasks.push(task)
    return () => {
      task.cancelled = true
    }
  })

  get clock(): Clock.Clock {
    const wall = () => this.wallMs + this.nowMs
    const ns = () => BigInt(Math.round(wall() * 1e6))
    const sleep = (ms: number): Effect.Effect<void> => {
      if (!Number.isFinite(ms)) return Effect.never
      return Effect.callback<void>((resume) => {
        const cancel = this.after(ms, () => resume(Effect.void))
        return Effect.sync(cancel)
      })
    }
    const parts = {
      currentTimeMillisUnsafe: wall,
      currentTimeMillis: Effect.sync(wall),
      currentTimeNanosUnsafe: ns,
      currentTimeNanos: Effect.sync(ns),
      monotonicTimeNanosUnsafe: () => BigInt(Math.round(this.nowMs * 1e6)),
      monotonicTimeNanos: Effect.sync(() => BigInt(Math.round(this.nowMs * 1e6))),
      sleep: (duration: Duration.Duration) => sleep(Duration.toMillis(duration)),
      sleepMillis: sleep,
    }
    return parts as unknown as Clock.Clock
  }

  #push(due: Due): void {
    const heap = this.#due
    heap.push(due)
    for (let i = heap.length - 1; i > 0; ) {
      const up = (i - 1) >> 1
      if (!this.#before(i, up)) break
      this.#swap(i, up)
      i = up
    }
  }

  #pop(endMs: number): Due | undefined {
    for (;;) {
      const first = this.#due[0]
      if (first === undefined || first.atMs > endMs) return undefined
      const last = this.#due.pop()
      if (last !== undefined && this.#due.length > 0) {
        this.#due[0] = last
        this.#sink()
      }
      if (!first.cancelled) return first
    }
  }

  #sink(): void {
    for (let i = 0; ; ) {
      const left = 2 * i + 1
      if (left >= this.#due.length) return
      const least = left + 1 < this.#due.length && this.#before(left + 1, left) ? left + 1 : left
      if (!this.#before(least, i)) return
      this.#swap(i, least)
      i = least
    }
  }

  #before(i: number, j: number): boolean {
    const [a, b] = [this.#due[i], this.#due[j]]
    if (a === undefined || b === undefined) return false
    return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
  }

  #swap(i: number, j: number): void {
    const [a, b] = [this.#due[i], this.#due[j]]
    if (a !== undefined && b !== undefined) [this.#due[i], this.#due[j]] = [b, a]
  }
}

let present: VirtualTime | undefined

/** The run that is under way in this process: what replaced modules and globals look at. */
export const now = (): VirtualTime => {
  if (present === undefined) throw new Error("no simulated run is under way")
  return present
}

const real = { Date: globalThis.Date, performance: performance.now.bind(performance), random: Math.random }
export const realMs = real.performance

class SimulatedDate extends real.Date {
  constructor(...given: ReadonlyArray<never>) {
    if (given.length === 0) super(now().wallMs + now().nowMs)
    else super(...(given as unknown as [number]))
  }

  static override now(): number {
    return now().wallMs + now().nowMs
  }
}

/** From here to `free`, clocks and chance of this process are the run's. */
export const seize = (time: VirtualTime, chance: Chance): void => {
  present = time
  globalThis.Date = SimulatedDate as DateConstructor
  performance.now = () => time.nowMs
  Math.random = () => chance.next()
}

export const free = (): void => {
  present = undefined
  globalThis.Date = real.Date
  performance.now = real.performance
  Math.random = real.random
}

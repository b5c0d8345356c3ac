/** What the lab has seen on its bus, and waiting for it. */
import type { Event } from "../../schemas/messages/event.ts"
import type { Stats } from "../../schemas/messages/stats.ts"
import type { Client } from "./client.ts"

export interface SeenEvent {
  readonly identity: string
  readonly event: Event
  /** The publisher's clock, which in the lab is this machine's: milliseconds of the Unix clock. */
  readonly at: number
}

export interface Seen {
  readonly events: ReadonlyArray<SeenEvent>
  readonly stats: ReadonlyMap<string, Stats>
}

export interface Watch extends Seen {
  /** Waits until `find` gives something; looks again at whatever arrives. Rejects after `timeoutMs`, naming `what` is missing, or when the watch breaks. */
  until<T>(what: () => string, timeoutMs: number, find: (seen: Seen) => T | undefined): Promise<T>
  /** Rejects when the watch breaks; never resolves. */
  readonly untilBroken: Promise<never>
  /** Makes every wait, now and later, reject with this. */
  fail(error: Error): void
  stop(): Promise<void>
}

const EVERY_MS = 50
/** How long the bus may leave us without an answer before the run is given up. */
const PATIENCE_MS = 10_000

interface Waiter {
  /** Whether the wait is over. */
  look(): boolean
  reject(error: Error): void
}

/** `stats` is filled by whoever follows the statistics; events are read from the stream in their order, none left out. */
export const startWatch = (
  client: Client,
  stats: ReadonlyMap<string, Stats>,
  onEvent: (seen: SeenEvent) => void,
): Watch => {
  const events: SeenEvent[] = []
  const waiters = new Set<Waiter>()
  let broken: Error | undefined
  let stopped = false
  const seen: Seen = { events, stats }
  let tell: (error: Error) => void = () => undefined
  const untilBroken = new Promise<never>((_, reject) => {
    tell = reject
  })
  untilBroken.catch(() => undefined)

  const fail = (error: Error): void => {
    broken ??= error
    tell(broken)
    for (const waiter of waiters) waiter.reject(broken)
    waiters.clear()
  }

  /** Reads what is new; an answer that didn't come is asked for again, for a while. */
  const readNew = async (after: number): Promise<number> => {
    const deadline = performance.now() + PATIENCE_MS
    for (;;) {
      try {
        const found = await client.events(after)
        for (const { identity, event } of found) {
          const one = { identity, event, at: Date.parse(event.time) }
          events.push(one)
          onEvent(one)
        }
        return found.at(-1)?.sequence ?? after
      } catch (error) {
        if (stopped || performance.now() > deadline) throw error
      }
    }
  }

  const follow = async (): Promise<void> => {
    for (let after = 0; !stopped; ) {
      after = await readNew(after)
      for (const waiter of waiters) if (waiter.look()) waiters.delete(waiter)
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS))
    }
  }
  const following = follow().catch((error: unknown) => {
    if (stopped) return
    fail(new Error(`the events can't be read: ${error instanceof Error ? error.message : String(error)}`))
  })

  return {
    ...seen,
    until: (what, timeoutMs, find) =>
      new Promise((resolve, reject) => {
        if (broken !== undefined) return reject(broken)
        const clock = setTimeout(() => {
          waiters.delete(waiter)
          reject(new Error(`not within ${timeoutMs / 1_000} s: ${what()}`))
        }, timeoutMs)
        const waiter: Waiter = {
          look: () => {
            const found = find(seen)
            if (found === undefined) return false
            clearTimeout(clock)
            resolve(found)
            return true
          },
          reject: (error) => {
            clearTimeout(clock)
            reject(error)
          },
        }
        if (!waiter.look()) waiters.add(waiter)
      }),
    untilBroken,
    fail,
    stop: async () => {
      stopped = true
      await following
    },
  }
}

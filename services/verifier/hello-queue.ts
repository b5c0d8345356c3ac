/**
 * Hellos that wait for a quote: one of each node, its newest. Whoever asked first has the first turn, and keeps it for a
 * while when it is told to ask again. Pure; bounded by the nodes of a workflow, as it holds one hello of each.
 */

/** A node that was told to come again, and doesn't, loses its turn. */
export const TURN_MS = 5_000

export interface Waiting<A> {
  readonly node: string
  readonly item: A
  /** Of a monotonic clock: nobody waits for an answer any longer. */
  readonly untilMs: number
}

interface Turn<A> {
  waiting: Waiting<A> | undefined
  askedMs: number
}

export class HelloQueue<A> {
  /** In the order of their first asking. */
  readonly #turns = new Map<string, Turn<A>>()
  #size = 0

  /** How many hellos wait. */
  get size(): number {
    return this.#size
  }

  /** @returns the hello of the same node that this one replaces */
  add(waiting: Waiting<A>, nowMs: number): Waiting<A> | undefined {
    const turn = this.#turns.get(waiting.node)
    if (turn === undefined) this.#turns.set(waiting.node, { waiting, askedMs: nowMs })
    const before = turn?.waiting
    if (turn !== undefined) {
      turn.waiting = waiting
      turn.askedMs = nowMs
    }
    if (before === undefined) this.#size++
    return before
  }

  /** Whose turn it is: these have had it. */
  take(most: number): ReadonlyArray<Waiting<A>> {
    const taken: Waiting<A>[] = []
    for (const [node, { waiting }] of this.#turns) {
      if (taken.length >= most) break
      if (waiting === undefined) continue
      this.#turns.delete(node)
      taken.push(waiting)
    }
    this.#size -= taken.length
    return taken
  }

  /** Those that can wait no longer; they keep their turn if they ask again. */
  late(nowMs: number): ReadonlyArray<Waiting<A>> {
    const late: Waiting<A>[] = []
    for (const [node, turn] of this.#turns) {
      const { waiting, askedMs } = turn
      if (waiting === undefined) {
        if (nowMs - askedMs >= TURN_MS) this.#turns.delete(node)
        continue
      }
      if (nowMs < waiting.untilMs) continue
      turn.waiting = undefined
      turn.askedMs = nowMs
      late.push(waiting)
    }
    this.#size -= late.length
    return late
  }
}

/**
 * When a node's statistics are published. What it is and holds is told at the next look, and so are counters that begin to
 * move or have come to a stand; while they move, and while nothing does, every two seconds are enough. Pure.
 */
import type { Stats } from "../../schemas/messages/stats.ts"
import { verdicts } from "../../schemas/verdicts.ts"

/** How often it is asked. */
export const TELL_LOOK_MS = 500
/** The looks are not exact: a little less than four of them. */
const TELL_EVERY_MS = 1_900

/** Without what passes by itself: the time that a lease has left. */
const conditionOf = ({ state, stage, dataplane, edges }: Stats): string =>
  JSON.stringify([
    state,
    stage,
    dataplane,
    edges.map((edge) => [edge.instance, edge.state, String(edge.term), String(edge.epoch), edge.rekeys]),
  ])

const passing = new Set(verdicts.filter(({ outcome }) => outcome === "pass").map(({ name }) => name))

/** Not of what passes beside the edges: the connection to the bus alone moves that, always. */
const countersOf = ({ verdicts: all, edges }: Stats): string =>
  JSON.stringify([
    Object.entries(all).filter(([name]) => !passing.has(name)),
    edges.map((edge) => [edge.sealed_packets, edge.opened_packets, edge.drops]),
  ])

export class Telling {
  #condition = ""
  #counters: string | undefined
  #toldCounters: string | undefined
  #toldMs = Number.NEGATIVE_INFINITY
  #moving = false

  /** Whether these are to be published now; they count as published then. @param nowMs of a monotonic clock */
  due(stats: Stats, nowMs: number): boolean {
    const [condition, counters] = [conditionOf(stats), countersOf(stats)]
    const moved = this.#counters !== undefined && counters !== this.#counters
    const began = moved && !this.#moving
    const stands = !moved && counters !== this.#toldCounters
    this.#moving = moved
    this.#counters = counters
    const due = condition !== this.#condition || began || stands || nowMs - this.#toldMs >= TELL_EVERY_MS
    if (!due) return false
    this.#condition = condition
    this.#toldCounters = counters
    this.#toldMs = nowMs
    return true
  }
}

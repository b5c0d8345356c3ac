/** What each node is to hold, as releases say it. Told again unchanged, it is the same object: a renewal costs no more. */
import type { EdgeMachine } from "./edge-machine.ts"
import { peersFor, releaseFor } from "./generation.ts"
import type { Heritage } from "./heritage.ts"
import type { SentEdge } from "./node-book.ts"
import type { EndedEdge, ReleasePayload } from "./release.ts"

export interface Desired {
  readonly said: ReadonlyArray<SentEdge>
  readonly payload: ReleasePayload
}

export interface DesiredStatesOptions {
  readonly edges: Pick<EdgeMachine, "of" | "generationsOf">
  readonly heritage: Pick<Heritage, "ended">
  readonly leaseMs: number
}

export class DesiredStates {
  readonly #options: DesiredStatesOptions
  /** By node, while nothing about it has changed; none that holds a secret, since whoever seals it wipes that. */
  readonly #known = new Map<string, Desired>()

  constructor(options: DesiredStatesOptions) {
    this.#options = options
  }

  of(id: string, nowMs: number): Desired {
    const known = this.#known.get(id)
    if (known !== undefined) return known
    const { edges, leaseMs } = this.#options
    const generations = edges.generationsOf(id)
    const ended = this.#endedOf(id, nowMs)
    const desired = {
      said: generations.map((generation) => ({ generation, state: generation.state })),
      payload: {
        lease_ms: leaseMs,
        batches: peersFor(generations, id),
        edges: generations.map((generation) => releaseFor(generation, id)),
        ...ended,
      },
    }
    const lasts = ended.ended === undefined && generations.every(({ secret }) => secret === undefined)
    if (lasts) this.#known.set(id, desired)
    return desired
  }

  /** Something about this node has changed. */
  changed(id: string): void {
    this.#known.delete(id)
  }

  clear(): void {
    this.#known.clear()
  }

  /** Whose earlier keys are to end, whatever else is released: said in each release, as the kernel's leases of then last. */
  #endedOf(id: string, nowMs: number): Pick<ReleasePayload, "ended"> {
    const { edges, heritage } = this.#options
    const terms = heritage.ended(nowMs)
    if (terms.size === 0) return {}
    const ended = edges.of(id).flatMap(({ edge }): ReadonlyArray<EndedEdge> => {
      const [term] = [edge.initiator, edge.responder]
        .flatMap((end) => terms.get(end) ?? [])
        .sort((a, b) => (a > b ? -1 : 1))
      return term === undefined ? [] : [{ instance: edge.id, term }]
    })
    return ended.length === 0 ? {} : { ended }
  }
}

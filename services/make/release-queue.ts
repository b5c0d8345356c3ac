/**
 * Which nodes are to get a release, and when: at once, or, where releases are gathered, as one that says what many messages
 * have changed. Pure; times are ms of the releaser's own monotonic clock.
 */
import { Burst } from "./burst.ts"
import type { EdgeMachine } from "./edge-machine.ts"
import type { NodeBook, VouchedNode } from "./node-book.ts"

export interface ReleaseQueueOptions {
  /** See `ReleaserOptions`. */
  readonly gather: boolean
  readonly leaseMs: number
  readonly nodes: Pick<NodeBook, "live" | "get" | "all" | "awaits">
  readonly edges: Pick<EdgeMachine, "expects">
}

/** Vouched for, and with the request that its release answers. */
export type Answerable = VouchedNode & { readonly nonce: Uint8Array }

const answerable = (node: VouchedNode | undefined): node is Answerable => node?.nonce !== undefined

export class ReleaseQueue {
  readonly #options: ReleaseQueueOptions
  /** Nodes whose desired state has changed since their last release, and since when that is known. */
  readonly #dirty = new Map<string, number | undefined>()
  readonly burst = new Burst()

  constructor(options: ReleaseQueueOptions) {
    this.#options = options
  }

  /** The node is to get a release. Waits since the first look at it: looks are as frequent as changes. */
  touch(node: string): void {
    if (!this.#dirty.has(node)) this.#dirty.set(node, undefined)
  }

  clear(): void {
    this.#dirty.clear()
  }

  /** Releases that were not acknowledged in time go out again. */
  tick(nowMs: number): void {
    const { gather, nodes } = this.#options
    const arriving = gather && !this.burst.over(nowMs)
    for (const node of nodes.all()) {
      const unanswered = node.nonce !== undefined && node.acknowledged < node.sequence
      if (unanswered && !nodes.awaits(node, nowMs, arriving)) this.touch(node.id)
    }
  }

  /** Whether any node waits, for whatever. */
  get waiting(): boolean {
    return this.#dirty.size > 0
  }

  /** Whether `take` would give anything now. */
  due(nowMs: number): boolean {
    for (const id of this.#dirty.keys())
      if (this.#options.nodes.live(id) !== undefined && this.#ready(id, nowMs)) return true
    return false
  }

  /** Whether `take` will give something within a burst's time, also when nothing else happens. */
  waits(nowMs: number): boolean {
    for (const id of this.#dirty.keys())
      if (this.#options.nodes.live(id) !== undefined && !this.#awaits(id, nowMs)) return true
    return false
  }

  /** Those whose turn it is, `most` of them at once. */
  take(nowMs: number, most: number): ReadonlyArray<Answerable> {
    const taken: Array<Answerable> = []
    for (const id of this.#dirty.keys()) {
      if (taken.length >= most) break
      const node = this.#options.nodes.live(id)
      if (node !== undefined && !this.#ready(id, nowMs)) continue
      this.#dirty.delete(id)
      if (answerable(node)) taken.push(node)
    }
    return taken
  }

  /** All, whatever they wait for. */
  takeAll(): ReadonlyArray<Answerable> {
    const taken = [...this.#dirty.keys()].map((id) => this.#options.nodes.live(id)).filter(answerable)
    this.#dirty.clear()
    return taken
  }

  /** Whether the node's last release waits for its acknowledgement. */
  #awaits(id: string, nowMs: number): boolean {
    const { gather, nodes } = this.#options
    const node = nodes.live(id)
    return gather && node !== undefined && nodes.awaits(node, nowMs, !this.burst.over(nowMs))
  }

  /** Whether what is to be said to the node is said now. */
  #ready(id: string, nowMs: number): boolean {
    const sinceMs = this.#dirty.get(id) ?? nowMs
    this.#dirty.set(id, sinceMs)
    if (this.#awaits(id, nowMs)) return false
    const { gather, leaseMs, nodes, edges } = this.#options
    if (!gather || !edges.expects(id) || this.burst.over(nowMs)) return true
    const node = nodes.get(id)
    return nowMs - sinceMs >= this.burst.patienceMs(leaseMs, node?.answered === node?.nonce)
  }
}

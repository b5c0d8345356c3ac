/**
 * The releaser's edges: which generation of keys each instance has on its way, in use and in its grace time, and what
 * moves them on. Says what happened and whose desired state has changed; who is vouched for it asks the book of nodes.
 * Pure; times are ms of the releaser's own monotonic clock.
 */
import type { Crypto } from "../common/crypto/port.ts"
import { compileWorkflow, type Workflow } from "./edges.ts"
import type { Epoch } from "./epoch.ts"
import { MakeError } from "./errors.ts"
import {
  agreement,
  beginGeneration,
  type EdgeRecord,
  forgetSecret,
  type Generation,
  newEdgeRecord,
} from "./generation.ts"
import type { NodeBook } from "./node-book.ts"
import type { AckEdge } from "./release.ts"
import { SpiAllocator } from "./spi.ts"

export interface EdgeEvent {
  readonly event:
    | "edge-install"
    | "edge-active"
    | "edge-retired"
    | "edge-stopped"
    | "edge-disagrees"
    | "edge-missing"
    | "edge-overdue"
  readonly instance: string
  readonly epoch: Epoch
}

export interface EdgeMachineOptions {
  readonly crypto: Crypto
  readonly workflow: Workflow
  readonly term: bigint
  readonly leaseMs: number
  readonly graceMs: number
  /** The age at which an epoch in use is replaced. */
  readonly rotateMs: number
  readonly nodes: Pick<NodeBook, "live" | "leaseOver">
  readonly say: (event: EdgeEvent) => void
  /** The desired state of this node has changed. */
  readonly touch: (node: string) => void
}

const BACKOFF_MS_MAX = 30_000

/** In use and nothing else to it: time alone changes nothing until a lease ends. New results come with requests. */
const isSettled = ({ current, pending, retiring, rotate, failures }: EdgeRecord): boolean =>
  current !== undefined && pending === undefined && retiring === undefined && !rotate && failures === 0

export class EdgeMachine {
  readonly #options: EdgeMachineOptions
  readonly #edges: ReadonlyMap<string, EdgeRecord>
  readonly #edgesOf: ReadonlyMap<string, ReadonlyArray<EdgeRecord>>
  readonly #spis: ReadonlyMap<string, SpiAllocator>
  /** All edges but those at rest: settled, under the newest results of both ends. Renewals change nothing about these. */
  readonly #restless: Set<EdgeRecord>
  /** No settled epoch is old before that. */
  #oldMs = Number.POSITIVE_INFINITY
  /** Where among a node's edges one was seen last that waits for its other end. */
  readonly #seen = new Map<string, number>()

  /** @throws MakeError for a workflow that doesn't compile */
  constructor(options: EdgeMachineOptions) {
    const { crypto, workflow } = options
    this.#options = options
    const records = compileWorkflow(workflow).map(newEdgeRecord)
    this.#edges = new Map(records.map((record) => [record.edge.id, record]))
    this.#restless = new Set(records)
    const edgesOf = new Map<string, Array<EdgeRecord>>(workflow.nodes.map((node) => [node.id, []]))
    for (const record of records) {
      edgesOf.get(record.edge.initiator)?.push(record)
      edgesOf.get(record.edge.responder)?.push(record)
    }
    this.#edgesOf = edgesOf
    this.#spis = new Map(workflow.nodes.map((node) => [node.id, new SpiAllocator(crypto)]))
  }

  all(): Iterable<EdgeRecord> {
    return this.#edges.values()
  }

  /**
   * The instance with this id, or all of the edge with it.
   * @throws MakeError NO_SUCH_EDGE
   */
  named(id: string): ReadonlyArray<EdgeRecord> {
    const one = this.#edges.get(id)
    const found = one === undefined ? [...this.#edges.values()].filter(({ edge }) => edge.edge === id) : [one]
    if (found.length === 0) throw new MakeError("NO_SUCH_EDGE", "edge", "is not in the workflow")
    return found
  }

  of(node: string): ReadonlyArray<EdgeRecord> {
    return this.#edgesOf.get(node) ?? []
  }

  /** What a node is to hold. */
  generationsOf(node: string): ReadonlyArray<Generation> {
    const generations: Array<Generation> = []
    for (const { retiring, current, pending } of this.of(node)) {
      if (retiring !== undefined) generations.push(retiring)
      if (current !== undefined) generations.push(current)
      if (pending !== undefined) generations.push(pending)
    }
    return generations
  }

  /** Whether any of the node's edges waits for what its other end does: to come, or to confirm what this one has. */
  expects(node: string): boolean {
    const records = this.of(node)
    const from = this.#seen.get(node) ?? 0
    for (let i = 0; i < records.length; i++) {
      const at = (from + i) % records.length
      const record = records[at]
      if (record === undefined || !this.#awaitsPeer(record, node)) continue
      this.#seen.set(node, at)
      return true
    }
    return false
  }

  #awaitsPeer({ edge, pending, current }: EdgeRecord, node: string): boolean {
    if (pending !== undefined) return pending.exporters.has(node)
    const peer = edge.initiator === node ? edge.responder : edge.initiator
    return current === undefined && this.#options.nodes.live(peer) === undefined
  }

  /** Begins an epoch wherever both ends are there and none that rests on their results is in use or on its way. */
  reconcile(records: Iterable<EdgeRecord>, nowMs: number): void {
    const { crypto, nodes, term } = this.#options
    for (const record of records) {
      if (!this.#restless.has(record)) continue
      const [initiator, responder] = [nodes.live(record.edge.initiator), nodes.live(record.edge.responder)]
      if (initiator === undefined || responder === undefined) continue
      const results = [initiator.result, responder.result] as const
      if (record.pending !== undefined && !this.#restsOn(record.pending, results))
        this.#drop(record, "pending")
      if (record.pending !== undefined || nowMs < record.notBeforeMs) continue
      if (record.current !== undefined && this.#restsOn(record.current, results) && !record.rotate) {
        if (isSettled(record)) this.#rest(record, record.current)
        continue
      }
      const spis = { initiator: this.#spisOf(initiator.id), responder: this.#spisOf(responder.id) }
      record.pending = beginGeneration(crypto, record, term, results, spis, nowMs)
      record.rotate = false
      this.#touch(record)
      this.#say("edge-install", record.pending)
    }
  }

  /** New epochs for these, whatever they have. */
  rotate(records: ReadonlyArray<EdgeRecord>, nowMs: number): void {
    for (const record of records) {
      record.rotate = true
      this.#restless.add(record)
    }
    this.reconcile(records, nowMs)
  }

  /**
   * The node has another result: what was on its way rests on keys that it gives up. What is in use stays. What failed
   * before may have failed for what is new now, and costs no more than a result does: its pause is over.
   */
  supersede(node: string): void {
    for (const record of this.of(node)) {
      this.#drop(record, "pending")
      record.failures = 0
      record.notBeforeMs = Number.NEGATIVE_INFINITY
      this.#restless.add(record)
    }
  }

  /**
   * What one end says of a generation that it was told to hold; `found` undefined: it doesn't.
   * @returns the edge, if something may come of it now
   */
  heard(
    generation: Generation,
    told: Generation["state"],
    node: string,
    found: AckEdge | undefined,
    nowMs: number,
  ): EdgeRecord | undefined {
    const record = this.#edges.get(generation.edge.id)
    if (record === undefined) return undefined
    if (record.pending === generation && told === "install")
      this.#confirm(record, generation, node, found, nowMs)
    else if (record.current === generation && told === "active")
      this.#switched(record, generation, node, found, nowMs)
    return this.#restless.has(record) ? record : undefined
  }

  /** Lets time pass for every edge: at rest, it takes a lease that ends, or the age at which epochs are replaced. */
  age(nowMs: number): void {
    const { nodes, workflow } = this.#options
    if (nowMs >= this.#oldMs) this.#wakeOld(nowMs)
    for (const { id } of workflow.nodes) {
      if (!nodes.leaseOver(id, nowMs)) continue
      for (const record of this.of(id)) if (!this.#restless.has(record)) this.#age(record, nowMs)
    }
    for (const record of this.#restless) {
      if (this.#isOld(record, nowMs)) record.rotate = true
      this.#age(record, nowMs)
      this.reconcile([record], nowMs)
    }
  }

  /** Of edges at rest, those whose epochs are old are at rest no more. */
  #wakeOld(nowMs: number): void {
    this.#oldMs = Number.POSITIVE_INFINITY
    for (const record of this.#edges.values()) {
      const { current } = record
      if (current === undefined || this.#restless.has(record)) continue
      if (this.#isOld(record, nowMs)) this.#restless.add(record)
      else this.#rest(record, current)
    }
  }

  #rest(record: EdgeRecord, { startedMs }: Generation): void {
    this.#restless.delete(record)
    this.#oldMs = Math.min(this.#oldMs, startedMs + this.#options.rotateMs)
  }

  /** All generations of the node's edges end. */
  stop(node: string): void {
    for (const record of this.of(node)) this.#stop(record)
  }

  #age(record: EdgeRecord, nowMs: number): void {
    const { leaseMs, nodes } = this.#options
    const { retiring, pending, current, edge } = record
    const held = pending !== undefined || current !== undefined || retiring !== undefined
    if (held && (nodes.leaseOver(edge.initiator, nowMs) || nodes.leaseOver(edge.responder, nowMs)))
      this.#stop(record)
    else if (retiring?.goneAtMs !== undefined && nowMs >= retiring.goneAtMs) this.#drop(record, "retiring")
    // Not at once, or an end that fails after each success would get a new epoch with every message.
    if (record.current !== undefined && nowMs - record.current.startedMs >= leaseMs) record.failures = 0
    if (record.pending !== undefined && nowMs - record.pending.startedMs >= leaseMs)
      this.#fail(record, "edge-overdue", nowMs)
  }

  /** Only of an edge at rest: an epoch that takes its time must not be overtaken by the next. */
  #isOld(record: EdgeRecord, nowMs: number): boolean {
    const { current } = record
    return current !== undefined && isSettled(record) && nowMs - current.startedMs >= this.#options.rotateMs
  }

  #confirm(
    record: EdgeRecord,
    generation: Generation,
    node: string,
    found: AckEdge | undefined,
    nowMs: number,
  ): void {
    if (found === undefined) {
      this.#fail(record, "edge-missing", nowMs)
      return
    }
    generation.exporters.set(node, found.exporter)
    const agreed = agreement(this.#options.crypto, generation)
    if (agreed === "different") this.#fail(record, "edge-disagrees", nowMs)
    if (agreed !== "equal") return
    this.#drop(record, "retiring")
    record.retiring = record.current
    if (record.retiring !== undefined) {
      record.retiring.state = "retire"
      // Even if an end never says that it has switched.
      record.retiring.goneAtMs = nowMs + this.#options.leaseMs
    }
    record.current = generation
    record.pending = undefined
    generation.state = "active"
    forgetSecret(generation)
    this.#touch(record)
    this.#say("edge-active", generation)
  }

  #switched(
    record: EdgeRecord,
    generation: Generation,
    node: string,
    found: AckEdge | undefined,
    nowMs: number,
  ): void {
    if (found === undefined) {
      // The end lost its keys; they can't be installed twice, so only a new epoch helps.
      if (record.pending !== undefined || record.rotate) return
      this.#failed(record, "edge-missing", generation, nowMs)
      record.rotate = true
      return
    }
    if (found.state !== "active") return
    generation.switched.add(node)
    if (generation.switched.size < 2 || record.retiring === undefined) return
    const goneAtMs = nowMs + this.#options.graceMs
    record.retiring.goneAtMs = Math.min(record.retiring.goneAtMs ?? goneAtMs, goneAtMs)
  }

  /** Gives up the epoch on its way; a later one begins after a pause that grows with each failure in a row. */
  #fail(record: EdgeRecord, event: EdgeEvent["event"], nowMs: number): void {
    if (record.pending !== undefined) this.#failed(record, event, record.pending, nowMs)
    this.#drop(record, "pending")
  }

  #failed(record: EdgeRecord, event: EdgeEvent["event"], generation: Generation, nowMs: number): void {
    const pause =
      record.failures === 0 ? 0 : Math.min(BACKOFF_MS_MAX, 500 * 2 ** Math.min(record.failures, 10))
    record.failures += 1
    record.notBeforeMs = nowMs + pause
    this.#restless.add(record)
    this.#say(event, generation)
  }

  #stop(record: EdgeRecord): void {
    const { current } = record
    for (const place of ["pending", "current", "retiring"] as const) this.#drop(record, place)
    if (current !== undefined) this.#say("edge-stopped", current)
  }

  #drop(record: EdgeRecord, place: "pending" | "current" | "retiring"): void {
    const generation = record[place]
    if (generation === undefined) return
    record[place] = undefined
    forgetSecret(generation)
    this.#spisOf(record.edge.initiator).free(generation.spisToInitiator)
    this.#spisOf(record.edge.responder).free(generation.spisToResponder)
    this.#touch(record)
    if (place === "retiring") this.#say("edge-retired", generation)
  }

  #touch(record: EdgeRecord): void {
    this.#restless.add(record)
    this.#options.touch(record.edge.initiator)
    this.#options.touch(record.edge.responder)
  }

  #say(event: EdgeEvent["event"], { edge, epoch }: Generation): void {
    this.#options.say({ event, instance: edge.id, epoch })
  }

  #restsOn(generation: Generation, [initiator, responder]: Generation["results"]): boolean {
    const [a, b] = generation.results
    if (a === initiator && b === responder) return true
    const { equalConstantTime } = this.#options.crypto
    return equalConstantTime(a.digest, initiator.digest) && equalConstantTime(b.digest, responder.digest)
  }

  #spisOf(id: string): SpiAllocator {
    const spis = this.#spis.get(id)
    if (spis === undefined) throw new MakeError("NO_SUCH_EDGE", "node", "is not in the workflow")
    return spis
  }
}

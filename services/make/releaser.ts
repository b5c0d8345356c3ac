/**
 * The key-releaser's core: who is vouched for, which epoch each edge has, what each node is to hold. One object per term
 * and workflow; a new leader, and a new workflow document, begin a new term with an empty one. Pure: inputs and the time
 * go in, releases and events come out. All times are ms of the releaser's own monotonic clock.
 */
import { limits } from "../../schemas/limits.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { BeaconBook } from "./challenge.ts"
import { compileWorkflow, suiteOf, type Workflow } from "./edges.ts"
import { type Epoch, expectTermMayFollow } from "./epoch.ts"
import { MakeError } from "./errors.ts"
import {
  agreement,
  beginGeneration,
  type EdgeRecord,
  forgetSecret,
  type Generation,
  newEdgeRecord,
  releaseFor,
} from "./generation.ts"
import { keyOf } from "./held.ts"
import { leaseDeadline, nonceCounter } from "./lease.ts"
import {
  type Ack,
  type AckEdge,
  type EdgeState,
  expectSealable,
  type Recipient,
  type ReleaseHeader,
  type ReleasePayload,
} from "./release.ts"
import { expectResultOf, kemKeyDigest, type VouchedResult } from "./result.ts"
import { SpiAllocator } from "./spi.ts"
import type { SuiteId } from "./suites.ts"

export interface ReleaserOptions {
  readonly crypto: Crypto
  readonly workflow: Workflow
  /** This instance's name, a subject token. */
  readonly releaser: string
  readonly term: bigint
  readonly leaseMs?: number
  /** How long an old generation still receives after both ends have switched. */
  readonly graceMs?: number
  /** How long a release may go unacknowledged before it is sent again. */
  readonly resendMs?: number
}

export interface ReleaseOutput {
  readonly kind: "release"
  readonly node: string
  readonly header: ReleaseHeader
  readonly payload: ReleasePayload
  readonly recipient: Recipient
}

export interface ReleaserEvent {
  readonly kind: "event"
  readonly event:
    | "node-accepted"
    | "node-replaced"
    | "node-lapsed"
    | "node-revoked"
    | "edge-install"
    | "edge-active"
    | "edge-retired"
    | "edge-stopped"
    | "edge-disagrees"
    | "edge-missing"
    | "edge-overdue"
  readonly node?: string
  readonly instance?: string
  readonly epoch?: Epoch
}

export type ReleaserOutput = ReleaseOutput | ReleaserEvent

interface NodeRecord {
  readonly id: string
  readonly result: VouchedResult
  readonly beaconMs: number
  /** Digests of results that were in force before. */
  readonly superseded: ReadonlyArray<Uint8Array>
  /** The ML-KEM key that the result names by its digest; from the first request. */
  kemKey: Uint8Array | undefined
  /** Nonce of the newest request. */
  nonce: Uint8Array | undefined
  counter: bigint
  /** No lease that was granted to the node lasts longer than this, by our clock. */
  leaseUntilMs: number
  sequence: bigint
  acknowledged: bigint
  sentMs: number
  /** What recent releases said, by sequence, so that an acknowledgement can be held against the very one. */
  sent: Map<bigint, ReadonlyArray<SentEdge>>
}

interface SentEdge {
  readonly generation: Generation
  readonly state: EdgeState
}

const SENT_REMEMBERED = 16
const SUPERSEDED_REMEMBERED = 16
const BACKOFF_MS_MAX = 30_000

export class Releaser {
  readonly #crypto: Crypto
  readonly #options: Required<Omit<ReleaserOptions, "crypto">>
  readonly #suite: SuiteId
  readonly #stages: ReadonlyMap<string, string>
  readonly #edges: ReadonlyMap<string, EdgeRecord>
  readonly #edgesOf: ReadonlyMap<string, ReadonlyArray<EdgeRecord>>
  readonly #spis: ReadonlyMap<string, SpiAllocator>
  readonly #beacons: BeaconBook
  readonly #nodes = new Map<string, NodeRecord>()
  readonly #revoked = new Set<string>()
  /** Nodes whose desired state has changed since their last release. */
  readonly #dirty = new Set<string>()
  #events: Array<ReleaserEvent> = []

  /** @throws MakeError for a workflow that doesn't compile, a lease or term outside the limits */
  constructor(options: ReleaserOptions) {
    const { crypto, workflow } = options
    this.#crypto = crypto
    this.#options = { leaseMs: limits.leaseMs, graceMs: 2_000, resendMs: 1_000, ...options }
    leaseDeadline(0n, this.#options.leaseMs)
    expectTermMayFollow(undefined, options.term)
    this.#suite = suiteOf(workflow)
    const records = compileWorkflow(workflow).map(newEdgeRecord)
    this.#edges = new Map(records.map((record) => [record.edge.id, record]))
    this.#stages = new Map(workflow.nodes.map((node) => [node.id, node.stage]))
    const edgesOf = new Map<string, Array<EdgeRecord>>(workflow.nodes.map((node) => [node.id, []]))
    for (const record of records) {
      edgesOf.get(record.edge.initiator)?.push(record)
      edgesOf.get(record.edge.responder)?.push(record)
    }
    this.#edgesOf = edgesOf
    this.#spis = new Map(workflow.nodes.map((node) => [node.id, new SpiAllocator(crypto)]))
    this.#beacons = new BeaconBook(crypto)
  }

  get term(): bigint {
    return this.#options.term
  }

  /** The beacon to publish now. A result is accepted only with one of these in its challenge. */
  beacon(nowMs: number): Uint8Array {
    return this.#beacons.current(nowMs)
  }

  /** What there is to see of each edge, for screens and records. */
  edges(): ReadonlyArray<{ instance: string; pending: Epoch | undefined; current: Epoch | undefined }> {
    return [...this.#edges.values()].map(({ edge, pending, current }) => ({
      instance: edge.id,
      pending: pending?.epoch,
      current: current?.epoch,
    }))
  }

  /**
   * A node is vouched for. The result in force again changes nothing. New keys begin new epochs on the node's edges;
   * those in use stay until the new ones are confirmed, unless the node has rebooted and lost them.
   * @throws MakeError NOT_VOUCHED, MISDIRECTED, REVOKED, STALE (old beacon, or older than the result in force),
   *   INCUMBENT (another machine holds the node's place and its lease)
   */
  accept(result: VouchedResult, nowMs: number): ReadonlyArray<ReleaserOutput> {
    const { workflow } = this.#options
    const { claims } = result
    const stage = this.#stages.get(claims.node)
    if (stage === undefined) throw new MakeError("NOT_VOUCHED", "result.node", "is not in the workflow")
    expectResultOf(this.#crypto, "result", result, {
      domain: workflow.domain,
      workflow: workflow.digest,
      node: claims.node,
    })
    if (claims.stage !== stage) throw new MakeError("NOT_VOUCHED", "result.stage", "is not the node's")
    this.#expectNotRevoked(claims.node)
    const incumbent = this.#nodes.get(claims.node)
    if (incumbent !== undefined && this.#same(incumbent.result.digest, result.digest)) return []
    const beaconMs = this.#beacons.issuedAt(claims.beacon, nowMs)
    if (incumbent !== undefined) this.#expectMayReplace(incumbent, result, beaconMs, nowMs)

    const sameSession = incumbent !== undefined && this.#same(incumbent.result.claims.session, claims.session)
    const sameBoot = incumbent !== undefined && this.#same(incumbent.result.claims.boot, claims.boot)
    if (!sameBoot) for (const record of this.#edgesOf.get(claims.node) ?? []) this.#stop(record)
    this.#nodes.set(claims.node, {
      id: claims.node,
      result,
      beaconMs,
      superseded:
        incumbent === undefined
          ? []
          : [incumbent.result.digest, ...incumbent.superseded].slice(0, SUPERSEDED_REMEMBERED),
      kemKey: undefined,
      nonce: undefined,
      counter: sameSession ? incumbent.counter : 0n,
      leaseUntilMs: sameBoot ? incumbent.leaseUntilMs : nowMs,
      sequence: sameSession ? incumbent.sequence : 0n,
      acknowledged: sameSession ? incumbent.acknowledged : 0n,
      sentMs: nowMs,
      sent: new Map(),
    })
    this.#say({ event: incumbent === undefined ? "node-accepted" : "node-replaced", node: claims.node })
    return this.#flush(nowMs)
  }

  /**
   * A node's standing request, its signature already verified under the result in force. Always answered.
   * @throws MakeError REVOKED, NOT_VOUCHED (no result in force, or not for this KEM key), MISDIRECTED (another session),
   *   STALE (an older request), KEY or MALFORMED (nothing can be sealed to the node's keys)
   */
  pull(
    request: {
      readonly node: string
      readonly session: Uint8Array
      readonly nonce: Uint8Array
      readonly kem_key: Uint8Array
    },
    nowMs: number,
  ): ReadonlyArray<ReleaserOutput> {
    const node = this.#nodeInSession(request.node, request.session)
    const counter = nonceCounter(request.nonce)
    if (counter <= node.counter) throw new MakeError("STALE", "nonce", "is not newer than the last request's")
    this.#takeKemKey(node, request.kem_key)
    node.nonce = request.nonce
    node.counter = counter
    node.leaseUntilMs = nowMs + this.#options.leaseMs
    this.#dirty.add(node.id)
    this.#reconcile(this.#edgesOf.get(node.id) ?? [], nowMs)
    return this.#flush(nowMs)
  }

  /**
   * A node's acknowledgement, its signature already verified under the result in force. One that others have overtaken
   * changes nothing.
   * @throws MakeError REVOKED, NOT_VOUCHED, MISDIRECTED (session, term), STALE (a sequence never sent, or too long ago),
   *   MALFORMED (an epoch named twice)
   */
  ack(ack: Ack, nowMs: number): ReadonlyArray<ReleaserOutput> {
    const node = this.#nodeInSession(ack.node, ack.session)
    if (ack.term !== this.term) throw new MakeError("MISDIRECTED", "term", "is not this releaser's")
    const sent = node.sent.get(ack.sequence)
    if (sent === undefined) throw new MakeError("STALE", "sequence", "is not that of a recent release")
    const held = heldEdges(ack.edges)
    if (ack.sequence < node.acknowledged) return []
    node.acknowledged = ack.sequence
    const touched = new Set<EdgeRecord>()
    for (const { generation, state } of sent) {
      const record = this.#edges.get(generation.edge.id)
      if (record === undefined) continue
      touched.add(record)
      const found = held.get(keyOf({ instance: generation.edge.id, epoch: generation.epoch }))
      if (record.pending === generation && state === "install")
        this.#confirm(record, generation, node.id, found, nowMs)
      else if (record.current === generation && state === "active")
        this.#switched(record, generation, node.id, found, nowMs)
    }
    this.#reconcile(touched, nowMs)
    return this.#flush(nowMs)
  }

  /** The node's edges stop: its peers are told at once, it gets one last release that names nothing, then none. */
  revoke(nodeId: string, nowMs: number): ReadonlyArray<ReleaserOutput> {
    if (!this.#stages.has(nodeId)) throw new MakeError("NOT_VOUCHED", "node", "is not in the workflow")
    if (this.#revoked.has(nodeId)) return []
    this.#revoked.add(nodeId)
    for (const record of this.#edgesOf.get(nodeId) ?? []) this.#stop(record)
    this.#say({ event: "node-revoked", node: nodeId })
    this.#dirty.add(nodeId)
    const outputs = this.#flush(nowMs)
    this.#nodes.delete(nodeId)
    return outputs
  }

  /** A new epoch for one edge instance, or for all; the old one stays in use until the new one is confirmed. */
  rotate(instance: string | undefined, nowMs: number): ReadonlyArray<ReleaserOutput> {
    const records = instance === undefined ? [...this.#edges.values()] : [this.#edges.get(instance)]
    for (const record of records) {
      if (record === undefined) throw new MakeError("NO_SUCH_EDGE", "instance", "is not in the workflow")
      record.rotate = true
      this.#reconcile([record], nowMs)
    }
    return this.#flush(nowMs)
  }

  /** Lets time pass: leases lapse, grace times end, epochs that don't get confirmed begin anew, releases go out again. */
  tick(nowMs: number): ReadonlyArray<ReleaserOutput> {
    for (const node of this.#nodes.values()) {
      if (node.nonce !== undefined && nowMs >= node.leaseUntilMs) {
        node.nonce = undefined
        this.#say({ event: "node-lapsed", node: node.id })
      }
      const unanswered = node.nonce !== undefined && node.acknowledged < node.sequence
      if (unanswered && nowMs - node.sentMs >= this.#options.resendMs) this.#dirty.add(node.id)
    }
    for (const record of this.#edges.values()) this.#age(record, nowMs)
    this.#reconcile(this.#edges.values(), nowMs)
    return this.#flush(nowMs)
  }

  #age(record: EdgeRecord, nowMs: number): void {
    const { retiring, pending, edge } = record
    const held = [pending, record.current, retiring].some((generation) => generation !== undefined)
    if (held && (this.#leaseOver(edge.initiator, nowMs) || this.#leaseOver(edge.responder, nowMs)))
      this.#stop(record)
    else if (retiring?.goneAtMs !== undefined && nowMs >= retiring.goneAtMs) this.#drop(record, "retiring")
    // Not at once, or an end that fails after each success would get a new epoch with every message.
    if (record.current !== undefined && nowMs - record.current.startedMs >= this.#options.leaseMs)
      record.failures = 0
    if (record.pending !== undefined && nowMs - record.pending.startedMs >= this.#options.leaseMs)
      this.#fail(record, "edge-overdue", nowMs)
  }

  /** Begins an epoch wherever both ends are there and none that rests on their results is in use or on its way. */
  #reconcile(records: Iterable<EdgeRecord>, nowMs: number): void {
    for (const record of records) {
      const [initiator, responder] = [this.#live(record.edge.initiator), this.#live(record.edge.responder)]
      if (initiator === undefined || responder === undefined) continue
      const results = [initiator.result, responder.result] as const
      if (record.pending !== undefined && !this.#restsOn(record.pending, results))
        this.#drop(record, "pending")
      if (record.pending !== undefined || nowMs < record.notBeforeMs) continue
      if (record.current !== undefined && this.#restsOn(record.current, results) && !record.rotate) continue
      const spis = { initiator: this.#spisOf(initiator.id), responder: this.#spisOf(responder.id) }
      record.pending = beginGeneration(this.#crypto, record, this.term, results, spis, nowMs)
      record.rotate = false
      this.#touch(record)
      this.#say({ event: "edge-install", instance: record.edge.id, epoch: record.pending.epoch })
    }
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
    const agreed = agreement(this.#crypto, generation)
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
    this.#say({ event: "edge-active", instance: record.edge.id, epoch: generation.epoch })
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
  #fail(record: EdgeRecord, event: ReleaserEvent["event"], nowMs: number): void {
    if (record.pending !== undefined) this.#failed(record, event, record.pending, nowMs)
    this.#drop(record, "pending")
  }

  #failed(record: EdgeRecord, event: ReleaserEvent["event"], { epoch }: Generation, nowMs: number): void {
    const pause =
      record.failures === 0 ? 0 : Math.min(BACKOFF_MS_MAX, 500 * 2 ** Math.min(record.failures, 10))
    record.failures += 1
    record.notBeforeMs = nowMs + pause
    this.#say({ event, instance: record.edge.id, epoch })
  }

  #stop(record: EdgeRecord): void {
    const { current } = record
    for (const place of ["pending", "current", "retiring"] as const) this.#drop(record, place)
    if (current !== undefined)
      this.#say({ event: "edge-stopped", instance: record.edge.id, epoch: current.epoch })
  }

  #drop(record: EdgeRecord, place: "pending" | "current" | "retiring"): void {
    const generation = record[place]
    if (generation === undefined) return
    record[place] = undefined
    forgetSecret(generation)
    this.#spisOf(record.edge.initiator).free(generation.spisToInitiator)
    this.#spisOf(record.edge.responder).free(generation.spisToResponder)
    this.#touch(record)
    if (place === "retiring")
      this.#say({ event: "edge-retired", instance: record.edge.id, epoch: generation.epoch })
  }

  #touch({ edge }: EdgeRecord): void {
    this.#dirty.add(edge.initiator)
    this.#dirty.add(edge.responder)
  }

  #flush(nowMs: number): ReadonlyArray<ReleaserOutput> {
    const outputs: Array<ReleaserOutput> = this.#events
    this.#events = []
    for (const id of this.#dirty) {
      const node = this.#nodes.get(id)
      if (node?.nonce !== undefined) outputs.push(this.#release(node, node.nonce, nowMs))
    }
    this.#dirty.clear()
    return outputs
  }

  #release(node: NodeRecord, nonce: Uint8Array, nowMs: number): ReleaseOutput {
    const { workflow, releaser, term, leaseMs } = this.#options
    const generations = (this.#edgesOf.get(node.id) ?? []).flatMap(({ retiring, current, pending }) =>
      [retiring, current, pending].filter((generation) => generation !== undefined),
    )
    node.sequence += 1n
    node.sentMs = nowMs
    node.sent.set(
      node.sequence,
      generations.map((generation) => ({ generation, state: generation.state })),
    )
    node.sent.delete(node.sequence - BigInt(SENT_REMEMBERED))
    const { claims, digest } = node.result
    return {
      kind: "release",
      node: node.id,
      header: {
        domain: workflow.domain,
        workflow: workflow.digest,
        node: node.id,
        session: claims.session,
        releaser,
        term,
        sequence: node.sequence,
        nonce,
        suite: this.#suite,
      },
      payload: { lease_ms: leaseMs, edges: generations.map((generation) => releaseFor(generation, node.id)) },
      recipient: { dhKey: claims.dh_key, kemKey: node.kemKey ?? new Uint8Array(0), result: digest },
    }
  }

  #expectMayReplace(incumbent: NodeRecord, result: VouchedResult, beaconMs: number, nowMs: number): void {
    if (beaconMs < incumbent.beaconMs)
      throw new MakeError("STALE", "result.beacon", "is older than that of the result in force")
    // Several results may contain one beacon; among them, one that was replaced doesn't come back.
    if (incumbent.superseded.some((digest) => this.#same(digest, result.digest)))
      throw new MakeError("STALE", "result", "was replaced by a newer one")
    const lives = incumbent.nonce !== undefined && nowMs < incumbent.leaseUntilMs
    if (lives && !this.#same(incumbent.result.claims.chip, result.claims.chip))
      throw new MakeError("INCUMBENT", "result.chip", "is not that of the node whose lease still runs")
  }

  #nodeInSession(id: string, session: Uint8Array): NodeRecord {
    this.#expectNotRevoked(id)
    const node = this.#nodes.get(id)
    if (node === undefined) throw new MakeError("NOT_VOUCHED", "node", "has no result in force")
    if (!this.#same(node.result.claims.session, session))
      throw new MakeError("MISDIRECTED", "session", "is not that of the result in force")
    return node
  }

  /** A key that the result in force names, tried once. */
  #takeKemKey(node: NodeRecord, kemKey: Uint8Array): void {
    const { claims } = node.result
    if (node.kemKey !== undefined && this.#same(node.kemKey, kemKey)) return
    if (!this.#same(kemKeyDigest(this.#crypto, kemKey), claims.kem_key_digest))
      throw new MakeError("NOT_VOUCHED", "kem_key", "is not the one that the result names")
    expectSealable(this.#crypto, this.#suite, { dhKey: claims.dh_key, kemKey })
    node.kemKey = kemKey
  }

  #expectNotRevoked(id: string): void {
    if (this.#revoked.has(id)) throw new MakeError("REVOKED", "node", "was revoked")
  }

  /** Vouched for, and with a request that a release can answer. */
  #live(id: string): NodeRecord | undefined {
    const node = this.#nodes.get(id)
    return node?.nonce === undefined ? undefined : node
  }

  #leaseOver(id: string, nowMs: number): boolean {
    const node = this.#nodes.get(id)
    return node === undefined || nowMs >= node.leaseUntilMs
  }

  #restsOn(generation: Generation, [initiator, responder]: Generation["results"]): boolean {
    const [a, b] = generation.results
    return this.#same(a.digest, initiator.digest) && this.#same(b.digest, responder.digest)
  }

  #spisOf(id: string): SpiAllocator {
    const spis = this.#spis.get(id)
    if (spis === undefined) throw new MakeError("NO_SUCH_EDGE", "node", "is not in the workflow")
    return spis
  }

  #same(a: Uint8Array, b: Uint8Array): boolean {
    return this.#crypto.equalConstantTime(a, b)
  }

  #say(event: Omit<ReleaserEvent, "kind">): void {
    this.#events.push({ kind: "event", ...event })
  }
}

const heldEdges = (edges: ReadonlyArray<AckEdge>): ReadonlyMap<string, AckEdge> => {
  const held = new Map<string, AckEdge>()
  for (const edge of edges) {
    const key = keyOf({ instance: edge.instance, epoch: { term: edge.term, n: edge.epoch } })
    if (held.has(key)) throw new MakeError("MALFORMED", "edges", "an epoch is named twice")
    held.set(key, edge)
  }
  return held
}

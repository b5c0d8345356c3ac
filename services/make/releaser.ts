/**
 * The key-releaser's core: joins the book of nodes and the edges to what each node is told. One object per term and
 * workflow; a new leader, and a new workflow document, begin a new term with an empty one. Pure: inputs and the time go
 * in, releases and events come out. All times are ms of the releaser's own monotonic clock.
 */
import { limits } from "../../schemas/limits.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { DesiredStates } from "./desired.ts"
import { type EdgeEvent, EdgeMachine } from "./edge-machine.ts"
import { suiteOf, type Workflow } from "./edges.ts"
import { type Epoch, expectTermMayFollow } from "./epoch.ts"
import { MakeError } from "./errors.ts"
import type { EdgeRecord } from "./generation.ts"
import { heldOf } from "./held-edges.ts"
import { Heritage, type Inherited, inherit } from "./heritage.ts"
import type { LaunchBook } from "./launch.ts"
import { leaseDeadline } from "./lease.ts"
import { NodeBook, type Request, type VouchedNode, type WithdrawnOf } from "./node-book.ts"
import type { Ack, Recipient, ReleaseHeader, ReleasePayload } from "./release.ts"
import { type Answerable, ReleaseQueue } from "./release-queue.ts"
import type { VouchedResult } from "./result.ts"
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
  /** The age at which an epoch in use is replaced; absent: none is for its age. */
  readonly rotateMs?: number
  /** How long a release may go unacknowledged before it is sent again; the next one waits twice as long, then four times. */
  readonly resendMs?: number
  /**
   * Releases wait for `flush`, so that one says what many messages have changed: each is a full state, and its size grows
   * with the node's edges. A node that has not acknowledged its last one waits for that; one that has edges to peers who
   * have yet to come or to confirm waits while a burst goes on, see `burst.ts`. Otherwise every input gives its releases at
   * once.
   */
  readonly gather?: boolean
  /** What reigns of this releaser before have left, and what of it is known to be bad already. */
  readonly inherited?: ReadonlyArray<Inherited>
  /** What such reigns have seen of each node's boots; theirs and this one's. */
  readonly launches?: LaunchBook
}

export interface ReleaseOutput {
  readonly kind: "release"
  readonly node: string
  readonly header: ReleaseHeader
  readonly payload: ReleasePayload
  /** The node has acknowledged this payload, the very object, and nothing was said to it since: it may be named. */
  readonly renews: boolean
  readonly recipient: Recipient
}

export interface ReleaserEvent {
  readonly kind: "event"
  readonly event:
    | "node-accepted"
    | "node-replaced"
    | "node-lapsed"
    | "node-revoked"
    | "node-withdrawn"
    | "node-left"
    | "node-drifts"
    | EdgeEvent["event"]
  readonly node?: string
  readonly instance?: string
  readonly epoch?: Epoch
}

export type ReleaserOutput = ReleaseOutput | ReleaserEvent

export class Releaser {
  readonly #options: Required<Omit<ReleaserOptions, "inherited" | "launches">>
  readonly #heritage: Heritage
  readonly #suite: SuiteId
  readonly #nodes: NodeBook
  readonly #edges: EdgeMachine
  readonly #desired: DesiredStates
  readonly #queue: ReleaseQueue
  #events: Array<ReleaserEvent> = []

  /** @throws MakeError for a workflow that doesn't compile, a lease or term outside the limits */
  constructor(options: ReleaserOptions) {
    const { crypto, workflow } = options
    this.#heritage = new Heritage(crypto, options.inherited)
    this.#options = {
      leaseMs: limits.leaseMs,
      graceMs: 2_000,
      resendMs: 1_000,
      rotateMs: Number.POSITIVE_INFINITY,
      gather: false,
      ...options,
    }
    leaseDeadline(0n, this.#options.leaseMs)
    expectTermMayFollow(undefined, options.term)
    this.#suite = suiteOf(workflow)
    const { leaseMs, graceMs, resendMs, rotateMs, term } = this.#options
    const { launches } = options
    this.#nodes = new NodeBook({ crypto, workflow, suite: this.#suite, leaseMs, resendMs, launches })
    this.#edges = new EdgeMachine({
      crypto,
      workflow,
      term,
      leaseMs,
      graceMs,
      rotateMs,
      nodes: this.#nodes,
      say: (event) => this.#say(event),
      touch: (node) => this.#changed(node),
    })
    this.#desired = new DesiredStates({ edges: this.#edges, heritage: this.#heritage, leaseMs })
    const { gather } = this.#options
    this.#queue = new ReleaseQueue({ gather, leaseMs, nodes: this.#nodes, edges: this.#edges })
  }

  get term(): bigint {
    return this.#options.term
  }

  /** The beacon to publish now. A result is accepted only with one of these in its challenge. */
  beacon(nowMs: number): Uint8Array {
    return this.#nodes.beacon(nowMs)
  }

  /** What there is to see of each edge, for screens and records. */
  edges(): ReadonlyArray<{ instance: string; pending: Epoch | undefined; current: Epoch | undefined }> {
    return [...this.#edges.all()].map(({ edge, pending, current }) => ({
      instance: edge.id,
      pending: pending?.epoch,
      current: current?.epoch,
    }))
  }

  /**
   * A node is vouched for. The result in force again changes nothing. New keys end the epochs on their way, at once, and
   * begin new ones with the next request; those in use stay until the new ones are confirmed, unless the node has rebooted
   * and lost them.
   * @throws MakeError NOT_VOUCHED, MISDIRECTED, REVOKED, WITHDRAWN, STALE (old beacon, or older than the result in force),
   *   INCUMBENT (another machine holds the node's place and its lease), CLONED or ROLLED_BACK (hardware contradicts what it
   *   said in the same boot)
   */
  accept(result: VouchedResult, nowMs: number): ReadonlyArray<ReleaserOutput> {
    const accepted = this.#nodes.accept(result, nowMs)
    if (accepted === undefined) return []
    const { node } = result.claims
    if (!accepted.sameBoot) this.#edges.stop(node)
    this.#edges.supersede(node)
    this.#say({ event: accepted.first ? "node-accepted" : "node-replaced", node })
    return this.#settle(nowMs)
  }

  /**
   * A node's standing request, its signature already verified under the result in force. Always answered.
   * @throws MakeError REVOKED, NOT_VOUCHED (no result in force, or not for this KEM key), MISDIRECTED (another session),
   *   STALE (an older request), KEY or MALFORMED (nothing can be sealed to the node's keys)
   */
  pull(request: Request, nowMs: number): ReadonlyArray<ReleaserOutput> {
    const first = this.#nodes.live(request.node) === undefined
    const { id } = this.#nodes.request(request, nowMs)
    if (first) this.#queue.burst.heard(nowMs)
    this.#queue.touch(id)
    this.#edges.reconcile(this.#edges.of(id), nowMs)
    return this.#settle(nowMs)
  }

  /**
   * A node's acknowledgement, its signature already verified under the result in force. One that others have overtaken
   * changes nothing. The result of a node whose clock is proven to be slow is in force no more: its leases would not end
   * when they should. A fast one ends them early, and our own clock having stood still looks the same: that is only told.
   * @throws MakeError REVOKED, NOT_VOUCHED, MISDIRECTED (session, term), STALE (a sequence never sent, or too long ago),
   *   MALFORMED (an epoch named twice)
   */
  ack(ack: Ack, nowMs: number): ReadonlyArray<ReleaserOutput> {
    const node = this.#nodes.inSession(ack.node, ack.session)
    if (ack.term !== this.term) throw new MakeError("MISDIRECTED", "term", "is not this releaser's")
    const { said, atMs } = this.#nodes.said(node, ack.sequence)
    const held = heldOf(ack.edges, said)
    if (ack.sequence < node.acknowledged) return []
    if (ack.sequence > node.acknowledged && ack.boot_ns !== undefined) {
      const sample = { nodeMs: Number(ack.boot_ns) / 1e6, sentMs: atMs, arrivedMs: nowMs }
      const drift = node.clock.take(sample)
      if (drift === "slow") return this.#end(node, "node-drifts", nowMs)
      if (drift === "fast") {
        this.#say({ event: "node-drifts", node: node.id })
        // What came before would prove the same again with each acknowledgement, and hide that the clock is slow later.
        node.clock.forget()
        node.clock.take(sample)
      }
    }
    if (ack.sequence > node.acknowledged) {
      this.#queue.burst.heard(nowMs, nowMs - atMs)
      node.unheard = 0
    }
    node.acknowledged = ack.sequence
    const touched = new Set<EdgeRecord>()
    said.forEach(({ generation, state }, i) => {
      const record = this.#edges.heard(generation, state, node.id, held(generation, i), nowMs)
      if (record !== undefined) touched.add(record)
    })
    this.#edges.reconcile(touched, nowMs)
    return this.#settle(nowMs)
  }

  /** The results in force. */
  vouched(): ReadonlyArray<VouchedResult["claims"]> {
    return [...this.#nodes.all()].map(({ result }) => result.claims)
  }

  /**
   * The node's edges stop: its peers are told at once, it gets one last release that names nothing, then none.
   * @throws MakeError NOT_VOUCHED for a node that the workflow doesn't name
   */
  revoke(node: string, nowMs: number): ReadonlyArray<ReleaserOutput> {
    return this.expel([node], nowMs)
  }

  /**
   * Revokes many nodes: each peer gets one release, however many of its edges stop.
   * @throws MakeError NOT_VOUCHED for a node that the workflow doesn't name
   */
  expel(nodes: ReadonlyArray<string>, nowMs: number): ReadonlyArray<ReleaserOutput> {
    const gone = nodes.filter((node) => this.#nodes.revoke(node))
    return this.#drop(gone, "node-revoked", nowMs)
  }

  /** For the next reign; `document` is this one's. */
  heritage(document: Inherited["document"], nowMs: number): ReadonlyArray<Inherited> {
    const results = [...this.#nodes.all()].map(({ result }) => result)
    return inherit(this.#heritage.all(), results, { document, term: this.term }, nowMs)
  }

  /** The reign is over: release secrets that are still on their way end here, and what was made ahead for the next seals. */
  end(): void {
    for (const { edge } of this.#edges.all()) this.#edges.stop(edge.initiator)
    this.#nodes.end()
    this.#queue.clear()
    this.#desired.clear()
    this.#events = []
  }

  /**
   * A verifier takes results back, its signature already verified. Those of them that are in force and that it signed itself
   * are treated as a revocation, but for one thing: a newer result of the node is welcome. What rests on such a result in a
   * reign before ends too. All else changes nothing, however often it is said.
   */
  withdraw(
    signer: Uint8Array,
    results: ReadonlyArray<WithdrawnOf>,
    nowMs: number,
  ): ReadonlyArray<ReleaserOutput> {
    const gone = results.filter((one) => this.#nodes.withdraw(signer, one, nowMs)).map(({ node }) => node)
    const before = results.flatMap((one) => this.#heritage.withdraw(signer, one))
    return this.#drop(gone, "node-withdrawn", nowMs, before)
  }

  /**
   * A verifier that is believed has refused these nodes, each under a beacon of this term: results of whichever verifier go
   * that are not newer, and what is left of reigns before.
   */
  judged(
    refused: ReadonlyArray<{ readonly node: string; readonly beacon: Uint8Array }>,
    nowMs: number,
  ): ReadonlyArray<ReleaserOutput> {
    const gone = new Set<string>()
    const before: Array<string> = []
    for (const { node, beacon } of refused) {
      const inForce = this.#nodes.judged(node, beacon, nowMs)
      if (inForce === true) gone.add(node)
      if (inForce !== undefined) before.push(...this.#heritage.end(node))
    }
    return this.#drop([...gone], "node-withdrawn", nowMs, before)
  }

  /**
   * A node takes its leave, its signature already verified under the result in force. That result never counts again; a
   * newer one of the node is welcome.
   * @throws MakeError REVOKED, NOT_VOUCHED, MISDIRECTED (another session)
   */
  leave(node: string, session: Uint8Array, nowMs: number): ReadonlyArray<ReleaserOutput> {
    return this.#end(this.#nodes.inSession(node, session), "node-left", nowMs)
  }

  /** The result in force doesn't come back. */
  #end(
    { id, result }: VouchedNode,
    event: "node-left" | "node-drifts",
    nowMs: number,
  ): ReadonlyArray<ReleaserOutput> {
    this.#nodes.withdraw(result.signed.batch.key, { node: id, result: result.digest }, nowMs)
    return this.#drop([id], event, nowMs)
  }

  #drop(
    gone: ReadonlyArray<string>,
    event: "node-withdrawn" | "node-left" | "node-revoked" | "node-drifts",
    nowMs: number,
    before: ReadonlyArray<string> = [],
  ): ReadonlyArray<ReleaserOutput> {
    if (gone.length === 0 && before.length === 0) return []
    for (const node of gone) {
      this.#edges.stop(node)
      this.#say({ event, node })
      this.#changed(node)
    }
    const earlier = new Set([...before, ...gone.flatMap((node) => this.#heritage.end(node))])
    for (const node of earlier) {
      if (!gone.includes(node)) this.#say({ event, node })
      for (const { edge } of this.#edges.of(node)) {
        this.#say({ event: "edge-stopped", instance: edge.id })
        this.#changed(edge.initiator)
        this.#changed(edge.responder)
      }
    }
    const outputs = this.#flushAll(nowMs)
    for (const node of gone) this.#nodes.forget(node)
    return outputs
  }

  /**
   * New epochs for one edge instance, all instances of an edge, or all; the old ones stay in use until theirs are confirmed.
   * @throws MakeError NO_SUCH_EDGE
   */
  rotate(which: string | undefined, nowMs: number): ReadonlyArray<ReleaserOutput> {
    const records = which === undefined ? [...this.#edges.all()] : this.#edges.named(which)
    this.#edges.rotate(records, nowMs)
    return this.#settle(nowMs)
  }

  /** Lets time pass: leases lapse, grace times end, epochs that don't get confirmed begin anew, releases go out again. */
  tick(nowMs: number): ReadonlyArray<ReleaserOutput> {
    for (const node of this.#nodes.lapse(nowMs)) this.#say({ event: "node-lapsed", node })
    this.#queue.tick(nowMs)
    this.#edges.age(nowMs)
    return this.#settle(nowMs)
  }

  /** Whether there is anything that `flush` could ever give without another message. */
  get waiting(): boolean {
    return this.#queue.waiting
  }

  /** Whether `flush` would give anything now. */
  due(nowMs: number): boolean {
    return this.#queue.due(nowMs)
  }

  /** Whether `flush` will give something within a burst's time, also when nothing else happens. */
  waits(nowMs: number): boolean {
    return this.#queue.waits(nowMs)
  }

  /** With `gather`: the releases that have waited, `most` of them at once. */
  flush(nowMs: number, most = Number.POSITIVE_INFINITY): ReadonlyArray<ReleaseOutput> {
    return this.#queue.take(nowMs, most).map((node) => this.#release(node, nowMs))
  }

  /** What it was told last does not hold any more. */
  #changed(node: string): void {
    this.#desired.changed(node)
    this.#queue.touch(node)
  }

  #settle(nowMs: number): ReadonlyArray<ReleaserOutput> {
    if (!this.#options.gather) return this.#flushAll(nowMs)
    const events = this.#events
    this.#events = []
    return events
  }

  #flushAll(nowMs: number): ReadonlyArray<ReleaserOutput> {
    const outputs: Array<ReleaserOutput> = this.#events
    this.#events = []
    for (const node of this.#queue.takeAll()) outputs.push(this.#release(node, nowMs))
    return outputs
  }

  #release(node: Answerable, nowMs: number): ReleaseOutput {
    const { workflow, releaser, term } = this.#options
    const { said, payload } = this.#desired.of(node.id, nowMs)
    const renews = this.#nodes.sending(node, said, payload, nowMs)
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
        nonce: node.nonce,
        suite: this.#suite,
      },
      payload,
      renews,
      recipient: {
        dhKey: claims.dh_key,
        kemKey: node.kemKey ?? new Uint8Array(0),
        result: digest,
        ...(node.ahead === undefined ? {} : { ahead: node.ahead }),
      },
    }
  }

  #say(event: Omit<ReleaserEvent, "kind">): void {
    this.#events.push({ kind: "event", ...event })
  }
}

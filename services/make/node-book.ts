/**
 * The releaser's book of nodes: who is vouched for, by which result, who has a request outstanding, and what each was
 * told last. It knows nothing of edges. Pure; times are ms of the releaser's own monotonic clock.
 */
import { limits } from "../../schemas/limits.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { BeaconBook } from "./challenge.ts"
import { ClockDrift } from "./clock-drift.ts"
import type { Workflow } from "./edges.ts"
import { MakeError } from "./errors.ts"
import type { Generation } from "./generation.ts"
import { LaunchBook } from "./launch.ts"
import { nonceCounter } from "./lease.ts"
import { Ahead, type EdgeState, isLasting, type ReleasePayload } from "./release.ts"
import { expectResultOf, kemKeyDigest, type VouchedResult } from "./result.ts"
import type { SuiteId } from "./suites.ts"
import { WithdrawnResults } from "./withdrawn.ts"

export interface SentEdge {
  readonly generation: Generation
  readonly state: EdgeState
}

interface SentRelease {
  readonly said: ReadonlyArray<SentEdge>
  readonly atMs: number
}

/** A node with a result in force. */
export interface VouchedNode {
  readonly id: string
  readonly result: VouchedResult
  readonly beaconMs: number
  /** Digests of results that were in force before. */
  readonly superseded: ReadonlyArray<Uint8Array>
  /** The ML-KEM key that the result names by its digest; from the first request. */
  kemKey: Uint8Array | undefined
  /** What that key was tried with: good for the first release to it. */
  ahead: Ahead | undefined
  /** Nonce of the newest request. */
  nonce: Uint8Array | undefined
  counter: bigint
  /** No lease that was granted to the node lasts longer than this, by our clock. */
  leaseUntilMs: number
  sequence: bigint
  acknowledged: bigint
  sentMs: number
  /** Releases in a row that went out because the one before was not acknowledged in time. */
  unheard: number
  /** The nonce that the newest release answered. */
  answered: Uint8Array | undefined
  /** What recent releases said, by sequence, so that an acknowledgement can be held against the very one. */
  readonly sent: Map<bigint, SentRelease>
  /** What the newest release said, if that lasts. */
  told: ReleasePayload | undefined
  /** Of this boot. */
  readonly clock: ClockDrift
}

export interface Request {
  readonly node: string
  readonly session: Uint8Array
  readonly nonce: Uint8Array
  readonly kem_key: Uint8Array
}

/** Which result is meant, of which node. */
export interface WithdrawnOf {
  readonly node: string
  readonly result: Uint8Array
}

const SENT_REMEMBERED = 16n
const SUPERSEDED_REMEMBERED = 16
const UNHEARD_DOUBLES = 2

export interface NodeBookOptions {
  readonly crypto: Crypto
  readonly workflow: Workflow
  readonly suite: SuiteId
  readonly leaseMs: number
  /** How long a release may go unacknowledged; then twice as long, then four times. */
  readonly resendMs: number
  /** Outlives a reign, where it is given: what earlier ones have seen of each boot holds for this one too. */
  readonly launches?: LaunchBook | undefined
}

const supersededBy = (node: VouchedNode | undefined): ReadonlyArray<Uint8Array> =>
  node === undefined ? [] : [node.result.digest, ...node.superseded].slice(0, SUPERSEDED_REMEMBERED)

export class NodeBook {
  readonly #crypto: Crypto
  readonly #options: NodeBookOptions
  readonly #stages: ReadonlyMap<string, string>
  readonly #beacons: BeaconBook
  readonly #nodes = new Map<string, VouchedNode>()
  readonly #revoked: Set<string>
  readonly #withdrawn = new WithdrawnResults()
  readonly #launches: LaunchBook
  /** By node, when the newest beacon was issued that it was refused under: results that aren't newer don't count. */
  readonly #judgedMs = new Map<string, number>()
  /** Of nodes whose result was forgotten: what was replaced before doesn't come back for that. */
  readonly #floors = new Map<string, Pick<VouchedNode, "beaconMs" | "superseded">>()

  constructor(options: NodeBookOptions) {
    this.#crypto = options.crypto
    this.#options = options
    this.#stages = new Map(options.workflow.nodes.map((node) => [node.id, node.stage]))
    this.#revoked = new Set(options.workflow.revoked)
    this.#beacons = new BeaconBook(options.crypto)
    this.#launches = options.launches ?? new LaunchBook(options.crypto)
  }

  beacon(nowMs: number): Uint8Array {
    return this.#beacons.current(nowMs)
  }

  /** Undefined without a result in force. */
  get(id: string): VouchedNode | undefined {
    return this.#nodes.get(id)
  }

  /** Vouched for, and with a request that a release can answer. */
  live(id: string): VouchedNode | undefined {
    const node = this.#nodes.get(id)
    return node?.nonce === undefined ? undefined : node
  }

  all(): Iterable<VouchedNode> {
    return this.#nodes.values()
  }

  leaseOver(id: string, nowMs: number): boolean {
    const node = this.#nodes.get(id)
    return node === undefined || nowMs >= node.leaseUntilMs
  }

  /**
   * @returns undefined for the result in force; else whether the node has one for the first time, and whether what it was
   *   given before is still in its kernel
   * @throws MakeError NOT_VOUCHED, MISDIRECTED, REVOKED, WITHDRAWN, STALE, INCUMBENT, CLONED, ROLLED_BACK: see
   *   `Releaser.accept`
   */
  accept(
    result: VouchedResult,
    nowMs: number,
  ): { readonly first: boolean; readonly sameBoot: boolean } | undefined {
    const { workflow } = this.#options
    const { claims, digest } = result
    const stage = this.#stages.get(claims.node)
    if (stage === undefined) throw new MakeError("NOT_VOUCHED", "result.node", "is not in the workflow")
    const wanted = { domain: workflow.domain, workflow: workflow.digest, node: claims.node }
    expectResultOf(this.#crypto, "result", result, wanted)
    if (claims.stage !== stage) throw new MakeError("NOT_VOUCHED", "result.stage", "is not the node's")
    this.#expectNotRevoked(claims.node)
    const incumbent = this.#nodes.get(claims.node)
    if (incumbent !== undefined && this.#same(incumbent.result.digest, digest)) return undefined
    const { key } = result.signed.batch
    if (this.#withdrawn.has(key, digest, nowMs))
      throw new MakeError("WITHDRAWN", "result", "was taken back by the verifier that signed it")
    const beaconMs = this.#beacons.issuedAt(claims.beacon, nowMs)
    if (beaconMs <= (this.#judgedMs.get(claims.node) ?? Number.NEGATIVE_INFINITY))
      throw new MakeError("WITHDRAWN", "result", "is not newer than a verifier's refusal of the node")
    const floor = incumbent ?? this.#floors.get(claims.node)
    if (floor !== undefined) this.#expectNewer(floor, result, beaconMs)
    if (incumbent !== undefined) this.#expectMayReplace(incumbent, result, nowMs)
    const shown = { node: claims.node, boot: claims.boot, launch: claims.launch ?? {} }
    this.#launches.expect(shown, beaconMs)

    incumbent?.ahead?.wipe()
    this.#launches.know(shown, nowMs)
    this.#withdrawn.know(key)
    const before = incumbent?.result
    const sameSession = before !== undefined && this.#same(before.claims.session, claims.session)
    const sameBoot = before !== undefined && this.#same(before.claims.boot, claims.boot)
    const superseded = before === undefined ? (floor?.superseded ?? []) : supersededBy(incumbent)
    this.#nodes.set(claims.node, {
      id: claims.node,
      result,
      beaconMs,
      superseded,
      kemKey: undefined,
      ahead: undefined,
      nonce: undefined,
      counter: sameSession ? (incumbent?.counter ?? 0n) : 0n,
      leaseUntilMs: sameBoot ? (incumbent?.leaseUntilMs ?? nowMs) : nowMs,
      sequence: sameSession ? (incumbent?.sequence ?? 0n) : 0n,
      acknowledged: sameSession ? (incumbent?.acknowledged ?? 0n) : 0n,
      sentMs: nowMs,
      unheard: 0,
      answered: undefined,
      sent: new Map(),
      told: undefined,
      clock: sameBoot && incumbent !== undefined ? incumbent.clock : new ClockDrift(),
    })
    return { first: incumbent === undefined, sameBoot }
  }

  /**
   * Takes a standing request.
   * @throws MakeError REVOKED, NOT_VOUCHED, MISDIRECTED, STALE, KEY, MALFORMED: see `Releaser.pull`
   */
  request(request: Request, nowMs: number): VouchedNode {
    const node = this.inSession(request.node, request.session)
    if (nowMs - node.beaconMs >= limits.resultMs)
      throw new MakeError("STALE", "result", `is older than ${limits.resultMs} ms: the node must attest anew`)
    const counter = nonceCounter(request.nonce)
    if (counter <= node.counter) throw new MakeError("STALE", "nonce", "is not newer than the last request's")
    this.#takeKemKey(node, request.kem_key)
    node.nonce = request.nonce
    node.counter = counter
    node.leaseUntilMs = nowMs + this.#options.leaseMs
    return node
  }

  /**
   * What the release with this sequence said, and when.
   * @throws MakeError STALE for a sequence never sent, or too long ago
   */
  said(node: VouchedNode, sequence: bigint): SentRelease {
    const sent = node.sent.get(sequence)
    if (sent === undefined) throw new MakeError("STALE", "sequence", "is not that of a recent release")
    return sent
  }

  /**
   * Counts a release that goes out now, and remembers what it says.
   * @returns whether the node has acknowledged the very same as the newest that it was told: a name will do
   */
  sending(node: VouchedNode, said: ReadonlyArray<SentEdge>, payload: ReleasePayload, nowMs: number): boolean {
    const agreed = node.told === payload && node.acknowledged === node.sequence
    if (!agreed) node.told = isLasting(payload) ? payload : undefined
    if (node.acknowledged < node.sequence && nowMs - node.sentMs >= this.#patienceMs(node)) node.unheard += 1
    node.sequence += 1n
    node.sentMs = nowMs
    node.answered = node.nonce
    node.sent.set(node.sequence, { said, atMs: nowMs })
    node.sent.delete(node.sequence - SENT_REMEMBERED)
    return agreed
  }

  /**
   * Whether the newest release waits for its acknowledgement, and there is still time for it: more, when others'
   * are arriving just now.
   */
  awaits(node: VouchedNode, nowMs: number, arriving: boolean): boolean {
    const { sequence, acknowledged, answered, nonce, sentMs } = node
    if (acknowledged >= sequence || answered !== nonce) return false
    const patienceMs = this.#patienceMs(node) * (arriving ? 2 ** UNHEARD_DOUBLES : 1)
    return nowMs - sentMs < Math.min(patienceMs, this.#options.resendMs * 2 ** UNHEARD_DOUBLES)
  }

  /** A node that doesn't acknowledge may be slow: more would make it slower. */
  #patienceMs({ unheard }: VouchedNode): number {
    return this.#options.resendMs * 2 ** Math.min(unheard, UNHEARD_DOUBLES)
  }

  /** Requests that are older than the lease they would get are none. @returns the nodes that lapsed now */
  lapse(nowMs: number): ReadonlyArray<string> {
    const lapsed: Array<string> = []
    for (const node of this.#nodes.values()) {
      if (node.nonce === undefined || nowMs < node.leaseUntilMs) continue
      node.nonce = undefined
      lapsed.push(node.id)
    }
    return lapsed
  }

  /** @returns false when it was revoked before. @throws MakeError NOT_VOUCHED for a node that the workflow doesn't name */
  revoke(id: string): boolean {
    if (!this.#stages.has(id)) throw new MakeError("NOT_VOUCHED", "node", "is not in the workflow")
    if (this.#revoked.has(id)) return false
    this.#revoked.add(id)
    return true
  }

  /**
   * Whoever signed a result takes it back: it is in force no more, and doesn't come back. Of a result that isn't in force
   * only that is remembered. Another signer's word about it counts for nothing.
   * @returns whether it was in force
   */
  withdraw(signer: Uint8Array, { node: id, result }: WithdrawnOf, nowMs: number): boolean {
    if (!this.#withdrawn.take(signer, result, nowMs)) return false
    const node = this.#nodes.get(id)
    return (
      node !== undefined &&
      this.#same(node.result.digest, result) &&
      this.#same(node.result.signed.batch.key, signer)
    )
  }

  /**
   * A verifier has judged the node under this beacon, and refused it: whichever verifier signed a result before, it counts no
   * more. A beacon that isn't one of this term's says nothing.
   * @returns whether such a result was in force; undefined for a beacon or node that isn't known here
   */
  judged(id: string, beacon: Uint8Array, nowMs: number): boolean | undefined {
    const issuedMs = this.#stages.has(id) ? this.#beacons.knownAt(beacon, nowMs) : undefined
    if (issuedMs === undefined) return undefined
    this.#judgedMs.set(id, Math.max(issuedMs, this.#judgedMs.get(id) ?? issuedMs))
    const node = this.#nodes.get(id)
    return node !== undefined && node.beaconMs <= issuedMs
  }

  /** Its result is in force no more. */
  forget(id: string): void {
    const node = this.#nodes.get(id)
    if (node === undefined) return
    node.ahead?.wipe()
    this.#floors.set(id, { beaconMs: node.beaconMs, superseded: supersededBy(node) })
    this.#nodes.delete(id)
  }

  /** Nothing will be sealed to anybody any more. */
  end(): void {
    for (const { ahead } of this.#nodes.values()) ahead?.wipe()
  }

  #expectNewer(
    floor: Pick<VouchedNode, "beaconMs" | "superseded">,
    result: VouchedResult,
    beaconMs: number,
  ): void {
    if (beaconMs < floor.beaconMs)
      throw new MakeError("STALE", "result.beacon", "is older than that of the newest result")
    // Several results may contain one beacon; among them, one that was replaced doesn't come back.
    if (floor.superseded.some((digest) => this.#same(digest, result.digest)))
      throw new MakeError("STALE", "result", "was replaced by a newer one")
  }

  #expectMayReplace(incumbent: VouchedNode, result: VouchedResult, nowMs: number): void {
    const lives = incumbent.nonce !== undefined && nowMs < incumbent.leaseUntilMs
    if (lives && !this.#same(incumbent.result.claims.chip, result.claims.chip))
      throw new MakeError("INCUMBENT", "result.chip", "is not that of the node whose lease still runs")
  }

  /** @throws MakeError REVOKED, NOT_VOUCHED, MISDIRECTED */
  inSession(id: string, session: Uint8Array): VouchedNode {
    this.#expectNotRevoked(id)
    const node = this.#nodes.get(id)
    if (node === undefined) throw new MakeError("NOT_VOUCHED", "node", "has no result in force")
    if (!this.#same(node.result.claims.session, session))
      throw new MakeError("MISDIRECTED", "session", "is not that of the result in force")
    return node
  }

  /** A key that the result in force names, tried once. */
  #takeKemKey(node: VouchedNode, kemKey: Uint8Array): void {
    const { claims } = node.result
    if (node.kemKey !== undefined && this.#same(node.kemKey, kemKey)) return
    if (!this.#same(kemKeyDigest(this.#crypto, kemKey), claims.kem_key_digest))
      throw new MakeError("NOT_VOUCHED", "kem_key", "is not the one that the result names")
    node.ahead = new Ahead(this.#crypto, this.#options.suite, { dhKey: claims.dh_key, kemKey })
    node.kemKey = kemKey
  }

  #expectNotRevoked(id: string): void {
    if (this.#revoked.has(id)) throw new MakeError("REVOKED", "node", "was revoked")
  }

  #same(a: Uint8Array, b: Uint8Array): boolean {
    return this.#crypto.equalConstantTime(a, b)
  }
}

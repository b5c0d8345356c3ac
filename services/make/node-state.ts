/**
 * The node's core: which releases it believes, and what the kernel is to do about them. One object per session, that is
 * per attestation of the loader. Pure: releases go in, kernel actions come out; the loader carries them out in order.
 * Times are ns of CLOCK_BOOTTIME, the clock that the BPF programs read.
 */
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { compileNode, type NodeEdge, type Workflow } from "./edges.ts"
import { compareEpochs, type Epoch, expectTermMayFollow } from "./epoch.ts"
import { expectBytes, MakeError } from "./errors.ts"
import { type EdgeAt, type HeldEpoch, keyOf } from "./held.ts"
import { HeldEpochs } from "./held-epochs.ts"
import type { KernelAction } from "./kernel-action.ts"
import { deriveEdgeKeys, EXPORTER_BYTES, pairSecret, type TrafficKey } from "./keys.ts"
import { leaseDeadline, StandingRequest } from "./lease.ts"
import { highest, type Memory } from "./node-memory.ts"
import { checkRelease, type Listed, peersOf } from "./node-rules.ts"
import type { Ack, OpenedRelease, ReleasePayload } from "./release.ts"
import {
  expectResultOf,
  type PeerBatch,
  type ResultScope,
  type VouchedPeer,
  type VouchedResult,
} from "./result.ts"

export type { EdgeAt, HeldEpoch } from "./held.ts"
export type { KernelAction } from "./kernel-action.ts"
export { joinMemories, type Memory } from "./node-memory.ts"

export interface NodeOptions {
  readonly crypto: Crypto
  /** From the document that this node verified itself. */
  readonly workflow: Workflow
  readonly nodeId: string
  /** 16 bytes. */
  readonly session: Uint8Array
  /** The attested X25519 key. */
  readonly dhSecret: SecretKey
  /** The node's own result: what vouches for that key. */
  readonly result: VouchedResult
  /** Without it nothing is installed for edges that demand it. */
  readonly proofs?: Proofs
  /** What an earlier loader left in the kernel. */
  readonly held?: ReadonlyArray<HeldEpoch>
  readonly memory?: Memory
}

/** Verifies what a release says of peers, as `vouchPeers`. Called once for each batch that keys are to be derived with. */
export type Vouch = (scope: ResultScope, batch: PeerBatch) => ReadonlyArray<VouchedPeer>

/**
 * Until when this node's own appraisal of a peer counts, for edges that demand one; ns of the boot clock.
 * @throws MakeError NOT_VOUCHED for a peer whose Evidence it has not appraised, for this key and this result
 */
export type Proofs = (peer: VouchedPeer) => bigint

interface SharedWith {
  readonly dhKey: Uint8Array
  readonly secret: Uint8Array
}

interface Derived {
  readonly listed: Listed
  readonly inbound: ReadonlyArray<TrafficKey>
  readonly outbound: ReadonlyArray<TrafficKey>
  readonly exporter: Uint8Array
  readonly provenUntilBootNs: bigint | undefined
}

export class NodeState {
  readonly #options: NodeOptions
  readonly #edges: ReadonlyMap<string, NodeEdge>
  readonly #request: StandingRequest
  readonly #held: HeldEpochs
  /** X25519 results by peer, each with the key that it was made of; they live as long as this session's own key. */
  readonly #shared = new Map<string, SharedWith>()
  /** The term whose Evidence this session has seen; and the highest that came before it, see `Memory`. */
  #term: bigint | undefined
  #termFloor: bigint | undefined
  #sequence = 0n
  #digest: Uint8Array | undefined
  /** What the newest release told, if it lasts: the next one may name it. */
  #told: { readonly state: Uint8Array; readonly payload: ReleasePayload } | undefined

  /** @throws MakeError for a workflow that doesn't compile, a result that isn't this node's, session's and key's */
  constructor(options: NodeOptions) {
    const { crypto, workflow, nodeId, session, result, dhSecret } = options
    this.#options = options
    this.#edges = new Map(compileNode(workflow, nodeId).map((edge) => [edge.id, edge]))
    this.#request = new StandingRequest(crypto)
    expectBytes("session", session, 16)
    expectResultOf(crypto, "result", result, {
      domain: workflow.domain,
      workflow: workflow.digest,
      node: nodeId,
    })
    if (!crypto.equalConstantTime(result.claims.session, session))
      throw new MakeError("NOT_VOUCHED", "result.session", "is not this session's")
    if (!crypto.equalConstantTime(result.claims.dh_key, dhSecret.publicKey))
      throw new MakeError("NOT_VOUCHED", "result.dh_key", "is not this session's")
    this.#held = new HeldEpochs(this.#edges, options.memory?.tombstones, options.held)
    this.#termFloor = options.memory?.term
    for (const { term } of this.#held.tombstones.values()) this.#termFloor = highest(this.#termFloor, term)
  }

  /** The compiled edges, by instance id. */
  get edges(): ReadonlyMap<string, NodeEdge> {
    return this.#edges
  }

  get held(): ReadonlyArray<HeldEpoch> {
    return [...this.#held.all.values()]
  }

  get term(): bigint | undefined {
    return this.#term
  }

  /** For the next session. */
  get memory(): Memory {
    return { tombstones: new Map(this.#held.tombstones), term: highest(this.#termFloor, this.#term) }
  }

  /** A new standing request at `nowBootNs`: its nonce is from now on the only one that a release may answer. */
  ask(nowBootNs: bigint): Uint8Array {
    return this.#request.ask(nowBootNs)
  }

  /**
   * Follows a term. Only for a term that control-plane Evidence over a nonce of this node's own binds.
   * @throws MakeError NOT_RISING for one that falls or jumps
   */
  followTerm(term: bigint): void {
    expectTermMayFollow(this.#term ?? this.#termFloor, term)
    if (term === this.#term) return
    this.#term = term
    this.#sequence = 0n
    this.#digest = undefined
    this.#told = undefined
  }

  /**
   * What a release says that names its payload: that of the newest release which was believed here, and of no other.
   * @throws MakeError STALE for any other name
   */
  named(state: Uint8Array): ReleasePayload {
    if (this.#told === undefined || !this.#options.crypto.equalConstantTime(this.#told.state, state))
      throw new MakeError("STALE", "state", "is not what the newest release told")
    return this.#told.payload
  }

  /**
   * Takes a release whose signature, by the releaser that the followed term's Evidence binds, and seal hold already. It is
   * believed as a whole or not at all: when this throws, nothing has changed.
   * @returns what the kernel is to do, in order: inbound, outbound, leases, switches, removals
   * @throws MakeError MISDIRECTED, STALE, NOT_RISING, LIMIT, NO_SUCH_EDGE, NOT_VOUCHED, SPI, KEY, MALFORMED; whatever
   *   `vouch` throws
   */
  accept(release: OpenedRelease, vouch: Vouch): ReadonlyArray<KernelAction> {
    const { header, payload } = release
    this.#expectForUs(release)
    const requestedBootNs = this.#request.answeredBy(header.nonce)
    const deadlineBootNs = leaseDeadline(requestedBootNs, payload.lease_ms)
    this.#expectSequence(header.sequence)
    const listed = checkRelease({
      edges: this.#edges,
      release,
      held: this.#held.all,
      tombstones: this.#held.tombstones,
      gone: this.#held.gone,
    })
    const digest = this.#expectNew(release)
    const peers = this.#peers(release, vouch)
    const derived = listed.filter(({ install }) => install).map((each) => this.#derive(each, peers))

    // From here on nothing throws.
    this.#sequence = header.sequence
    this.#digest = digest
    this.#told = release.state === undefined ? undefined : { state: release.state, payload }
    for (const { listed, exporter, provenUntilBootNs } of derived)
      this.#held.install(listed, exporter, deadlineBootNs, provenUntilBootNs)
    const present = listed.filter(({ key }) => this.#held.all.has(key))
    const actions: Array<KernelAction> = [
      ...derived.map(({ listed: { instance, epoch }, inbound }) =>
        install("installInbound", instance, epoch, inbound),
      ),
      ...derived.map(({ listed: { instance, epoch }, outbound }) =>
        install("installOutbound", instance, epoch, outbound),
      ),
      ...present.map((each) => this.#held.lease(each, deadlineBootNs)),
      ...this.#held.activate(present),
    ]
    const ended = new Map(payload.ended?.map((one) => [one.instance, one.term]))
    return [...actions, ...this.#held.retireUnlisted(present, header.term, ended)]
  }

  /** What this node holds of the newest release: the body of the acknowledgement. Undefined before the first release. */
  acknowledgement(): Ack | undefined {
    const term = this.#term
    if (term === undefined || this.#sequence === 0n) return undefined
    const { nodeId, session } = this.#options
    const inUse = new Map(
      this.held.filter(({ active }) => active).map(({ instance, epoch }) => [instance, epoch]),
    )
    const isReplaced = ({ instance, epoch }: EdgeAt) => compareEpochs(epoch, inUse.get(instance) ?? epoch) < 0
    const edges = this.held
      .filter((held) => held.epoch.term === term && !isReplaced(held))
      .map(({ instance, epoch, active, exporter }) => ({
        instance,
        term: epoch.term,
        epoch: epoch.n,
        state: active ? ("active" as const) : ("install" as const),
        exporter: exporter ?? new Uint8Array(EXPORTER_BYTES),
      }))
    return { node: nodeId, session, term, sequence: this.#sequence, edges }
  }

  /**
   * The kernel refused to install this epoch, or lost it. It isn't tried again; the next acknowledgement leaves it out, and
   * the releaser begins a new one.
   * @returns what clears its remains away
   */
  gaveUp(instance: string, epoch: Epoch): ReadonlyArray<KernelAction> {
    const held = this.#held.all.get(keyOf({ instance, epoch }))
    return held === undefined ? [] : [this.#held.retire(held)]
  }

  /** Removes what is past its deadline; the kernel has stopped it at the deadline itself. */
  expire(nowBootNs: bigint): ReadonlyArray<KernelAction> {
    return this.held
      .filter(({ deadlineBootNs }) => nowBootNs >= deadlineBootNs)
      .map((held) => this.#held.retire(held))
  }

  /** Forgets the secrets of the session. */
  dispose(): void {
    for (const { secret } of this.#shared.values()) secret.fill(0)
    this.#shared.clear()
    this.#options.dhSecret.dispose()
  }

  #expectForUs({ header }: OpenedRelease): void {
    const { crypto, workflow, nodeId, session } = this.#options
    if (header.domain !== workflow.domain) throw new MakeError("MISDIRECTED", "domain", "is another domain's")
    if (!crypto.equalConstantTime(header.workflow, workflow.digest))
      throw new MakeError("MISDIRECTED", "workflow", "is not the workflow that this node verified")
    if (header.suite !== workflow.suite)
      throw new MakeError("MISDIRECTED", "suite", "is not the one that the workflow names")
    if (header.node !== nodeId) throw new MakeError("MISDIRECTED", "node", "is another node's")
    if (!crypto.equalConstantTime(header.session, session))
      throw new MakeError("MISDIRECTED", "session", "is another session's")
    if (this.#term === undefined)
      throw new MakeError("NOT_RISING", "term", "no Evidence has bound a term yet")
    if (header.term < this.#term) throw new MakeError("NOT_RISING", "term", "is lower than the one followed")
    if (header.term > this.#term) throw new MakeError("NOT_RISING", "term", "is not bound by Evidence yet")
  }

  #expectSequence(sequence: bigint): void {
    if (sequence < 1n || sequence < this.#sequence)
      throw new MakeError("NOT_RISING", "sequence", "is not above the last release's")
  }

  /** The release's digest. The same release may come again; another with its number may not. */
  #expectNew(release: OpenedRelease): Uint8Array {
    const { crypto } = this.#options
    const { digest } = release
    const again = this.#digest !== undefined && crypto.equalConstantTime(this.#digest, digest)
    if (release.header.sequence === this.#sequence && !again)
      throw new MakeError("NOT_RISING", "sequence", "was another release's")
    return digest
  }

  /** Peers by id. Those of one batch are believed together, when keys are to be derived with the first of them. */
  #peers(release: OpenedRelease, vouch: Vouch): (id: string) => VouchedPeer {
    const { domain, digest: workflow } = this.#options.workflow
    const told = peersOf(release, this.#edges.size)
    const believed = new Map<string, VouchedPeer>()
    return (id) => {
      const known = believed.get(id)
      if (known !== undefined) return known
      const batch = told.get(id)?.batch
      for (const peer of batch === undefined ? [] : vouch({ domain, workflow }, batch))
        believed.set(peer.node, peer)
      const peer = believed.get(id)
      if (peer === undefined)
        throw new MakeError("MALFORMED", "batches.peers", "lack the peer of an epoch to install")
      return peer
    }
  }

  #derive(listed: Listed, peers: (id: string) => VouchedPeer): Derived {
    const { crypto, workflow, result } = this.#options
    const { edge, epoch, entry } = listed
    if (entry.secret === undefined)
      throw new MakeError("MALFORMED", "edges", "an epoch to install lacks its secret")
    const peer = peers(edge.peer)
    const provenUntilBootNs = this.#proven(edge, peer)
    const initiates = edge.role === "initiator"
    const keys = deriveEdgeKeys(
      crypto,
      {
        suite: edge.suite,
        workflowDigest: workflow.digest,
        instance: edge.id,
        epoch,
        initiator: edge.initiator,
        responder: edge.responder,
        initiatorResult: initiates ? result.digest : peer.digest,
        responderResult: initiates ? peer.digest : result.digest,
        spisToResponder: initiates ? entry.outbound : entry.inbound,
        spisToInitiator: initiates ? entry.inbound : entry.outbound,
      },
      this.#sharedWith(peer),
      entry.secret,
    )
    return {
      listed,
      inbound: initiates ? keys.toInitiator : keys.toResponder,
      outbound: initiates ? keys.toResponder : keys.toInitiator,
      exporter: keys.exporter,
      provenUntilBootNs,
    }
  }

  #proven(edge: NodeEdge, peer: VouchedPeer): bigint | undefined {
    if (edge.peers === "results") return undefined
    const { proofs } = this.#options
    if (proofs === undefined)
      throw new MakeError("NOT_VOUCHED", "peers", "are to be known by their Evidence, and none was appraised")
    return proofs(peer)
  }

  /** A peer that was given a new key doesn't come back to the old one: what that made is forgotten. */
  #sharedWith({ node, dhKey }: VouchedPeer): Uint8Array {
    const { crypto, dhSecret } = this.#options
    const known = this.#shared.get(node)
    if (known !== undefined && crypto.equalConstantTime(known.dhKey, dhKey)) return known.secret
    const secret = pairSecret(crypto, dhSecret, dhKey)
    known?.secret.fill(0)
    this.#shared.set(node, { dhKey, secret })
    return secret
  }
}

const install = (
  kind: "installInbound" | "installOutbound",
  instance: string,
  epoch: Epoch,
  keys: ReadonlyArray<TrafficKey>,
): KernelAction => ({ kind, instance, epoch, keys })

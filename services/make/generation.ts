/**
 * A generation: one epoch of one edge as the releaser sees it, from its first release until both ends have forgotten it.
 *
 *   install --both exporters, equal--> active --a successor is active--> retire --grace time--> gone
 */
import type { Crypto } from "../common/crypto/port.ts"
import type { EdgeInstance } from "./edges.ts"
import type { Epoch } from "./epoch.ts"
import { EXPORTER_BYTES, RELEASE_SECRET_BYTES } from "./keys.ts"
import type { EdgeRelease, EdgeState } from "./release.ts"
import { type PeerBatch, peerBatches, type VouchedResult } from "./result.ts"
import type { SpiAllocator } from "./spi.ts"

export interface Generation {
  readonly edge: EdgeInstance
  readonly epoch: Epoch
  /** The results that its keys rest on, in the edge's order. */
  readonly results: readonly [initiator: VouchedResult, responder: VouchedResult]
  readonly spisToInitiator: ReadonlyArray<number>
  readonly spisToResponder: ReadonlyArray<number>
  readonly startedMs: number
  state: EdgeState
  /** Zeroed and dropped when both ends have their keys. */
  secret: Uint8Array | undefined
  /** By node: what it confirmed with. */
  readonly exporters: Map<string, Uint8Array>
  /** Nodes that said that they send under it. */
  readonly switched: Set<string>
  /** Of a retiring generation. */
  goneAtMs: number | undefined
}

/** What the releaser keeps for one edge instance of the workflow. */
export interface EdgeRecord {
  readonly edge: EdgeInstance
  /** Of the newest epoch that was ever begun; never falls. */
  n: bigint
  pending: Generation | undefined
  current: Generation | undefined
  retiring: Generation | undefined
  /** A new epoch is wanted although nothing else asks for one. */
  rotate: boolean
  /** Failures in a row, and when the next epoch may begin. */
  failures: number
  notBeforeMs: number
}

export const newEdgeRecord = (edge: EdgeInstance): EdgeRecord => ({
  edge,
  n: 0n,
  pending: undefined,
  current: undefined,
  retiring: undefined,
  rotate: false,
  failures: 0,
  notBeforeMs: Number.NEGATIVE_INFINITY,
})

export const beginGeneration = (
  crypto: Crypto,
  record: EdgeRecord,
  term: bigint,
  results: Generation["results"],
  spis: { readonly initiator: SpiAllocator; readonly responder: SpiAllocator },
  nowMs: number,
): Generation => {
  const spisToInitiator = spis.initiator.allocate(record.edge.lanes)
  const spisToResponder = spis.responder.allocate(record.edge.lanes)
  record.n += 1n
  return {
    edge: record.edge,
    epoch: { term, n: record.n },
    results,
    spisToInitiator,
    spisToResponder,
    startedMs: nowMs,
    state: "install",
    secret: crypto.randomBytes(RELEASE_SECRET_BYTES),
    exporters: new Map(),
    switched: new Set(),
    goneAtMs: undefined,
  }
}

export const forgetSecret = (generation: Generation): void => {
  generation.secret?.fill(0)
  generation.secret = undefined
}

export type Agreement = "waiting" | "equal" | "different"

/** What a node says that holds an epoch, but no longer knows its exporter: equal at both ends, it confirms nothing. */
const NO_EXPORTER = new Uint8Array(EXPORTER_BYTES)

/**
 * Whether both ends have confirmed, and the same thing. The releaser can compare exporters; it can't compute them. An end
 * that has none differs from everybody.
 */
export const agreement = (crypto: Crypto, { edge, exporters }: Generation): Agreement => {
  const told = [exporters.get(edge.initiator), exporters.get(edge.responder)]
  if (told.some((each) => each !== undefined && crypto.equalConstantTime(each, NO_EXPORTER)))
    return "different"
  const [a, b] = told
  if (a === undefined || b === undefined) return "waiting"
  return a.length === EXPORTER_BYTES && crypto.equalConstantTime(a, b) ? "equal" : "different"
}

/** What the node has yet to derive keys with. An end that has confirmed has its keys, or gets others. */
const secretFor = ({ secret, exporters }: Generation, node: string): Uint8Array | undefined =>
  exporters.has(node) ? undefined : secret

/** The generation as one of its two ends is told of it. */
export const releaseFor = (generation: Generation, node: string): EdgeRelease => {
  const { edge, epoch, state } = generation
  const secret = secretFor(generation, node)
  const initiates = edge.initiator === node
  return {
    instance: edge.id,
    term: epoch.term,
    epoch: epoch.n,
    state,
    peer: initiates ? edge.responder : edge.initiator,
    inbound: initiates ? generation.spisToInitiator : generation.spisToResponder,
    outbound: initiates ? generation.spisToResponder : generation.spisToInitiator,
    ...(secret === undefined
      ? {}
      : // A copy: the generation's own is zeroed when it has served.
        { secret: Uint8Array.from(secret) }),
  }
}

/** What a node is told of peers that it is to derive keys with: each peer and each batch once. */
export const peersFor = (generations: ReadonlyArray<Generation>, node: string): ReadonlyArray<PeerBatch> => {
  const peers = new Map<string, VouchedResult>()
  for (const generation of generations) {
    if (secretFor(generation, node) === undefined) continue
    const { edge, results } = generation
    const result = results[edge.initiator === node ? 1 : 0]
    if (!peers.has(result.claims.node)) peers.set(result.claims.node, result)
  }
  return peerBatches(peers.values())
}

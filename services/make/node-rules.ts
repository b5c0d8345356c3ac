/** What a release may say to a node, entry by entry, before anything is derived or changed. */
import type { NodeEdge } from "./edges.ts"
import { compareEpochs, type Epoch, expectEpochRises } from "./epoch.ts"
import { MakeError } from "./errors.ts"
import { type HeldEpoch, keyOf } from "./held.ts"
import { type EdgeRelease, type EdgeState, GENERATIONS_MAX, type OpenedRelease } from "./release.ts"
import type { PeerBatch, PeerResult } from "./result.ts"
import { expectSpi } from "./spi.ts"

/** An entry that was found sound. */
export interface Listed {
  readonly instance: string
  readonly epoch: Epoch
  readonly state: EdgeState
  readonly edge: NodeEdge
  readonly entry: EdgeRelease
  /** See `keyOf`. */
  readonly key: string
  /** Not in the kernel yet, and to be put there. */
  readonly install: boolean
}

export interface ReleaseCheck {
  readonly edges: ReadonlyMap<string, NodeEdge>
  readonly release: OpenedRelease
  readonly held: ReadonlyMap<string, HeldEpoch>
  readonly tombstones: ReadonlyMap<string, Epoch>
  readonly gone: ReadonlySet<string>
}

/** A peer, and what it was told with: one signature over all of them. */
export interface ToldPeer {
  readonly peer: PeerResult
  readonly batch: PeerBatch
}

/**
 * What the release says of each peer, by its id.
 * @param edges how many this node has: it has no more peers
 * @throws MakeError LIMIT for more peers than that, MALFORMED for one that is there twice and for a batch of none
 */
export const peersOf = ({ payload }: OpenedRelease, edges: number): ReadonlyMap<string, ToldPeer> => {
  const told = new Map<string, ToldPeer>()
  for (const batch of payload.batches) {
    if (batch.peers.length === 0) throw new MakeError("MALFORMED", "batches.peers", "are none")
    if (told.size + batch.peers.length > edges)
      throw new MakeError("LIMIT", "batches.peers", "are more than this node has edges")
    for (const peer of batch.peers) {
      if (told.has(peer.node)) throw new MakeError("MALFORMED", "batches.peers.node", "is there twice")
      told.set(peer.node, { peer, batch })
    }
  }
  return told
}

/** @throws MakeError for the first entry that a release may not have */
export const checkRelease = (check: ReleaseCheck): ReadonlyArray<Listed> => {
  const { edges, release } = check
  const { payload, header } = release
  if (payload.edges.length > GENERATIONS_MAX * edges.size)
    throw new MakeError("LIMIT", "edges", `more than ${GENERATIONS_MAX} epochs for each edge of this node`)
  const listed = payload.edges.map((entry) => checkEntry(check, entry, header.term))
  checkGenerations(check, listed)
  checkSpis(check, listed)
  for (const { instance, term } of payload.ended ?? []) {
    if (!edges.has(instance))
      throw new MakeError("NO_SUCH_EDGE", "ended.instance", "is not one that the workflow gives to this node")
    if (term >= header.term)
      throw new MakeError("NOT_RISING", "ended.term", "is not before the release's own")
  }
  return listed
}

const checkEntry = (check: ReleaseCheck, entry: EdgeRelease, term: bigint): Listed => {
  const { instance, state } = entry
  const edge = check.edges.get(instance)
  if (edge === undefined)
    throw new MakeError("NO_SUCH_EDGE", "edges.instance", "is not one that the workflow gives to this node")
  if (entry.peer !== edge.peer)
    throw new MakeError("MISDIRECTED", "edges.peer", "is not the edge's other end")
  expectSpis("edges.inbound", entry.inbound, edge.lanes)
  expectSpis("edges.outbound", entry.outbound, edge.lanes)
  const epoch = { term: entry.term, n: entry.epoch }
  // What an earlier leader gave ends by itself: no other one can know what it rests on, and nobody prolongs it.
  if (epoch.term !== term) throw new MakeError("NOT_RISING", "edges.term", "is not the release's own")
  const key = keyOf({ instance, epoch })
  const held = check.held.get(key)
  if (held !== undefined) checkHeld(held, entry)
  const install = held === undefined && state === "install" && !check.gone.has(key)
  if (install) expectEpochRises("edges.epoch", check.tombstones.get(instance), epoch)
  return { instance, epoch, state, edge, entry, key, install }
}

const expectSpis = (field: string, spis: ReadonlyArray<number>, lanes: number): void => {
  if (spis.length !== lanes) throw new MakeError("MALFORMED", field, "must have one index per lane")
  for (const spi of spis) expectSpi(field, spi)
}

/** What is in the kernel is named as it is there, and doesn't go back from sending to waiting. */
const checkHeld = (held: HeldEpoch, entry: EdgeRelease): void => {
  const same = (a: ReadonlyArray<number>, b: ReadonlyArray<number>) => a.every((spi, lane) => spi === b[lane])
  if (!same(held.inbound, entry.inbound))
    throw new MakeError("SPI", "edges.inbound", "differs from what is installed")
  if (!same(held.outbound, entry.outbound))
    throw new MakeError("SPI", "edges.outbound", "differs from what is installed")
  if (held.active && entry.state === "install")
    throw new MakeError("NOT_RISING", "edges.state", "falls back from active")
}

/** At most one epoch of an edge in each state, the newer state on the newer epoch. */
const checkGenerations = (check: ReleaseCheck, listed: ReadonlyArray<Listed>): void => {
  const byInstance = Map.groupBy(listed, ({ instance }) => instance)
  for (const generations of byInstance.values()) {
    const inOrder = (["retire", "active", "install"] as const).flatMap((state) => {
      const ofState = generations.filter((each) => each.state === state)
      if (ofState.length > 1)
        throw new MakeError("MALFORMED", "edges.state", "two epochs of an edge are in one state")
      return ofState
    })
    inOrder.reduce<Listed | undefined>((older, newer) => {
      if (older !== undefined && compareEpochs(older.epoch, newer.epoch) >= 0)
        throw new MakeError("NOT_RISING", "edges.epoch", "an older epoch is in a newer state")
      return newer
    }, undefined)
    checkSuccessor(check, inOrder)
  }
}

/** An epoch that this node sends under is retired only for one that it can send under, of this release. */
const checkSuccessor = (check: ReleaseCheck, generations: ReadonlyArray<Listed>): void => {
  const retiring = generations.find(({ state }) => state === "retire")
  const active = generations.find(({ state }) => state === "active")
  if (retiring === undefined || active !== undefined) return
  if (check.held.get(retiring.key)?.active === true)
    throw new MakeError("MALFORMED", "edges.state", "the epoch in use is retired without a successor")
}

/**
 * An inbound index names one association at this node, an outbound one names one at the peer: neither may be given to two
 * epochs or lanes, in the release or together with what the kernel holds.
 */
const checkSpis = (check: ReleaseCheck, listed: ReadonlyArray<Listed>): void => {
  const fresh = listed.filter(({ key }) => !check.held.has(key))
  if (fresh.length === 0) return
  const [inbound, outbound] = [new Set<number>(), new Map<string, Set<number>>()]
  const ofPeer = (peer: string): Set<number> => {
    const known = outbound.get(peer) ?? new Set()
    outbound.set(peer, known)
    return known
  }
  const take = (taken: Set<number>, spis: ReadonlyArray<number>, field: string): void => {
    for (const spi of spis) {
      if (taken.has(spi)) throw new MakeError("SPI", field, "is in use, or given twice")
      taken.add(spi)
    }
  }
  for (const held of check.held.values()) {
    const taken = ofPeer(check.edges.get(held.instance)?.peer ?? held.instance)
    for (const spi of held.inbound) inbound.add(spi)
    for (const spi of held.outbound) taken.add(spi)
  }
  for (const { entry, edge } of fresh) {
    take(inbound, entry.inbound, "edges.inbound")
    take(ofPeer(edge.peer), entry.outbound, "edges.outbound")
  }
}

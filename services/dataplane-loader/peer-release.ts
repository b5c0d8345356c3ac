/** What of a release waits for proof: epochs to install on edges whose other end this node has to appraise itself. */

import type { WantedPeer } from "../guest/appraise-peer.ts"
import type { NodeEdge } from "../make/edges.ts"
import { type EdgeAt, keyOf } from "../make/held.ts"
import { peersOf } from "../make/node-rules.ts"
import type { EdgeRelease, OpenedRelease } from "../make/release.ts"

const demanding = new WeakMap<ReadonlyMap<string, NodeEdge>, boolean>()

/** Whether any edge of the node demands proof: a release of none is taken as it is. */
export const demandsAny = (edges: ReadonlyMap<string, NodeEdge>): boolean => {
  const known = demanding.get(edges) ?? [...edges.values()].some(({ peers }) => peers === "evidence")
  demanding.set(edges, known)
  return known
}

const demands = (
  edges: ReadonlyMap<string, NodeEdge>,
  { instance }: Pick<EdgeRelease, "instance">,
): boolean => edges.get(instance)?.peers === "evidence"

const isNew = (held: ReadonlySet<string>, { instance, term, epoch, state }: EdgeRelease): boolean =>
  state === "install" && !held.has(keyOf({ instance, epoch: { term, n: epoch } }))

const heldKeys = (held: ReadonlyArray<EdgeAt>): ReadonlySet<string> => new Set(held.map(keyOf))

/**
 * Peers, each once, that keys are to be derived with on such edges. Of a release that the core hasn't judged yet: whatever
 * is wrong in it, the core refuses.
 * @throws MakeError as `peersOf`
 */
export const peersToProve = (
  edges: ReadonlyMap<string, NodeEdge>,
  held: ReadonlyArray<EdgeAt>,
  release: OpenedRelease,
): ReadonlyArray<WantedPeer> => {
  const demanding = release.payload.edges.filter((entry) => demands(edges, entry))
  if (demanding.length === 0) return []
  const known = heldKeys(held)
  const told = peersOf(release, edges.size)
  const wanted = new Map<string, WantedPeer>()
  for (const entry of demanding) {
    if (!isNew(known, entry)) continue
    // The other end by this node's own document, never by the release.
    const id = edges.get(entry.instance)?.peer ?? entry.peer
    const peer = told.get(id)?.peer
    if (peer !== undefined) wanted.set(id, { node: id, dhKey: peer.dh_key, result: peer.result })
  }
  return [...wanted.values()]
}

/** The release without epochs to install whose other end isn't proven: as if it had not named them yet. */
export const withoutUnproven = (
  edges: ReadonlyMap<string, NodeEdge>,
  held: ReadonlyArray<EdgeAt>,
  release: OpenedRelease,
  proven: ReadonlySet<string>,
): OpenedRelease => {
  const { payload } = release
  if (!payload.edges.some((entry) => demands(edges, entry))) return release
  const known = heldKeys(held)
  const waits = (entry: EdgeRelease) =>
    demands(edges, entry) && isNew(known, entry) && !proven.has(edges.get(entry.instance)?.peer ?? entry.peer)
  if (!payload.edges.some(waits)) return release
  return { ...release, payload: { ...payload, edges: payload.edges.filter((entry) => !waits(entry)) } }
}

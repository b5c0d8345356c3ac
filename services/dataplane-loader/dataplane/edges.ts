/** The edges and policies of a plane, and what the programs know of each edge. */
import type { Grace } from "../../common/kernel/grace.ts"
import { updateFlag } from "../../common/kernel/maps.ts"
import * as records from "../../common/kernel/records.ts"
import type { Associations, Maps } from "./associations.ts"
import { type Edge, type EdgeState, type Policy, reconcile } from "./reconcile.ts"

/** What is there now, as far as it was written whole. */
export const readEdges = (maps: Maps): EdgeState => {
  const edges: Array<Edge> = []
  for (const key of maps.edges.keys()) {
    const value = maps.edges.lookup(key)
    const id = maps.edge_ids.lookup(key)
    // An edge without an id was left half-written: an id of zeros makes it differ from every real one.
    if (value !== undefined)
      edges.push({
        index: records.decodeIndexKey(key),
        id: id ?? new Uint8Array(8),
        ...records.decodeEdge(value),
      })
  }
  const policies: Array<Policy> = []
  for (const map of [maps.policies, maps.policies6])
    for (const key of map.keys()) {
      const value = map.lookup(key)
      if (value !== undefined)
        policies.push({ ...records.decodePolicyKey(key), ...records.decodePolicy(value) })
    }
  return { edges, policies }
}

const NO_PATH_MTU = records.encodePathMtu({ mtu: 0, ends: 0n })

/** Where the peer was seen, and what the way there was found to carry. */
const forgetEndpoint = (maps: Maps, edge: number): void => {
  maps.path_mtus.update(records.edgeKey(edge), NO_PATH_MTU)
  for (let lane = 0; lane < records.LANES_MAX; lane++) {
    maps.endpoints.update(records.endpointKey(edge, lane), records.noEndpoint())
    maps.endpoints6.update(records.endpointKey(edge, lane), records.noEndpoint6(), updateFlag.LOCK)
  }
}

/** What the programs know of an edge must not pass to the next that gets its index: a flow's entry lets replies in. */
const forgetEdges = (maps: Maps, edges: ReadonlySet<number>): void => {
  if (edges.size === 0) return
  for (const key of maps.flows.keys()) if (edges.has(records.decodeFlowKey(key).edge)) maps.flows.delete(key)
  // Its policies are gone, and the programs that saw them: none makes a flow of it now.
  for (const edge of edges) {
    maps.flow_counts.update(records.edgeKey(edge), records.encodeFlowCount(0))
    maps.edge_drops.clearPerCpu(records.edgeKey(edge))
    for (let lane = 0; lane < records.LANES_MAX; lane++)
      maps.edge_stats.clearPerCpu(records.endpointKey(edge, lane))
    forgetEndpoint(maps, edge)
  }
}

/** Brings the plane to the desired state, in an order in which no packet meets a half-changed edge. */
export const applyEdges = (
  maps: Maps,
  associations: Associations,
  desired: EdgeState,
  grace: Pick<Grace, "wait">,
): void => {
  associations.edgesChange()
  const present = readEdges(maps)
  const plan = reconcile(present, desired)
  for (const key of plan.removePolicies) maps[records.policyMap(key)].delete(records.encodePolicyKey(key))
  for (const edge of plan.purge) associations.revoke(edge)
  // A program that read a policy before it went may still make a flow.
  if (plan.purge.length > 0) grace.wait()
  forgetEdges(maps, new Set(plan.purge))
  for (const edge of plan.removeEdges) {
    maps.edges.delete(records.edgeKey(edge))
    maps.edge_ids.delete(records.edgeKey(edge))
  }
  for (const edge of plan.putEdges) {
    // The id last: an edge with a new peer and an old id would be taken for unchanged.
    maps.edges.update(records.edgeKey(edge.index), records.encodeEdge(edge))
    maps.edge_ids.update(records.edgeKey(edge.index), edge.id)
    // A new address in the document is news, and stronger than where the peer was last seen; what it sends is newer still.
    const before = present.edges.find(({ index }) => index === edge.index)
    if (!records.sameAddress(before?.peerWire, edge.peerWire) || before?.peerPort !== edge.peerPort)
      forgetEndpoint(maps, edge.index)
  }
  for (const policy of plan.putPolicies)
    maps[records.policyMap(policy)].update(records.encodePolicyKey(policy), records.encodePolicy(policy))
}

import { invalid } from "../../common/kernel/errors.ts"
import {
  EDGES_MAX,
  type EdgeRecord,
  encodePolicyKey,
  type PolicyKey,
  type PolicyRecord,
  policyMap,
  sameAddress,
  shapes,
} from "../../common/kernel/records.ts"

/** First 8 bytes of the digest that names an edge across restarts, independent of its node-local index. */
export const EDGE_ID_SIZE = 8

export interface Edge extends EdgeRecord {
  /** Node-local index, below EDGES_MAX. */
  readonly index: number
  /** EDGE_ID_SIZE bytes. */
  readonly id: Uint8Array
}

export interface Policy extends PolicyKey, PolicyRecord {}

/** Everything that the workflow says about this node's edges. */
export interface EdgeState {
  readonly edges: ReadonlyArray<Edge>
  readonly policies: ReadonlyArray<Policy>
}

/** Steps from one state to another, to be taken in the order of the fields: what is taken away goes first. */
export interface Plan {
  readonly removePolicies: ReadonlyArray<PolicyKey>
  /** Indexes that stop to mean what they meant: their keys, leases and flows must not outlive that. */
  readonly purge: ReadonlyArray<number>
  readonly removeEdges: ReadonlyArray<number>
  readonly putEdges: ReadonlyArray<Edge>
  readonly putPolicies: ReadonlyArray<Policy>
}

const policyName = (key: PolicyKey): string => Buffer.from(encodePolicyKey(key)).toString("hex")

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

const sameInner = (a: Edge, b: Edge): boolean =>
  (a.peerInner ?? 0) === (b.peerInner ?? 0) && sameAddress(a.peerInner6, b.peerInner6)

const sameEdge = (a: Edge, b: Edge): boolean =>
  sameBytes(a.id, b.id) &&
  sameInner(a, b) &&
  sameAddress(a.peerWire, b.peerWire) &&
  a.peerPort === b.peerPort &&
  a.lanes === b.lanes &&
  a.mtu === b.mtu

/** An index whose edge or whose peer is another one: only where the peer is reached may change under live keys. */
const samePeer = (a: Edge, b: Edge): boolean => sameBytes(a.id, b.id) && sameInner(a, b)

/** Refuses a desired state that contradicts itself or doesn't fit the maps. KernelError INVALID names the field. */
export const checkState = (state: EdgeState): void => {
  const refuse = (subject: string, why: string) => invalid("set edges", subject, why)
  const indexes = new Set<number>()
  const ids = new Set<string>()
  for (const edge of state.edges) {
    if (!Number.isInteger(edge.index) || edge.index < 0 || edge.index >= EDGES_MAX)
      throw refuse("edge index", `is not an integer below ${EDGES_MAX}`)
    if (edge.id.length !== EDGE_ID_SIZE) throw refuse("edge id", `has not ${EDGE_ID_SIZE} bytes`)
    const id = Buffer.from(edge.id).toString("hex")
    if (indexes.has(edge.index)) throw refuse("edge index", `${edge.index} is used twice`)
    if (ids.has(id)) throw refuse("edge id", `${id} is used twice`)
    indexes.add(edge.index)
    ids.add(id)
  }
  for (const map of ["policies", "policies6"] as const)
    if (state.policies.filter((policy) => policyMap(policy) === map).length > shapes[map].maxEntries)
      throw refuse("policies", `are more than ${shapes[map].maxEntries} of one family`)
  const names = new Set<string>()
  for (const policy of state.policies) {
    const name = policyName(policy)
    if (names.has(name)) throw refuse("policy", "two policies have the same key")
    if (!indexes.has(policy.edge)) throw refuse("policy", `names edge ${policy.edge}, which does not exist`)
    names.add(name)
  }
}

/** What must change so that `current` becomes `desired`. Refuses a desired state that `checkState` refuses. */
export const reconcile = (current: EdgeState, desired: EdgeState): Plan => {
  checkState(desired)
  const wanted = new Map(desired.edges.map((edge) => [edge.index, edge]))
  const present = new Map(current.edges.map((edge) => [edge.index, edge]))
  const wantedPolicies = new Set(desired.policies.map(policyName))
  const presentPolicies = new Map(current.policies.map((policy) => [policyName(policy), policy]))
  const purge = current.edges.filter((edge) => {
    const next = wanted.get(edge.index)
    return next === undefined || !samePeer(edge, next)
  })
  const purged = new Set(purge.map((edge) => edge.index))
  return {
    // A policy of a purged edge goes too, and comes back last: no packet may meet a half-changed edge.
    removePolicies: current.policies.filter(
      (policy) => !wantedPolicies.has(policyName(policy)) || purged.has(policy.edge),
    ),
    purge: [...purged],
    removeEdges: current.edges.filter((edge) => !wanted.has(edge.index)).map((edge) => edge.index),
    putEdges: desired.edges.filter((edge) => {
      const now = present.get(edge.index)
      return now === undefined || !sameEdge(now, edge)
    }),
    putPolicies: desired.policies.filter((policy) => {
      const now = presentPolicies.get(policyName(policy))
      return (
        now === undefined || now.edge !== policy.edge || now.flags !== policy.flags || purged.has(now.edge)
      )
    }),
  }
}

/**
 * From the operator's signed workflow to edge instances: one per workflow edge and pair of nodes. Every node and the
 * releaser compile on their own from the same document; a release can bring keys for these instances, never a new one.
 */
import { familyOf } from "../../schemas/address.ts"
import { limits } from "../../schemas/limits.ts"
import { MakeError } from "./errors.ts"
import { isSuiteId, type SuiteId } from "./suites.ts"

/** `icmp` is echo in both families; `any` is every protocol and port. */
export type Protocol = "tcp" | "udp" | "sctp" | "icmp" | "any"

export interface WorkflowNode {
  readonly id: string
  readonly stage: string
  /** Workflow addresses as the document has them, IPv4 and IPv6: at least one. */
  readonly address?: string
  readonly address6?: string
  /** Address on the untrusted wire, of either family. */
  readonly wire: string
}

/** A verifier's result, or what the node finds in the peer's raw Evidence itself. */
export type PeerDemand = "results" | "evidence"

export interface WorkflowEdge {
  readonly id: string
  /** Stages. */
  readonly from: string
  readonly to: string
  readonly protocol: Protocol
  /** The responder's port, of TCP, UDP and SCTP only; absent: any. */
  readonly port?: number
  /** 1..limits.lanes. */
  readonly lanes: number
  /** What an end believes of the other; absent: as the workflow says. */
  readonly peers?: PeerDemand
  /** Only these pairs of nodes, the initiator first; absent: each node of `from` with each of `to`. */
  readonly pairs?: ReadonlyArray<ReadonlyArray<string>>
}

/** What of the workflow document the protocol needs. */
export interface Workflow {
  readonly domain: string
  /** 32 bytes, see `workflowDigest`. */
  readonly digest: Uint8Array
  readonly version: number
  /** Of all edges: what seals their releases and encrypts their packets. */
  readonly suite: string
  /** Of edges that don't say it themselves; absent: results. */
  readonly peers?: PeerDemand
  readonly stages: ReadonlyArray<{ readonly id: string }>
  readonly nodes: ReadonlyArray<WorkflowNode>
  readonly edges: ReadonlyArray<WorkflowEdge>
  /** Nodes that take part no longer: no edge of theirs is compiled, by nobody. */
  readonly revoked?: ReadonlySet<string>
}

/** One edge between two nodes. Whoever opens connections is the initiator. */
export interface EdgeInstance {
  /** `edge:initiator:responder`. */
  readonly id: string
  readonly edge: string
  readonly initiator: string
  readonly responder: string
  readonly protocol: Protocol
  readonly port: number | undefined
  readonly lanes: number
  readonly suite: SuiteId
  readonly peers: PeerDemand
}

/** The same as one of its ends sees it. */
export interface NodeEdge extends EdgeInstance {
  readonly role: "initiator" | "responder"
  readonly peer: string
  /** The peer's workflow addresses of the families that this node has too: at least one. */
  readonly peerAddress: string | undefined
  readonly peerAddress6: string | undefined
  /** Of the same family as this node's own wire address. */
  readonly peerWire: string
}

const TOKEN = /^[A-Za-z0-9_-]{1,64}$/

export const instanceId = (edge: string, initiator: string, responder: string): string =>
  `${edge}:${initiator}:${responder}`

/** Everywhere the same order, whatever the locale: ids are ASCII. */
const byId = (a: { readonly id: string }, b: { readonly id: string }): number =>
  a.id < b.id ? -1 : a.id > b.id ? 1 : 0

const malformed = (field: string, message: string): MakeError => new MakeError("MALFORMED", field, message)

const expectIds = (
  field: string,
  items: ReadonlyArray<{ readonly id: string }>,
  most: number,
): Set<string> => {
  if (items.length > most) throw new MakeError("LIMIT", field, `more than ${most}`)
  const ids = new Set<string>()
  for (const { id } of items) {
    if (!TOKEN.test(id)) throw malformed(`${field}.id`, "must be 1 to 64 letters, digits, _ or -")
    if (ids.has(id)) throw malformed(`${field}.id`, `${id} is there twice`)
    ids.add(id)
  }
  return ids
}

/** Protocols whose packets name ports. */
export const PORTS: ReadonlySet<Protocol> = new Set(["tcp", "udp", "sctp"])

const expectEdge = (edge: WorkflowEdge, stages: ReadonlySet<string>): void => {
  const field = `edges.${edge.id}`
  if (!stages.has(edge.from)) throw malformed(`${field}.from`, "is no stage of the workflow")
  if (!stages.has(edge.to)) throw malformed(`${field}.to`, "is no stage of the workflow")
  if (!Number.isInteger(edge.lanes) || edge.lanes < 1 || edge.lanes > limits.lanes)
    throw new MakeError("LIMIT", `${field}.lanes`, `must be 1..${limits.lanes}`)
  if (edge.port !== undefined) {
    if (!PORTS.has(edge.protocol)) throw malformed(`${field}.port`, `${edge.protocol} has none`)
    if (!Number.isInteger(edge.port) || edge.port < 1 || edge.port > 65_535)
      throw malformed(`${field}.port`, "must be 1..65535")
  }
}

/** @throws MakeError MALFORMED for a suite that this version doesn't know */
export const suiteOf = ({ suite }: Pick<Workflow, "suite">): SuiteId => {
  if (!isSuiteId(suite)) throw malformed("suite", "is not a suite of this version")
  return suite
}

/** The nodes of an edge can't exchange a packet. */
export interface Unreachable {
  /** The edge's id, and the two nodes. */
  readonly edge: string
  readonly initiator: string
  readonly responder: string
  readonly why: string
}

const familiesOf = ({ address, address6 }: WorkflowNode): string =>
  address === undefined ? "IPv6" : address6 === undefined ? "IPv4" : "IPv4 and IPv6"

/** Why packets can't go between two nodes: nothing here translates between the families. */
const separation = (a: WorkflowNode, b: WorkflowNode): string | undefined => {
  const sharesFamily =
    (a.address !== undefined && b.address !== undefined) ||
    (a.address6 !== undefined && b.address6 !== undefined)
  if (!sharesFamily)
    return `${a.id} has workflow addresses of ${familiesOf(a)} only and ${b.id} of ${familiesOf(b)} only`
  if (familyOf(a.wire) !== familyOf(b.wire))
    return `${a.id} is on the wire by IPv${familyOf(a.wire)} and ${b.id} by IPv${familyOf(b.wire)}`
  return undefined
}

/**
 * All pairs of nodes that an edge joins and no address family does; such a workflow doesn't compile. Edges to stages that
 * don't exist are passed over here.
 */
export const unreachablePairs = (workflow: Workflow): ReadonlyArray<Unreachable> => {
  const takers = (stage: string): ReadonlyArray<WorkflowNode> =>
    workflow.nodes.filter((node) => node.stage === stage)
  return workflow.edges.flatMap(({ id, from, to, pairs }) => {
    const named = pairs === undefined ? undefined : new Set(pairs.map(([a, b]) => `${a} ${b}`))
    return takers(from).flatMap((initiator) =>
      takers(to).flatMap((responder): ReadonlyArray<Unreachable> => {
        const joined =
          initiator.id !== responder.id && (named?.has(`${initiator.id} ${responder.id}`) ?? true)
        const why = joined ? separation(initiator, responder) : undefined
        return why === undefined ? [] : [{ edge: id, initiator: initiator.id, responder: responder.id, why }]
      }),
    )
  })
}

/** The pairs of nodes that an edge joins, initiator first. */
const pairsOf = (
  edge: WorkflowEdge,
  members: ReadonlyMap<string, ReadonlyArray<WorkflowNode>>,
): ReadonlyArray<readonly [WorkflowNode, WorkflowNode]> => {
  const [from, to] = [members.get(edge.from) ?? [], members.get(edge.to) ?? []]
  const field = `edges.${edge.id}.pairs`
  if (edge.pairs === undefined)
    return from.flatMap((a) => to.flatMap((b) => (a.id === b.id ? [] : [[a, b] as const])))
  if (edge.pairs.length > limits.edgePairs)
    throw new MakeError("LIMIT", field, `more than ${limits.edgePairs}`)
  const [initiators, responders] = [from, to].map((side) => new Map(side.map((node) => [node.id, node])))
  const seen = new Set<string>()
  return edge.pairs.map(([a = "", b = ""]) => {
    const [initiator, responder] = [initiators?.get(a), responders?.get(b)]
    if (initiator === undefined) throw malformed(field, `"${a}" is no node of ${edge.from}`)
    if (responder === undefined) throw malformed(field, `"${b}" is no node of ${edge.to}`)
    if (a === b) throw malformed(field, `"${a}" is joined with itself`)
    if (seen.has(`${a} ${b}`)) throw malformed(field, `"${a}, ${b}" is there twice`)
    seen.add(`${a} ${b}`)
    return [initiator, responder]
  })
}

/**
 * All instances of a workflow, ordered by id.
 *
 * Edges between the same stages may overlap: a port beside all ports of its protocol, or anything beside `any`. Then the
 * most specific goes first, as in the kernel: the exact port, the protocol, `any`. This allows nothing that the operator
 * has not written down, gives traffic keys and lanes of its own where that is wanted, and both ends decide alike, since
 * they compile the same document. It never falls back: what the specific edge has no key for is dropped, whatever `any` has.
 *
 * @throws MakeError MALFORMED for ids, references or values that a workflow can't have, for two edges that allow the very
 *   same (which of their keys would be used?), and for an edge between nodes that share no address family; LIMIT for more
 *   than `schemas/limits.ts` allows
 */
export const compileWorkflow = (workflow: Workflow): ReadonlyArray<EdgeInstance> =>
  compiledOf(workflow).instances

interface Compiled {
  readonly instances: ReadonlyArray<EdgeInstance>
  readonly nodes: ReadonlyMap<string, WorkflowNode>
  readonly byNode: ReadonlyMap<string, ReadonlyArray<EdgeInstance>>
}

/** A document that was verified never changes: who asks for each of its nodes compiles it once. */
const compiled = new WeakMap<Workflow, Compiled>()

const compiledOf = (workflow: Workflow): Compiled => {
  const known = compiled.get(workflow)
  if (known !== undefined) return known
  const instances = compileAll(workflow)
  const byNode = new Map<string, Array<EdgeInstance>>(workflow.nodes.map(({ id }) => [id, []]))
  for (const instance of instances) {
    byNode.get(instance.initiator)?.push(instance)
    byNode.get(instance.responder)?.push(instance)
  }
  const made = { instances, byNode, nodes: new Map(workflow.nodes.map((node) => [node.id, node])) }
  compiled.set(workflow, made)
  return made
}

const compileAll = (workflow: Workflow): ReadonlyArray<EdgeInstance> => {
  if (workflow.digest.length !== 32) throw malformed("digest", "must have 32 bytes")
  if (!TOKEN.test(workflow.domain)) throw malformed("domain", "must be 1 to 64 letters, digits, _ or -")
  const stages = expectIds("stages", workflow.stages, limits.stages)
  expectIds("nodes", workflow.nodes, limits.nodes)
  expectIds("edges", workflow.edges, limits.edges)
  const suite = suiteOf(workflow)
  const members = membersOf(workflow, stages)

  const rules = new Set<string>()
  const perNode = new Map<string, { edges: number; lanes: number }>()
  const instances: Array<EdgeInstance> = []
  for (const edge of workflow.edges) {
    expectEdge(edge, stages)
    const rule = `${edge.from}>${edge.to} ${edge.protocol} ${edge.port ?? "any"}`
    if (rules.has(rule)) throw malformed(`edges.${edge.id}`, "allows what another edge allows already")
    rules.add(rule)
    for (const [initiator, responder] of pairsOf(edge, members)) {
      const why = separation(initiator, responder)
      if (why !== undefined) throw malformed(`edges.${edge.id}`, why)
      if (workflow.revoked?.has(initiator.id) || workflow.revoked?.has(responder.id)) continue
      countAt(perNode, initiator.id, edge.lanes)
      countAt(perNode, responder.id, edge.lanes)
      instances.push({
        id: instanceId(edge.id, initiator.id, responder.id),
        edge: edge.id,
        initiator: initiator.id,
        responder: responder.id,
        protocol: edge.protocol,
        port: edge.port,
        lanes: edge.lanes,
        suite,
        peers: edge.peers ?? workflow.peers ?? "results",
      })
    }
  }
  return instances.sort(byId)
}

/** Nodes that a node is to appraise itself: those at the other end of an edge that demands it. Both ends demand alike. */
export const evidencePeers = (workflow: Workflow, nodeId: string): ReadonlySet<string> => {
  const { byNode } = compiledOf(workflow)
  const peers = (byNode.get(nodeId) ?? [])
    .filter((instance) => instance.peers === "evidence")
    .map(({ initiator, responder }) => (initiator === nodeId ? responder : initiator))
  return new Set(peers)
}

const membersOf = (
  workflow: Workflow,
  stages: ReadonlySet<string>,
): ReadonlyMap<string, ReadonlyArray<WorkflowNode>> => {
  const members = new Map<string, Array<WorkflowNode>>()
  const addresses = new Set<string>()
  for (const node of workflow.nodes) {
    if (!stages.has(node.stage)) throw malformed(`nodes.${node.id}.stage`, "is no stage of the workflow")
    const own = [node.address, node.address6].filter((address) => address !== undefined)
    if (own.length === 0) throw malformed(`nodes.${node.id}.address`, "is missing, and so is address6")
    for (const address of own) {
      if (addresses.has(address)) throw malformed(`nodes.${node.id}.address`, "belongs to another node")
      addresses.add(address)
    }
    const list = members.get(node.stage)
    if (list === undefined) members.set(node.stage, [node])
    else list.push(node)
  }
  return members
}

/** Three generations of keys may be held at once: a new one, the one in use, and one in its grace time. */
const GENERATIONS = 3

const countAt = (
  perNode: Map<string, { edges: number; lanes: number }>,
  node: string,
  lanes: number,
): void => {
  const count = perNode.get(node) ?? { edges: 0, lanes: 0 }
  count.edges += 1
  count.lanes += lanes
  perNode.set(node, count)
  if (count.edges > limits.nodeEdges)
    throw new MakeError("LIMIT", `nodes.${node}`, `has more than ${limits.nodeEdges} edges`)
  if (count.lanes * GENERATIONS > limits.associations)
    throw new MakeError(
      "LIMIT",
      `nodes.${node}`,
      `needs more than ${limits.associations} security associations`,
    )
}

/**
 * The instances of one node, ordered by id.
 * @throws MakeError NO_SUCH_EDGE when the workflow doesn't know the node; else as `compileWorkflow`
 */
export const compileNode = (workflow: Workflow, nodeId: string): ReadonlyArray<NodeEdge> => {
  const { nodes, byNode } = compiledOf(workflow)
  const own = nodes.get(nodeId)
  if (own === undefined) throw new MakeError("NO_SUCH_EDGE", "node", "is not in the workflow")
  return (byNode.get(nodeId) ?? []).flatMap((instance): ReadonlyArray<NodeEdge> => {
    const initiates = instance.initiator === nodeId
    const peer = nodes.get(initiates ? instance.responder : instance.initiator)
    if (peer === undefined) return []
    return [
      {
        ...instance,
        role: initiates ? "initiator" : "responder",
        peer: peer.id,
        peerAddress: own.address === undefined ? undefined : peer.address,
        peerAddress6: own.address6 === undefined ? undefined : peer.address6,
        peerWire: peer.wire,
      },
    ]
  })
}

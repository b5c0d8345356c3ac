/**
 * From the operator's signed workflow to edge instances: one per workflow edge and pair of nodes. Every node and the
 * releaser compile on their own from the same document; a release can bring keys for these instances, never a new one.
 */
import { limits } from "../../schemas/limits.ts"
import { MakeError } from "./errors.ts"
import { isSuiteId, type SuiteId } from "./suites.ts"

export type Protocol = "tcp" | "udp" | "icmp"

export interface WorkflowNode {
  readonly id: string
  readonly stage: string
  /** Workflow address, as text. */
  readonly address: string
  /** Address on the untrusted wire, as text. */
  readonly wire: string
}

export interface WorkflowEdge {
  readonly id: string
  /** Stages. */
  readonly from: string
  readonly to: string
  readonly protocol: Protocol
  /** The responder's port; absent: any. */
  readonly port?: number
  /** 1..limits.lanes. */
  readonly lanes: number
}

/** What of the workflow document the protocol needs. */
export interface Workflow {
  readonly domain: string
  /** 32 bytes, see `workflowDigest`. */
  readonly digest: Uint8Array
  readonly version: number
  /** Of all edges: what seals their releases and encrypts their packets. */
  readonly suite: string
  readonly stages: ReadonlyArray<{ readonly id: string }>
  readonly nodes: ReadonlyArray<WorkflowNode>
  readonly edges: ReadonlyArray<WorkflowEdge>
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
}

/** The same as one of its ends sees it. */
export interface NodeEdge extends EdgeInstance {
  readonly role: "initiator" | "responder"
  readonly peer: string
  readonly peerAddress: string
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

const expectEdge = (edge: WorkflowEdge, stages: ReadonlySet<string>): void => {
  const field = `edges.${edge.id}`
  if (!stages.has(edge.from)) throw malformed(`${field}.from`, "is no stage of the workflow")
  if (!stages.has(edge.to)) throw malformed(`${field}.to`, "is no stage of the workflow")
  if (!Number.isInteger(edge.lanes) || edge.lanes < 1 || edge.lanes > limits.lanes)
    throw new MakeError("LIMIT", `${field}.lanes`, `must be 1..${limits.lanes}`)
  if (edge.port !== undefined) {
    if (edge.protocol === "icmp") throw malformed(`${field}.port`, "ICMP has none")
    if (!Number.isInteger(edge.port) || edge.port < 1 || edge.port > 65_535)
      throw malformed(`${field}.port`, "must be 1..65535")
  }
}

/** @throws MakeError MALFORMED for a suite that this version doesn't know */
export const suiteOf = ({ suite }: Pick<Workflow, "suite">): SuiteId => {
  if (!isSuiteId(suite)) throw malformed("suite", "is not a suite of this version")
  return suite
}

/**
 * All instances of a workflow, ordered by id.
 * @throws MakeError MALFORMED for ids, references or values that a workflow can't have, and for two edges that allow the
 *   same thing (which of their keys would be used?); LIMIT for more than `schemas/limits.ts` allows
 */
export const compileWorkflow = (workflow: Workflow): ReadonlyArray<EdgeInstance> => {
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
    for (const initiator of members.get(edge.from) ?? []) {
      for (const responder of members.get(edge.to) ?? []) {
        if (initiator === responder) continue
        countAt(perNode, initiator, edge.lanes)
        countAt(perNode, responder, edge.lanes)
        instances.push({
          id: instanceId(edge.id, initiator, responder),
          edge: edge.id,
          initiator,
          responder,
          protocol: edge.protocol,
          port: edge.port,
          lanes: edge.lanes,
          suite,
        })
      }
    }
  }
  return instances.sort(byId)
}

const membersOf = (
  workflow: Workflow,
  stages: ReadonlySet<string>,
): ReadonlyMap<string, ReadonlyArray<string>> => {
  const members = new Map<string, Array<string>>()
  const addresses = new Set<string>()
  for (const node of workflow.nodes) {
    if (!stages.has(node.stage)) throw malformed(`nodes.${node.id}.stage`, "is no stage of the workflow")
    if (addresses.has(node.address)) throw malformed(`nodes.${node.id}.address`, "belongs to another node")
    addresses.add(node.address)
    const list = members.get(node.stage)
    if (list === undefined) members.set(node.stage, [node.id])
    else list.push(node.id)
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
  const nodes = new Map(workflow.nodes.map((node) => [node.id, node]))
  if (!nodes.has(nodeId)) throw new MakeError("NO_SUCH_EDGE", "node", "is not in the workflow")
  return compileWorkflow(workflow).flatMap((instance): ReadonlyArray<NodeEdge> => {
    if (instance.initiator !== nodeId && instance.responder !== nodeId) return []
    const initiates = instance.initiator === nodeId
    const peer = initiates ? instance.responder : instance.initiator
    const { address, wire } = nodes.get(peer) ?? {}
    if (address === undefined || wire === undefined) return []
    return [
      {
        ...instance,
        role: initiates ? "initiator" : "responder",
        peer,
        peerAddress: address,
        peerWire: wire,
      },
    ]
  })
}

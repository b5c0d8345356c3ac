/**
 * From the signed workflow to what this node's kernel enforces: which peers, protocols, ports and directions, and where
 * each peer is. Compiled here and never taken from a release: a release brings keys only.
 */
import type { Workflow } from "../../schemas/workflow.ts"
import type { EdgeRecord, PolicyKey } from "../common/kernel/records.ts"
import { compileNode, type NodeEdge, type Workflow as ProtocolWorkflow } from "../make/edges.ts"
import { MakeError } from "../make/errors.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"

/** IP protocol numbers (IANA). */
const PROTOCOLS = { icmp: 1, tcp: 6, udp: 17 } as const

export interface EdgeRule {
  readonly edge: NodeEdge
  /** Local index of the edge in the kernel's maps. */
  readonly index: number
  readonly record: EdgeRecord
  readonly policy: PolicyKey
}

export interface Rules {
  readonly node: Workflow["nodes"][number]
  readonly protocol: ProtocolWorkflow
  readonly edges: ReadonlyArray<EdgeRule>
}

export const ipv4 = (text: string): number =>
  text.split(".").reduce((sum, part) => sum * 256 + Number(part), 0)

/** What of the document the protocol works on. */
export const protocolWorkflow = ({ document, digest }: VerifiedWorkflow): ProtocolWorkflow => ({
  domain: document.domain,
  digest,
  version: document.version,
  stages: Object.keys(document.stages).map((id) => ({ id })),
  nodes: document.nodes,
  edges: document.edges.map((edge) => ({ ...edge, suite: document.suite })),
})

/**
 * @param wireMtu bytes of an outer IP packet that the wire carries
 * @param espPort the peers' UDP port
 * @throws MakeError NO_SUCH_EDGE when the workflow doesn't name the node
 */
export const compileRules = (
  workflow: VerifiedWorkflow,
  nodeId: string,
  wireMtu: number,
  espPort: number,
): Rules => {
  const node = workflow.document.nodes.find(({ id }) => id === nodeId)
  if (node === undefined) throw new MakeError("NO_SUCH_EDGE", "node", `the workflow has no node "${nodeId}"`)
  const wires = new Map(workflow.document.nodes.map(({ id, wire }) => [id, wire]))
  const protocol = protocolWorkflow(workflow)
  const edges = compileNode(protocol, nodeId).map((edge, index): EdgeRule => {
    const peerInner = ipv4(edge.peerAddress)
    return {
      edge,
      index,
      record: {
        peerInner,
        peerWire: ipv4(wires.get(edge.peer) ?? "0.0.0.0"),
        peerPort: espPort,
        lanes: edge.lanes,
        mtu: wireMtu,
      },
      policy: {
        peer: peerInner,
        port: edge.port ?? 0,
        protocol: PROTOCOLS[edge.protocol],
        role: edge.role === "initiator" ? 0 : 1,
      },
    }
  })
  return { node, protocol, edges }
}

/**
 * From the signed workflow to what this node's kernel enforces: which peers, protocols, ports and directions, and where
 * each peer is. Compiled here and never taken from a release: a release brings keys only.
 */
import { type Family, familyOf, readAddress, readIpv4, readIpv6 } from "../../schemas/address.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { toHex } from "../common/hex.ts"
import { protocolWorkflow } from "../guest/protocol-workflow.ts"
import { compileNode, type NodeEdge, type Workflow as ProtocolWorkflow } from "../make/edges.ts"
import { MakeError } from "../make/errors.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import type { Edge, EdgeState, Policy } from "./dataplane/plane.ts"
import { EDGE_ID_SIZE } from "./dataplane/reconcile.ts"

/** IP protocol numbers (IANA). The data plane takes 1 for ICMP of the packet's family, and 0 for any protocol. */
const PROTOCOLS = { any: 0, icmp: 1, tcp: 6, udp: 17, sctp: 132 } as const

export interface EdgeRule {
  readonly edge: NodeEdge
  readonly record: Edge
  /** One for each workflow address of the peer that this node can reach. */
  readonly policies: ReadonlyArray<Policy>
}

export interface Rules {
  readonly node: Workflow["nodes"][number]
  readonly protocol: ProtocolWorkflow
  readonly edges: ReadonlyArray<EdgeRule>
}

export interface RuleOptions {
  readonly crypto: Crypto
  readonly nodeId: string
  /** Bytes of an outer IP packet that the wire carries. */
  readonly wireMtu: number
  /** In which families this node has an address on the wire. */
  readonly wireFamilies: ReadonlyArray<Family>
  /** The peers' UDP port. */
  readonly espPort: number
  /** What the kernel has now: an edge that stays keeps its index, since keys and flows hang on it. */
  readonly present: EdgeState
}

/**
 * @throws MakeError NO_SUCH_EDGE when the workflow doesn't name the node; MALFORMED when a peer is on the wire by a family
 *   in which this node isn't; else as `compileNode`
 */
export const compileRules = (workflow: VerifiedWorkflow, options: RuleOptions): Rules => {
  const { nodeId } = options
  const node = workflow.document.nodes.find(({ id }) => id === nodeId)
  if (node === undefined) throw new MakeError("NO_SUCH_EDGE", "node", `the workflow has no node "${nodeId}"`)
  const protocol = protocolWorkflow(workflow)
  const compiled = compileNode(protocol, nodeId)
  const indexes = assignIndexes(
    compiled.map((edge) => edgeId(options.crypto, edge.id)),
    options.present,
  )
  const edges = compiled.map((edge): EdgeRule => {
    const id = edgeId(options.crypto, edge.id)
    const index = indexes.get(toHex(id)) ?? 0
    const peerInner = optional(readIpv4, edge.peerAddress)
    const peerInner6 = optional(readIpv6, edge.peerAddress6)
    return {
      edge,
      record: {
        index,
        id,
        peerInner,
        peerInner6,
        peerWire: wireOf(edge, options.wireFamilies),
        peerPort: options.espPort,
        lanes: edge.lanes,
        mtu: options.wireMtu,
      },
      policies: [peerInner, peerInner6]
        .filter((peer) => peer !== undefined)
        .map((peer) => ({
          edge: index,
          flags: 0,
          peer,
          port: edge.port ?? 0,
          protocol: PROTOCOLS[edge.protocol],
          role: edge.role === "initiator" ? 0 : 1,
        })),
    }
  })
  return { node, protocol, edges }
}

const optional = <T>(read: (text: string) => T, text: string | undefined): T | undefined =>
  text === undefined ? undefined : read(text)

const wireOf = ({ peer, peerWire }: NodeEdge, families: ReadonlyArray<Family>): number | Uint8Array => {
  const address = readAddress(peerWire)
  if (address === undefined || !families.includes(familyOf(peerWire)))
    throw new MakeError(
      "MALFORMED",
      `nodes.${peer}.wire`,
      `is an IPv${familyOf(peerWire)} address, and this node has none on its wire`,
    )
  return address
}

/** What names an edge instance in the kernel's maps, whatever its index: the start of its SHA-256. */
export const edgeId = (crypto: Crypto, instance: string): Uint8Array =>
  crypto.sha256(new TextEncoder().encode(instance)).slice(0, EDGE_ID_SIZE)

const assignIndexes = (ids: ReadonlyArray<Uint8Array>, present: EdgeState): ReadonlyMap<string, number> => {
  const wanted = new Set(ids.map(toHex))
  const indexes = new Map(
    present.edges.filter(({ id }) => wanted.has(toHex(id))).map(({ id, index }) => [toHex(id), index]),
  )
  const used = new Set(indexes.values())
  let next = 0
  for (const id of wanted) {
    if (indexes.has(id)) continue
    while (used.has(next)) next += 1
    used.add(next)
    indexes.set(id, next)
  }
  return indexes
}

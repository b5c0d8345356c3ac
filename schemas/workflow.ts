/**
 * The workflow document: which stages there are, what a node must prove to take one, which node is which machine, and
 * which edges may carry what. People write it in YAML; operators sign the bytes. Every node compiles its own rules from it.
 */
import { Schema } from "effect"
import { IpAddress, Ipv4, Ipv6 } from "./address.ts"
import { bytesMax, list, Signature, SigningKey, Token, U16, Version } from "./fields.ts"
import { limits } from "./limits.ts"
import { Chip, demands, HardwareRoots, hex } from "./platforms.ts"

export type { HardwareRoot } from "./platforms.ts"

const Time = Schema.String.check(Schema.isPattern(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/))
/** A measurement, register or digest, as the lists of a stage have them. */
const Value = Schema.String.check(Schema.isPattern(/^([0-9a-f]{2}){16,64}$/))

/** What a node must prove to take the stage. */
export const Stage = Schema.Struct({
  ...demands,
  /** SHA-384 of the data plane as the attester found it in the kernel: any of these. */
  dataplane: list(hex(48), 16).check(Schema.isMinLength(1)),
  /** Of values that the lists above name, those that are taken only until then: an old image beside the new one. */
  until: Schema.optionalKey(Schema.Record(Value, Time)),
})
export type Stage = typeof Stage.Type

/**
 * One machine: which stage it may take, the chip that it is pinned to, its workflow addresses (at least one) and its
 * address on the wire.
 */
export const WorkflowNode = Schema.Struct({
  id: Token,
  stage: Token,
  /** `pending`: none yet, so that every machine is refused and put on record, until the operator names one. */
  chip: Schema.Union([Chip, Schema.Literals(["any", "pending"])]),
  address: Schema.optionalKey(Ipv4),
  address6: Schema.optionalKey(Ipv6),
  wire: IpAddress,
})
export type WorkflowNode = typeof WorkflowNode.Type

/**
 * What a node believes of its peer before it takes keys for an edge: a verifier's signed result, or only what it has appraised
 * itself, the peer's raw Evidence over a nonce of its own.
 */
const Peers = Schema.Literals(["results", "evidence"])

/**
 * Nodes of `from` may open connections to `port` of nodes of `to`; answers come back, nothing else does. `icmp` is echo,
 * in both families; `any` is every protocol and port, those named here too, and of ICMP echo again. Where two edges allow
 * the same packet, the more specific one carries it.
 */
export const Edge = Schema.Struct({
  id: Token,
  from: Token,
  to: Token,
  protocol: Schema.Literals(["tcp", "udp", "sctp", "icmp", "any"]),
  port: Schema.optionalKey(U16),
  lanes: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: limits.lanes })),
  /** Instead of what the workflow says. */
  peers: Schema.optionalKey(Peers),
  /** Only these: a node of `from`, then one of `to`. Absent: each node of `from` with each of `to`. */
  pairs: Schema.optionalKey(
    list(list(Token, 2).check(Schema.isMinLength(2)), limits.edgePairs).check(Schema.isMinLength(1)),
  ),
})
export type Edge = typeof Edge.Type

/**
 * What takes part no longer, whatever else the document says: nodes, machines (by any one of the identities that are named),
 * and values that evidence may show.
 */
export const Revoked = Schema.Struct({
  nodes: Schema.optionalKey(list(Token, limits.nodes)),
  chips: Schema.optionalKey(list(Chip, limits.nodes)),
  measurements: Schema.optionalKey(list(Value, limits.nodes)),
})
export type Revoked = typeof Revoked.Type

export const Workflow = Schema.Struct({
  workflow: Token,
  domain: Token,
  version: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })),
  not_after: Time,
  /** One of `services/make/suites.ts`, the hybrid one first: what seals releases and encrypts packets. */
  suite: Schema.Literals(["xwing-chacha20-poly1305", "chacha20-poly1305"]),
  lease_seconds: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: limits.leaseMsMax / 1000 })),
  /** Every edge gets new keys this often, whatever else renews them; absent: with each new session of a node only. */
  rotate_seconds: Schema.optionalKey(
    Schema.Int.check(
      Schema.isBetween({ minimum: limits.rotateSecondsMin, maximum: limits.rotateSecondsMax }),
    ),
  ),
  /** Of all edges that don't say it themselves; absent: results. */
  peers: Schema.optionalKey(Peers),
  roots: HardwareRoots,
  stages: Schema.Record(Token, Stage),
  nodes: list(WorkflowNode, limits.nodes),
  edges: list(Edge, limits.edges),
  revoked: Schema.optionalKey(Revoked),
})
export type Workflow = typeof Workflow.Type

export const SignedWorkflow = Schema.Struct({
  v: Version,
  document: bytesMax(limits.workflowBytes),
  signatures: list(Schema.Struct({ key: SigningKey, signature: Signature }), limits.signers).check(
    Schema.isMinLength(1),
  ),
})
export type SignedWorkflow = typeof SignedWorkflow.Type

/** What a guest's measured configuration pins: whom it obeys, and which control plane it believes. */
export const Anchors = Schema.Struct({
  domain: Token,
  operator_keys: list(hex(32), limits.signers).check(Schema.isMinLength(1)),
  operator_threshold: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: limits.signers })),
  control_plane: Schema.Struct({
    roots: HardwareRoots,
    ...demands,
    chips: Schema.Union([list(Chip, 16).check(Schema.isMinLength(1)), Schema.Literal("any")]),
  }),
})
export type Anchors = typeof Anchors.Type

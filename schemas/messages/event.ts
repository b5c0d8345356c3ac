/** What happened, for auditors and automation: CloudEvents 1.0 attributes around data of one shape. */
import { Schema } from "effect"
import { Count, InstanceId, list, Token, text, U64, Version } from "../fields.ts"
import { Chip } from "../platforms.ts"
import { Checks } from "./common.ts"

export const EventType = Schema.Literals([
  "vouchsafe.service.ready",
  "vouchsafe.workflow.applied",
  "vouchsafe.workflow.refused",
  "vouchsafe.hello.refused",
  "vouchsafe.control.accepted",
  "vouchsafe.control.refused",
  "vouchsafe.attestation.accepted",
  "vouchsafe.attestation.refused",
  "vouchsafe.attestation.withdrawn",
  "vouchsafe.pull.refused",
  "vouchsafe.ack.refused",
  "vouchsafe.withdrawal.refused",
  "vouchsafe.leave.refused",
  "vouchsafe.order.accepted",
  "vouchsafe.order.refused",
  "vouchsafe.release.sent",
  "vouchsafe.release.accepted",
  "vouchsafe.release.refused",
  "vouchsafe.node.accepted",
  "vouchsafe.node.replaced",
  "vouchsafe.node.lapsed",
  "vouchsafe.node.revoked",
  "vouchsafe.node.left",
  "vouchsafe.node.withdrawn",
  "vouchsafe.node.drifts",
  "vouchsafe.leader.began",
  "vouchsafe.leader.ended",
  "vouchsafe.edge.install",
  "vouchsafe.edge.active",
  "vouchsafe.edge.retired",
  "vouchsafe.edge.stopped",
  "vouchsafe.edge.disagrees",
  "vouchsafe.edge.missing",
  "vouchsafe.edge.overdue",
  "vouchsafe.peer.accepted",
  "vouchsafe.peer.stale",
  "vouchsafe.peer.refused",
  "vouchsafe.lease.over",
  "vouchsafe.dataplane.failed",
  "vouchsafe.dataplane.drop",
  "vouchsafe.dataplane.tampered",
  "vouchsafe.dataplane.restored",
  "vouchsafe.dataplane.upgraded",
  "vouchsafe.dataplane.moved",
  "vouchsafe.message.refused",
])
export type EventType = typeof EventType.Type

/** How many edges or nodes one event names at most: what happens to many at once is told in few events. */
export const EVENT_LIST_MAX = 256

export const EventData = Schema.Struct({
  node: Schema.optionalKey(Token),
  stage: Schema.optionalKey(Token),
  platform: Schema.optionalKey(text(64)),
  /** The genuine identity of a machine that was refused. */
  chip: Schema.optionalKey(Chip),
  emulated: Schema.optionalKey(Schema.Boolean),
  dataplane: Schema.optionalKey(text(96)),
  /** The other end, as the node found it itself. */
  peer: Schema.optionalKey(Token),
  edge: Schema.optionalKey(InstanceId),
  term: Schema.optionalKey(U64),
  epoch: Schema.optionalKey(U64),
  /** Instead of `edge` and `epoch`: many of one term to which the same happened. */
  edges: Schema.optionalKey(list(Schema.Struct({ edge: InstanceId, epoch: U64 }), EVENT_LIST_MAX)),
  /** Instead of `node`: many, with the number of the release that each was sent and of the edge epochs in it. */
  releases: Schema.optionalKey(
    list(Schema.Struct({ node: Token, sequence: U64, epochs: Count }), EVENT_LIST_MAX),
  ),
  workflow: Schema.optionalKey(text(64)),
  code: Schema.optionalKey(text(64)),
  field: Schema.optionalKey(text(128)),
  message: Schema.optionalKey(text(512)),
  /** Refusals of the same node by the same service since the last recorded one, too many to be recorded each. */
  unrecorded: Schema.optionalKey(Count),
  checks: Schema.optionalKey(Checks),
  elapsed_ms: Schema.optionalKey(Count),
})
export type EventData = typeof EventData.Type

export const Event = Schema.Struct({
  v: Version,
  specversion: Schema.Literal("1.0"),
  id: text(64),
  source: text(160),
  type: EventType,
  subject: Schema.optionalKey(text(160)),
  /** The publisher's clock, RFC 3339: for readers, never for a decision. */
  time: text(40),
  data: EventData,
})
export type Event = typeof Event.Type

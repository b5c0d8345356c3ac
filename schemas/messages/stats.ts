/** A loader's view of its node, published every two seconds, and soon when something has changed; nothing secret, nothing that decides. */
import { Schema } from "effect"
import { Count, InstanceId, list, Token, text, U64, Version } from "../fields.ts"
import { limits } from "../limits.ts"
import { VERDICTS_MAX } from "../verdicts.ts"

/** Packets by verdict. */
const Verdicts = Schema.Record(Schema.String.check(Schema.isPattern(/^[A-Z][A-Z0-9_]{1,31}$/)), Count).check(
  Schema.isMaxProperties(VERDICTS_MAX),
)

export const EdgeStats = Schema.Struct({
  instance: InstanceId,
  from: Token,
  to: Token,
  peer: Token,
  role: Schema.Literals(["initiator", "responder"]),
  state: Schema.Literals(["none", "install", "active"]),
  term: U64,
  epoch: U64,
  lease_left_ms: Count,
  sealed_packets: Count,
  sealed_bytes: Count,
  opened_packets: Count,
  opened_bytes: Count,
  /** Switches to new keys since the loader started. */
  rekeys: Count,
  /** What was dropped of packets that were known to be the edge's; verdicts at 0 are left out. */
  drops: Verdicts,
})
export type EdgeStats = typeof EdgeStats.Type

export const Stats = Schema.Struct({
  v: Version,
  node: Token,
  stage: text(64),
  state: Schema.Literals(["denied", "attesting", "refused", "accepted", "released", "tampered"]),
  backend: text(32),
  dataplane: text(96),
  edges: list(EdgeStats, limits.nodeEdges),
  verdicts: Verdicts,
})
export type Stats = typeof Stats.Type

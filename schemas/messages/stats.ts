/** A loader's view of its node, published about twice a second; nothing secret, nothing that decides. */
import { Schema } from "effect"
import { Count, InstanceId, list, Token, text, U64, Version } from "../fields.ts"
import { limits } from "../limits.ts"

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
  verdicts: Schema.Record(Schema.String.check(Schema.isPattern(/^[A-Z][A-Z0-9_]{1,31}$/)), Count),
})
export type Stats = typeof Stats.Type

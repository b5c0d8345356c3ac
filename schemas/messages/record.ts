/**
 * A verdict with all that it was given by, so that it can be given again: the same bytes, years later. Files, not messages:
 * a verifier keeps the last one of each node, `vouchsafe appraise` writes and replays them.
 */
import { Schema } from "effect"
import {
  bytes,
  bytesMax,
  Count,
  Digest,
  list,
  Measurement,
  Nonce,
  Session,
  Token,
  text,
  Version,
} from "../fields.ts"
import { limits } from "../limits.ts"
import { Assurance } from "../platforms.ts"
import { NodeEvidence } from "./attestation.ts"
import { Checks, Evidence } from "./common.ts"

/** What the store of collateral was asked during the appraisal, and what it answered. */
export const Consulted = Schema.Struct({
  /** `snp Milan`, `snp-certificates Milan`, `tdx <fmspc> platform`. */
  of: Schema.String.check(
    Schema.isPattern(/^(?:snp|snp-certificates) \w{1,16}$|^tdx [0-9a-f]{12} \w{1,16}$/),
  ),
  items: list(Schema.Struct({ name: text(32), bytes: bytesMax(limits.collateralBytes) }), 8),
  /** Why what is stored may not be used any more: COLLATERAL_STALE. */
  stale: Schema.optionalKey(Schema.Struct({ field: text(128), found: text(256), wanted: text(256) })),
})
export type Consulted = typeof Consulted.Type

/** A node's answer to a challenge. Without `asked` nobody remembers the challenge: what it fixes isn't checked. */
const NodeSubject = Schema.Struct({
  kind: Schema.Literal("node"),
  evidence: NodeEvidence,
  asked: Schema.optionalKey(
    Schema.Struct({
      node: Token,
      session: Session,
      nonce: Nonce,
      challenge: Digest,
      control: Digest,
      /** The credential's secret, spent, and what it was made for: SHA-256 of the endorsement key, name of the other. */
      activation: Schema.optionalKey(Schema.Struct({ secret: bytes(32), ek: Digest, ak_name: bytesMax(66) })),
    }),
  ),
})

/** Evidence by itself. Without `report_data` and `dataplane` nobody says what it must speak of. */
const PiecesSubject = Schema.Struct({
  kind: Schema.Literal("pieces"),
  evidence: Evidence,
  stage: Token,
  /** Which node's machine it must be; any of the stage's without. */
  node: Schema.optionalKey(Token),
  report_data: Schema.optionalKey(bytes(64)),
  dataplane: Schema.optionalKey(Measurement),
})

export const RecordSubject = Schema.Union([NodeSubject, PiecesSubject])
export type RecordSubject = typeof RecordSubject.Type

/** What a verdict says, in full. Its packed form is canonical: fields in this order (`services/evidence/record`). */
export const RecordedVerdict = Schema.Struct({
  v: Version,
  verdict: Schema.Literals(["accepted", "refused"]),
  /** Why refused: the verification's own code, or the name of the first check that failed. */
  code: Schema.optionalKey(text(64)),
  /** Of the workflow document that it goes by. */
  workflow: Digest,
  stage: Token,
  node: Schema.optionalKey(Token),
  /** The time that everything was held against, ms since 1970. */
  at_ms: Count,
  platform: Schema.optionalKey(text(64)),
  assurance: Schema.optionalKey(Assurance),
  checks: Checks,
  /** The vendors' own words that it rests on. */
  collateral: list(
    Schema.Struct({
      kind: text(32),
      sha256: Digest,
      issued_ms: Count,
      expires_ms: Count,
      number: Schema.optionalKey(Count),
    }),
    16,
  ),
})
export type RecordedVerdict = typeof RecordedVerdict.Type

export const VerdictRecord = Schema.Struct({
  v: Version,
  kind: Schema.Literal("verdict-record"),
  at_ms: Count,
  /** Without the document it lies beside the record, as `workflow.yaml`. */
  workflow: Schema.Struct({
    digest: Digest,
    document: Schema.optionalKey(bytesMax(limits.workflowBytes)),
  }),
  subject: RecordSubject,
  consulted: list(Consulted, 8),
  /** A packed `RecordedVerdict`. */
  verdict: bytesMax(limits.verdictBytes),
})
export type VerdictRecord = typeof VerdictRecord.Type

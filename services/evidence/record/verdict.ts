/** The canonical form of a verdict: the same verdict, the same bytes, whoever packs it. */

import { limits } from "../../../schemas/limits.ts"
import { type Check, Checks } from "../../../schemas/messages/common.ts"
import { RecordedVerdict } from "../../../schemas/messages/record.ts"
import { decode, encode } from "../../common/codec/index.ts"
import { crypto } from "../../common/crypto/index.ts"
import type { CollateralUse } from "../collateral/collateral.ts"
import { RecordError } from "./error.ts"

const orderedChecks = (checks: readonly Check[]): Checks =>
  checks.map(({ name, result, found, wanted }) => ({ name, result, found, wanted }))

/** What checks want whose question nobody remembers: they neither passed nor failed. */
export const nobodyAsked = "nobody asked"

/** Fields in the order of the schema, whatever order they come in. */
const ordered = (verdict: RecordedVerdict): RecordedVerdict => {
  const { v, code, workflow, stage, node, at_ms, platform, assurance, checks, collateral } = verdict
  return {
    v,
    verdict: verdict.verdict,
    ...(code !== undefined && { code }),
    workflow,
    stage,
    ...(node !== undefined && { node }),
    at_ms,
    ...(platform !== undefined && { platform }),
    ...(assurance !== undefined && { assurance }),
    checks: orderedChecks(checks),
    collateral: collateral.map(({ kind, sha256, issued_ms, expires_ms, number }) => ({
      kind,
      sha256,
      issued_ms,
      expires_ms,
      ...(number !== undefined && { number }),
    })),
  }
}

/** @returns at most `limits.verdictBytes` */
export const packVerdict = (verdict: RecordedVerdict): Uint8Array => encode(RecordedVerdict, ordered(verdict))

/** @throws RecordError VERDICT_MALFORMED, also for bytes that aren't the canonical form of what they say */
export const unpackVerdict = (bytes: Uint8Array): RecordedVerdict => {
  const decoded = decode(RecordedVerdict, bytes, { subject: "verdict", bytesMax: limits.verdictBytes })
  if (!decoded.ok) throw new RecordError("VERDICT_MALFORMED", "verdict", decoded.error.message)
  if (Buffer.compare(packVerdict(decoded.value), bytes) !== 0)
    throw new RecordError("VERDICT_MALFORMED", "verdict", "isn't packed as verdicts are")
  return decoded.value
}

/** What signed results call `appraisal`: SHA-256 of the packed list of checks. */
export const appraisalDigest = (checks: readonly Check[]): Uint8Array =>
  crypto.sha256(encode(Checks, orderedChecks(checks)))

export const recordedUses = (uses: readonly CollateralUse[]): RecordedVerdict["collateral"] =>
  uses.map(({ kind, sha256, issued, expires, evaluationDataNumber }) => ({
    kind,
    sha256: Uint8Array.from(Buffer.from(sha256, "hex")),
    issued_ms: issued.getTime(),
    expires_ms: expires.getTime(),
    ...(evaluationDataNumber !== undefined && { number: evaluationDataNumber }),
  }))

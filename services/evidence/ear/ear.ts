/** An EAR's claims from a verdict. An export for relying parties elsewhere: nothing of this project takes one in. */
import { EAR_PROFILE, type Ear, type EarAppraisal } from "../../../schemas/ear.ts"
import type { RecordedVerdict } from "../../../schemas/messages/record.ts"
import { appraisalDigest, nobodyAsked, RecordError } from "../record/index.ts"
import { toHex } from "../text.ts"
import { statusOf, vectorOf } from "./vector.ts"

export interface EarOrder {
  readonly verdict: RecordedVerdict
  /** What the Attester said of itself, and its evidence binds. Left out of a refusal: nothing of it is proven. */
  readonly attester: EarAppraisal["ear_attester_claims"]["vouchsafe"]
  /** The exporter's version. */
  readonly build: string
  readonly now: Date
  /** For how long the token counts, in seconds from the appraisal: an old verdict gets no new life. */
  readonly validSeconds: number
}

const seconds = (ms: number): number => Math.floor(ms / 1_000)

/** The document and the stage of it, by digest: the policy that the verdict goes by. */
const policyId = ({ workflow, stage }: RecordedVerdict): string =>
  `ni:///sha-256;${Buffer.from(workflow).toString("base64url")}#${stage}`

/** Evidence that answers no question may be anybody's, from any time. The data plane alone may be unknown. */
const expectAsked = ({ checks }: RecordedVerdict): void => {
  const open = checks.find(({ name, wanted }) => wanted === nobodyAsked && name !== "dataplane")
  if (open !== undefined)
    throw new RecordError(
      "QUESTION_UNKNOWN",
      open.name,
      "nobody said what is wanted, so that it wasn't checked",
    )
}

/** @throws RecordError QUESTION_UNKNOWN, VERDICT_TOO_OLD */
export const earOf = ({ verdict, attester, build, now, validSeconds }: EarOrder): Ear => {
  const { checks, code, assurance, platform, at_ms } = verdict
  expectAsked(verdict)
  const iat = seconds(now.getTime())
  const exp = seconds(at_ms) + validSeconds
  if (exp <= iat)
    throw new RecordError(
      "VERDICT_TOO_OLD",
      "at_ms",
      `given at ${new Date(at_ms).toISOString()}: a token that counts for ${validSeconds} s has expired`,
    )
  const vector = vectorOf(verdict)
  const appraisal: EarAppraisal = {
    ear_status: statusOf(verdict, vector),
    ...(Object.keys(vector).length > 0 && { ear_trustworthiness_vector: vector }),
    ear_appraisal_policy_ids: [policyId(verdict)],
    ear_attester_claims: {
      vouchsafe: {
        ...(platform !== undefined && { platform }),
        ...(verdict.verdict === "accepted" && attester),
      },
    },
    ear_verifier_claims: {
      vouchsafe: {
        verdict: verdict.verdict,
        ...(code !== undefined && { code }),
        ...(assurance !== undefined && { assurance }),
        appraised_at: seconds(at_ms),
        appraisal: toHex(appraisalDigest(checks)),
        checks,
        collateral: verdict.collateral.map(({ kind, sha256, issued_ms, expires_ms, number }) => ({
          kind,
          sha256: toHex(sha256),
          issued_at: seconds(issued_ms),
          expires_at: seconds(expires_ms),
          ...(number !== undefined && { number }),
        })),
      },
    },
  }
  return {
    eat_profile: EAR_PROFILE,
    iat,
    exp,
    ear_verifier_id: { developer: "vouchsafe", build },
    submods: { [verdict.node ?? "machine"]: appraisal },
  }
}

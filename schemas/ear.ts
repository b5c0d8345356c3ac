/**
 * What an exported EAR holds (draft-ietf-rats-ear-04, JSON claims; trustworthiness vector of draft-ietf-rats-ar4si-09).
 * For relying parties elsewhere: nothing of this project takes one in.
 */
import { Schema } from "effect"
import { Count, list, Token, text } from "./fields.ts"
import { Check } from "./messages/common.ts"
import { Assurance, hex } from "./platforms.ts"

export const EAR_PROFILE = "tag:ietf.org,2026:rats/ear#04"

const Claim = Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: -128, maximum: 127 })))

/** Claims that aren't there are not made. */
export const TrustVector = Schema.Struct({
  "instance-identity": Claim,
  configuration: Claim,
  executables: Claim,
  "file-system": Claim,
  hardware: Claim,
  "runtime-opaque": Claim,
  "storage-opaque": Claim,
  "sourced-data": Claim,
})
export type TrustVector = typeof TrustVector.Type

export const EarStatus = Schema.Literals(["none", "affirming", "warning", "contraindicated"])
export type EarStatus = typeof EarStatus.Type

const Hex32 = Schema.optionalKey(hex(32))

/** Said by the Attester and bound by its evidence. Bytes in hex. */
const AttesterClaims = Schema.Struct({
  platform: Schema.optionalKey(text(64)),
  /** Which machine; see `Chip`. SNP: chip id, TDX: PPID, TPM: digest of the attestation key, Nitro: module id. */
  chip: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^(?:[0-9a-f]{2}){1,64}$/))),
  domain: Schema.optionalKey(Token),
  node: Schema.optionalKey(Token),
  session: Schema.optionalKey(hex(16)),
  boot: Schema.optionalKey(hex(16)),
  signing_key: Hex32,
  dh_key: Hex32,
  /** As in the signed result. */
  kem_key_digest: Hex32,
  dataplane: Schema.optionalKey(hex(48)),
})

/** Found by the Verifier. Times in seconds since 1970. */
const VerifierClaims = Schema.Struct({
  verdict: Schema.Literals(["accepted", "refused"]),
  code: Schema.optionalKey(text(64)),
  assurance: Schema.optionalKey(Assurance),
  appraised_at: Count,
  /** SHA-256 of the packed checks: `appraisal` of the signed result. */
  appraisal: hex(32),
  checks: list(Check, 96),
  collateral: list(
    Schema.Struct({
      kind: text(32),
      sha256: hex(32),
      issued_at: Count,
      expires_at: Count,
      number: Schema.optionalKey(Count),
    }),
    16,
  ),
})

export const EarAppraisal = Schema.Struct({
  ear_status: EarStatus,
  ear_trustworthiness_vector: Schema.optionalKey(TrustVector),
  ear_appraisal_policy_ids: list(text(256), 4),
  ear_attester_claims: Schema.Struct({ vouchsafe: AttesterClaims }),
  ear_verifier_claims: Schema.Struct({ vouchsafe: VerifierClaims }),
})
export type EarAppraisal = typeof EarAppraisal.Type

export const Ear = Schema.Struct({
  eat_profile: Schema.Literal(EAR_PROFILE),
  iat: Count,
  exp: Count,
  ear_verifier_id: Schema.Struct({ developer: text(64), build: text(64) }),
  /** By the node's id, or `machine` for evidence that is no node's. */
  submods: Schema.Record(Token, EarAppraisal),
})
export type Ear = typeof Ear.Type

/** Steps 1 to 4 of MAKE: hello, challenge, Evidence, result. See `services/make/SPEC.md`. */
import { Schema } from "effect"
import {
  BootId,
  bytes,
  bytesMax,
  ChipId,
  Count,
  DhKey,
  Digest,
  KemKey,
  list,
  Measurement,
  Nonce,
  Session,
  SigningKey,
  Token,
  text,
  U32,
  U64,
  Version,
} from "../fields.ts"
import { limits } from "../limits.ts"
import { Assurance, Evidence, Refusal, Signed } from "./common.ts"
import { SignedResult } from "./result.ts"

/** Of a node's TPM, each a TPMT_PUBLIC: its endorsement key, and the attestation key that is said to live beside it. */
export const Endorsement = Schema.Struct({ ek: bytesMax(1_024), ak: bytesMax(1_024) })
export type Endorsement = typeof Endorsement.Type

/** What only the TPM with that endorsement key can open, if that attestation key is loaded in it. */
export const Credential = Schema.Struct({
  /** TPM2B_ID_OBJECT. */
  blob: bytesMax(256),
  /** TPM2B_ENCRYPTED_SECRET. */
  secret: bytesMax(1_024),
})
export type Credential = typeof Credential.Type

/**
 * A node asks to be attested; `nonce` must come back inside the control plane's Evidence. `term` is the highest that it has
 * followed, 0 when it has followed none: a hint for a releaser that would otherwise stay below it.
 */
export const Hello = Schema.Struct({
  v: Version,
  domain: Token,
  node: Token,
  session: Session,
  nonce: Nonce,
  term: U64,
  /** Where an endorsement key is to be proven. */
  endorsement: Schema.optionalKey(Endorsement),
})
export type Hello = typeof Hello.Type

/** What the control plane's Evidence binds (its report data is computed from exactly these). */
export const ControlClaims = Schema.Struct({
  domain: Token,
  operators: Digest,
  roots: Digest,
  workflow: Digest,
  verifier_key: SigningKey,
  /** Of other guests, ascending: those that this guest's releaser has appraised itself, and whose results it believes. */
  verifiers: list(SigningKey, limits.otherVerifiers),
  releaser_key: SigningKey,
  /** 0 while the releaser only stands by. */
  term: U64,
  merkle_root: Digest,
  leaves: Count.check(Schema.isBetween({ minimum: 1, maximum: limits.batchLeaves })),
})
export type ControlClaims = typeof ControlClaims.Type

/** A control-plane attester's answer: Evidence over the Merkle root of all nonces that asked. */
export const ControlEvidence = Schema.Struct({
  v: Version,
  kind: Schema.Literal("control-evidence"),
  control: Token,
  claims: ControlClaims,
  evidence: Evidence,
})
export type ControlEvidence = typeof ControlEvidence.Type

/** Asks a control-plane attester to quote a Merkle root. Nothing else of the request enters the report. */
export const AttestControl = Schema.Struct({
  v: Version,
  kind: Schema.Literal("attest-control"),
  merkle_root: Digest,
  leaves: Count.check(Schema.isBetween({ minimum: 1, maximum: limits.batchLeaves })),
})
export type AttestControl = typeof AttestControl.Type

/** The body that a verifier signs to challenge one node once. */
export const Challenge = Schema.Struct({
  v: Version,
  domain: Token,
  node: Token,
  session: Session,
  verifier: Token,
  verifier_nonce: Nonce,
  beacon: Nonce,
  workflow: Digest,
  /** For the endorsement of the hello. */
  credential: Schema.optionalKey(Credential),
})
export type Challenge = typeof Challenge.Type

/**
 * The control plane shows itself: its Evidence, the way from the asker's nonce to the quoted root, and the challenge that
 * the verifier which that Evidence vouches for has signed.
 */
export const Offer = Schema.Struct({
  v: Version,
  kind: Schema.Literal("offer"),
  control: ControlEvidence,
  index: Count,
  path: list(Digest, 12),
  challenge: Signed,
})
export type Offer = typeof Offer.Type

export const HelloReply = Schema.Union([Offer, Refusal])
export type HelloReply = typeof HelloReply.Type

/**
 * Asks a node's attester for Evidence of what its loader has left for it in the guest. Nothing of the request enters the
 * report: all of it must be what lies there.
 */
export const AttestNode = Schema.Struct({
  v: Version,
  kind: Schema.Literal("attest-node"),
  session: Session,
  /** The control digest. */
  control: Digest,
  /** V. */
  challenge: Digest,
})
export type AttestNode = typeof AttestNode.Type

export const AttestRequest = Schema.Union([AttestControl, AttestNode])
export type AttestRequest = typeof AttestRequest.Type

/** What a node's Evidence binds; its report data is computed from exactly these and the challenge. */
export const NodeClaims = Schema.Struct({
  suites: list(text(64), 8),
  domain: Token,
  workflow: Digest,
  control: Digest,
  nonce: Nonce,
  challenge: Digest,
  node: Token,
  session: Session,
  signing_key: SigningKey,
  dh_key: DhKey,
  kem_key: KemKey,
  dataplane: Measurement,
  boot: BootId,
})
export type NodeClaims = typeof NodeClaims.Type

export const NodeEvidence = Schema.Struct({
  v: Version,
  kind: Schema.Literal("node-evidence"),
  verifier_nonce: Nonce,
  beacon: Nonce,
  claims: NodeClaims,
  evidence: Evidence,
  /** That the challenge's credential was opened: see `services/make/activation.ts`. */
  activation: Schema.optionalKey(Digest),
})
export type NodeEvidence = typeof NodeEvidence.Type

export const AttestReply = Schema.Union([ControlEvidence, NodeEvidence, Refusal])
export type AttestReply = typeof AttestReply.Type

/** Of a TPM's quote: `clock_ms` counts on over resets; see `services/evidence/tpm/structures.ts` for `safe`. */
export const TpmRun = Schema.Struct({
  resets: U32,
  restarts: U32,
  clock_ms: U64,
  safe: Schema.Boolean,
})
export type TpmRun = typeof TpmRun.Type

/** What hardware says of this launch of the machine; empty where it says nothing (TDX, Nitro). */
export const Launch = Schema.Struct({
  /** SNP: REPORT_ID, and that of the migration agent (all bits set without one). */
  report_id: Schema.optionalKey(bytes(32)),
  report_id_ma: Schema.optionalKey(bytes(32)),
  tpm: Schema.optionalKey(TpmRun),
})
export type Launch = typeof Launch.Type

/** The body of a signed Attestation Result: only acceptances are signed, a refusal is an answer and an event. */
export const AttestationResult = Schema.Struct({
  v: Version,
  domain: Token,
  workflow: Digest,
  node: Token,
  session: Session,
  stage: Token,
  assurance: Assurance,
  platform: text(64),
  chip: ChipId,
  boot: BootId,
  launch: Launch,
  signing_key: SigningKey,
  dh_key: DhKey,
  /** See `kemKeyDigest` in `services/make/result.ts`: a peer has no use for the key itself. */
  kem_key_digest: Digest,
  dataplane: Measurement,
  /** Of the values that the stage lists, those that the Evidence has shown: who among the vouched falls with one of them. */
  values: list(bytesMax(64), limits.shownValues),
  verifier: Token,
  control: Token,
  verifier_nonce: Nonce,
  beacon: Nonce,
  /** The verifier's clock, in ms since the epoch: for readers of the record, never for a decision. */
  issued_ms: Count,
  /** SHA-256 of the packed list of checks, which the event of the acceptance carries: results stay small. */
  appraisal: Digest,
  /** Of the packed NodeEvidence, see `evidenceDigest` in `services/make/proof.ts`: where peers appraise it themselves. */
  evidence: Schema.optionalKey(Digest),
})
export type AttestationResult = typeof AttestationResult.Type

export const EvidenceReply = Schema.Union([
  Schema.Struct({ v: Version, kind: Schema.Literal("result"), result: SignedResult }),
  Refusal,
])
export type EvidenceReply = typeof EvidenceReply.Type

/**
 * A node's own appraisal of a peer: the same core as the verifiers', over the peer's raw Evidence and the document that this
 * node has verified. What verifiers say of the peer counts for nothing that the Evidence doesn't show.
 */
import { limits } from "../../schemas/limits.ts"
import { AttestationResult, Launch, type NodeEvidence } from "../../schemas/messages/attestation.ts"
import { encode } from "../common/codec/index.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { CollateralLookup, EvidenceCaches } from "../evidence/appraisal/verify-pieces.ts"
import { challengeValue } from "../make/challenge.ts"
import { MakeError } from "../make/errors.ts"
import type { LaunchBook } from "../make/launch.ts"
import type { OwnNonces } from "../make/own-nonces.ts"
import { openControlProof, openNodeProof } from "../make/proof.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { appraiseNode } from "./appraise-node.ts"
import { decodeBody, refuse } from "./refusals.ts"

/** What a release says of the peer. */
export interface WantedPeer {
  readonly node: string
  /** X25519: keys are to be derived with it. */
  readonly dhKey: Uint8Array
  /** Digest of its result: keys rest on it. */
  readonly result: Uint8Array
}

export interface PeerAppraiser {
  readonly crypto: Crypto
  readonly workflow: VerifiedWorkflow
  readonly caches: EvidenceCaches
  /** What vendors say, of that moment. */
  readonly collateral?: ((now: Date) => CollateralLookup) | undefined
  readonly nonces: OwnNonces
  /** What peers' hardware has said of their boots, to this node. */
  readonly launches: LaunchBook
}

/** A peer's proof as far as it can be read without the control plane's. */
export interface ReadProof {
  readonly wanted: WantedPeer
  readonly claimed: AttestationResult
  readonly evidence: NodeEvidence
  /** The control digest that the Evidence binds: under it stands the other half. */
  readonly control: Uint8Array
}

/**
 * @param bytes what stands under the digest of the peer's result
 * @throws MakeError as `openNodeProof`
 */
export const readPeerProof = (crypto: Crypto, wanted: WantedPeer, bytes: Uint8Array): ReadProof => {
  const decodeResult = (body: Uint8Array) => decodeBody(AttestationResult, body, "proof.body")
  const { body, evidence } = openNodeProof(
    crypto,
    bytes,
    wanted.result,
    (bytes) => decodeResult(bytes).evidence,
  )
  return { wanted, claimed: decodeResult(body), evidence, control: evidence.claims.control }
}

/** What of a result decides anything, and what the Evidence must show in its place. */
const deciding = [
  "domain",
  "workflow",
  "node",
  "session",
  "stage",
  "chip",
  "boot",
  "signing_key",
  "dh_key",
  "kem_key_digest",
  "dataplane",
] as const

const bootMs = (ns: bigint): number => Number(ns) / 1e6

const same = (crypto: Crypto, a: string | Uint8Array, b: string | Uint8Array): boolean =>
  typeof a === "string" || typeof b === "string" ? a === b : crypto.equalConstantTime(a, b)

/**
 * Cheap things first: freshness, then the hardware's signatures.
 * @param leaves what `openControlProof` gives for the proof's control digest
 * @param nowBootNs this node's boot clock
 * @returns until when the Evidence counts, ns of the boot clock
 * @throws MakeError STALE without a nonce of this node that is young enough, NOT_VOUCHED where result and Evidence differ,
 *   CLONED, ROLLED_BACK or STALE where the peer's hardware contradicts what it said in the same boot; Refused with the appraisal's own code where the Evidence doesn't show what the workflow demands
 */
export const appraisePeer = (
  { crypto, workflow, caches, collateral, nonces, launches }: PeerAppraiser,
  { wanted, claimed, evidence }: ReadProof,
  leaves: ReadonlyArray<Uint8Array>,
  now: Date,
  nowBootNs: bigint,
): bigint => {
  const { claims } = evidence
  if (!crypto.equalConstantTime(claimed.dh_key, wanted.dhKey) || claimed.node !== wanted.node)
    throw new MakeError("NOT_VOUCHED", "proof.body", "is about another node or key than the release")
  const until = nonces.until(leaves, nowBootNs)
  if (until === undefined)
    throw new MakeError("STALE", "control.leaves", "have no nonce of this node that is young enough")
  const verdict = appraiseNode(
    {
      crypto,
      instance: claimed.verifier,
      control: claimed.control,
      caches,
      ...(collateral && { collateral }),
    },
    evidence,
    {
      nodeId: wanted.node,
      session: claimed.session,
      verifierNonce: evidence.verifier_nonce,
      beacon: evidence.beacon,
      value: challengeValue(crypto, evidence.verifier_nonce, evidence.beacon),
      // The peer's own nonce is for its own use; that of this node stands under the root.
      nonce: claims.nonce,
      controlDigest: claims.control,
      workflow,
    },
    now,
  )
  if (!verdict.accepted) {
    const { code, reason } = verdict
    throw refuse(code, `proof.${reason.name}`, `found ${reason.found}, wanted ${reason.wanted}`)
  }
  const wrong = deciding.find((field) => !same(crypto, claimed[field], verdict.result[field]))
  if (wrong !== undefined)
    throw new MakeError("NOT_VOUCHED", `proof.body.${wrong}`, "is not what the Evidence shows")
  const { result } = verdict
  if (!crypto.equalConstantTime(encode(Launch, claimed.launch), encode(Launch, result.launch)))
    throw new MakeError("NOT_VOUCHED", "proof.body.launch", "is not what the Evidence shows")
  // No older than the nonce that it contains.
  launches.expect(result, bootMs(until) - limits.peerEvidenceMs)
  launches.know(result, bootMs(nowBootNs))
  return until
}

export { openControlProof }

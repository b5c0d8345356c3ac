/**
 * Proofs: what stands in the bucket so that a node can appraise a peer itself. Everything is under a digest that the reader
 * has from elsewhere, so that nobody in between can change a byte:
 *
 *   digest of the peer's result (in the release) -> the result's body -> digest of the peer's Evidence -> Evidence
 *   control digest (in the Evidence's report data) -> Evidence of the control plane -> Merkle root -> hashed leaves
 */
import type { ControlEvidence, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { NodeEvidence as NodeEvidenceSchema } from "../../schemas/messages/attestation.ts"
import { type ControlProof, type NodeProof, Proof } from "../../schemas/messages/peer.ts"
import { subjects } from "../../schemas/subjects.ts"
import { decode, encode } from "../common/codec/index.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { controlEvidenceDigest } from "./control-plane.ts"
import { MakeError } from "./errors.ts"
import { labels } from "./labels.ts"
import { rootOf } from "./merkle.ts"
import { resultDigest } from "./result.ts"
import { digest } from "./transcript.ts"

/** Of the packed NodeEvidence, 32 bytes: the field `evidence` of a result. */
export const evidenceDigest = (crypto: Crypto, packed: Uint8Array): Uint8Array =>
  digest(crypto, labels.evidenceDigest, packed)

/** The Evidence as it is stored, and its digest. */
export const packEvidence = (crypto: Crypto, evidence: NodeEvidence) => {
  const packed = encode(NodeEvidenceSchema, evidence)
  return { packed, digest: evidenceDigest(crypto, packed) }
}

export const nodeProof = (body: Uint8Array, packed: Uint8Array): NodeProof => ({
  v: 1,
  kind: "node",
  body,
  evidence: packed,
})

/** @param leaves hashed, in the order of the tree */
export const controlProof = (control: ControlEvidence, leaves: ReadonlyArray<Uint8Array>): ControlProof => ({
  v: 1,
  kind: "control",
  control,
  leaves: [...leaves],
})

const decodeProof = (bytes: Uint8Array, field: string): Proof => {
  const found = decode(Proof, bytes, { subject: field, bytesMax: subjects.proof.bytesMax })
  if (found.ok) return found.value
  const code = found.error.code === "TOO_LARGE" ? "LIMIT" : "MALFORMED"
  throw new MakeError(code, field, `${found.error.field} ${found.error.message}`.trim())
}

export interface OpenedProof {
  readonly body: Uint8Array
  readonly evidence: NodeEvidence
}

/**
 * @param bytes what was stored under the digest
 * @param result digest of the peer's result
 * @param named gives the digest of the Evidence that a result's body names, if it names one
 * @throws MakeError LIMIT, MALFORMED; NOT_AUTHENTIC for other bytes than those of the digest; NOT_VOUCHED for a result
 *   that names no Evidence
 */
export const openNodeProof = (
  crypto: Crypto,
  bytes: Uint8Array,
  result: Uint8Array,
  named: (body: Uint8Array) => Uint8Array | undefined,
): OpenedProof => {
  const proof = decodeProof(bytes, "proof")
  if (proof.kind !== "node") throw new MakeError("NOT_AUTHENTIC", "proof", "is of another kind")
  if (!crypto.equalConstantTime(resultDigest(crypto, proof.body), result))
    throw new MakeError("NOT_AUTHENTIC", "proof.body", "is not the result that the release names")
  const wanted = named(proof.body)
  if (wanted === undefined) throw new MakeError("NOT_VOUCHED", "proof.body", "names no Evidence")
  if (!crypto.equalConstantTime(evidenceDigest(crypto, proof.evidence), wanted))
    throw new MakeError("NOT_AUTHENTIC", "proof.evidence", "is not what the result names")
  const evidence = decode(NodeEvidenceSchema, proof.evidence, { subject: "proof.evidence" })
  if (!evidence.ok)
    throw new MakeError("MALFORMED", `proof.evidence.${evidence.error.field}`, evidence.error.message)
  return { body: proof.body, evidence: evidence.value }
}

/**
 * @param control the control digest that a node's Evidence binds
 * @returns the hashed leaves under the root that the control plane's Evidence binds
 * @throws MakeError LIMIT, MALFORMED; NOT_AUTHENTIC for other bytes than those of the digest, other leaves than those of the root
 */
export const openControlProof = (
  crypto: Crypto,
  bytes: Uint8Array,
  control: Uint8Array,
): ReadonlyArray<Uint8Array> => {
  const proof = decodeProof(bytes, "control")
  if (proof.kind !== "control") throw new MakeError("NOT_AUTHENTIC", "control", "is of another kind")
  if (!crypto.equalConstantTime(controlEvidenceDigest(crypto, proof.control), control))
    throw new MakeError("NOT_AUTHENTIC", "control", "is not the one that the node's Evidence binds")
  const { merkle_root: root, leaves } = proof.control.claims
  if (proof.leaves.length !== leaves || !crypto.equalConstantTime(rootOf(crypto, proof.leaves), root))
    throw new MakeError("NOT_AUTHENTIC", "control.leaves", "are not those under the root")
  return proof.leaves
}

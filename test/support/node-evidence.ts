/** A verifier's challenge to a node, and what the node's attester makes of it: claims, the report data that binds them, Evidence. */
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { Piece } from "../../schemas/messages/common.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import type { Outstanding } from "../../services/guest/appraise-node.ts"
import { challengeValue } from "../../services/make/challenge.ts"
import { nodeReportData } from "../../services/make/transcript.ts"
import { dataplane } from "../unit/evidence-support.ts"

export type NodeClaims = NodeEvidence["claims"]

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)

/** To n1, unless `change` says another. The challenge's value is that of the nonces it has in the end. */
export const askedOf = (
  workflow: Outstanding["workflow"],
  change: Partial<Omit<Outstanding, "workflow" | "value">> = {},
): Outstanding => {
  const asked = {
    nodeId: "n1",
    session: filled(16, 3),
    verifierNonce: filled(32, 1),
    beacon: filled(32, 2),
    nonce: filled(32, 5),
    controlDigest: filled(32, 6),
    ...change,
  }
  return { ...asked, workflow, value: challengeValue(crypto, asked.verifierNonce, asked.beacon) }
}

/** What an honest node claims that was asked this, with new keys. */
export const claimsFor = (asked: Outstanding, change: Partial<NodeClaims> = {}): NodeClaims => ({
  suites: ["chacha20-poly1305"],
  domain: "lab",
  workflow: asked.workflow.digest,
  control: asked.controlDigest,
  nonce: asked.nonce,
  challenge: asked.value,
  node: asked.nodeId,
  session: asked.session,
  signing_key: crypto.ed25519.generate().publicKey,
  dh_key: crypto.x25519.generate().publicKey,
  kem_key: new Uint8Array(0),
  dataplane: Uint8Array.from(Buffer.from(dataplane, "hex")),
  boot: filled(16, 7),
  ...change,
})

/** What the hardware has to vouch for, so that it vouches for these claims. */
export const reportDataOf = (claims: NodeClaims): Uint8Array =>
  nodeReportData(crypto, {
    role: "node",
    suites: claims.suites,
    domain: claims.domain,
    workflowDigest: claims.workflow,
    controlDigest: claims.control,
    nonce: claims.nonce,
    challenge: claims.challenge,
    nodeId: claims.node,
    session: claims.session,
    signingKey: claims.signing_key,
    dhKey: claims.dh_key,
    kemKey: claims.kem_key,
    dataplane: claims.dataplane,
    bootId: claims.boot,
  })

/**
 * @param pieces what the hardware says that is asked to vouch for this report data
 * @param quoted what it is made to vouch for, when that is something else than what is claimed
 */
export const answerTo = (
  asked: Outstanding,
  pieces: (reportData: Uint8Array) => ReadonlyArray<Piece>,
  claims: NodeClaims = claimsFor(asked),
  quoted: NodeClaims = claims,
): NodeEvidence => ({
  v: 1,
  kind: "node-evidence",
  verifier_nonce: asked.verifierNonce,
  beacon: asked.beacon,
  claims,
  evidence: { pieces: [...pieces(reportDataOf(quoted))] },
})

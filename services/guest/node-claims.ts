/** What a node's hardware has to sign for its claims: the same for the attester that asks for it and for who appraises it. */
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { nodeReportData } from "../make/transcript.ts"

/** 64 bytes; see `services/make/SPEC.md`, step 3. */
export const reportDataFor = (crypto: Crypto, claims: NodeEvidence["claims"]): Uint8Array =>
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

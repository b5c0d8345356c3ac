/**
 * One session of a node: fresh keys, attested once. The signing, DH and KEM keys live in memory only and end with the
 * session; the public halves go to the attester through the guest's own directory, once a control plane is believed.
 */
import type { AttestNode, Endorsement } from "../../schemas/messages/attestation.ts"
import { forgetAcceptedNode, readEndorsement, writeAcceptedNode } from "../common/config/guest-keys.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import type { AcceptedControl } from "../make/control-plane.ts"
import type { AcceptedOffer } from "../make/offer.ts"
import type { KnownBatches, VouchedResult } from "../make/result.ts"
import { offeredSuites } from "../make/suites.ts"
import { XWING_SEED_BYTES, xwingFromSeed } from "../make/xwing.ts"

export interface Session {
  readonly node: string
  readonly id: Uint8Array
  /** The guest's own directory. */
  readonly runDirectory: string
  /** N: must come back in the control plane's Evidence. */
  readonly nonce: Uint8Array
  readonly signing: SecretKey
  /** X25519: for the edges, and half of what releases are sealed to. */
  readonly dh: SecretKey
  /** ML-KEM-768: the other half. */
  readonly kem: SecretKey
  /** Of the own attester's TPM, where its endorsement key is to be proven. */
  readonly endorsement?: Endorsement | undefined
}

/** A session that a verifier has vouched for, and the control plane that this node has believed for it. */
export interface Attested {
  readonly session: Session
  readonly control: AcceptedControl
  readonly result: VouchedResult
  /** Verifiers' signatures that were verified in this session: each stands over the results of many nodes. */
  readonly batches: KnownBatches
}

/** What was accepted for the session before is attested no more from here on. */
export const beginSession = (crypto: Crypto, node: string, runDirectory: string): Session => {
  forgetAcceptedNode(runDirectory)
  const seed = crypto.randomBytes(XWING_SEED_BYTES)
  const { dh, kem } = xwingFromSeed(crypto, seed)
  seed.fill(0)
  return {
    node,
    runDirectory,
    id: crypto.randomBytes(16),
    nonce: crypto.randomBytes(32),
    signing: crypto.ed25519.generate(),
    dh,
    kem,
    endorsement: readEndorsement(runDirectory),
  }
}

/**
 * Leaves for the own attester what is to be attested, and gives the request that names it: of the bus's bytes, nothing but
 * what was checked here gets there.
 * @param workflow digest of the document under which the offer was accepted
 */
export const leaveForAttester = (
  session: Session,
  workflow: Uint8Array,
  { control, challenge, value }: AcceptedOffer,
): AttestNode => {
  const { node, id, nonce, signing, dh, kem } = session
  writeAcceptedNode(session.runDirectory, {
    node,
    session: id,
    nonce,
    signingKey: signing.publicKey,
    dhKey: dh.publicKey,
    kemKey: kem.publicKey,
    suites: offeredSuites,
    workflow,
    control: control.digest,
    verifierNonce: challenge.verifier_nonce,
    beacon: challenge.beacon,
    credential: challenge.credential,
  })
  return { v: 1, kind: "attest-node", session: id, control: control.digest, challenge: value }
}

export const endSession = ({ signing, dh, kem }: Session): void => {
  for (const key of [signing, dh, kem]) key.dispose()
}

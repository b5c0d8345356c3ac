/**
 * One session of a node: fresh keys, attested once. The signing, DH and KEM keys live in memory only and end with the
 * session; the public halves go to the attester through the guest's own directory.
 */
import type { Endorsement } from "../../schemas/messages/attestation.ts"
import { type NodeKeys, readEndorsement, writeNodeKeys } from "../common/config/guest-keys.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import type { AcceptedControl } from "../make/control-plane.ts"
import type { VouchedResult } from "../make/result.ts"
import { offeredSuites } from "../make/suites.ts"
import { XWING_SEED_BYTES, xwingFromSeed } from "../make/xwing.ts"

export interface Session {
  readonly node: string
  readonly id: Uint8Array
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
}

export const beginSession = (crypto: Crypto, node: string, runDirectory: string): Session => {
  const seed = crypto.randomBytes(XWING_SEED_BYTES)
  const { dh, kem } = xwingFromSeed(crypto, seed)
  seed.fill(0)
  const session: Session = {
    node,
    id: crypto.randomBytes(16),
    nonce: crypto.randomBytes(32),
    signing: crypto.ed25519.generate(),
    dh,
    kem,
    endorsement: readEndorsement(runDirectory),
  }
  writeNodeKeys(runDirectory, publicKeysOf(session))
  return session
}

const publicKeysOf = ({ node, id, nonce, signing, dh, kem }: Session): NodeKeys => ({
  node,
  session: id,
  nonce,
  signingKey: signing.publicKey,
  dhKey: dh.publicKey,
  kemKey: kem.publicKey,
  suites: offeredSuites,
})

export const endSession = ({ signing, dh, kem }: Session): void => {
  for (const key of [signing, dh, kem]) key.dispose()
}

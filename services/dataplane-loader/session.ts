/**
 * One session of a node: fresh keys, attested once. The signing, DH and (later) KEM keys live in memory only and end with
 * the session; the public halves go to the attester through the guest's own directory.
 */
import { type NodeKeys, writeNodeKeys } from "../common/config/guest-keys.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import type { AcceptedControl } from "../make/control-plane.ts"
import type { VouchedResult } from "../make/result.ts"
import { defaultSuite } from "../make/suites.ts"

export interface Session {
  readonly node: string
  readonly id: Uint8Array
  /** N: must come back in the control plane's Evidence. */
  readonly nonce: Uint8Array
  readonly signing: SecretKey
  readonly dh: SecretKey
}

/** A session that a verifier has vouched for, and the control plane that this node has believed for it. */
export interface Attested {
  readonly session: Session
  readonly control: AcceptedControl
  readonly result: VouchedResult
}

export const beginSession = (crypto: Crypto, node: string, runDirectory: string): Session => {
  const session: Session = {
    node,
    id: crypto.randomBytes(16),
    nonce: crypto.randomBytes(32),
    signing: crypto.ed25519.generate(),
    dh: crypto.x25519.generate(),
  }
  writeNodeKeys(runDirectory, publicKeysOf(session))
  return session
}

const publicKeysOf = ({ node, id, nonce, signing, dh }: Session): NodeKeys => ({
  node,
  session: id,
  nonce,
  signingKey: signing.publicKey,
  dhKey: dh.publicKey,
  kemKey: new Uint8Array(0),
  suites: [defaultSuite],
})

export const endSession = ({ signing, dh }: Session): void => {
  signing.dispose()
  dh.dispose()
}

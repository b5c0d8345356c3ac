/**
 * Signed bytes. A signature covers a label and the body exactly as it travels; the body is looked into only after the
 * signature holds, so a decoder never sees what nobody vouches for.
 */
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { MakeError } from "./errors.ts"
import type { SignatureLabel } from "./labels.ts"
import { encodeFields } from "./transcript.ts"

export interface Signed {
  readonly v: 1
  /** Ed25519 public key of the signer, 32 bytes. */
  readonly key: Uint8Array
  readonly body: Uint8Array
  /** 64 bytes. */
  readonly signature: Uint8Array
}

/** Ed25519 over (label, body). */
export const sign = (crypto: Crypto, label: SignatureLabel, key: SecretKey, body: Uint8Array): Signed => ({
  v: 1,
  key: key.publicKey,
  body,
  signature: crypto.ed25519.sign(encodeFields(label, body), key),
})

/**
 * @param trusted public keys that may have signed this; which key that must be is for the caller to know, never for the
 *   message to say
 * @returns the body
 * @throws MakeError NOT_AUTHENTIC for another signer or a wrong signature
 */
export const verify = (
  crypto: Crypto,
  label: SignatureLabel,
  trusted: ReadonlyArray<Uint8Array>,
  signed: Signed,
): Uint8Array => {
  verifyBytes(crypto, trusted, signed.key, signed.signature, encodeFields(label, signed.body))
  return signed.body
}

/**
 * @param bytes begin with a label that only this use has
 * @throws MakeError NOT_AUTHENTIC for another signer or a wrong signature
 */
export const verifyBytes = (
  crypto: Crypto,
  trusted: ReadonlyArray<Uint8Array>,
  signer: Uint8Array,
  signature: Uint8Array,
  bytes: Uint8Array,
): void => {
  const key = trusted.find((candidate) => crypto.equalConstantTime(candidate, signer))
  if (key === undefined) throw new MakeError("NOT_AUTHENTIC", "key", "is not one that may sign this")
  if (!crypto.ed25519.verify(signature, bytes, key))
    throw new MakeError("NOT_AUTHENTIC", "signature", "does not verify")
}

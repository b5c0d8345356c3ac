/**
 * Credential activation (TPM 2.0 Library, part 1, chapter 24) inside MAKE's own messages. The hello names an endorsement
 * key and an attestation key; the challenge carries a secret that only a TPM with both can open; the Evidence proves that
 * it was opened, for this very report data. So a node is pinned to a key that its TPM never loses and never signs with.
 */
import type { Crypto } from "../common/crypto/port.ts"
import { labels } from "./labels.ts"
import { encodeFields } from "./transcript.ts"

/** What the verifier remembers of a credential until its challenge is used up. */
export interface AskedActivation {
  /** 32 bytes, of this challenge alone. */
  readonly secret: Uint8Array
  /** SHA-256 of the endorsement key's SubjectPublicKeyInfo. */
  readonly ek: Uint8Array
  /** TPM name of the attestation key. */
  readonly akName: Uint8Array
}

/**
 * @param secret 32 bytes, what the TPM gave back
 * @param reportData 64 bytes, which binds challenge, node, session and keys
 * @returns 32 bytes
 */
export const activationProof = (crypto: Crypto, secret: Uint8Array, reportData: Uint8Array): Uint8Array =>
  crypto.hmacSha256(secret, encodeFields(labels.activation, reportData))

/**
 * X-Wing (draft-connolly-cfrg-xwing-kem), KEM 0x647A of HPKE: ML-KEM-768 and X25519 side by side. Whoever breaks one of
 * the two learns nothing. Public key = ML-KEM key (1,184 bytes) || X25519 key (32); enc = ML-KEM ciphertext (1,088) ||
 * ephemeral X25519 key (32).
 */
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { expectBytes } from "./errors.ts"
import { concat, type Kem } from "./hpke.ts"

export const KEM_XWING = 0x647a
export const XWING_SEED_BYTES = 32

const MLKEM_KEY_BYTES = 1_184
const MLKEM_CIPHERTEXT_BYTES = 1_088
const X25519_BYTES = 32

/** \.//^\ */
const LABEL = Uint8Array.of(0x5c, 0x2e, 0x2f, 0x2f, 0x5e, 0x5c)

/** A decapsulation key, expanded. */
export interface XWingKey {
  /** ML-KEM-768. */
  readonly kem: SecretKey
  /** X25519. */
  readonly dh: SecretKey
}

/** @param seed 32 random bytes; the caller zeroes them */
export const xwingFromSeed = (crypto: Crypto, seed: Uint8Array): XWingKey => {
  expectBytes("seed", seed, XWING_SEED_BYTES)
  const expanded = crypto.shake256(seed, 96)
  try {
    return {
      kem: crypto.mlkem768.fromSeed(expanded.subarray(0, 64)),
      dh: crypto.x25519.fromSecret(expanded.subarray(64)),
    }
  } finally {
    expanded.fill(0)
  }
}

/** @returns 1,216 bytes, when the two have the sizes that they must have */
export const xwingPublicKey = (kemKey: Uint8Array, dhKey: Uint8Array): Uint8Array => concat(kemKey, dhKey)

/** An all-zero X25519 secret, which the draft lets pass, is refused: no honest sender makes one. */
export const xwing = (crypto: Crypto): Kem<XWingKey> => {
  const combine = (
    kemSecret: Uint8Array,
    dhSecret: Uint8Array,
    dhCiphertext: Uint8Array,
    dhKey: Uint8Array,
  ): Uint8Array => {
    const input = concat(kemSecret, dhSecret, dhCiphertext, dhKey, LABEL)
    const secret = crypto.sha3_256(input)
    for (const spent of [input, dhSecret]) spent.fill(0)
    return secret
  }

  return {
    id: KEM_XWING,
    encBytes: MLKEM_CIPHERTEXT_BYTES + X25519_BYTES,
    publicKeyBytes: MLKEM_KEY_BYTES + X25519_BYTES,
    encapsulate: (publicKey) => {
      expectBytes("publicKey", publicKey, MLKEM_KEY_BYTES + X25519_BYTES)
      const dhKey = publicKey.subarray(MLKEM_KEY_BYTES)
      using ephemeral = crypto.x25519.generate()
      const made = crypto.mlkem768.encapsulate(publicKey.subarray(0, MLKEM_KEY_BYTES))
      try {
        const dhSecret = crypto.x25519.sharedSecret(ephemeral, dhKey)
        return {
          enc: concat(made.ciphertext, ephemeral.publicKey),
          sharedSecret: combine(made.sharedSecret, dhSecret, ephemeral.publicKey, dhKey),
        }
      } finally {
        made.sharedSecret.fill(0)
      }
    },
    decapsulate: (enc, { kem, dh }) => {
      expectBytes("enc", enc, MLKEM_CIPHERTEXT_BYTES + X25519_BYTES)
      const dhCiphertext = enc.subarray(MLKEM_CIPHERTEXT_BYTES)
      const kemSecret = crypto.mlkem768.decapsulate(enc.subarray(0, MLKEM_CIPHERTEXT_BYTES), kem)
      try {
        return combine(kemSecret, crypto.x25519.sharedSecret(dh, dhCiphertext), dhCiphertext, dh.publicKey)
      } finally {
        kemSecret.fill(0)
      }
    },
  }
}

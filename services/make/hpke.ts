/**
 * Hybrid Public Key Encryption, RFC 9180, base mode, single shot: HKDF-SHA-256 and ChaCha20-Poly1305 over any KEM behind
 * the `Kem` interface. Here DHKEM(X25519, HKDF-SHA256); `xwing.ts` has X-Wing.
 */
import { type Crypto, CryptoError } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { expectBytes, MakeError } from "./errors.ts"

export const KEM_X25519_HKDF_SHA256 = 0x0020
export const KDF_HKDF_SHA256 = 0x0001
export const AEAD_CHACHA20_POLY1305 = 0x0003

const MODE_BASE = 0x00
const KEY_BYTES = 32
const NONCE_BYTES = 12

/** A shared secret, and what opens it for the holder of the private key. */
export interface Encapsulated {
  readonly enc: Uint8Array
  readonly sharedSecret: Uint8Array
}

/** A key encapsulation mechanism, RFC 9180, section 4. `Private` is whatever opens for its public key. */
export interface Kem<Private> {
  readonly id: number
  readonly encBytes: number
  readonly publicKeyBytes: number
  readonly encapsulate: (publicKey: Uint8Array) => Encapsulated
  readonly decapsulate: (enc: Uint8Array, privateKey: Private) => Uint8Array
}

export interface Sealed {
  /** The KEM's ciphertext. */
  readonly enc: Uint8Array
  /** Ciphertext and tag. */
  readonly ciphertext: Uint8Array
}

const ascii = new TextEncoder()
const empty = new Uint8Array(0)

export const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** I2OSP(n, 2). */
const u16 = (n: number): Uint8Array => Uint8Array.of((n >> 8) & 0xff, n & 0xff)

const hpkeVersion = ascii.encode("HPKE-v1")

/** LabeledExtract and LabeledExpand, section 4, for one suite id. */
const labelled = (crypto: Crypto, suiteId: Uint8Array) => ({
  extract: (salt: Uint8Array, label: string, ikm: Uint8Array): Uint8Array => {
    const labelledIkm = concat(hpkeVersion, suiteId, ascii.encode(label), ikm)
    const prk = crypto.hkdfExtractSha256(labelledIkm, salt)
    labelledIkm.fill(0)
    return prk
  },
  expand: (prk: Uint8Array, label: string, info: Uint8Array, length: number): Uint8Array =>
    crypto.hkdfExpandSha256(
      prk,
      concat(u16(length), hpkeVersion, suiteId, ascii.encode(label), info),
      length,
    ),
})

/** DHKEM(X25519, HKDF-SHA256), section 4.1. A public key or enc that gives an all-zero secret is refused. */
export const dhkemX25519 = (crypto: Crypto): Kem<SecretKey> => {
  const { extract, expand } = labelled(crypto, concat(ascii.encode("KEM"), u16(KEM_X25519_HKDF_SHA256)))

  const sharedSecretOf = (dh: Uint8Array, enc: Uint8Array, publicKey: Uint8Array): Uint8Array => {
    const prk = extract(empty, "eae_prk", dh)
    dh.fill(0)
    const secret = expand(prk, "shared_secret", concat(enc, publicKey), 32)
    prk.fill(0)
    return secret
  }

  return {
    id: KEM_X25519_HKDF_SHA256,
    encBytes: 32,
    publicKeyBytes: 32,
    encapsulate: (publicKey) => {
      expectBytes("publicKey", publicKey, 32)
      using ephemeral = crypto.x25519.generate()
      const enc = ephemeral.publicKey
      return {
        enc,
        sharedSecret: sharedSecretOf(crypto.x25519.sharedSecret(ephemeral, publicKey), enc, publicKey),
      }
    },
    decapsulate: (enc, privateKey) => {
      expectBytes("enc", enc, 32)
      return sharedSecretOf(crypto.x25519.sharedSecret(privateKey, enc), enc, privateKey.publicKey)
    },
  }
}

export interface Schedule {
  readonly key: Uint8Array
  readonly baseNonce: Uint8Array
  readonly exporterSecret: Uint8Array
}

/** KeySchedule, section 5.1, in base mode (no psk). */
export const keySchedule = (
  crypto: Crypto,
  kemId: number,
  sharedSecret: Uint8Array,
  info: Uint8Array,
): Schedule => {
  const suiteId = concat(ascii.encode("HPKE"), u16(kemId), u16(KDF_HKDF_SHA256), u16(AEAD_CHACHA20_POLY1305))
  const { extract, expand } = labelled(crypto, suiteId)
  const context = concat(
    Uint8Array.of(MODE_BASE),
    extract(empty, "psk_id_hash", empty),
    extract(empty, "info_hash", info),
  )
  const secret = extract(sharedSecret, "secret", empty)
  const schedule = {
    key: expand(secret, "key", context, KEY_BYTES),
    baseNonce: expand(secret, "base_nonce", context, NONCE_BYTES),
    exporterSecret: expand(secret, "exp", context, 32),
  }
  secret.fill(0)
  return schedule
}

/**
 * SealBase, section 6.1: one message under a fresh encapsulation, so its nonce is never used again.
 * @throws MakeError KEY when the public key is none of this KEM, or gives no shared secret
 */
export const seal = <Private>(
  crypto: Crypto,
  kem: Kem<Private>,
  publicKey: Uint8Array,
  info: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Sealed => {
  const made = withUsableKey("publicKey", () => kem.encapsulate(publicKey))
  return sealUnder(crypto, kem.id, made, info, aad, plaintext)
}

/** The rest of SealBase. @param made for this message and no other; its secret is wiped */
export const sealUnder = (
  crypto: Crypto,
  kemId: number,
  { enc, sharedSecret }: Encapsulated,
  info: Uint8Array,
  aad: Uint8Array,
  plaintext: Uint8Array,
): Sealed => {
  const { key, baseNonce } = keySchedule(crypto, kemId, sharedSecret, info)
  sharedSecret.fill(0)
  const ciphertext = crypto.chacha20poly1305.seal(key, baseNonce, plaintext, aad)
  key.fill(0)
  return { enc, ciphertext }
}

/**
 * OpenBase, section 6.1.
 * @throws MakeError MALFORMED for wrong lengths; NOT_AUTHENTIC, always in the same words, whatever else is wrong
 */
export const open = <Private>(
  crypto: Crypto,
  kem: Kem<Private>,
  privateKey: Private,
  info: Uint8Array,
  aad: Uint8Array,
  sealed: Sealed,
): Uint8Array => {
  expectBytes("enc", sealed.enc, kem.encBytes)
  if (sealed.ciphertext.length < 16) throw new MakeError("MALFORMED", "ciphertext", "is shorter than its tag")
  try {
    const sharedSecret = kem.decapsulate(sealed.enc, privateKey)
    const { key, baseNonce } = keySchedule(crypto, kem.id, sharedSecret, info)
    sharedSecret.fill(0)
    try {
      return crypto.chacha20poly1305.open(key, baseNonce, sealed.ciphertext, aad)
    } finally {
      key.fill(0)
    }
  } catch (error) {
    if (error instanceof CryptoError && error.code !== "key")
      throw new MakeError("NOT_AUTHENTIC", "ciphertext", "does not open under this key, info and header")
    throw error
  }
}

/** Runs what takes somebody else's public key. */
export const withUsableKey = <A>(field: string, run: () => A): A => {
  try {
    return run()
  } catch (error) {
    if (error instanceof CryptoError && error.code === "weak-point")
      throw new MakeError("KEY", field, "gives an all-zero shared secret")
    if (error instanceof CryptoError && error.code === "input")
      throw new MakeError("KEY", field, "is not a key of this suite")
    throw error
  }
}

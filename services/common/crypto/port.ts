/**
 * The one door to cryptography. Everything above it speaks bytes: raw public keys, raw signatures, raw tags.
 *
 * Two rules hold for every implementation, so that it never matters which one runs:
 *  - `verify` answers false to anything malformed (lengths, points, scalars); it never throws;
 *  - what gives bytes back either gives all of them or throws a `CryptoError`.
 */
import type { SecretKey } from "./secret-key.ts"

export type CryptoErrorCode =
  /** An input has a length or value that the primitive doesn't take. */
  | "input"
  /** A public key of small order: the shared secret would be all zero (RFC 7748, 6.1). */
  | "weak-point"
  /** The tag of a sealed message is wrong. */
  | "tag"
  /** A secret key of another algorithm, or one that was disposed of. */
  | "key"

export class CryptoError extends Error {
  override readonly name = "CryptoError"
  readonly code: CryptoErrorCode
  /** Which argument was at fault. Never its value. */
  readonly field: string

  constructor(code: CryptoErrorCode, field: string, message: string) {
    super(`${field}: ${message}`)
    this.code = code
    this.field = field
  }
}

export interface Signer {
  readonly generate: () => SecretKey
  /** From 32 bytes (Ed25519, RFC 8032 5.1.5) or 48 (P-384: 1 <= scalar < n, big-endian). The bytes are copied. */
  readonly fromSecret: (secret: Uint8Array) => SecretKey
  readonly sign: (message: Uint8Array, key: SecretKey) => Uint8Array
}

export interface Verifier {
  readonly verify: (signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array) => boolean
}

/** ML-KEM-768: public keys have 1,184 bytes, ciphertexts 1,088, shared secrets 32. */
export interface Kem768 {
  readonly generate: () => SecretKey
  /** From the 64 bytes d || z (FIPS 203, algorithm 16). They are copied. */
  readonly fromSeed: (seed: Uint8Array) => SecretKey
  /** Refuses a public key with a coefficient of q or more (section 7.2) with `input`. */
  readonly encapsulate: (publicKey: Uint8Array) => {
    readonly sharedSecret: Uint8Array
    readonly ciphertext: Uint8Array
  }
  /**
   * Any 1,088 bytes give a secret: those that nobody made for this key give one that nobody else has (implicit
   * rejection). Only a tag made with it tells, and its failure must look like any other.
   */
  readonly decapsulate: (ciphertext: Uint8Array, own: SecretKey) => Uint8Array
}

export interface Crypto {
  readonly name: "noble" | "native" | "auto"

  readonly sha256: (data: Uint8Array) => Uint8Array
  readonly sha384: (data: Uint8Array) => Uint8Array
  readonly sha512: (data: Uint8Array) => Uint8Array
  /** FIPS 202. `length` is 1..65,536 bytes of output. */
  readonly sha3_256: (data: Uint8Array) => Uint8Array
  readonly shake256: (data: Uint8Array, length: number) => Uint8Array
  readonly hmacSha256: (key: Uint8Array, data: Uint8Array) => Uint8Array

  /** HKDF-SHA-256 (RFC 5869). `length` is 1..8,160; an empty salt is 32 zero bytes. */
  readonly hkdfSha256: (ikm: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number) => Uint8Array
  readonly hkdfExtractSha256: (ikm: Uint8Array, salt: Uint8Array) => Uint8Array
  /** `prk` must have 32 bytes. */
  readonly hkdfExpandSha256: (prk: Uint8Array, info: Uint8Array, length: number) => Uint8Array

  /** RFC 7748. Keys and shared secrets have 32 bytes. */
  readonly x25519: {
    readonly generate: () => SecretKey
    /** From 32 bytes, clamped when used. The bytes are copied. */
    readonly fromSecret: (secret: Uint8Array) => SecretKey
    /** Refuses an all-zero result with `weak-point`. */
    readonly sharedSecret: (own: SecretKey, peerPublicKey: Uint8Array) => Uint8Array
  }

  /** FIPS 203. */
  readonly mlkem768: Kem768

  /**
   * RFC 8032 PureEdDSA; public keys 32 bytes, signatures 64.
   * Verification is the strict kind: canonical encodings only, S < L, no public key of small order, and the equation
   * without the cofactor, compared as bytes. So two verifiers can't differ about a signature.
   */
  readonly ed25519: Signer & Verifier

  /**
   * FIPS 186-5 ECDSA over SHA-384 of the message; signatures are r || s, big-endian, 96 bytes; either half of s.
   * Public keys are 04 || x || y (97 bytes) or x || y (96), big-endian. No compressed points.
   */
  readonly ecdsaP384: Signer & Verifier
  /** The same with SHA-256: 64-byte signatures, keys of 65 or 64 bytes. Verification only. */
  readonly ecdsaP256: Verifier

  /** RFC 8439 AEAD: key 32 bytes, nonce 12, sealed = ciphertext || 16-byte tag. */
  readonly chacha20poly1305: {
    readonly seal: (key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, aad?: Uint8Array) => Uint8Array
    /** Throws `tag` when the tag is wrong. */
    readonly open: (key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, aad?: Uint8Array) => Uint8Array
  }

  /** From the operating system's generator. */
  readonly randomBytes: (length: number) => Uint8Array
  /** In time that depends on the lengths only. */
  readonly equalConstantTime: (a: Uint8Array, b: Uint8Array) => boolean
}

/** The port over @noble: plain JavaScript, small enough to read, audited. */
import { randomFillSync, timingSafeEqual } from "node:crypto"
import { chacha20poly1305 } from "@noble/ciphers/chacha.js"
import type { ECDSA } from "@noble/curves/abstract/weierstrass.js"
import { ed25519, x25519 } from "@noble/curves/ed25519.js"
import { p256, p384 } from "@noble/curves/nist.js"
import { expand, extract, hkdf } from "@noble/hashes/hkdf.js"
import { hmac } from "@noble/hashes/hmac.js"
import { sha256, sha384, sha512 } from "@noble/hashes/sha2.js"
import { sha3_256, shake256 } from "@noble/hashes/sha3.js"
import {
  expectHkdfLength,
  expectLength,
  expectRandomLength,
  expectSealed,
  expectShakeLength,
  isAcceptableEd25519Key,
  uncompressedPoint,
} from "./inputs.ts"
import { nobleMlkem768 } from "./kem-noble.ts"
import { type Crypto, CryptoError } from "./port.ts"
import { SecretKey } from "./secret-key.ts"

const empty = new Uint8Array(0)

export const randomBytes = (length: number): Uint8Array => {
  expectRandomLength(length)
  return randomFillSync(new Uint8Array(length))
}

export const equalConstantTime = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && timingSafeEqual(a, b)

const x25519FromSecret = (secret: Uint8Array): SecretKey => {
  expectLength("secret", secret, 32)
  const own = Uint8Array.from(secret)
  return new SecretKey("x25519", own, x25519.getPublicKey(own))
}

const sharedSecret = (own: SecretKey, peerPublicKey: Uint8Array): Uint8Array => {
  expectLength("peerPublicKey", peerPublicKey, 32)
  const secret = own.reveal("x25519")
  try {
    return x25519.getSharedSecret(secret, peerPublicKey)
  } catch {
    throw new CryptoError("weak-point", "peerPublicKey", "gives an all-zero shared secret")
  }
}

const ed25519FromSecret = (secret: Uint8Array): SecretKey => {
  expectLength("secret", secret, 32)
  const own = Uint8Array.from(secret)
  return new SecretKey("ed25519", own, ed25519.getPublicKey(own))
}

/**
 * RFC 8032 5.1.7 lets a verifier leave the cofactor out. OpenSSL does, noble's own verify doesn't, and a signer of ill
 * will can make signatures that tell the two apart; so the equation is computed here: R must be the encoding of
 * [S]B - [k]A.
 */
const verifyEd25519 = (signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean => {
  if (signature.length !== 64 || !isAcceptableEd25519Key(publicKey)) return false
  const { Point } = ed25519
  const r = signature.subarray(0, 32)
  try {
    const a = Point.fromBytes(publicKey, false)
    const s = littleEndian(signature.subarray(32))
    if (s >= Point.Fn.ORDER) return false
    const k = Point.Fn.create(littleEndian(sha512(concat(r, publicKey, message))))
    const expected = Point.BASE.multiplyUnsafe(s).subtract(a.multiplyUnsafe(k)).toBytes()
    return Buffer.compare(expected, r) === 0
  } catch {
    return false
  }
}

const littleEndian = (bytes: Uint8Array): bigint =>
  BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`)

const concat = (...parts: Uint8Array[]): Uint8Array => Buffer.concat(parts)

const verifyEcdsa = (curve: ECDSA, coordinateBytes: number) => {
  return (signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean => {
    const point = uncompressedPoint(publicKey, coordinateBytes)
    if (point === undefined || signature.length !== 2 * coordinateBytes) return false
    try {
      // Hardware and HSMs sign with either half of s, so the high half is as good as the low one.
      return curve.verify(signature, message, point, { lowS: false, prehash: true, format: "compact" })
    } catch {
      return false
    }
  }
}

const p384FromSecret = (secret: Uint8Array): SecretKey => {
  expectLength("secret", secret, 48)
  const own = Uint8Array.from(secret)
  if (!p384.utils.isValidSecretKey(own)) throw new CryptoError("input", "secret", "must be 1..n-1 of P-384")
  return new SecretKey("ecdsa-p384", own, p384.getPublicKey(own, false))
}

const seal = (
  key: Uint8Array,
  nonce: Uint8Array,
  plaintext: Uint8Array,
  aad: Uint8Array = empty,
): Uint8Array => {
  expectLength("key", key, 32)
  expectLength("nonce", nonce, 12)
  return chacha20poly1305(key, nonce, aad).encrypt(plaintext)
}

const open = (
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  aad: Uint8Array = empty,
): Uint8Array => {
  expectLength("key", key, 32)
  expectLength("nonce", nonce, 12)
  expectSealed(sealed)
  try {
    return chacha20poly1305(key, nonce, aad).decrypt(sealed)
  } catch {
    throw new CryptoError("tag", "sealed", "doesn't open with this key, nonce and associated data")
  }
}

export const noble: Crypto = {
  name: "noble",
  sha256: (data) => sha256(data),
  sha384: (data) => sha384(data),
  sha512: (data) => sha512(data),
  sha3_256: (data) => sha3_256(data),
  shake256: (data, length) => {
    expectShakeLength(length)
    return shake256(data, { dkLen: length })
  },
  hmacSha256: (key, data) => hmac(sha256, key, data),
  hkdfSha256: (ikm, salt, info, length) => {
    expectHkdfLength(length)
    return hkdf(sha256, ikm, salt, info, length)
  },
  hkdfExtractSha256: (ikm, salt) => extract(sha256, ikm, salt),
  hkdfExpandSha256: (prk, info, length) => {
    expectLength("prk", prk, 32)
    expectHkdfLength(length)
    return expand(sha256, prk, info, length)
  },
  x25519: {
    generate: () => x25519FromSecret(randomBytes(32)),
    fromSecret: x25519FromSecret,
    sharedSecret,
  },
  mlkem768: nobleMlkem768,
  ed25519: {
    generate: () => ed25519FromSecret(randomBytes(32)),
    fromSecret: ed25519FromSecret,
    sign: (message, key) => ed25519.sign(message, key.reveal("ed25519")),
    verify: verifyEd25519,
  },
  ecdsaP384: {
    generate: () => p384FromSecret(p384.utils.randomSecretKey()),
    fromSecret: p384FromSecret,
    sign: (message, key) =>
      p384.sign(message, key.reveal("ecdsa-p384"), { lowS: false, prehash: true, format: "compact" }),
    verify: verifyEcdsa(p384, 48),
  },
  ecdsaP256: { verify: verifyEcdsa(p256, 32) },
  chacha20poly1305: { seal, open },
  randomBytes,
  equalConstantTime,
}

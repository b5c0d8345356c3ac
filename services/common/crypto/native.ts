/** The port over node:crypto, that is OpenSSL. */
import {
  createCipheriv,
  createDecipheriv,
  createECDH,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hash,
  hkdfSync,
  type KeyObject,
  sign as nodeSign,
  verify as nodeVerify,
  type VerifyKeyObjectInput,
} from "node:crypto"
import { adopted, bytesOf, latin1Bytes, moved, viewOf } from "./buffers.ts"
import {
  expectHkdfLength,
  expectLength,
  expectSealed,
  expectShakeLength,
  isAcceptableEd25519Key,
  uncompressedPoint,
} from "./inputs.ts"
import { nativeMlkem768 } from "./kem-native.ts"
import { equalConstantTime, randomBytes } from "./noble.ts"
import { type Crypto, CryptoError } from "./port.ts"
import { type KeyAlgorithm, SecretKey } from "./secret-key.ts"

/** How node:crypto is told what a raw public key is for. */
const rawPublic = {
  x25519: { format: "raw-public", asymmetricKeyType: "x25519" },
  ed25519: { format: "raw-public", asymmetricKeyType: "ed25519" },
  p256: { format: "raw-public", asymmetricKeyType: "ec", namedCurve: "P-256" },
  p384: { format: "raw-public", asymmetricKeyType: "ec", namedCurve: "P-384" },
} as const

/**
 * A public key that one operation takes as it is: a KeyObject for each would be imported, tracked and collected. That
 * operations take what `createPublicKey` takes, the types don't know.
 */
const publicInput = (kind: keyof typeof rawPublic, raw: Uint8Array) =>
  ({ key: viewOf(raw), ...rawPublic[kind] }) as unknown as VerifyKeyObjectInput & KeyObject

type CurveAlgorithm = Exclude<KeyAlgorithm, "ml-kem-768">

/** What stands before a raw secret of P-384 in its PKCS #8 form (RFC 5915, without the public key). */
const p384Prefix = Buffer.from("304e020100301006072a8648ce3d020106052b81040022043730350201010430", "hex")

/** OpenSSL's form of a secret key, made once; it goes with the SecretKey. */
const keyObjects = new WeakMap<SecretKey, KeyObject>()

const keyObjectOf = (key: SecretKey, algorithm: CurveAlgorithm): KeyObject => {
  const secret = key.reveal(algorithm)
  const known = keyObjects.get(key)
  if (known !== undefined) return known
  const object = importSecret(algorithm, secret)
  keyObjects.set(key, object)
  return object
}

const importSecret = (algorithm: CurveAlgorithm, secret: Uint8Array): KeyObject => {
  if (algorithm !== "ecdsa-p384")
    return createPrivateKey({ key: viewOf(secret), format: "raw-private", asymmetricKeyType: algorithm })
  const der = Buffer.concat([p384Prefix, secret])
  try {
    return createPrivateKey({ key: der, format: "der", type: "pkcs8" })
  } finally {
    der.fill(0)
  }
}

const rawOf = (key: KeyObject): Uint8Array => bytesOf(key.export({ format: "raw-public" }))

const edwardsFromSecret = (algorithm: "x25519" | "ed25519") => {
  return (secret: Uint8Array): SecretKey => {
    expectLength("secret", secret, 32)
    const object = importSecret(algorithm, secret)
    const key = new SecretKey(algorithm, Uint8Array.from(secret), rawOf(createPublicKey(object)))
    keyObjects.set(key, object)
    return key
  }
}

const x25519FromSecret = edwardsFromSecret("x25519")
const ed25519FromSecret = edwardsFromSecret("ed25519")

const sharedSecret = (own: SecretKey, peerPublicKey: Uint8Array): Uint8Array => {
  expectLength("peerPublicKey", peerPublicKey, 32)
  const privateKey = keyObjectOf(own, "x25519")
  try {
    // OpenSSL fails where the result is all zero.
    return moved(diffieHellman({ privateKey, publicKey: publicInput("x25519", peerPublicKey) }))
  } catch {
    throw new CryptoError("weak-point", "peerPublicKey", "gives an all-zero shared secret")
  }
}

/** OpenSSL checks S < L, leaves the cofactor out and compares R as bytes; the key's encoding it takes as it comes. */
const verifyEd25519 = (signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean => {
  if (signature.length !== 64 || !isAcceptableEd25519Key(publicKey)) return false
  try {
    return nodeVerify(null, message, publicInput("ed25519", publicKey), signature)
  } catch {
    return false
  }
}

const verifyEcdsa = (digest: "sha256" | "sha384", kind: "p256" | "p384", coordinateBytes: number) => {
  return (signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array): boolean => {
    const point = uncompressedPoint(publicKey, coordinateBytes)
    if (point === undefined || signature.length !== 2 * coordinateBytes) return false
    try {
      const key = { ...publicInput(kind, point), dsaEncoding: "ieee-p1363" } as const
      return nodeVerify(digest, message, key, signature)
    } catch {
      return false
    }
  }
}

const p384FromSecret = (secret: Uint8Array): SecretKey => {
  expectLength("secret", secret, 48)
  const own = Uint8Array.from(secret)
  const ecdh = createECDH("secp384r1")
  try {
    ecdh.setPrivateKey(own)
  } catch {
    throw new CryptoError("input", "secret", "must be 1..n-1 of P-384")
  }
  return new SecretKey("ecdsa-p384", own, bytesOf(ecdh.getPublicKey()))
}

const generateP384 = (): SecretKey => {
  const ecdh = createECDH("secp384r1")
  const publicKey = bytesOf(ecdh.generateKeys())
  const short = ecdh.getPrivateKey()
  const secret = new Uint8Array(48)
  secret.set(short, 48 - short.length)
  short.fill(0)
  return new SecretKey("ecdsa-p384", secret, publicKey)
}

const extract = (ikm: Uint8Array, salt: Uint8Array): Uint8Array =>
  hmacSha256(salt.length === 0 ? new Uint8Array(32) : salt, ikm)

/** Of node's own hkdfSync, which can't expand alone either. */
const HKDF_INFO_MAX = 1_024

/** RFC 5869, 2.3. Nothing of what it gives stays elsewhere. */
const expand = (prk: Uint8Array, info: Uint8Array, length: number): Uint8Array => {
  const out = new Uint8Array(Math.ceil(length / 32) * 32)
  let previous = out.subarray(0, 0)
  for (let i = 0; i * 32 < length; i++) {
    const block = createHmac("sha256", prk)
      .update(previous)
      .update(info)
      .update(Uint8Array.of(i + 1))
      .digest()
    out.set(block, i * 32)
    block.fill(0)
    previous = out.subarray(i * 32, (i + 1) * 32)
  }
  return out.length === length ? out : moved(out, length)
}

const hmacSha256 = (key: Uint8Array, data: Uint8Array): Uint8Array =>
  moved(createHmac("sha256", key).update(data).digest())

const aead = "chacha20-poly1305"

const seal = (key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, aad?: Uint8Array): Uint8Array => {
  expectLength("key", key, 32)
  expectLength("nonce", nonce, 12)
  const cipher = createCipheriv(aead, key, nonce, { authTagLength: 16 })
  if (aad !== undefined) cipher.setAAD(aad, { plaintextLength: plaintext.length })
  const sealed = new Uint8Array(plaintext.length + 16)
  sealed.set(cipher.update(plaintext))
  cipher.final()
  sealed.set(cipher.getAuthTag(), plaintext.length)
  return sealed
}

const open = (key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array, aad?: Uint8Array): Uint8Array => {
  expectLength("key", key, 32)
  expectLength("nonce", nonce, 12)
  expectSealed(sealed)
  const length = sealed.length - 16
  const decipher = createDecipheriv(aead, key, nonce, { authTagLength: 16 })
  decipher.setAuthTag(sealed.subarray(length))
  if (aad !== undefined) decipher.setAAD(aad, { plaintextLength: length })
  const plaintext = decipher.update(sealed.subarray(0, length))
  try {
    decipher.final()
  } catch {
    plaintext.fill(0)
    throw new CryptoError("tag", "sealed", "doesn't open with this key, nonce and associated data")
  }
  return adopted(plaintext)
}

export const native: Crypto = {
  name: "native",
  sha256: (data) => latin1Bytes(hash("sha256", data, "binary")),
  sha384: (data) => latin1Bytes(hash("sha384", data, "binary")),
  sha512: (data) => latin1Bytes(hash("sha512", data, "binary")),
  sha3_256: (data) => moved(hash("sha3-256", data, "buffer")),
  shake256: (data, length) => {
    expectShakeLength(length)
    return moved(hash("shake256", data, { outputEncoding: "buffer", outputLength: length }))
  },
  hmacSha256,
  hkdfSha256: (ikm, salt, info, length) => {
    expectHkdfLength(length)
    if (info.length <= HKDF_INFO_MAX) return new Uint8Array(hkdfSync("sha256", ikm, salt, info, length))
    return expand(extract(ikm, salt), info, length)
  },
  hkdfExtractSha256: extract,
  hkdfExpandSha256: (prk, info, length) => {
    expectLength("prk", prk, 32)
    expectHkdfLength(length)
    return expand(prk, info, length)
  },
  x25519: {
    generate: () => x25519FromSecret(randomBytes(32)),
    fromSecret: x25519FromSecret,
    sharedSecret,
  },
  mlkem768: nativeMlkem768,
  ed25519: {
    generate: () => ed25519FromSecret(randomBytes(32)),
    fromSecret: ed25519FromSecret,
    sign: (message, key) => bytesOf(nodeSign(null, message, keyObjectOf(key, "ed25519"))),
    verify: verifyEd25519,
  },
  ecdsaP384: {
    generate: generateP384,
    fromSecret: p384FromSecret,
    sign: (message, secret) => {
      const key = keyObjectOf(secret, "ecdsa-p384")
      return bytesOf(nodeSign("sha384", message, { key, dsaEncoding: "ieee-p1363" }))
    },
    verify: verifyEcdsa("sha384", "p384", 48),
  },
  ecdsaP256: { verify: verifyEcdsa("sha256", "p256", 32) },
  chacha20poly1305: { seal, open },
  randomBytes,
  equalConstantTime,
}

/**
 * RSASSA-PSS with SHA-384 (MGF1 with SHA-384, 48 bytes of salt), the scheme of AMD's key hierarchy, for keys of 4,096
 * bits. It is outside of the port and exists only here: @noble has no RSA, and modular arithmetic on 4,096 bits is
 * nothing to write by hand. Keys are DER (SubjectPublicKeyInfo, PKCS #8).
 */
export const rsaPss4096Sha384 = {
  /** False for anything malformed, for another kind of key, and for a modulus of another size. */
  verify: (signature: Uint8Array, message: Uint8Array, spki: Uint8Array): boolean => {
    if (signature.length !== 512) return false
    try {
      const key = createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" })
      if (key.asymmetricKeyDetails?.modulusLength !== 4096) return false
      return nodeVerify("sha384", message, { key, ...pss }, signature)
    } catch {
      return false
    }
  },
  /** Takes 0.3 to 3 seconds. */
  generate: (): { privateKey: Uint8Array; publicKey: Uint8Array } => {
    const pair = generateKeyPairSync("rsa", {
      modulusLength: 4096,
      privateKeyEncoding: { format: "der", type: "pkcs8" },
      publicKeyEncoding: { format: "der", type: "spki" },
    })
    return { privateKey: bytesOf(pair.privateKey), publicKey: bytesOf(pair.publicKey) }
  },
  sign: (message: Uint8Array, pkcs8: Uint8Array): Uint8Array => {
    const key = createPrivateKey({ key: Buffer.from(pkcs8), format: "der", type: "pkcs8" })
    return bytesOf(nodeSign("sha384", message, { key, ...pss }))
  },
}

/** RSA_PKCS1_PSS_PADDING is 6. */
const pss = { padding: 6, saltLength: 48 }

/** ML-KEM-768 over node:crypto, that is OpenSSL. */
import {
  createPrivateKey,
  createPublicKey,
  decapsulate,
  encapsulate,
  type KeyObject,
  randomFillSync,
} from "node:crypto"
import { bytesOf, moved, viewOf } from "./buffers.ts"
import { expectLength, MLKEM768_BYTES } from "./inputs.ts"
import { CryptoError, type Kem768 } from "./port.ts"
import { SecretKey } from "./secret-key.ts"

/** OpenSSL's form of a secret key, made once; it goes with the SecretKey. */
const keyObjects = new WeakMap<SecretKey, KeyObject>()

/** What stands before a seed in its PKCS #8 form (RFC 9935): the seed alone. */
const pkcs8Prefix = Buffer.from("3054020100300b060960864801650304040204428040", "hex")

/** By way of PKCS #8: as a raw seed it is expanded twice, which more than doubles the time. */
const importSeed = (seed: Uint8Array): KeyObject => {
  const der = Buffer.concat([pkcs8Prefix, seed])
  try {
    return createPrivateKey({ key: der, format: "der", type: "pkcs8" })
  } finally {
    der.fill(0)
  }
}

const keyObjectOf = (key: SecretKey): KeyObject => {
  const seed = key.reveal("ml-kem-768")
  const known = keyObjects.get(key)
  if (known !== undefined) return known
  const object = importSeed(seed)
  keyObjects.set(key, object)
  return object
}

const adopt = (seed: Uint8Array): SecretKey => {
  const object = importSeed(seed)
  const publicKey = bytesOf(createPublicKey(object).export({ format: "raw-public" }))
  const key = new SecretKey("ml-kem-768", seed, publicKey)
  keyObjects.set(key, object)
  return key
}

const publicKeyObject = (publicKey: Uint8Array): KeyObject => {
  expectLength("publicKey", publicKey, MLKEM768_BYTES.publicKey)
  try {
    // OpenSSL checks the coefficients here.
    return createPublicKey({
      key: viewOf(publicKey),
      format: "raw-public",
      asymmetricKeyType: "ml-kem-768",
    })
  } catch {
    throw new CryptoError("input", "publicKey", "is not one of ML-KEM-768")
  }
}

export const nativeMlkem768: Kem768 = {
  generate: () => adopt(randomFillSync(new Uint8Array(MLKEM768_BYTES.seed))),
  fromSeed: (seed) => {
    expectLength("seed", seed, MLKEM768_BYTES.seed)
    return adopt(bytesOf(seed))
  },
  encapsulate: (publicKey) => {
    const { sharedKey, ciphertext } = encapsulate(publicKeyObject(publicKey))
    return { sharedSecret: moved(sharedKey), ciphertext: bytesOf(ciphertext) }
  },
  decapsulate: (ciphertext, own) => {
    expectLength("ciphertext", ciphertext, MLKEM768_BYTES.ciphertext)
    return moved(decapsulate(keyObjectOf(own), ciphertext))
  },
}

/** ML-KEM-768 over @noble/post-quantum: plain JavaScript, small enough to read. */
import { randomFillSync } from "node:crypto"
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js"
import { expectLength, MLKEM768_BYTES } from "./inputs.ts"
import { CryptoError, type Kem768 } from "./port.ts"
import { SecretKey } from "./secret-key.ts"

const adopt = (seed: Uint8Array): SecretKey => {
  const { publicKey, secretKey } = ml_kem768.keygen(seed)
  secretKey.fill(0)
  return new SecretKey("ml-kem-768", seed, publicKey)
}

export const nobleMlkem768: Kem768 = {
  generate: () => adopt(randomFillSync(new Uint8Array(MLKEM768_BYTES.seed))),
  fromSeed: (seed) => {
    expectLength("seed", seed, MLKEM768_BYTES.seed)
    return adopt(Uint8Array.from(seed))
  },
  encapsulate: (publicKey) => {
    expectLength("publicKey", publicKey, MLKEM768_BYTES.publicKey)
    try {
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(publicKey)
      return { sharedSecret, ciphertext: cipherText }
    } catch {
      throw new CryptoError("input", "publicKey", "is not one of ML-KEM-768")
    }
  },
  decapsulate: (ciphertext, own) => {
    expectLength("ciphertext", ciphertext, MLKEM768_BYTES.ciphertext)
    // The expanded key is made anew each time, so that nothing of it outlives the SecretKey.
    const { secretKey } = ml_kem768.keygen(own.reveal("ml-kem-768"))
    try {
      return ml_kem768.decapsulate(ciphertext, secretKey)
    } finally {
      secretKey.fill(0)
    }
  },
}

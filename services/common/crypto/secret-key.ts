/**
 * A private key that doesn't show itself: not in logs, not in JSON, not in error messages. Either implementation of the
 * port uses the same object, so that a key may be made by one and used by the other.
 */
import { inspect } from "node:util"
import { CryptoError } from "./port.ts"

export type KeyAlgorithm = "x25519" | "ed25519" | "ecdsa-p384" | "ml-kem-768"

export class SecretKey implements Disposable {
  readonly algorithm: KeyAlgorithm
  /** Raw: 32 bytes for X25519 and Ed25519; 04 || x || y, 97 bytes, for P-384; 1,184 bytes for ML-KEM-768. */
  readonly publicKey: Uint8Array
  #secret: Uint8Array | undefined

  /** Takes the secret over: the caller keeps no copy of it. */
  constructor(algorithm: KeyAlgorithm, secret: Uint8Array, publicKey: Uint8Array) {
    this.algorithm = algorithm
    this.publicKey = publicKey
    this.#secret = secret
  }

  get disposed(): boolean {
    return this.#secret === undefined
  }

  /** The key's own bytes, not a copy, for use by an implementation of the port. Throws `key` when disposed of or of another algorithm. */
  reveal(algorithm: KeyAlgorithm): Uint8Array {
    if (this.algorithm !== algorithm)
      throw new CryptoError("key", "secretKey", `is for ${this.algorithm}, not for ${algorithm}`)
    if (this.#secret === undefined) throw new CryptoError("key", "secretKey", "was disposed of")
    return this.#secret
  }

  /**
   * Zeroes what can be zeroed: these bytes. Copies that the garbage collector made of them, and those inside OpenSSL
   * until it frees them (it cleanses then), are out of reach.
   */
  dispose(): void {
    this.#secret?.fill(0)
    this.#secret = undefined
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  toJSON(): string {
    return `[secret ${this.algorithm} key]`
  }

  toString(): string {
    return this.toJSON()
  }

  [inspect.custom](): string {
    return this.toJSON()
  }
}

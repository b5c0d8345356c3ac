/** For the tests of the port: bytes that look random and are the same in every run. */
import { createHash } from "node:crypto"

export const bytesOf = (hex: string): Uint8Array =>
  Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ""), "hex"))
export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

export class Random {
  #state: Buffer
  #pool = Buffer.alloc(0)

  constructor(seed: string) {
    this.#state = createHash("sha512").update(seed).digest()
  }

  bytes(length: number): Uint8Array {
    while (this.#pool.length < length) {
      this.#state = createHash("sha512").update(this.#state).digest()
      this.#pool = Buffer.concat([this.#pool, this.#state.subarray(0, 32)])
    }
    const taken = Uint8Array.from(this.#pool.subarray(0, length))
    this.#pool = this.#pool.subarray(length)
    return taken
  }

  /** 0 <= n < most; slightly uneven, which doesn't matter here. */
  below(most: number): number {
    return Buffer.from(this.bytes(4)).readUInt32LE() % most
  }

  /** One bit of `bytes` flipped. */
  flipped(bytes: Uint8Array): Uint8Array {
    const copy = Uint8Array.from(bytes)
    const i = this.below(copy.length)
    copy[i] = (copy[i] ?? 0) ^ (1 << this.below(8))
    return copy
  }

  /** Shorter or longer by a little, or empty. */
  resized(bytes: Uint8Array): Uint8Array {
    const choice = this.below(3)
    if (choice === 0) return bytes.slice(0, Math.max(0, bytes.length - 1 - this.below(8)))
    if (choice === 1) return Uint8Array.from([...bytes, ...this.bytes(1 + this.below(8))])
    return new Uint8Array(0)
  }
}

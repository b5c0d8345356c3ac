/** What the vectors' run is made from: names, fixed keys and secrets, all of them known to everybody. */
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js"
import { type Crypto, native } from "../../../services/common/crypto/index.ts"

export type Json = string | number | boolean | ReadonlyArray<Json> | { readonly [name: string]: Json }

export interface Vector {
  /** What is computed, as the specification's section says. */
  readonly of: string
  readonly in: { readonly [name: string]: Json }
  readonly out: { readonly [name: string]: Json }
}

export type Vectors = { readonly [name: string]: Vector }

/** Bytes as hex, integers of 64 bits as decimal text. */
export const plain = (value: unknown): Json => {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex")
  if (typeof value === "bigint") return String(value)
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]))
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value
  throw new Error(`no JSON for ${String(value)}`)
}

export const vector = (of: string, given: object, found: object): Vector => ({
  of,
  in: plain(given) as Vector["in"],
  out: plain(found) as Vector["out"],
})

const utf8 = new TextEncoder()

/** SHAKE-256 of a name: differs from all others, along its whole length. */
export const drawn = (name: string, length = 32): Uint8Array => native.shake256(utf8.encode(name), length)

/** The implementation with the coins of its next encapsulations fixed by a name. */
export const withCoins = (name: string): Crypto => ({
  ...native,
  x25519: { ...native.x25519, generate: () => native.x25519.fromSecret(drawn(`${name}, ephemeral key`)) },
  mlkem768: {
    ...native.mlkem768,
    encapsulate: (publicKey) => {
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(publicKey, drawn(`${name}, ML-KEM coins`))
      return { ciphertext: cipherText, sharedSecret }
    },
  },
})

export const domain = "hospital"
export const session = (node: string) => drawn(`session of ${node}`, 16)
export const term = 1_790_000_000_000_007n

/** ML-KEM-768, SHA3-256 and SHAKE256: the two implementations agree, on what they refuse too. */
import { describe, expect, it } from "vitest"
import { auto, type Crypto, CryptoError, native, noble } from "../../services/common/crypto/index.ts"
import { hexOf, Random } from "./crypto-support.ts"

const outcome = (act: () => Uint8Array): string => {
  try {
    return hexOf(act())
  } catch (error) {
    if (error instanceof CryptoError) return `${error.code} ${error.field}`
    throw error
  }
}

const same = (act: (crypto: Crypto) => Uint8Array): string => {
  const found = outcome(() => act(noble))
  expect(outcome(() => act(native))).toBe(found)
  return found
}

const pairs = [
  [native, noble],
  [noble, native],
] as const

describe("SHA3-256 and SHAKE256", () => {
  const text = (value: string): Uint8Array => new TextEncoder().encode(value)

  it.each([noble, native, auto])("hash as FIPS 202 says: $name", (crypto) => {
    expect(hexOf(crypto.sha3_256(text("")))).toBe(
      "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a",
    )
    expect(hexOf(crypto.sha3_256(text("abc")))).toBe(
      "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
    )
    expect(hexOf(crypto.shake256(text(""), 64))).toBe(
      "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f" +
        "d75dc4ddd8c0f200cb05019d67b592f6fc821c49479ab48640292eacb3b7c4be",
    )
  })

  it("agree around the block boundary, and refuse the same lengths", () => {
    const random = new Random("keccak")
    for (let length = 120; length < 290; length++) {
      const data = random.bytes(length)
      same((crypto) => crypto.sha3_256(data))
      const wanted = 1 + random.below(300)
      expect(same((crypto) => crypto.shake256(data, wanted))).toHaveLength(2 * wanted)
    }
    for (const length of [0, -1, 1.5, Number.NaN, 65_537])
      expect(same((crypto) => crypto.shake256(new Uint8Array(1), length))).toBe("input length")
  })
})

describe("ML-KEM-768", () => {
  const random = new Random("ml-kem")

  it("makes the same key of a seed, and takes no other length", () => {
    for (let i = 0; i < 30; i++) {
      const seed = random.bytes(64)
      const publicKey = same((crypto) => crypto.mlkem768.fromSeed(seed).publicKey)
      expect(publicKey).toHaveLength(2 * 1_184)
    }
    for (const length of [0, 32, 63, 65])
      expect(same((crypto) => crypto.mlkem768.fromSeed(new Uint8Array(length)).publicKey)).toBe("input seed")
  })

  it.each(pairs)("opens by $name what the other has made", (own, other) => {
    for (let i = 0; i < 30; i++) {
      const key = own.mlkem768.generate()
      const { ciphertext, sharedSecret } = other.mlkem768.encapsulate(key.publicKey)
      expect([ciphertext.length, sharedSecret.length]).toEqual([1_088, 32])
      expect(same((crypto) => crypto.mlkem768.decapsulate(ciphertext, key))).toBe(hexOf(sharedSecret))
    }
  })

  it("gives another secret for a changed ciphertext, the same one each time, and no error", () => {
    const key = native.mlkem768.fromSeed(random.bytes(64))
    const { ciphertext, sharedSecret } = native.mlkem768.encapsulate(key.publicKey)
    for (let i = 0; i < 60; i++) {
      const changed = random.flipped(ciphertext)
      const found = same((crypto) => crypto.mlkem768.decapsulate(changed, key))
      expect(found).toHaveLength(64)
      expect(found).not.toBe(hexOf(sharedSecret))
      expect(same((crypto) => crypto.mlkem768.decapsulate(changed, key))).toBe(found)
    }
    for (const any of [new Uint8Array(1_088), new Uint8Array(1_088).fill(0xff), random.bytes(1_088)])
      expect(same((crypto) => crypto.mlkem768.decapsulate(any, key))).toHaveLength(64)
  })

  it("takes ciphertexts and public keys of one length only", () => {
    const key = native.mlkem768.generate()
    for (const length of [0, 1_087, 1_089])
      expect(same((crypto) => crypto.mlkem768.decapsulate(new Uint8Array(length), key))).toBe(
        "input ciphertext",
      )
    for (const length of [0, 32, 1_183, 1_185, 1_216])
      expect(same((crypto) => crypto.mlkem768.encapsulate(new Uint8Array(length)).ciphertext)).toBe(
        "input publicKey",
      )
  })

  it("refuses a public key with a coefficient of q or more, wherever it stands", () => {
    const { publicKey } = native.mlkem768.fromSeed(random.bytes(64))
    const Q = 3_329
    /** Twelve bits each, least significant first. */
    const withCoefficient = (index: number, value: number): Uint8Array => {
      const copy = Uint8Array.from(publicKey)
      const at = 3 * (index >> 1)
      const [a = 0, b = 0, c = 0] = copy.subarray(at, at + 3)
      const put =
        index % 2 === 0
          ? [value & 0xff, (b & 0xf0) | (value >> 8), c]
          : [a, (b & 0x0f) | ((value & 0xf) << 4), value >> 4]
      copy.set(put, at)
      return copy
    }
    const verdict = (crypto: Crypto, key: Uint8Array): string =>
      outcome(() => crypto.mlkem768.encapsulate(key).ciphertext.subarray(0, 0))
    for (const index of [0, 1, 255, 256, 511, 766, 767]) {
      for (const value of [Q, Q + 1, 4_095])
        for (const crypto of [noble, native])
          expect(verdict(crypto, withCoefficient(index, value))).toBe("input publicKey")
      for (const crypto of [noble, native]) expect(verdict(crypto, withCoefficient(index, Q - 1))).toBe("")
    }
  })

  it("takes no key of another kind, and none that was disposed of", () => {
    const { ciphertext } = native.mlkem768.encapsulate(native.mlkem768.generate().publicKey)
    const foreign = native.x25519.generate()
    expect(same((crypto) => crypto.mlkem768.decapsulate(ciphertext, foreign))).toBe("key secretKey")
    for (const crypto of [noble, native]) {
      const key = crypto.mlkem768.generate()
      crypto.mlkem768.decapsulate(ciphertext, key)
      key.dispose()
      expect(same((other) => other.mlkem768.decapsulate(ciphertext, key))).toBe("key secretKey")
    }
  })

  it("keeps its own copy of a seed, and doesn't show it", () => {
    for (const crypto of [noble, native]) {
      const seed = random.bytes(64)
      const key = crypto.mlkem768.fromSeed(seed)
      const { ciphertext, sharedSecret } = crypto.mlkem768.encapsulate(key.publicKey)
      const shown = hexOf(seed)
      seed.fill(0)
      expect(hexOf(crypto.mlkem768.decapsulate(ciphertext, key))).toBe(hexOf(sharedSecret))
      expect(`${key} ${JSON.stringify(key)}`).not.toContain(shown.slice(0, 16))
    }
  })
})

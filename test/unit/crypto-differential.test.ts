/** The two implementations of the port agree: on what they accept, on what they give, and on what they refuse. */
import { describe, expect, it } from "vitest"
import {
  type Crypto,
  CryptoError,
  native,
  noble,
  SecretKey,
  type Verifier,
} from "../../services/common/crypto/index.ts"
import { bytesOf, hexOf, Random } from "./crypto-support.ts"

/** What came out, or the kind of refusal. */
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

describe("hashes and keys derived from them", () => {
  it("agree for lengths around every block boundary", () => {
    const random = new Random("hashes")
    for (let length = 0; length < 300; length++) {
      const data = random.bytes(length)
      same((crypto) => crypto.sha256(data))
      same((crypto) => crypto.sha384(data))
      same((crypto) => crypto.sha512(data))
      const key = random.bytes(random.below(200))
      same((crypto) => crypto.hmacSha256(key, data))
    }
  })

  it("agree on HKDF, also with long info, and refuse the same lengths", () => {
    const random = new Random("hkdf")
    for (let i = 0; i < 200; i++) {
      const [ikm, salt, info] = [
        random.bytes(random.below(80)),
        random.bytes(random.below(80)),
        random.bytes(random.below(2_000)),
      ]
      const length = 1 + random.below(300)
      same((crypto) => crypto.hkdfSha256(ikm, salt, info, length))
    }
    const none = new Uint8Array(0)
    for (const length of [8_160, 8_161, 0, -1, 1.5, Number.NaN]) {
      const found = same((crypto) => crypto.hkdfSha256(none, none, none, length))
      expect(found.startsWith("input")).toBe(length !== 8_160)
    }
    expect(same((crypto) => crypto.hkdfExpandSha256(new Uint8Array(31), none, 32))).toBe("input prk")
  })
})

describe("ChaCha20-Poly1305", () => {
  it("agrees for every length up to 300 and some beyond, in both directions", () => {
    const random = new Random("aead")
    for (let length = 0; length < 340; length++) {
      const [key, nonce] = [random.bytes(32), random.bytes(12)]
      const plaintext = random.bytes(length < 300 ? length : length * 37)
      const aad = random.bytes(random.below(40))
      const sealed = bytesOf(same((crypto) => crypto.chacha20poly1305.seal(key, nonce, plaintext, aad)))
      expect(same((crypto) => crypto.chacha20poly1305.open(key, nonce, sealed, aad))).toBe(hexOf(plaintext))
      const changed = random.flipped(sealed)
      expect(same((crypto) => crypto.chacha20poly1305.open(key, nonce, changed, aad))).toBe("tag sealed")
    }
  })

  it("refuses other keys, nonces, associated data and lengths alike", () => {
    const random = new Random("aead refusals")
    const [key, nonce, plaintext, aad] = [
      random.bytes(32),
      random.bytes(12),
      random.bytes(50),
      random.bytes(20),
    ]
    const sealed = noble.chacha20poly1305.seal(key, nonce, plaintext, aad)
    const open = (k: Uint8Array, n: Uint8Array, s: Uint8Array, a?: Uint8Array) =>
      same((crypto) => crypto.chacha20poly1305.open(k, n, s, a))
    expect(open(random.flipped(key), nonce, sealed, aad)).toBe("tag sealed")
    expect(open(key, random.flipped(nonce), sealed, aad)).toBe("tag sealed")
    expect(open(key, nonce, sealed, random.flipped(aad))).toBe("tag sealed")
    expect(open(key, nonce, sealed)).toBe("tag sealed")
    expect(open(key, nonce, sealed.subarray(0, 60), aad)).toBe("tag sealed")
    expect(open(key, nonce, sealed.subarray(0, 15), aad)).toBe("input sealed")
    expect(open(key.subarray(1), nonce, sealed, aad)).toBe("input key")
    expect(open(key, nonce.subarray(1), sealed, aad)).toBe("input nonce")
  })
})

describe("X25519", () => {
  it("agrees on random points, on the curve or on its twist", () => {
    const random = new Random("x25519")
    for (let i = 0; i < 300; i++) {
      const secret = random.bytes(32)
      const peer = random.bytes(32)
      same((crypto) => crypto.x25519.fromSecret(secret).publicKey)
      same((crypto) => crypto.x25519.sharedSecret(crypto.x25519.fromSecret(secret), peer))
    }
  })

  it("refuses every point of small order, in every encoding, and other lengths", () => {
    const small = [
      "0000000000000000000000000000000000000000000000000000000000000000",
      "0100000000000000000000000000000000000000000000000000000000000000",
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ].map(bytesOf)
    const own = noble.x25519.generate()
    for (const point of small) {
      const topBit = Uint8Array.from(point)
      topBit[31] = (topBit[31] ?? 0) | 0x80
      for (const peer of [point, topBit])
        expect(same((crypto) => crypto.x25519.sharedSecret(own, peer))).toBe("weak-point peerPublicKey")
    }
    for (const length of [0, 31, 33])
      expect(same((crypto) => crypto.x25519.sharedSecret(own, new Uint8Array(length)))).toBe(
        "input peerPublicKey",
      )
  })
})

/** Both say the same; and what it is. */
const verdict = (
  pick: (crypto: Crypto) => Verifier,
  signature: Uint8Array,
  message: Uint8Array,
  key: Uint8Array,
): boolean => {
  const found = pick(noble).verify(signature, message, key)
  if (pick(native).verify(signature, message, key) !== found)
    expect.fail(`noble says ${found}: ${hexOf(signature)} ${hexOf(message)} ${hexOf(key)}`)
  return found
}

const littleEndian = (value: bigint): Uint8Array =>
  Uint8Array.from(Buffer.from(value.toString(16).padStart(64, "0"), "hex").reverse())
const toBigint = (bytes: Uint8Array): bigint => BigInt(`0x${hexOf(Uint8Array.from(bytes).reverse())}`)

describe("Ed25519", () => {
  const pick = (crypto: Crypto): Verifier => crypto.ed25519

  it("signs the same and accepts it; refuses it with any bit or length changed", () => {
    const random = new Random("ed25519")
    for (let i = 0; i < 150; i++) {
      const secret = random.bytes(32)
      const message = random.bytes(1 + random.below(200))
      const signature = bytesOf(
        same((crypto) => crypto.ed25519.sign(message, crypto.ed25519.fromSecret(secret))),
      )
      const key = noble.ed25519.fromSecret(secret).publicKey
      expect(verdict(pick, signature, message, key)).toBe(true)
      expect(verdict(pick, random.flipped(signature), message, key)).toBe(false)
      expect(verdict(pick, signature, random.flipped(message), key)).toBe(false)
      expect(verdict(pick, signature, message, random.flipped(key))).toBe(false)
      expect(verdict(pick, random.resized(signature), message, key)).toBe(false)
      expect(verdict(pick, signature, message, random.resized(key))).toBe(false)
    }
  })

  it("refuses S + L and S beyond it", () => {
    const order = (1n << 252n) + 27742317777372353535851937790883648493n
    const pair = noble.ed25519.generate()
    const message = bytesOf("00ff")
    const signature = noble.ed25519.sign(message, pair)
    const s = toBigint(signature.subarray(32))
    for (const other of [s + order, s + 2n * order, order, (1n << 256n) - 1n]) {
      const changed = Uint8Array.from([...signature.subarray(0, 32), ...littleEndian(other)])
      expect(verdict(pick, changed, message, pair.publicKey)).toBe(false)
    }
  })

  it("refuses keys of small order and keys not in canonical form, whatever is signed", () => {
    const p = (1n << 255n) - 19n
    const order8 = toBigint(bytesOf("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"))
    const topBit = 1n << 255n
    const ys = [0n, 1n, p - 1n, order8, p - order8, p, p + 1n, p + 2n, p + 18n, (1n << 255n) - 1n]
    const random = new Random("small order")
    for (const y of ys.flatMap((one) => [one, one | topBit]))
      for (const r of [littleEndian(1n), littleEndian(y), random.bytes(32)])
        for (const s of [0n, 1n]) {
          const signature = Uint8Array.from([...r, ...littleEndian(s)])
          expect(verdict(pick, signature, random.bytes(10), littleEndian(y))).toBe(false)
        }
  })

  /** A key with a part of order 8 in it: an equation with the cofactor would accept what one without it refuses. */
  it("agrees on signatures made to tell verifiers apart", async () => {
    const { ed25519, ED25519_TORSION_SUBGROUP } = await import("@noble/curves/ed25519.js")
    const { Point } = ed25519
    const { sha512 } = await import("@noble/hashes/sha2.js")
    const random = new Random("mixed order")
    const torsion = ED25519_TORSION_SUBGROUP.map((hex) => Point.fromHex(hex))
    let [accepted, refused] = [0, 0]
    for (let i = 0; i < 160; i++) {
      const a = Point.Fn.create(toBigint(random.bytes(32)))
      const nonce = Point.Fn.create(toBigint(random.bytes(32)))
      const key = Point.BASE.multiply(a)
        .add(torsion[random.below(8)] ?? Point.ZERO)
        .toBytes()
      const r = Point.BASE.multiply(nonce)
        .add(torsion[random.below(8)] ?? Point.ZERO)
        .toBytes()
      const message = random.bytes(20)
      const k = Point.Fn.create(toBigint(sha512(Uint8Array.from([...r, ...key, ...message]))))
      const s = Point.Fn.create(nonce + k * a)
      const signature = Uint8Array.from([...r, ...littleEndian(s)])
      if (verdict(pick, signature, message, key)) accepted++
      else refused++
    }
    expect(accepted).toBeGreaterThan(0)
    expect(refused).toBeGreaterThan(accepted)
  })
})

const order384 = BigInt(
  "0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
)
const big = (value: bigint): Uint8Array => bytesOf(value.toString(16).padStart(96, "0"))
const numberOf = (bytes: Uint8Array): bigint => BigInt(`0x${hexOf(bytes)}`)

describe("ECDSA P-384", () => {
  const pick = (crypto: Crypto): Verifier => crypto.ecdsaP384

  it("accepts what either has signed, and refuses it with any bit or length changed", () => {
    const random = new Random("p384")
    for (let i = 0; i < 60; i++) {
      const [maker, other] = i % 2 === 0 ? [noble, native] : [native, noble]
      const pair = maker.ecdsaP384.generate()
      const message = random.bytes(1 + random.below(200))
      const signature = other.ecdsaP384.sign(message, pair)
      expect(verdict(pick, signature, message, pair.publicKey)).toBe(true)
      expect(verdict(pick, signature, message, pair.publicKey.subarray(1))).toBe(true)
      expect(verdict(pick, random.flipped(signature), message, pair.publicKey)).toBe(false)
      expect(verdict(pick, signature, random.flipped(message), pair.publicKey)).toBe(false)
      expect(verdict(pick, signature, message, random.flipped(pair.publicKey))).toBe(false)
      expect(verdict(pick, random.resized(signature), message, pair.publicKey)).toBe(false)
      expect(verdict(pick, signature, message, random.resized(pair.publicKey.subarray(1)))).toBe(false)
    }
  })

  it("accepts both halves of s, and no r or s of 0, n or more", () => {
    const pair = noble.ecdsaP384.generate()
    const message = bytesOf("0102")
    const signature = noble.ecdsaP384.sign(message, pair)
    const [r, s] = [numberOf(signature.subarray(0, 48)), numberOf(signature.subarray(48))]
    const put = (one: bigint, two: bigint): Uint8Array => Uint8Array.from([...big(one), ...big(two)])
    expect(verdict(pick, put(r, order384 - s), message, pair.publicKey)).toBe(true)
    const most = (1n << 384n) - 1n
    for (const bad of [0n, order384, order384 + 1n, most]) {
      expect(verdict(pick, put(bad, s), message, pair.publicKey)).toBe(false)
      expect(verdict(pick, put(r, bad), message, pair.publicKey)).toBe(false)
      expect(verdict(pick, put(bad, bad), message, pair.publicKey)).toBe(false)
    }
    if (r + order384 <= most) expect(verdict(pick, put(r + order384, s), message, pair.publicKey)).toBe(false)
  })

  it("refuses points off the curve, compressed ones and the one at infinity", () => {
    const pair = noble.ecdsaP384.generate()
    const message = bytesOf("03")
    const signature = noble.ecdsaP384.sign(message, pair)
    const compressed = Uint8Array.from([
      2 + ((pair.publicKey[96] ?? 0) & 1),
      ...pair.publicKey.subarray(1, 49),
    ])
    for (const key of [
      compressed,
      new Uint8Array(1),
      new Uint8Array(97),
      new Uint8Array(96),
      new Uint8Array(97).fill(4),
    ])
      expect(verdict(pick, signature, message, key)).toBe(false)
    for (const tag of [0, 2, 3, 5, 6, 7]) {
      const key = Uint8Array.from([tag, ...pair.publicKey.subarray(1)])
      expect(verdict(pick, signature, message, key)).toBe(false)
    }
  })

  it("takes secrets of 1 to n - 1 and no others", () => {
    for (const [secret, fits] of [
      [1n, true],
      [order384 - 1n, true],
      [0n, false],
      [order384, false],
    ] as const)
      expect(same((crypto) => crypto.ecdsaP384.fromSecret(big(secret)).publicKey) === "input secret").toBe(
        !fits,
      )
    expect(same((crypto) => crypto.ecdsaP384.fromSecret(new Uint8Array(47)).publicKey)).toBe("input secret")
  })
})

describe("ECDSA P-256", () => {
  it("agrees on signatures of OpenSSL's and on changed ones", async () => {
    const { generateKeyPairSync, sign } = await import("node:crypto")
    const random = new Random("p256")
    const pick = (crypto: Crypto): Verifier => crypto.ecdsaP256
    for (let i = 0; i < 60; i++) {
      const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" })
      const key = Uint8Array.from(publicKey.export({ format: "der", type: "spki" }).subarray(-65))
      const message = random.bytes(50)
      const signature = Uint8Array.from(
        sign("sha256", message, { key: privateKey, dsaEncoding: "ieee-p1363" }),
      )
      expect(verdict(pick, signature, message, key)).toBe(true)
      expect(verdict(pick, random.flipped(signature), message, key)).toBe(false)
      expect(verdict(pick, signature, random.flipped(message), key)).toBe(false)
      expect(verdict(pick, signature, message, random.flipped(key))).toBe(false)
      expect(verdict(pick, random.resized(signature), message, key)).toBe(false)
    }
  })
})

describe("secret keys", () => {
  it.each([noble, native])("$name: refuse another algorithm, and any use once disposed of", (crypto) => {
    const key = crypto.ed25519.generate()
    crypto.ed25519.sign(new Uint8Array(1), key)
    expect(() => crypto.ecdsaP384.sign(new Uint8Array(1), key)).toThrow(CryptoError)
    expect(() => crypto.x25519.sharedSecret(key, new Uint8Array(32).fill(9))).toThrow(CryptoError)
    const bytes = key.reveal("ed25519")
    key.dispose()
    expect(bytes.every((byte) => byte === 0)).toBe(true)
    expect(() => crypto.ed25519.sign(new Uint8Array(1), key)).toThrow(/disposed/)
  })

  it("don't show themselves", async () => {
    const { inspect } = await import("node:util")
    const secret = new Uint8Array(32).fill(0xab)
    const key = noble.x25519.fromSecret(secret)
    expect(key).toBeInstanceOf(SecretKey)
    for (const shown of [inspect(key, { depth: 9 }), JSON.stringify({ key }), `${key}`]) {
      expect(shown).toContain("[secret x25519 key]")
      expect(shown).not.toMatch(/abab|171/)
    }
  })

  it("keep their own copy of the bytes they are made from", () => {
    const secret = new Uint8Array(32).fill(1)
    const key = noble.x25519.fromSecret(secret)
    secret.fill(2)
    expect(key.reveal("x25519")[0]).toBe(1)
  })
})

describe("random bytes and comparison", () => {
  it("agree on lengths", () => {
    for (const length of [0, 1, 65_536]) expect(noble.randomBytes(length)).toHaveLength(length)
    for (const length of [-1, 65_537, 1.5])
      expect(same((crypto) => crypto.randomBytes(length))).toBe("input length")
    expect(noble.equalConstantTime(bytesOf("0102"), bytesOf("0102"))).toBe(true)
    expect(noble.equalConstantTime(bytesOf("0102"), bytesOf("0103"))).toBe(false)
    expect(noble.equalConstantTime(bytesOf("0102"), bytesOf("01"))).toBe(false)
  })
})

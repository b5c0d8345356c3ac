/**
 * X-Wing: the draft's vectors, those of HPKE's working group, another implementation on random inputs, and what it does
 * with bytes that nobody made.
 */
import { ml_kem768_x25519 as judge } from "@noble/post-quantum/hybrid.js"
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js"
import { describe, expect, it } from "vitest"
import { auto, type Crypto, native, noble } from "../../services/common/crypto/index.ts"
import { MakeError } from "../../services/make/errors.ts"
import { keySchedule, open, seal } from "../../services/make/hpke.ts"
import { KEM_XWING, type XWingKey, xwing, xwingFromSeed, xwingPublicKey } from "../../services/make/xwing.ts"
import { bytesOf, hexOf, Random } from "./crypto-support.ts"

/**
 * draft-connolly-cfrg-xwing-kem, appendix "Test vectors" (dconnolly/draft-connolly-cfrg-xwing-kem,
 * spec/test-vectors.json, commit 9b6ce9e). Of its public keys and ciphertexts the SHA-256 stands here.
 */
const draft = [
  {
    seed: "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
    eseed:
      "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e235b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
    pkDigest: "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
    ctDigest: "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33",
    ss: "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
  },
  {
    seed: "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
    eseed:
      "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdefaee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d",
    pkDigest: "c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916",
    ctDigest: "1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154",
    ss: "f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150",
  },
  {
    seed: "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
    eseed:
      "22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b",
    pkDigest: "6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95",
    ctDigest: "d3ca5578500344b5896cffc4fd740c9311946b82951df155e6fd86a7966b43c6",
    ss: "953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f",
  },
]

/**
 * draft-ietf-hpke-pq (hpkewg/hpke-pq, test-vectors.json, commit 74dafaa): mode base, KEM 0x647A, KDF 0x0001, AEAD 0x0003.
 * Of public key and enc the SHA-256.
 */
const hpke = {
  info: "34663634363532303666366532303631323034373732363536333639363136653230353537323665",
  ikmE: "2a1c0a3745fe8a48fb62034d300f54dfe1974a5b2e169e580a8789cb1cf5fd190fc00f3fd899594e01a8b15334b9f3fa03d8de44da86e19f5776850fb689e6c8",
  skRm: "3ec47fa82dd5689d27c6190e724c74ec8f608df3331ce331929e37b829676630",
  pkDigest: "ad8aaf3f00d8a39bfeec2947a7d5dde68be08bba19bd301a348a45dc5fcc8341",
  encDigest: "95c0a5fca31ea59f29bbc66255ad6637b5a476b3212886af11afdc8930aeb772",
  sharedSecret: "58200ed1f137bd95a921bb47f6aaecf2395b26f7fd24efd3a5ffae4849e8dea3",
  key: "131c2ebb469b909a40915914afd7ff5e638888ac7195dcaaaef8f9a84f0e4030",
  baseNonce: "2b7a68f19e6cdbd43dda3c6d",
  exporterSecret: "c5362ef3c0008d0e573000c5c25a3f62a3bc7061cd41a384c86c27b37d945bbb",
  pt: "34323635363137353734373932303639373332303734373237353734363832633230373437323735373436383230363236353631373537343739",
  aad: "436f756e742d30",
  ct: "c5c591f99092d5e38df0a52699af249c66f8275a863423c076de8147a53e65cc584041c963b77a7e59ea93841b1339b5efda8909b71f74bb0073ad62e899de310c1566dea2fd29eba377",
  /** Sequence number 9: the same key under base_nonce XOR sequence. */
  ninth: {
    nonce: "2b7a68f19e6cdbd43dda3c64",
    aad: "436f756e742d39",
    ct: "f582d7aad5e83ea71a76b1b73a468f3170f0647ba3cc433a7e96733eb48f982f0efab7466f417cdfe78c239aef5dfad026dd8dee092cc8899a38a143439d396db4c28a7eca90469e97d7",
  },
}

/** The implementation with its next encapsulation's coins fixed: ML-KEM's message, then the ephemeral X25519 key. */
const withCoins = (crypto: Crypto, coins: Uint8Array): Crypto => ({
  ...crypto,
  x25519: { ...crypto.x25519, generate: () => crypto.x25519.fromSecret(coins.subarray(32)) },
  mlkem768: {
    ...crypto.mlkem768,
    encapsulate: (publicKey) => {
      const { cipherText, sharedSecret } = ml_kem768.encapsulate(publicKey, coins.subarray(0, 32))
      return { ciphertext: cipherText, sharedSecret }
    },
  },
})

const publicKeyOf = ({ kem, dh }: XWingKey): Uint8Array => xwingPublicKey(kem.publicKey, dh.publicKey)
const digestOf = (bytes: Uint8Array): string => hexOf(native.sha256(bytes))

describe.each([noble, native, auto])("X-Wing over $name", (crypto) => {
  const kem = xwing(crypto)

  it.each(draft)("gives the draft's secret for seed $seed", ({ seed, eseed, pkDigest, ctDigest, ss }) => {
    const key = xwingFromSeed(crypto, bytesOf(seed))
    expect(publicKeyOf(key)).toHaveLength(kem.publicKeyBytes)
    expect(digestOf(publicKeyOf(key))).toBe(pkDigest)
    const { enc, sharedSecret } = xwing(withCoins(crypto, bytesOf(eseed))).encapsulate(publicKeyOf(key))
    expect(enc).toHaveLength(kem.encBytes)
    expect(digestOf(enc)).toBe(ctDigest)
    expect(hexOf(sharedSecret)).toBe(ss)
    expect(hexOf(kem.decapsulate(enc, key))).toBe(ss)
  })

  it("seals and opens as HPKE's working group says of KEM 0x647A", () => {
    const key = xwingFromSeed(crypto, bytesOf(hpke.skRm))
    const publicKey = publicKeyOf(key)
    expect(digestOf(publicKey)).toBe(hpke.pkDigest)
    const fixed = withCoins(crypto, bytesOf(hpke.ikmE))
    const [info, aad, pt] = [bytesOf(hpke.info), bytesOf(hpke.aad), bytesOf(hpke.pt)]
    expect(hexOf(xwing(fixed).encapsulate(publicKey).sharedSecret)).toBe(hpke.sharedSecret)
    const schedule = keySchedule(crypto, KEM_XWING, bytesOf(hpke.sharedSecret), info)
    expect(hexOf(schedule.key)).toBe(hpke.key)
    expect(hexOf(schedule.baseNonce)).toBe(hpke.baseNonce)
    expect(hexOf(schedule.exporterSecret)).toBe(hpke.exporterSecret)
    const { ninth } = hpke
    expect(
      hexOf(crypto.chacha20poly1305.seal(schedule.key, bytesOf(ninth.nonce), pt, bytesOf(ninth.aad))),
    ).toBe(ninth.ct)

    const sealed = seal(fixed, xwing(fixed), publicKey, info, aad, pt)
    expect(digestOf(sealed.enc)).toBe(hpke.encDigest)
    expect(hexOf(sealed.ciphertext)).toBe(hpke.ct)
    expect(hexOf(open(crypto, kem, key, info, aad, sealed))).toBe(hpke.pt)
  })

  it("agrees with another implementation on random keys, in both directions", () => {
    const random = new Random("x-wing")
    for (let i = 0; i < 12; i++) {
      const seed = random.bytes(32)
      const key = xwingFromSeed(crypto, seed)
      const theirs = judge.keygen(seed)
      expect(hexOf(publicKeyOf(key))).toBe(hexOf(theirs.publicKey))
      const ours = kem.encapsulate(theirs.publicKey)
      expect(hexOf(judge.decapsulate(ours.enc, theirs.secretKey))).toBe(hexOf(ours.sharedSecret))
      const made = judge.encapsulate(publicKeyOf(key))
      expect(hexOf(kem.decapsulate(made.cipherText, key))).toBe(hexOf(made.sharedSecret))
      const changed = random.flipped(made.cipherText)
      expect(hexOf(kem.decapsulate(changed, key))).toBe(hexOf(judge.decapsulate(changed, theirs.secretKey)))
    }
  })

  const random = new Random(`x-wing hostile ${crypto.name}`)
  const key = xwingFromSeed(crypto, random.bytes(32))
  const [info, aad, pt] = [random.bytes(20), random.bytes(20), random.bytes(100)]
  const sealed = seal(crypto, kem, publicKeyOf(key), info, aad, pt)

  const wordsOf = (run: () => Uint8Array): string => {
    try {
      run()
      return "opened"
    } catch (error) {
      if (error instanceof MakeError) return `${error.code} ${error.message}`
      throw error
    }
  }

  it("says one and the same thing of every seal that doesn't open", () => {
    const refused = (change: Partial<typeof sealed>, by: XWingKey = key) =>
      wordsOf(() => open(crypto, kem, by, info, aad, { ...sealed, ...change }))
    const { enc, ciphertext } = sealed
    /** A changed ML-KEM half is rejected implicitly: another secret, and the tag tells. */
    const half = (from: number, to: number) =>
      Array.from({ length: 25 }, () => {
        const part = random.flipped(enc.subarray(from, to))
        return Uint8Array.from([...enc.subarray(0, from), ...part, ...enc.subarray(to)])
      })
    const zeroDh = Uint8Array.from([...enc.subarray(0, 1_088), ...new Uint8Array(32)])
    const other = xwingFromSeed(crypto, random.bytes(32))
    const words = [
      ...[...half(0, 1_088), ...half(1_088, 1_119), zeroDh, random.bytes(1_120), new Uint8Array(1_120)].map(
        (changed) => refused({ enc: changed }),
      ),
      ...Array.from({ length: 25 }, () => refused({ ciphertext: random.flipped(ciphertext) })),
      refused({ ciphertext: ciphertext.subarray(1) }),
      refused({}, other),
      refused({}, { kem: key.kem, dh: other.dh }),
      refused({}, { kem: other.kem, dh: key.dh }),
    ]
    expect(new Set(words)).toEqual(
      new Set(["NOT_AUTHENTIC ciphertext: does not open under this key, info and header"]),
    )
    expect(refused({})).toBe("opened")
  })

  it("takes enc and public key of one length only", () => {
    for (const length of [0, 32, 1_088, 1_119, 1_121])
      expect(() => open(crypto, kem, key, info, aad, { ...sealed, enc: new Uint8Array(length) })).toThrow(
        /enc: must have 1120 bytes/,
      )
    for (const length of [0, 32, 1_184, 1_215, 1_217])
      expect(() => seal(crypto, kem, new Uint8Array(length), info, aad, pt)).toThrow(/must have 1216 bytes/)
    expect(() => xwingFromSeed(crypto, new Uint8Array(31))).toThrow(/must have 32 bytes/)
  })

  it("seals to no key with an all-zero X25519 half or ML-KEM coefficients out of range", () => {
    const publicKey = publicKeyOf(key)
    const zeroDh = Uint8Array.from([...publicKey.subarray(0, 1_184), ...new Uint8Array(32)])
    expect(wordsOf(() => seal(crypto, kem, zeroDh, info, aad, pt).enc)).toMatch(/^KEY .*all-zero/)
    const outOfRange = Uint8Array.from(publicKey)
    outOfRange.fill(0xff, 600, 603)
    expect(wordsOf(() => seal(crypto, kem, outOfRange, info, aad, pt).enc)).toMatch(/^KEY .*not a key/)
  })

  it("doesn't pass a disposed key off as a bad seal", () => {
    const gone = xwingFromSeed(crypto, random.bytes(32))
    const made = seal(crypto, kem, publicKeyOf(gone), info, aad, pt)
    gone.kem.dispose()
    expect(() => open(crypto, kem, gone, info, aad, made)).toThrow(/was disposed of/)
  })
})

import { describe, expect, it } from "vitest"
import { type Crypto, native, noble } from "../../services/common/crypto/index.ts"
import { MakeError } from "../../services/make/errors.ts"
import { dhkemX25519, KEM_X25519_HKDF_SHA256, keySchedule, open, seal } from "../../services/make/hpke.ts"

const bytes = (text: string) => Uint8Array.from(Buffer.from(text, "hex"))
const hex = (data: Uint8Array) => Buffer.from(data).toString("hex")

/** RFC 9180, appendix A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305, base mode. */
const vector = {
  info: bytes("4f6465206f6e2061204772656369616e2055726e"),
  skEm: bytes("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600"),
  skRm: bytes("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"),
  pkRm: bytes("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"),
  enc: bytes("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"),
  sharedSecret: "0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7",
  key: "ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91",
  baseNonce: "5c4d98150661b848853b547f",
  exporterSecret: "a3b010d4994890e2c6968a36f64470d3c824c8f5029942feb11e7a74b2921922",
  pt: bytes("4265617574792069732074727574682c20747275746820626561757479"),
  aad: bytes("436f756e742d30"),
  ct: "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
  /** Sequence number 256: the same key under base_nonce XOR sequence. */
  later: {
    nonce: bytes("5c4d98150661b848853b557f"),
    aad: bytes("436f756e742d323536"),
    ct: "7a4a13e9ef23978e2c520fd4d2e757514ae160cd0cd05e556ef692370ca53076214c0c40d4c728d6ed9e727a5b",
  },
}

/** The implementation with its next ephemeral key fixed. */
const withEphemeral = (crypto: Crypto, secret: Uint8Array): Crypto => ({
  ...crypto,
  x25519: { ...crypto.x25519, generate: () => crypto.x25519.fromSecret(secret) },
})

describe.each([noble, native])("HPKE over $name", (crypto) => {
  const kem = dhkemX25519(crypto)
  const recipient = crypto.x25519.fromSecret(vector.skRm)

  it("encapsulates and decapsulates as RFC 9180 A.2.1", () => {
    expect(hex(recipient.publicKey)).toBe(hex(vector.pkRm))
    const { enc, sharedSecret } = dhkemX25519(withEphemeral(crypto, vector.skEm)).encapsulate(vector.pkRm)
    expect(hex(enc)).toBe(hex(vector.enc))
    expect(hex(sharedSecret)).toBe(vector.sharedSecret)
    expect(hex(kem.decapsulate(vector.enc, recipient))).toBe(vector.sharedSecret)
  })

  it("derives A.2.1's key, nonce and exporter secret", () => {
    const schedule = keySchedule(crypto, KEM_X25519_HKDF_SHA256, bytes(vector.sharedSecret), vector.info)
    expect(hex(schedule.key)).toBe(vector.key)
    expect(hex(schedule.baseNonce)).toBe(vector.baseNonce)
    expect(hex(schedule.exporterSecret)).toBe(vector.exporterSecret)
    const { nonce, aad, ct } = vector.later
    expect(hex(crypto.chacha20poly1305.seal(schedule.key, nonce, vector.pt, aad))).toBe(ct)
  })

  it("seals and opens A.2.1's first message", () => {
    const fixed = withEphemeral(crypto, vector.skEm)
    const sealed = seal(fixed, dhkemX25519(fixed), vector.pkRm, vector.info, vector.aad, vector.pt)
    expect(hex(sealed.enc)).toBe(hex(vector.enc))
    expect(hex(sealed.ciphertext)).toBe(vector.ct)
    const opened = open(crypto, kem, recipient, vector.info, vector.aad, {
      enc: vector.enc,
      ciphertext: bytes(vector.ct),
    })
    expect(hex(opened)).toBe(hex(vector.pt))
  })

  it("takes a new key every time", () => {
    const once = seal(crypto, kem, vector.pkRm, vector.info, vector.aad, vector.pt)
    const twice = seal(crypto, kem, vector.pkRm, vector.info, vector.aad, vector.pt)
    expect(hex(once.enc)).not.toBe(hex(twice.enc))
    expect(hex(once.ciphertext)).not.toBe(hex(twice.ciphertext))
  })

  it("says the same thing whatever was changed", () => {
    const sealed = seal(crypto, kem, vector.pkRm, vector.info, vector.aad, vector.pt)
    const flipped = (data: Uint8Array, at: number) => data.with(at, (data[at] ?? 0) ^ 1)
    const other = crypto.x25519.generate()
    const attempts = [
      () => open(crypto, kem, other, vector.info, vector.aad, sealed),
      () => open(crypto, kem, recipient, flipped(vector.info, 0), vector.aad, sealed),
      () => open(crypto, kem, recipient, vector.info, flipped(vector.aad, 0), sealed),
      () => open(crypto, kem, recipient, vector.info, vector.aad, { ...sealed, enc: flipped(sealed.enc, 3) }),
      () => open(crypto, kem, recipient, vector.info, vector.aad, { ...sealed, enc: new Uint8Array(32) }),
      () =>
        open(crypto, kem, recipient, vector.info, vector.aad, {
          ...sealed,
          ciphertext: flipped(sealed.ciphertext, 0),
        }),
      () =>
        open(crypto, kem, recipient, vector.info, vector.aad, {
          ...sealed,
          ciphertext: sealed.ciphertext.subarray(1),
        }),
    ]
    const words = attempts.map((attempt) => {
      try {
        attempt()
      } catch (error) {
        if (error instanceof MakeError) return `${error.code} ${error.message}`
      }
      return "opened"
    })
    expect(new Set(words)).toEqual(
      new Set(["NOT_AUTHENTIC ciphertext: does not open under this key, info and header"]),
    )
  })

  it("refuses wrong lengths and a public key of small order", () => {
    const sealed = seal(crypto, kem, vector.pkRm, vector.info, vector.aad, vector.pt)
    const short = { ...sealed, enc: sealed.enc.subarray(1) }
    expect(() => open(crypto, kem, recipient, vector.info, vector.aad, short)).toThrow(/enc: must have 32/)
    const empty = { ...sealed, ciphertext: new Uint8Array(15) }
    expect(() => open(crypto, kem, recipient, vector.info, vector.aad, empty)).toThrow(/shorter than its tag/)
    expect(() => seal(crypto, kem, new Uint8Array(31), vector.info, vector.aad, vector.pt)).toThrow(MakeError)
    expect(() => seal(crypto, kem, new Uint8Array(32), vector.info, vector.aad, vector.pt)).toThrow(
      /all-zero/,
    )
  })
})

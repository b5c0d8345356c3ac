import { describe, expect, it } from "vitest"
import { crypto } from "../../services/common/crypto/index.ts"
import { sign, verify } from "../../services/make/envelope.ts"
import { MakeError } from "../../services/make/errors.ts"
import { labels, type SignatureLabel } from "../../services/make/labels.ts"

const key = crypto.ed25519.generate()
const other = crypto.ed25519.generate()
const body = new TextEncoder().encode("what was meant")
const signed = sign(crypto, labels.signedRelease, key, body)
const trusted = [key.publicKey]

describe("signed envelope", () => {
  it("gives back the body that was signed", () => {
    expect(verify(crypto, labels.signedRelease, trusted, signed)).toEqual(body)
    expect(verify(crypto, labels.signedRelease, [other.publicKey, key.publicKey], signed)).toEqual(body)
  })

  it("is worth nothing under any other label", () => {
    const all = Object.values(labels).filter((label): label is SignatureLabel => label.includes("/signed-"))
    expect(all.length).toBeGreaterThan(8)
    for (const label of all) {
      if (label === labels.signedRelease) continue
      expect(() => verify(crypto, label, trusted, signed), label).toThrow(/does not verify/)
    }
  })

  it("refuses every changed bit of signature and body", () => {
    for (const part of ["signature", "body"] as const) {
      const bytes = signed[part]
      for (let bit = 0; bit < bytes.length * 8; bit += 3) {
        const changed = bytes.with(bit >> 3, (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7)))
        expect(() => verify(crypto, labels.signedRelease, trusted, { ...signed, [part]: changed })).toThrow(
          MakeError,
        )
      }
    }
  })

  it("refuses a signer that isn't trusted, whatever key it names", () => {
    const foreign = sign(crypto, labels.signedRelease, other, body)
    expect(() => verify(crypto, labels.signedRelease, trusted, foreign)).toThrow(/may sign/)
    expect(() => verify(crypto, labels.signedRelease, trusted, { ...foreign, key: key.publicKey })).toThrow(
      /does not verify/,
    )
    expect(() => verify(crypto, labels.signedRelease, [], signed)).toThrow(/may sign/)
    expect(() =>
      verify(crypto, labels.signedRelease, trusted, { ...signed, key: new Uint8Array(0) }),
    ).toThrow(MakeError)
  })

  it("gives no body to decode before the signature holds", () => {
    expect(() => verify(crypto, labels.signedAck, trusted, signed)).toThrow(/does not verify/)
    expect(verify(crypto, labels.signedRelease, trusted, signed)).toBe(signed.body)
  })
})

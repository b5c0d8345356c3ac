import { describe, expect, it } from "vitest"
import { MakeError } from "../../services/make/errors.ts"
import { openRelease, type ReleaseHeader, releaseDigest, sealRelease } from "../../services/make/release.ts"
import { attest, crypto, filled, hex } from "../support/make-lab.ts"

const { dhSecret, result } = attest("alpha", filled(32, 1))
const header: ReleaseHeader = {
  domain: "hospital",
  workflow: filled(32, 0x77),
  node: "alpha",
  session: filled(16, 1),
  releaser: "releaser-1",
  term: 5n,
  sequence: 3n,
  nonce: filled(32, 2),
  suite: "chacha20-poly1305",
}
const recipient = { dhKey: dhSecret.publicKey, kemKey: new Uint8Array(0), result: result.digest }
const own = { dhSecret, result: result.digest }
const payload = new TextEncoder().encode("a packed payload")

describe("a sealed release", () => {
  it("opens for the node and appraisal that it was made for", () => {
    expect(openRelease(crypto, own, header, sealRelease(crypto, recipient, header, payload))).toEqual(payload)
  })

  it("doesn't open with any field of the header changed", () => {
    const sealed = sealRelease(crypto, recipient, header, payload)
    for (const [field, value] of Object.entries(header)) {
      const other =
        value instanceof Uint8Array
          ? filled(value.length, 0xff)
          : typeof value === "bigint"
            ? value + 1n
            : `${value}x`
      const changed = { ...header, [field]: other } as ReleaseHeader
      expect(() => openRelease(crypto, own, changed, sealed), field).toThrow(MakeError)
    }
  })

  it("doesn't open under another appraisal of the same key, or another key", () => {
    const sealed = sealRelease(crypto, recipient, header, payload)
    expect(() => openRelease(crypto, { dhSecret, result: filled(32, 9) }, header, sealed)).toThrow(
      /does not open/,
    )
    const other = crypto.x25519.generate()
    expect(() => openRelease(crypto, { ...own, dhSecret: other }, header, sealed)).toThrow(/does not open/)
  })

  it("shows nothing of its payload and is never the same twice", () => {
    const marker = filled(64, 0x5a)
    const sealed = [1, 2].map(() => sealRelease(crypto, recipient, header, marker))
    for (const { ciphertext } of sealed) expect(hex(ciphertext)).not.toContain("5a5a5a5a5a5a")
    expect(new Set(sealed.map(({ ciphertext }) => hex(ciphertext))).size).toBe(2)
  })

  it("knows no suite but those of the table", () => {
    const other = { ...header, suite: "null" }
    expect(() => sealRelease(crypto, recipient, other, payload)).toThrow(/suite/)
  })
})

describe("releaseDigest", () => {
  it("changes with whatever a release says", () => {
    const edge = {
      instance: "ask:alpha:beta",
      term: 5n,
      epoch: 1n,
      state: "install",
      peer: "beta",
      inbound: [1_000, 1_001],
      outbound: [2_000],
      secret: filled(32, 1),
      peer_result: result.signed,
    } as const
    const base = { lease_ms: 1_000, edges: [edge] }
    const changes = [
      { ...base, lease_ms: 1_001 },
      { ...base, edges: [] },
      { ...base, edges: [edge, edge] },
      { ...base, edges: [{ ...edge, state: "active" as const }] },
      { ...base, edges: [{ ...edge, epoch: 2n }] },
      { ...base, edges: [{ ...edge, term: 6n }] },
      { ...base, edges: [{ ...edge, inbound: [1_000], outbound: [1_001, 2_000] }] },
      { ...base, edges: [{ ...edge, secret: filled(32, 2) }] },
      { ...base, edges: [{ ...edge, peer_result: { ...result.signed, body: filled(4, 1) } }] },
    ]
    const digests = [base, ...changes].map((each) => hex(releaseDigest(crypto, { header, payload: each })))
    digests.push(hex(releaseDigest(crypto, { header: { ...header, sequence: 4n }, payload: base })))
    expect(new Set(digests).size).toBe(digests.length)
  })
})

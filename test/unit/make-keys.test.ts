import { describe, expect, it } from "vitest"
import { native, noble } from "../../services/common/crypto/index.ts"
import { MakeError } from "../../services/make/errors.ts"
import {
  deriveEdgeKeys,
  type EdgeEpoch,
  type EdgeKeys,
  pairSecret,
  resultPairDigest,
} from "../../services/make/keys.ts"

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

const edge: EdgeEpoch = {
  suite: "chacha20-poly1305",
  workflowDigest: filled(32, 0x0d),
  instance: "feed:alpha:beta",
  epoch: { term: 3n, n: 4n },
  initiator: "alpha",
  responder: "beta",
  initiatorResult: filled(32, 0xa1),
  responderResult: filled(32, 0xb2),
  spisToResponder: [256, 257],
  spisToInitiator: [1_000, 0xffff_ffff],
}
const secret = filled(32, 0x5e)

const material = (keys: EdgeKeys) => [
  ...[...keys.toResponder, ...keys.toInitiator].map(({ key, salt }) => hex(key) + hex(salt)),
  hex(keys.exporter),
]

describe.each([noble, native])("traffic keys over $name", (crypto) => {
  const alpha = crypto.x25519.fromSecret(filled(32, 0x11))
  const beta = crypto.x25519.fromSecret(filled(32, 0x22))
  const shared = pairSecret(crypto, alpha, beta.publicKey)

  it("are equal at both ends, one for each direction and lane, and nothing repeats", () => {
    const atAlpha = deriveEdgeKeys(crypto, edge, shared, secret)
    const atBeta = deriveEdgeKeys(crypto, edge, pairSecret(crypto, beta, alpha.publicKey), secret)
    expect(atAlpha).toEqual(atBeta)
    expect(atAlpha.toResponder.map(({ lane, spi }) => [lane, spi])).toEqual([
      [0, 256],
      [1, 257],
    ])
    for (const { key, salt } of [...atAlpha.toResponder, ...atAlpha.toInitiator]) {
      expect(key).toHaveLength(32)
      expect(salt).toHaveLength(4)
    }
    expect(new Set(material(atAlpha)).size).toBe(5)
  })

  it("are what an independent implementation computes (Python's hmac, hashlib and cryptography)", () => {
    expect(material(deriveEdgeKeys(crypto, edge, shared, secret))).toEqual([
      "8a66b735ce2cc0981b0d6fe3a46cf85bd4e671e81a76b5f764fb23c23b8bea33e63d2e9a",
      "154c783074fd830416497c89225535894abb2e97e67d648c0e0bdb99e16dc6e567eb087e",
      "1019798caded10f486a1cf8b73895770192bd1cfedd350dd23a96b70a1f7a94ddd4bcae1",
      "20945d5b7ee8fded807e4ffefb7ce850f2a10b7da8637bce9de2811ed28aacdddbb3644b",
      "e176a6a31527c6b16200ac8845136711",
    ])
  })

  it("all change with each input", () => {
    const base = material(deriveEdgeKeys(crypto, edge, shared, secret))
    const others: ReadonlyArray<Partial<EdgeEpoch>> = [
      { workflowDigest: filled(32, 0x0e) },
      { instance: "feed2:alpha:beta" },
      { epoch: { term: 4n, n: 4n } },
      { epoch: { term: 3n, n: 5n } },
      { epoch: { term: 4n, n: 3n } },
      { initiator: "alpha2" },
      { responder: "beta2" },
      { initiator: "beta", responder: "alpha" },
      { initiatorResult: filled(32, 0xa2) },
      { responderResult: filled(32, 0xb3) },
      { initiatorResult: edge.responderResult, responderResult: edge.initiatorResult },
      { spisToResponder: [300, 301], spisToInitiator: [302, 303] },
    ]
    const all = new Set(base)
    for (const other of others)
      for (const key of material(deriveEdgeKeys(crypto, { ...edge, ...other }, shared, secret))) all.add(key)
    expect(all.size).toBe(base.length * (others.length + 1))
  })

  it("need the release secret and the exchange, each", () => {
    const base = deriveEdgeKeys(crypto, edge, shared, secret)
    const stranger = crypto.x25519.generate()
    const without = [
      deriveEdgeKeys(crypto, edge, shared, filled(32, 0)),
      deriveEdgeKeys(crypto, edge, filled(32, 0), secret),
      deriveEdgeKeys(crypto, edge, pairSecret(crypto, stranger, beta.publicKey), secret),
    ]
    for (const keys of without) {
      for (const key of material(keys)) expect(material(base)).not.toContain(key)
    }
  })

  it("confirm the indices too: two ends that saw different ones have different exporters", () => {
    const base = deriveEdgeKeys(crypto, edge, shared, secret)
    const other = deriveEdgeKeys(crypto, { ...edge, spisToInitiator: [1_000, 1_001] }, shared, secret)
    expect(hex(other.toResponder[0]?.key ?? secret)).toBe(hex(base.toResponder[0]?.key ?? shared))
    expect(hex(other.exporter)).not.toBe(hex(base.exporter))
  })

  it("keep the order of the two results", () => {
    expect(hex(resultPairDigest(crypto, filled(32, 1), filled(32, 2)))).not.toBe(
      hex(resultPairDigest(crypto, filled(32, 2), filled(32, 1))),
    )
  })

  it("refuse an all-zero exchange and wrong lengths", () => {
    expect(() => pairSecret(crypto, alpha, filled(32, 0))).toThrow(/all-zero/)
    expect(() => pairSecret(crypto, alpha, filled(32, 1).fill(0, 1))).toThrow(/all-zero/)
    expect(() => pairSecret(crypto, alpha, filled(31, 9))).toThrow(MakeError)
    expect(() => deriveEdgeKeys(crypto, edge, filled(31, 1), secret)).toThrow(MakeError)
    expect(() => deriveEdgeKeys(crypto, edge, shared, filled(33, 1))).toThrow(MakeError)
    expect(() => deriveEdgeKeys(crypto, { ...edge, initiatorResult: filled(31, 1) }, shared, secret)).toThrow(
      MakeError,
    )
  })

  it("leave their inputs alone", () => {
    const before = [hex(shared), hex(secret)]
    deriveEdgeKeys(crypto, edge, shared, secret)
    expect([hex(shared), hex(secret)]).toEqual(before)
  })
})

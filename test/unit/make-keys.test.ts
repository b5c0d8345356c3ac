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

  it("rest on all indices: two ends that saw different ones have no key in common", () => {
    const base = material(deriveEdgeKeys(crypto, edge, shared, secret))
    const other = material(
      deriveEdgeKeys(crypto, { ...edge, spisToInitiator: [1_000, 1_001] }, shared, secret),
    )
    for (const key of other) expect(base).not.toContain(key)
  })

  it("are derived for the most lanes and the longest ids alike", () => {
    const long = (letter: string) => letter.repeat(64)
    const lanes = Array.from({ length: 16 }, (_, lane) => 4_294_967_280 + lane)
    const most = {
      ...edge,
      instance: `${long("e")}:${long("a")}:${long("b")}`,
      initiator: long("a"),
      responder: long("b"),
      spisToResponder: lanes,
      spisToInitiator: lanes,
    }
    const keys = material(deriveEdgeKeys(crypto, most, shared, secret))
    expect(keys).toEqual(material(deriveEdgeKeys(noble, most, shared, secret)))
    expect(new Set(keys).size).toBe(33)
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

import { describe, expect, it } from "vitest"
import type { Crypto } from "../../services/common/crypto/index.ts"
import { MakeError } from "../../services/make/errors.ts"
import {
  KnownBatches,
  type PeerBatch,
  peerBatches,
  type ResultClaims,
  type ResultScope,
  resultSubject,
  signResults,
  type VouchedResult,
  vouchPeers,
  vouchResult,
} from "../../services/make/result.ts"
import { attest, crypto, decodeClaims, filled, hex, signClaims, verifierKey } from "../support/make-lab.ts"

const verifierKeys = [verifierKey.publicKey]
const claims: ReadonlyArray<ResultClaims> = ["alpha", "beta", "gamma"].map(
  (node) => attest(node, filled(32, 9)).result.claims,
)
const vouched = (all = signClaims(claims)): ReadonlyArray<VouchedResult> =>
  all.map((signed) => vouchResult(crypto, verifierKeys, signed, decodeClaims))

/** What a peer believes of them. */
const believed = (
  batches: ReadonlyArray<PeerBatch>,
  scope: ResultScope = { domain: "hospital", workflow: filled(32, 0x77) },
) => batches.flatMap((batch) => vouchPeers(crypto, verifierKeys, scope, batch))

const codeOf = (run: () => unknown): string => {
  try {
    run()
    return "believed"
  } catch (error) {
    if (error instanceof MakeError) return `${error.code} ${error.field}`
    throw error
  }
}

describe("results under one signature", () => {
  it("are believed one by one, whole and as peers are told of them", () => {
    for (const [i, result] of vouched().entries()) {
      expect(result.claims).toEqual(claims[i])
      expect(believed(peerBatches([result]))).toEqual([
        { node: result.claims.node, dhKey: result.claims.dh_key, digest: result.digest },
      ])
    }
  })

  it("are told of in any number, each batch once, in the order of its leaves", () => {
    const all = vouched()
    const alone = vouched(signClaims(claims.slice(1, 2)))
    for (let mask = 1; mask < 8; mask++) {
      const some = all.filter((_, i) => (mask >> i) & 1)
      const batches = peerBatches([...some.toReversed(), ...alone])
      expect(batches.map(({ peers }) => peers.map(({ node }) => node))).toEqual([
        some.map(({ claims: { node } }) => node),
        ["beta"],
      ])
      expect(believed(batches).map(({ digest }) => digest)).toEqual(
        [...some, ...alone].map(({ digest }) => digest),
      )
    }
    expect(peerBatches([])).toEqual([])
  })

  it("are not told to others: what domain, workflow, node or key is missing, is missing from the root", () => {
    const [told] = peerBatches(vouched())
    if (told === undefined) throw new Error("unreachable")
    const base = { domain: "hospital", workflow: filled(32, 0x77) }
    const found = (change: Partial<PeerBatch>, scope: ResultScope = base) =>
      codeOf(() => believed([{ ...told, ...change }], scope))
    expect(found({})).toBe("believed")
    expect(found({}, { ...base, domain: "bank" })).toBe("NOT_AUTHENTIC signature")
    expect(found({}, { ...base, workflow: filled(32, 1) })).toBe("NOT_AUTHENTIC signature")
    const [first, second, third] = told.peers
    if (first === undefined || second === undefined || third === undefined) throw new Error("unreachable")
    for (const change of [{ node: "beta" }, { dh_key: filled(32, 1) }, { result: second.result }])
      expect(found({ peers: [{ ...first, ...change }, second, third] })).toBe("NOT_AUTHENTIC signature")
    const swapped = [{ ...second, index: 0 }, { ...first, index: 1 }, third]
    expect(found({ peers: swapped })).toBe("NOT_AUTHENTIC signature")
    expect(found({ peers: [first, second] })).toBe("MALFORMED batches.proof")
    expect(found({ peers: [second, first, third] })).toBe("MALFORMED batches.index")
    expect(found({ key: filled(32, 5) })).toBe("NOT_AUTHENTIC key")
    expect(found({ peers: [{ ...first, node: "\ud800" }, second, third] })).toBe("MALFORMED text")
  })

  it("of one alone have an empty path", () => {
    const [only] = signClaims(claims.slice(0, 1))
    expect(only).toMatchObject({ index: 0, path: [], batch: { size: 1 } })
    expect(vouched(only === undefined ? [] : [only])).toHaveLength(1)
  })

  it("don't stand for each other, whoever swaps what", () => {
    const [a, b] = signClaims(claims)
    if (a === undefined || b === undefined) throw new Error("unreachable")
    const believe = (signed: typeof a) =>
      codeOf(() => vouchResult(crypto, verifierKeys, signed, decodeClaims))
    expect(believe(a)).toBe("believed")
    for (const change of [
      { body: b.body },
      { subject: b.subject },
      { index: b.index },
      { path: b.path },
      { path: a.path.slice(1) },
      { body: b.body, subject: b.subject },
    ])
      expect(believe({ ...a, ...change }), Object.keys(change).join()).toBe("NOT_AUTHENTIC result")
    expect(believe({ ...a, batch: { ...a.batch, size: 4 } })).toBe("NOT_AUTHENTIC signature")
    expect(believe({ ...a, batch: { ...a.batch, key: filled(32, 5) } })).toBe("NOT_AUTHENTIC key")
    // The body is opened only when it is authentic.
    const opened = codeOf(() =>
      vouchResult(crypto, verifierKeys, { ...a, body: b.body }, () => {
        throw new Error("was looked into")
      }),
    )
    expect(opened).toBe("NOT_AUTHENTIC result")
  })

  it("must say to peers what they say to the releaser", () => {
    const [one] = claims
    if (one === undefined) throw new Error("unreachable")
    // A verifier that signs for one key, and shows another.
    const [signed] = signResults(crypto, verifierKey, [
      { ...one, dhKey: filled(32, 1), body: signClaims([one])[0]?.body ?? filled(0, 0) },
    ])
    if (signed === undefined) throw new Error("unreachable")
    expect(codeOf(() => vouchResult(crypto, verifierKeys, signed, decodeClaims))).toBe(
      "NOT_VOUCHED result.subject",
    )
  })

  it("name whom, what and where: another domain, workflow, node or key is another subject", () => {
    const base = { domain: "hospital", workflow: filled(32, 1), node: "alpha" }
    const subjects = [
      resultSubject(crypto, base, filled(32, 1)),
      resultSubject(crypto, base, filled(32, 2)),
      resultSubject(crypto, { ...base, domain: "bank" }, filled(32, 1)),
      resultSubject(crypto, { ...base, workflow: filled(32, 2) }, filled(32, 1)),
      resultSubject(crypto, { ...base, node: "beta" }, filled(32, 1)),
    ]
    expect(new Set(subjects.map(hex)).size).toBe(subjects.length)
  })
})

describe("batches that were verified", () => {
  const counting = () => {
    let verified = 0
    const counted: Crypto = {
      ...crypto,
      ed25519: {
        ...crypto.ed25519,
        verify: (...of) => {
          verified += 1
          return crypto.ed25519.verify(...of)
        },
      },
    }
    return { known: new KnownBatches(counted), verified: () => verified }
  }
  const [result] = vouched()
  if (result === undefined) throw new Error("unreachable")
  const { batch } = result.signed

  it("are verified once, and only as they were", () => {
    const { known, verified } = counting()
    for (let i = 0; i < 3; i++) expect(known.expect(verifierKeys, { ...batch })).toEqual(batch)
    expect(verified()).toBe(1)
    for (const change of [{ root: filled(32, 1) }, { size: 2 }, { signature: filled(64, 1) }])
      expect(codeOf(() => known.expect(verifierKeys, { ...batch, ...change }))).toBe(
        "NOT_AUTHENTIC signature",
      )
    expect(verified()).toBe(4)
  })

  it("are not believed any more when their verifier isn't", () => {
    const { known } = counting()
    known.expect(verifierKeys, batch)
    expect(codeOf(() => known.expect([filled(32, 1)], batch))).toBe("NOT_AUTHENTIC key")
    expect(codeOf(() => known.expect([], batch))).toBe("NOT_AUTHENTIC key")
  })

  it("are forgotten at some time", () => {
    const { known, verified } = counting()
    known.expect(verifierKeys, batch)
    for (let i = 0; i < 1_024; i++) {
      const [other] = signResults(crypto, verifierKey, [
        { ...result.claims, dhKey: filled(32, 1), body: filled(4, i & 255).fill(i >> 8, 1) },
      ])
      if (other !== undefined) known.expect(verifierKeys, other.batch)
    }
    known.expect(verifierKeys, batch)
    expect(verified()).toBe(1_026)
  })
})

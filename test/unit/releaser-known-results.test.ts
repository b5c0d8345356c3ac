import { describe, expect, it } from "vitest"
import { AttestationResult } from "../../schemas/messages/attestation.ts"
import { encode } from "../../services/common/codec/index.ts"
import { KnownResults } from "../../services/key-releaser/known-results.ts"
import { type SignedResult, signResults } from "../../services/make/result.ts"
import { attest, crypto, filled, verifierKey } from "../support/make-lab.ts"

const another = crypto.ed25519.generate().publicKey
const keys = [verifierKey.publicKey, another]

const signed = (nodes: ReadonlyArray<string>): ReadonlyArray<SignedResult> =>
  signResults(
    crypto,
    verifierKey,
    nodes.map((node) => {
      const { claims } = attest(node, filled(32, 1)).result
      const body = encode(AttestationResult, {
        ...claims,
        v: 1,
        assurance: "hardware",
        platform: "snp",
        launch: {},
        dataplane: filled(48, 2),
        values: [],
        verifier: "verifier-1",
        control: "control-1",
        verifier_nonce: filled(32, 3),
        issued_ms: 0,
        appraisal: filled(32, 4),
      })
      return { ...claims, dhKey: claims.dh_key, body }
    }),
  )

const [alpha, beta] = signed(["alpha", "beta", "gamma"])
if (alpha === undefined || beta === undefined) throw new Error("none")

const flipped = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === 0 ? byte ^ 1 : byte))
const changes: ReadonlyArray<readonly [string, Partial<SignedResult>]> = [
  ["body", { body: flipped(alpha.body) }],
  ["subject", { subject: flipped(alpha.subject) }],
  ["index", { index: alpha.index + 1 }],
  ["path", { path: alpha.path.map(flipped) }],
  ["path, which is shorter", { path: alpha.path.slice(0, -1) }],
  ["path, which is longer", { path: [...alpha.path, filled(32, 5)] }],
  ["root", { batch: { ...alpha.batch, root: flipped(alpha.batch.root) } }],
  ["size", { batch: { ...alpha.batch, size: alpha.batch.size + 4 } }],
  ["signature", { batch: { ...alpha.batch, signature: flipped(alpha.batch.signature) } }],
  ["signer", { batch: { ...alpha.batch, key: another } }],
]

describe("a result that was verified before", () => {
  it("is the same object when it comes again, once it was accepted", () => {
    const known = new KnownResults(crypto)
    const first = known.vouch(keys, "alpha", alpha)
    expect(known.vouch(keys, "alpha", structuredClone(alpha))).not.toBe(first)
    known.accepted(first)
    expect(known.vouch(keys, "alpha", structuredClone(alpha))).toBe(first)
    expect(known.signingKey("alpha")).toEqual(first.claims.signing_key)
    known.forget("alpha")
    expect(known.signingKey("alpha")).toBeUndefined()
    expect(known.vouch(keys, "alpha", alpha)).not.toBe(first)
  })

  it.each(changes)("vouches for no other, not for one that differs in its %s", (_, change) => {
    const known = new KnownResults(crypto)
    known.accepted(known.vouch(keys, "alpha", alpha))
    expect(() => known.vouch(keys, "alpha", { ...alpha, ...change })).toThrow(
      /does not verify|is not one that may sign|not in the batch|is not what the result says/,
    )
  })

  it("counts for nothing once its verifier is believed no more", () => {
    const known = new KnownResults(crypto)
    known.accepted(known.vouch(keys, "alpha", alpha))
    expect(() => known.vouch([another], "alpha", alpha)).toThrow(/may sign/)
    expect(() => known.vouch([], "alpha", alpha)).toThrow(/may sign/)
  })

  it("is not another node's", () => {
    const known = new KnownResults(crypto)
    known.accepted(known.vouch(keys, "alpha", alpha))
    expect(known.vouch(keys, "alpha", beta).claims.node).toBe("beta")
  })
})

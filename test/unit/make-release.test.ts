import { describe, expect, it } from "vitest"
import { Workflow } from "../../schemas/workflow.ts"
import { MakeError } from "../../services/make/errors.ts"
import {
  type Opener,
  openRelease,
  type ReleaseHeader,
  releaseDigest,
  sealRelease,
} from "../../services/make/release.ts"
import { defaultSuite, offeredSuites } from "../../services/make/suites.ts"
import { attest, crypto, filled, hex } from "../support/make-lab.ts"

const { dhSecret, kemSecret, result } = attest("alpha", filled(32, 1))
const plain: ReleaseHeader = {
  domain: "hospital",
  workflow: filled(32, 0x77),
  node: "alpha",
  session: filled(16, 1),
  releaser: "releaser-1",
  term: 5n,
  sequence: 3n,
  nonce: filled(32, 2),
  suite: defaultSuite,
}
const recipient = { dhKey: dhSecret.publicKey, kemKey: kemSecret.publicKey, result: result.digest }
const payload = new TextEncoder().encode("a packed payload")

describe.each(offeredSuites)("a release sealed by %s", (suite) => {
  const header = { ...plain, suite }
  const own: Opener = { suite, dhSecret, kemSecret, result: result.digest }

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

  it("doesn't open under another appraisal of the same keys, or another DH key", () => {
    const sealed = sealRelease(crypto, recipient, header, payload)
    const otherResult = { ...own, result: filled(32, 9) }
    expect(() => openRelease(crypto, otherResult, header, sealed)).toThrow(/does not open/)
    const otherKey = { ...own, dhSecret: crypto.x25519.generate() }
    expect(() => openRelease(crypto, otherKey, header, sealed)).toThrow(/does not open/)
  })

  it("shows nothing of its payload and is never the same twice", () => {
    const marker = filled(64, 0x5a)
    const sealed = [1, 2].map(() => sealRelease(crypto, recipient, header, marker))
    for (const { ciphertext } of sealed) expect(hex(ciphertext)).not.toContain("5a5a5a5a5a5a")
    expect(new Set(sealed.map(({ ciphertext }) => hex(ciphertext))).size).toBe(2)
  })
})

describe("the suite of a release", () => {
  const hybrid = { ...plain, suite: "xwing-chacha20-poly1305" }
  const classical = { ...plain, suite: "chacha20-poly1305" }
  const own: Opener = { suite: hybrid.suite, dhSecret, kemSecret, result: result.digest }

  it("is one of the table", () => {
    const other = { ...plain, suite: "null" }
    expect(() => sealRelease(crypto, recipient, other, payload)).toThrow(/suite/)
    const sealed = sealRelease(crypto, recipient, hybrid, payload)
    expect(() => openRelease(crypto, { ...own, suite: "null" }, other, sealed)).toThrow(/suite/)
  })

  it("is the workflow's, in both directions, although the node has the keys of both", () => {
    for (const [sent, wanted] of [
      [classical, hybrid],
      [hybrid, classical],
    ] as const) {
      const sealed = sealRelease(crypto, recipient, sent, payload)
      expect(() => openRelease(crypto, { ...own, suite: wanted.suite }, sent, sealed)).toThrow(
        /suite: is not the one that the workflow names/,
      )
    }
  })

  it("needs both keys where it is hybrid: either one of another node closes it", () => {
    const sealed = sealRelease(crypto, recipient, hybrid, payload)
    const another = attest("alpha", filled(32, 1))
    const { dhSecret: otherDh, kemSecret: otherKem } = another
    for (const change of [{ dhSecret: otherDh }, { kemSecret: otherKem }])
      expect(() => openRelease(crypto, { ...own, ...change }, hybrid, sealed)).toThrow(/does not open/)
    const withoutKem = { ...recipient, kemKey: new Uint8Array(0) }
    expect(() => sealRelease(crypto, withoutKem, hybrid, payload)).toThrow(/kemKey: must have 1184 bytes/)
    const outOfRange = { ...recipient, kemKey: filled(1_184, 0xff) }
    expect(() => sealRelease(crypto, outOfRange, hybrid, payload)).toThrow(/is not a key of this suite/)
  })

  it("stands in the schema of workflows as in the table, the default first", () => {
    expect([...Workflow.fields.suite.literals]).toEqual(offeredSuites)
    expect(offeredSuites[0]).toBe(defaultSuite)
  })
})

describe("releaseDigest", () => {
  it("changes with whatever a release says", () => {
    const headers = Object.entries(plain).map(([field, value]) => ({
      ...plain,
      [field]:
        value instanceof Uint8Array
          ? filled(value.length, 0xff)
          : typeof value === "bigint"
            ? value + 1n
            : `${value}x`,
    }))
    const digests = [plain, ...headers].map((header) => hex(releaseDigest(crypto, header, payload)))
    digests.push(hex(releaseDigest(crypto, plain, payload.subarray(1))))
    expect(new Set(digests).size).toBe(digests.length)
  })
})

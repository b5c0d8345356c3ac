/** Real Nitro documents, and what must be said of them. VOUCHSAFE_VECTORS names their directory. */
import { createHash, X509Certificate } from "node:crypto"
import { describe, expect, it } from "vitest"
import { noble } from "../../services/common/crypto/index.ts"
import { parseDocument } from "../../services/evidence/nitro/document.ts"
import { NitroError } from "../../services/evidence/nitro/error.ts"
import { awsRoots } from "../../services/evidence/nitro/roots.ts"
import { type VerifiedNitro, verifyNitro } from "../../services/evidence/nitro/verify.ts"
import { haveVectors, hexOf, readVector, readVectorJson, vectorsDir } from "./evidence-support.ts"

interface Entry {
  readonly file: string
  readonly kind: string
  readonly expect: "valid" | "invalid"
  readonly time: {
    readonly verifyAt: string
    readonly chainNotBefore: string
    readonly chainNotAfter: string
  }
  readonly policyNotes: readonly string[]
  readonly fields: {
    readonly moduleId: string
    readonly timestamp: number
    readonly pcrs: Readonly<Record<string, string>>
    readonly userData: string
    readonly nonce: string
    readonly publicKey: string
  }
}

interface Pairing {
  readonly name: string
  readonly uses: readonly string[]
  readonly at: string
}

const vectorCount = 5
const manifest = haveVectors ? (readVectorJson("MANIFEST.json") as readonly Entry[]) : []
const documents = manifest.filter(({ kind }) => kind === "nitro-attestation-doc")
const pairings = haveVectors
  ? (readVectorJson("NEGATIVE-PAIRINGS.json") as readonly Pairing[]).filter(({ name }) =>
      name.startsWith("nitro-"),
    )
  : []

if (!haveVectors)
  console.warn(
    `NO REAL EVIDENCE TESTED: ${vectorCount} Nitro documents and 1 pairing skipped, for there is nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`,
  )

const codeOf = (result: VerifiedNitro | NitroError): string =>
  result instanceof NitroError ? result.code : "believed"

describe("real Nitro documents", () => {
  it("are there, or their absence was said", () => {
    if (haveVectors) expect(documents.length).toBeGreaterThanOrEqual(vectorCount)
    else expect(documents).toHaveLength(0)
  })
})

describe.each(documents)("$file", ({ file, expect: expected, time, fields, policyNotes }) => {
  const document = readVector(file)
  const at = new Date(time.verifyAt)
  const debug = policyNotes.some((note) => note.includes("debug"))

  it(`is ${expected}, and says what the manifest says`, () => {
    const verified = verifyNitro({ document }, { now: at, debug: "accept" })
    if (expected === "invalid") {
      expect(verified).toBeInstanceOf(NitroError)
      return
    }
    if (verified instanceof NitroError) throw verified
    const { document: found } = verified
    expect(verified.emulated).toBe(false)
    expect(verified.debug).toBe(debug)
    expect({
      moduleId: found.moduleId,
      timestamp: found.timestamp.getTime(),
      pcrs: Object.fromEntries([...found.pcrs].map(([index, pcr]) => [`${index}`, hexOf(pcr)])),
      userData: hexOf(found.userData ?? new Uint8Array(0)),
      nonce: hexOf(found.nonce ?? new Uint8Array(0)),
      publicKey: hexOf(found.publicKey ?? new Uint8Array(0)),
    }).toEqual(fields)
    const [first] = verified.certificates
      .map(({ notBefore }) => notBefore)
      .sort((a, b) => b.getTime() - a.getTime())
    expect(first).toEqual(new Date(time.chainNotBefore))
  })

  it(debug ? "is refused by default, for it ran in debug mode" : "needs no leave to be believed", () => {
    const code = debug ? "DEBUG_MODE" : "believed"
    expect(codeOf(verifyNitro({ document }, { now: at }))).toBe(code)
    expect(codeOf(verifyNitro({ document }, { now: "document" }))).toBe(code)
  })

  it("is genuine to the other crypto too", () => {
    expect(codeOf(verifyNitro({ document }, { now: at, debug: "accept", crypto: noble }))).toBe("believed")
  })

  it("is believed to the last second of its leaf, and not a moment before or after its chain", () => {
    const codeAt = (now: Date) => codeOf(verifyNitro({ document }, { now, debug: "accept" }))
    const [from, to] = [new Date(time.chainNotBefore), new Date(time.chainNotAfter)]
    expect(codeAt(from)).toBe("believed")
    expect(codeAt(to)).toBe("believed")
    expect(codeAt(new Date(from.getTime() - 1))).toBe("CERTIFICATE_NOT_YET_VALID")
    expect(codeAt(new Date(to.getTime() + 1_000))).toBe("CERTIFICATE_EXPIRED")
    expect(codeAt(new Date("2019-01-01T00:00:00Z"))).toBe("CERTIFICATE_NOT_YET_VALID")
    expect(codeAt(new Date("2099-01-01T00:00:00Z"))).toBe("CERTIFICATE_EXPIRED")
    expect(codeAt(new Date(Number.NaN))).toBe("TIME_INVALID")
  })

  it("isn't believed under no root, nor with AWS's key called a lab's", () => {
    expect(codeOf(verifyNitro({ document }, { now: at, roots: [] }))).toBe("ROOT_UNKNOWN")
    const roots = awsRoots.map((root) => ({ ...root, emulated: true }))
    expect(codeOf(verifyNitro({ document }, { now: at, roots }))).toBe("ROOT_MISLABELLED")
  })
})

describe.each(documents)("OpenSSL on $file", ({ file }) => {
  it("finds the same chain, and the same root", () => {
    const { cabundle, certificate } = parseDocument(readVector(file))
    const chain = [...cabundle, certificate].map((der) => new X509Certificate(der))
    for (const [i, each] of chain.entries()) {
      const above = chain[Math.max(0, i - 1)]
      expect(above && each.checkIssued(above) && each.verify(above.publicKey)).toBe(true)
      expect(each.ca).toBe(i < cabundle.length)
    }
    const key = chain[0]?.publicKey.export({ format: "der", type: "spki" }) ?? new Uint8Array(0)
    expect(createHash("sha256").update(key).digest("hex")).toBe(awsRoots[0]?.key_digest)
  })
})

describe.each(pairings)("$name", ({ name, uses, at }) => {
  it("is refused", () => {
    const [file = ""] = uses
    const code = codeOf(verifyNitro({ document: readVector(file) }, { now: new Date(at), debug: "accept" }))
    expect(code).not.toBe("believed")
    if (name === "nitro-expired") expect(code).toBe("CERTIFICATE_EXPIRED")
  })
})

describe.runIf(haveVectors)("AWS's root", () => {
  it("has the pinned key and the fingerprint that AWS publishes", () => {
    const der = readVector("nitro/aws-nitro-root.der")
    expect(createHash("sha256").update(der).digest("hex")).toBe(
      "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",
    )
    const key = new X509Certificate(der).publicKey.export({ format: "der", type: "spki" })
    expect(awsRoots.map(({ key_digest }) => key_digest)).toEqual([
      createHash("sha256").update(key).digest("hex"),
    ])
  })
})

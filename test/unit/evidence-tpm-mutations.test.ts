/**
 * No byte of a quote may change, but for those that are said below to be covered by nothing. And nothing that comes in,
 * whatever it is, ends in anything but a typed error, soon.
 */
import { describe, expect, it } from "vitest"
import { parseReport } from "../../services/evidence/snp/report.ts"
import {
  bindQuote,
  googleTpmRoot1,
  parseHclReport,
  parsePublic,
  parseQuoteAttest,
  parseSignature,
  readKey,
  TpmError,
  type VerifiedQuote,
  verifyQuote,
} from "../../services/evidence/tpm/index.ts"
import { Random } from "./crypto-support.ts"
import { flippedAt, haveVectors, readVector } from "./evidence-support.ts"
import { evidenceOf, quotes, requestOf } from "./evidence-tpm-support.ts"

const isBelieved = (act: () => unknown): boolean => {
  const result = act()
  if (result instanceof TpmError) expect(result.message).not.toMatch(/undefined|NaN|\[object/)
  return !(result instanceof TpmError)
}

const thrown = (act: () => unknown): unknown => {
  try {
    return act()
  } catch (error) {
    if (error instanceof TpmError) return error
    throw error
  }
}

describe.each(quotes)("$file with a byte changed", (entry) => {
  const evidence = evidenceOf(entry)
  const request = requestOf(entry)
  const judge = (change: Partial<typeof evidence>) =>
    isBelieved(() => verifyQuote({ ...evidence, ...change }, request, { sha1: "allow" }))

  it("isn't believed: quote", () => {
    expect(judge({})).toBe(true)
    for (let i = 0; i < evidence.attest.length; i++)
      expect(judge({ attest: flippedAt(evidence.attest, i) }), `byte ${i}`).toBe(false)
  })

  it("isn't believed: signature", () => {
    for (let i = 0; i < evidence.signature.length; i++)
      expect(judge({ signature: flippedAt(evidence.signature, i) }), `byte ${i}`).toBe(false)
  })

  it("isn't believed: registers", () => {
    for (const [bank, values] of Object.entries(evidence.pcrs))
      for (const [pcr, value] of values ?? [])
        for (let i = 0; i < value.length; i += 7) {
          const covered = request.selection.some((one) => one.bank === bank && one.pcrs.includes(pcr))
          const pcrs = { ...evidence.pcrs, [bank]: new Map(values).set(pcr, flippedAt(value, i)) }
          expect(judge({ pcrs })).toBe(!covered)
        }
  })

  it("isn't believed: key", () => {
    const key = evidence.akPublic
    if (typeof key === "string") expect.fail("text")
    const isStructure = key[0] === 0
    for (let i = 0; i < key.length; i++) {
      const quote = verifyQuote({ ...evidence, akPublic: flippedAt(key, i) }, request, { sha1: "allow" })
      if (quote instanceof TpmError) continue
      // Attributes and policy of a TPMT_PUBLIC aren't signed: what believes them must go by the name.
      const original = verifyQuote(evidence, request, { sha1: "allow" })
      if (original instanceof TpmError) throw original
      if (isStructure) expect(quote.ak.public?.name, `byte ${i}`).not.toEqual(original.ak.public?.name)
      // PEM: only white space around the base64 can be another character.
      else expect(quote.ak.digest, `byte ${i}`).toBe(original.ak.digest)
    }
  })

  it("isn't believed: cut short or made longer", () => {
    for (const part of ["attest", "signature"] as const) {
      expect(judge({ [part]: evidence[part].subarray(0, -1) })).toBe(false)
      expect(judge({ [part]: Uint8Array.from([...evidence[part], 0]) })).toBe(false)
      expect(judge({ [part]: new Uint8Array(0) })).toBe(false)
      expect(judge({ [part]: new Uint8Array(65_536) })).toBe(false)
    }
  })
})

const verifiedOf = (file: string): VerifiedQuote => {
  const entry = quotes.find((one) => one.file === file)
  if (entry === undefined) throw new Error(`${file} isn't in the manifest`)
  const quote = verifyQuote(evidenceOf(entry), requestOf(entry), { sha1: "allow" })
  if (quote instanceof TpmError) throw quote
  return quote
}

describe.runIf(haveVectors)("bindings with a byte changed", () => {
  it.each(["azure-snp-milan-a", "azure-tdx-a"])("%s: the HCL's blob", (folder) => {
    const quote = verifiedOf(`tpm/${folder}/tpms-attest.bin`)
    const bytes = readVector(`tpm/${folder}/hcl-report.bin`)
    const original = parseHclReport(bytes)
    const hardware =
      original.hardware === "snp"
        ? { kind: "snp" as const, report: parseReport(original.report) }
        : { kind: "tdx" as const, reportData: original.report.slice(128, 192) }
    const judge = (hclReport: Uint8Array) =>
      isBelieved(() => bindQuote(quote, { kind: "azure-hcl", hclReport, hardware }))
    expect(judge(bytes)).toBe(true)
    // What a verifier of the hardware report has to judge: the SNP report's signature; all of a TDREPORT but its data.
    const isElsewhere = (i: number) =>
      original.hardware === "snp"
        ? i >= 32 + 0x2a0 && i < 1_216
        : i >= 32 && i < 1_056 && (i < 160 || i >= 224)
    for (let i = 0; i < bytes.length; i++)
      expect(judge(flippedAt(bytes, i)), `byte ${i}`).toBe(isElsewhere(i))
    expect(judge(bytes.subarray(0, 1_300))).toBe(false)
    expect(judge(Uint8Array.from([...bytes, 1]))).toBe(false)
  })

  it("Google's certificates", () => {
    const quote = verifiedOf("tpm/gce-cos85-nonce9009/sha256.tpms-attest.bin")
    const certificates = [
      "tpm/gce-cos85-nonce9009/ak-cert.der",
      "tpm/certs/google-tpm-ek-intermediate-2.der",
      "tpm/certs/google-tpm-ek-root-1.der",
    ].map(readVector)
    const now = new Date("2026-01-01T00:00:00Z")
    const judge = (chain: readonly Uint8Array[]) =>
      isBelieved(() =>
        bindQuote(quote, { kind: "certified-ak", certificates: chain, issuers: [googleTpmRoot1], now }),
      )
    expect(judge(certificates)).toBe(true)
    for (const [which, der] of certificates.entries())
      for (let i = which; i < der.length; i += 3) {
        const changed = certificates.map((one, j) => (j === which ? flippedAt(one, i) : one))
        expect(judge(changed), `byte ${i} of certificate ${which}`).toBe(false)
      }
  })
})

describe("hostile structures", () => {
  const executions = 6_000

  it(`${executions} of them end in an answer or a typed error`, () => {
    const random = new Random("tpm structures")
    const files = [
      "tpm/gce-cos85-nonce9009/sha256.tpms-attest.bin",
      "tpm/gce-cos85-nonce9009/sha256.tpmt-signature.bin",
      "tpm/gce-windows-sha1/ak.tpmt-public.bin",
      "tpm/generic-swtpm/ak.spki.der",
      "tpm/azure-snp-genoa/hcl-report.bin",
      "tpm/keylime-simulator/ak.pub.pem",
    ]
    const seeds = haveVectors ? files.map(readVector) : [random.bytes(200)]
    const readers = [parseQuoteAttest, parseSignature, parsePublic, readKey, parseHclReport, readKey]
    for (let i = 0; i < executions; i++) {
      const seed = seeds[i % seeds.length] ?? new Uint8Array(0)
      const read = readers[i % readers.length] ?? parseQuoteAttest
      const choice = random.below(4)
      const bytes =
        choice === 0
          ? random.resized(seed)
          : choice === 1
            ? random.bytes(random.below(300))
            : random.flipped(seed)
      thrown(() => read(bytes))
    }
  })

  it("of 64 KiB cost next to nothing", () => {
    const begin = process.threadCpuUsage()
    for (const fill of [0x00, 0x30, 0x2d, 0xff]) {
      const bytes = new Uint8Array(65_536).fill(fill)
      for (const read of [parseQuoteAttest, parseSignature, parsePublic, readKey, parseHclReport])
        expect(thrown(() => read(bytes))).toBeInstanceOf(TpmError)
    }
    const { user, system } = process.threadCpuUsage(begin)
    expect((user + system) / 1_000).toBeLessThan(200)
  })
})

/** Real quotes, and what must be said of them. VOUCHSAFE_VECTORS names their directory. */
import { createHash, X509Certificate } from "node:crypto"
import { describe, expect, it } from "vitest"
import { noble } from "../../services/common/crypto/index.ts"
import { matchReplay, parseEventLog } from "../../services/evidence/eventlog/index.ts"
import { parseReport } from "../../services/evidence/snp/report.ts"
import {
  type BindingEvidence,
  bindQuote,
  googleTpmRoot1,
  parseHclReport,
  parseQuoteAttest,
  readKey,
  TpmChainCache,
  TpmError,
  type VerifiedHardware,
  type VerifiedQuote,
  verifyQuote,
} from "../../services/evidence/tpm/index.ts"
import { haveVectors, hexOf, readVector, vectorsDir } from "./evidence-support.ts"
import {
  bytesOf,
  type Entry,
  evidenceOf,
  manifest,
  pairings,
  quotes,
  readPcrs,
  requestOf,
} from "./evidence-tpm-support.ts"

const quoteCount = 12
const pairingCount = 6

if (!haveVectors)
  console.warn(
    `NO REAL EVIDENCE TESTED: ${quoteCount} TPM quotes and ${pairingCount} pairings skipped, for there is nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`,
  )

describe("real quotes", () => {
  it("are there, or their absence was said", () => {
    if (!haveVectors) expect(quotes).toHaveLength(0)
    else {
      expect(quotes.length).toBeGreaterThanOrEqual(quoteCount)
      expect(pairings.length).toBeGreaterThanOrEqual(pairingCount)
    }
  })
})

const verified = (entry: Entry): VerifiedQuote => {
  const result = verifyQuote(evidenceOf(entry), requestOf(entry), { sha1: "allow" })
  if (result instanceof TpmError) throw result
  return result
}

const codeOf = (result: unknown): string => (result instanceof TpmError ? result.code : "believed")

const quoteAt = (file: string): Entry => {
  const entry = quotes.find((one) => one.file === file)
  if (entry === undefined) throw new Error(`${file} isn't in the manifest`)
  return entry
}

const hclOf = (entry: Entry): string | undefined =>
  entry.goesWith.find((file) => file.endsWith("/hcl-report.bin"))

/** The hardware report that goes with a blob: the one in the manifest, else the one inside. */
const hardwareOf = (hclFile: string): VerifiedHardware => {
  const own = manifest.find(({ kind, goesWith }) => kind === "snp-report" && goesWith.includes(hclFile))
  const hcl = parseHclReport(readVector(hclFile))
  if (hcl.hardware === "snp")
    return { kind: "snp", report: parseReport(own ? readVector(own.file) : hcl.report) }
  const quote = manifest.find(({ kind, goesWith }) => kind === "tdx-quote" && goesWith.includes(hclFile))
  if (quote === undefined) throw new Error(`no TDX quote goes with ${hclFile}`)
  // Report data of a version 4 quote: header of 48 bytes, then at 520 in the TD report.
  return { kind: "tdx", reportData: readVector(quote.file).slice(48 + 520, 48 + 584) }
}

describe.each(quotes)("$file", (entry) => {
  const isOld = (entry.policyNotes ?? []).some((note) => note.includes("SHA-1"))

  it(`is ${entry.expect}`, () => {
    const quote = verified(entry)
    expect(entry.expect).toBe("valid")
    expect({
      extraData: hexOf(quote.nonce),
      selection: quote.selections.map(({ algorithm, pcrs }) => [`0x${algorithm.toString(16)}`, pcrs]),
      pcrDigest: hexOf(quote.pcrDigest),
      signer: hexOf(quote.qualifiedSigner),
      clock: Number(quote.clockInfo.clock),
      resetCount: quote.clockInfo.resetCount,
      restartCount: quote.clockInfo.restartCount,
      safe: quote.clockInfo.safe ? 1 : 0,
      firmwareVersion: quote.firmwareVersion.toString(16).padStart(16, "0"),
    }).toMatchObject(entry.fields ?? {})
  })

  it(isOld ? "is refused by default, for SHA-1" : "is accepted by default", () => {
    const result = verifyQuote(evidenceOf(entry), requestOf(entry))
    expect(codeOf(result)).toBe(isOld ? "SHA1_REFUSED" : "believed")
  })

  it("says the same with the other crypto", () => {
    const result = verifyQuote(evidenceOf(entry), requestOf(entry), { sha1: "allow", crypto: noble })
    expect(codeOf(result)).toBe("believed")
  })

  it("answers only what was asked", () => {
    const request = requestOf(entry)
    const withNonce = (nonce: Uint8Array) =>
      codeOf(verifyQuote(evidenceOf(entry), { ...request, nonce }, { sha1: "allow" }))
    expect(withNonce(bytesOf("deadbeef"))).toBe("NONCE_MISMATCH")
    expect(withNonce(Uint8Array.from([...request.nonce, 0]))).toBe("NONCE_MISMATCH")
    const withSelection = (selection: typeof request.selection) =>
      codeOf(verifyQuote(evidenceOf(entry), { ...request, selection }, { sha1: "allow" }))
    expect(withSelection([])).toBe("SELECTION_MISMATCH")
    expect(withSelection([{ bank: "sha512", pcrs: [0] }])).toBe("SELECTION_MISMATCH")
    const [first] = request.selection
    expect(withSelection([{ bank: first?.bank ?? "sha256", pcrs: [...(first?.pcrs ?? []), 31] }])).toBe(
      "SELECTION_MISMATCH",
    )
  })

  it("vouches for no register that it doesn't cover", () => {
    const evidence = evidenceOf(entry)
    const more = Object.fromEntries(
      Object.entries(evidence.pcrs).map(([bank, values]) => [
        bank,
        new Map([...values, [31, new Uint8Array(32)]]),
      ]),
    )
    const result = verifyQuote({ ...evidence, pcrs: more }, requestOf(entry), { sha1: "allow" })
    if (result instanceof TpmError) throw result
    for (const { bank, pcrs } of result.selections)
      expect([...(bank ? (result.pcrs[bank]?.keys() ?? []) : [])]).toEqual(pcrs)
  })

  const log = entry.goesWith.find((file) => file.includes("eventlog"))
  if (log !== undefined)
    it("covers what its event log says", () => {
      const quote = verified(entry)
      const parsed = parseEventLog(readVector(log))
      for (const { bank } of quote.selections) {
        if (bank === undefined) expect.fail("unknown bank")
        expect(matchReplay(parsed, bank, quote.pcrs[bank] ?? new Map()).length).toBeGreaterThan(5)
      }
    })

  const hcl = hclOf(entry)
  if (hcl !== undefined)
    it("is bound to the hardware report", () => {
      const hardware = hardwareOf(hcl)
      const binding = bindQuote(verified(entry), { kind: "azure-hcl", hclReport: readVector(hcl), hardware })
      if (binding instanceof TpmError) throw binding
      expect(binding).toMatchObject({
        kind: "azure-hcl",
        hardware: hardware.kind,
        userData: expect.stringMatching(/^[0-9a-f]{128}$/),
      })
    })
})

/** Each of a machine's blobs against the pieces of every other one. */
describe.runIf(haveVectors)("pieces of several machines", () => {
  const bound = quotes.filter((entry) => hclOf(entry) !== undefined)
  const pieces = bound.map((entry) => ({ entry, hcl: hclOf(entry) ?? "" }))

  it.each(pieces)("$entry.file goes with its own only", ({ entry, hcl }) => {
    for (const other of pieces) {
      if (other.hcl === hcl) continue
      const attempt = (hclReport: string, hardware: VerifiedHardware) =>
        bindQuote(verified(entry), { kind: "azure-hcl", hclReport: readVector(hclReport), hardware })
      // The other's blob and report are a pair: only the key is wrong.
      expect(codeOf(attempt(other.hcl, hardwareOf(other.hcl)))).toBe("BINDING_KEY_MISMATCH")
      expect(codeOf(attempt(hcl, hardwareOf(other.hcl)))).toMatch(/^BINDING_REPORT_(MISMATCH|KIND)$/)
      expect(codeOf(attempt(other.hcl, hardwareOf(hcl)))).toMatch(/^BINDING_REPORT_(MISMATCH|KIND)$/)
    }
  })

  it("a report that the guest itself asked for binds nothing", () => {
    const [first] = pieces
    if (first === undefined) expect.fail("no pieces")
    const hardware = hardwareOf(first.hcl)
    if (hardware.kind !== "snp") expect.fail("no SNP report")
    const byGuest: VerifiedHardware = { kind: "snp", report: { ...hardware.report, vmpl: 2 } }
    const evidence: BindingEvidence = {
      kind: "azure-hcl",
      hclReport: readVector(first.hcl),
      hardware: byGuest,
    }
    expect(codeOf(bindQuote(verified(first.entry), evidence))).toBe("BINDING_PRIVILEGE")
  })
})

describe.runIf(haveVectors)("a certified attestation key", () => {
  const now = new Date("2026-01-01T00:00:00Z")
  const certificates = () =>
    [
      "tpm/gce-cos85-nonce9009/ak-cert.der",
      "tpm/certs/google-tpm-ek-intermediate-2.der",
      "tpm/certs/google-tpm-ek-root-1.der",
    ].map(readVector)
  const certified = (change: Partial<Extract<BindingEvidence, { kind: "certified-ak" }>> = {}) =>
    bindQuote(verified(quoteAt("tpm/gce-cos85-nonce9009/sha256.tpms-attest.bin")), {
      kind: "certified-ak",
      certificates: certificates(),
      issuers: [googleTpmRoot1],
      now,
      ...change,
    })

  it("is bound through Google's chain, and says which instance it was", () => {
    expect(certified()).toMatchObject({
      kind: "certified-ak",
      chain: {
        issuer: googleTpmRoot1,
        tpm: { manufacturer: "id:474F4F47", model: "vTPM", version: "id:20160511" },
        instance: {
          zone: "us-central1-a",
          projectId: "google.com:wuale-gcp-testing",
          instanceName: "cos-test",
        },
      },
    })
  })

  it("looks at dates and issuers again when it knows the chain", () => {
    const cache = new TpmChainCache()
    for (let i = 0; i < 2; i++) expect(certified({ cache })).toMatchObject({ kind: "certified-ak" })
    expect(codeOf(certified({ cache, issuers: [] }))).toBe("ISSUER_UNKNOWN")
    expect(codeOf(certified({ cache, now: new Date("2052-01-01T00:00:00Z") }))).toBe("CERTIFICATE_EXPIRED")
    const begin = process.cpuUsage()
    for (let i = 0; i < 100; i++) certified({ cache })
    const { user, system } = process.cpuUsage(begin)
    console.info(`TPM quote and its warm chain: ${((user + system) / 100_000).toFixed(3)} ms of CPU`)
  })

  it("is bound under an intermediate that the operator named", () => {
    const [leaf, intermediate] = certificates()
    if (!leaf || !intermediate) expect.fail("no certificates")
    const certificateDigest = createHash("sha256").update(intermediate).digest("hex")
    const issuers = [{ name: "intermediate", certificateDigest }]
    expect(certified({ certificates: [leaf, intermediate], issuers })).toMatchObject({ kind: "certified-ak" })
    // By its key alone it can't stand at the top: nothing would vouch for the rest of it.
    const key = new X509Certificate(intermediate).publicKey.export({ format: "der", type: "spki" })
    const keyDigest = createHash("sha256").update(key).digest("hex")
    const byKey = certified({ certificates: [leaf, intermediate], issuers: [{ name: "key", keyDigest }] })
    expect(codeOf(byKey)).toBe("CERTIFICATE_ISSUER")
  })

  it("is refused under no issuer, at the wrong time, out of order and for another key", () => {
    expect(codeOf(certified({ issuers: [] }))).toBe("ISSUER_UNKNOWN")
    expect(codeOf(certified({ now: new Date("2020-01-01T00:00:00Z") }))).toBe("CERTIFICATE_NOT_YET_VALID")
    expect(codeOf(certified({ now: new Date("2052-01-01T00:00:00Z") }))).toBe("CERTIFICATE_EXPIRED")
    expect(codeOf(certified({ now: new Date(Number.NaN) }))).toBe("TIME_INVALID")
    expect(codeOf(certified({ certificates: certificates().slice(0, 1) }))).toBe("CHAIN_LENGTH")
    const [leaf, , root] = certificates()
    if (!leaf || !root) expect.fail("no certificates")
    expect(codeOf(certified({ certificates: [leaf, root] }))).toBe("CERTIFICATE_ISSUER")
    expect(codeOf(certified({ certificates: certificates().slice(1) }))).toBe("CERTIFICATE_ROLE")
    const other = bindQuote(verified(quoteAt("tpm/generic-swtpm/tpms-attest.bin")), {
      kind: "certified-ak",
      certificates: certificates(),
      issuers: [googleTpmRoot1],
      now,
    })
    expect(codeOf(other)).toBe("BINDING_KEY_MISMATCH")
  })

  it("isn't an endorsement key", () => {
    const quote = verified(quoteAt("tpm/gce-cos85-nonce9009/sha256.tpms-attest.bin"))
    const akName = quote.ak.public?.name ?? new Uint8Array(0)
    const secret = new Uint8Array(32).fill(7)
    const evidence = { certificates: certificates(), issuers: [googleTpmRoot1], now, answer: secret }
    const pending = { secret, akName, ekDigest: quote.ak.digest }
    expect(codeOf(bindQuote(quote, { kind: "activated-credential", pending, ...evidence }))).toBe(
      "CERTIFICATE_ROLE",
    )
  })
})

describe.runIf(haveVectors)("a key that the operator named", () => {
  it("is bound by its digest alone", () => {
    const quote = verified(quoteAt("tpm/generic-swtpm/tpms-attest.bin"))
    expect(bindQuote(quote, { kind: "named-key", keyDigests: [quote.ak.digest] })).toMatchObject({
      kind: "named-key",
    })
    expect(codeOf(bindQuote(quote, { kind: "named-key", keyDigests: ["00".repeat(32)] }))).toBe(
      "BINDING_KEY_UNNAMED",
    )
  })
})

describe.runIf(haveVectors)("keys in the manifest", () => {
  it("read the same from every form", () => {
    const keys = manifest.filter(
      ({ kind, file }) => file.startsWith("tpm/") && /tpm-public|public-key/.test(kind),
    )
    expect(keys.length).toBeGreaterThan(7)
    for (const { file } of keys) {
      const { key } = readKey(readVector(file))
      expect(readKey(key.spki).key.spki).toEqual(key.spki)
      const pem = key.object.export({ format: "pem", type: "spki" }).toString()
      expect(readKey(pem).key.spki).toEqual(key.spki)
    }
  })
})

/** What each pairing is refused for; one that isn't named here may be refused for anything. */
const refusedFor: Readonly<Record<string, string>> = {
  "tpm-quote-of-other-machine": "QUOTE_SIGNATURE",
  "tpm-pcrs-of-other-machine": "PCR_DIGEST_MISMATCH",
  "tpm-runtime-data-of-other-machine": "BINDING_REPORT_MISMATCH",
  "tpm-wrong-nonce": "NONCE_MISMATCH",
  "tpm-event-log-of-other-image": "REPLAY_MISMATCH",
  "tpm-signature-of-other-quote": "QUOTE_SIGNATURE",
}

/** The code of the first check that fails when the files of a pairing replace those that belong to the quote. */
const judgePairing = (uses: readonly string[], nonce: Uint8Array | undefined): string => {
  const using = (pattern: RegExp) => uses.find((file) => pattern.test(file))
  const log = using(/eventlog\.bin$/)
  const pcrs = using(/pcrs[^/]*\.json$/)
  if (log !== undefined && pcrs !== undefined) {
    const parsed = parseEventLog(readVector(log))
    const wrong = Object.entries(readPcrs(pcrs)).map(([bank, values]) => {
      try {
        matchReplay(parsed, bank as keyof ReturnType<typeof readPcrs>, values)
        return "believed"
      } catch (error) {
        return (error as { code: string }).code
      }
    })
    return wrong.find((code) => code !== "believed") ?? "believed"
  }
  const hcl = using(/hcl-report\.bin$/)
  const report = using(/^snp\/.*report\.bin$/)
  const own = using(/tpms-attest\.bin$/) ?? quotes.find(({ goesWith }) => hcl && goesWith.includes(hcl))?.file
  if (own === undefined) return "no quote"
  const entry = quoteAt(own)
  const signature = using(/signature\.bin$/)
  const evidence = evidenceOf(entry)
  const key =
    hcl !== undefined && report === undefined ? parseHclReport(readVector(hcl)).akPublic.spki : undefined
  const quote = verifyQuote(
    {
      ...evidence,
      ...(signature && { signature: readVector(signature) }),
      ...(pcrs && { pcrs: readPcrs(pcrs) }),
      ...(key && { akPublic: key }),
    },
    { ...requestOf(entry), ...(nonce && { nonce }) },
  )
  if (quote instanceof TpmError) return quote.code
  if (hcl === undefined || report === undefined) return "believed"
  const hardware: VerifiedHardware = { kind: "snp", report: parseReport(readVector(report)) }
  return codeOf(bindQuote(quote, { kind: "azure-hcl", hclReport: readVector(hcl), hardware }))
}

describe.each(pairings)("$name", ({ name, uses, expectedNonce }) => {
  it("is refused", () => {
    const code = judgePairing(uses, expectedNonce === undefined ? undefined : bytesOf(expectedNonce))
    expect(code).not.toBe("believed")
    if (refusedFor[name] !== undefined) expect(code).toBe(refusedFor[name])
  })
})

describe.runIf(haveVectors)("a verified quote", () => {
  it("takes well under half a millisecond of this core", () => {
    const entry = quoteAt("tpm/gce-cos85-nonce9009/sha256.tpms-attest.bin")
    const evidence = evidenceOf(entry)
    const request = requestOf(entry)
    const runs = 200
    for (let i = 0; i < 20; i++) verifyQuote(evidence, request)
    const begin = process.cpuUsage()
    for (let i = 0; i < runs; i++) verifyQuote(evidence, request)
    const { user, system } = process.cpuUsage(begin)
    const each = (user + system) / 1_000 / runs
    console.info(`TPM quote, RSA-2048, 24 registers: ${each.toFixed(3)} ms of CPU`)
    // The aim is 0.5; a shared machine gets room.
    expect(each).toBeLessThan(2)
  })

  it("is exactly what was signed", () => {
    for (const { file } of quotes) expect(parseQuoteAttest(readVector(file)).signed).toEqual(readVector(file))
  })
})

/** Real quotes, collateral and event logs, and what must be said of them. VOUCHSAFE_VECTORS names their directory. */
import { createHash, X509Certificate } from "node:crypto"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { native, noble } from "../../services/common/crypto/index.ts"
import { readCollateralFolder } from "../../services/evidence/collateral/index.ts"
import { checkIssued, outlineOf } from "../../services/evidence/tdx/certificate.ts"
import { verifyCrl } from "../../services/evidence/tdx/crl.ts"
import {
  intelRoots,
  parseQuote,
  type TdxCollateral,
  TdxError,
  type TdxOptions,
  type TdxStatus,
  tdxCollateralOf,
  verifyCcel,
  verifyQuote,
  verifyQuoteSignatures,
  verifyRtmrEvents,
} from "../../services/evidence/tdx/index.ts"
import { readQeIdentity } from "../../services/evidence/tdx/qe-identity.ts"
import { verifySignedJson } from "../../services/evidence/tdx/signed-json.ts"
import { readTcbInfo } from "../../services/evidence/tdx/tcb-info.ts"
import { intelTcbSigning } from "../../services/evidence/tdx/tcb-signing.ts"
import { haveVectors, hexOf, readVector, readVectorJson, vectorsDir } from "./evidence-support.ts"

interface Expected {
  readonly platformTcb: string
  readonly platformTcbDate: string | null
  readonly advisories: readonly string[] | null
  readonly tdxModule: string
  readonly qe: string
  readonly qeIsvSvn: number
}

interface Verification {
  readonly collateral: string
  readonly at: string
  readonly crls: string
  readonly pckCertValidThen: boolean
  readonly expectedStatus: Expected
}

interface Entry {
  readonly file: string
  readonly kind: string
  readonly certRole?: string
  readonly expect: "valid" | "invalid"
  readonly goesWith: readonly string[]
  readonly time: Readonly<Record<string, string>> | null
  readonly fields?: Readonly<Record<string, unknown>>
  readonly verifications?: readonly Verification[]
  readonly replay?: { readonly sha384: Readonly<Record<string, string>> }
}

interface Pairing {
  readonly name: string
  readonly uses: readonly string[]
  readonly at?: string
}

const counts = { quotes: 15, pairs: 21, collateral: 43, logs: 7, pairings: 6 }

const manifest = haveVectors
  ? (readVectorJson("MANIFEST.json") as readonly Entry[]).filter(({ file }) => file.startsWith("tdx/"))
  : []
const quotes = manifest.filter(({ kind }) => kind === "tdx-quote")
const valid = quotes.filter((entry) => entry.expect === "valid")
const pairs = valid.flatMap((entry) =>
  (entry.verifications ?? []).map((one) => ({ ...one, file: entry.file })),
)
const collateralFiles = manifest.filter(({ kind }) => /^(intel-|x509-crl)/.test(kind))
const logs = manifest.filter(({ kind }) => /eventlog/.test(kind))
const pairings = haveVectors
  ? (readVectorJson("NEGATIVE-PAIRINGS.json") as readonly Pairing[]).filter(({ name }) =>
      name.startsWith("tdx-"),
    )
  : []

const collateralOf = (folder: string): TdxCollateral =>
  tdxCollateralOf(readCollateralFolder(join(vectorsDir, folder)))

/** A time at which the certificates of a quote are good. */
const within = (entry: Entry): Date =>
  new Date(Date.parse(entry.time?.pckNotBefore ?? "2026-01-01") + 86_400_000)

const codeOf = (result: unknown): string => (result instanceof TdxError ? result.code : "believed")

if (!haveVectors)
  console.warn(
    `NO REAL EVIDENCE TESTED: ${counts.quotes} TDX quotes, ${counts.pairs} verifications, ${counts.collateral} files of collateral, ${counts.logs} event logs and ${counts.pairings} pairings skipped, for there is nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`,
  )

describe("real evidence", () => {
  it("is there, or its absence was said", () => {
    if (haveVectors) {
      expect(valid.length).toBeGreaterThanOrEqual(counts.quotes)
      expect(pairs.length).toBeGreaterThanOrEqual(counts.pairs)
      expect(collateralFiles.length).toBeGreaterThanOrEqual(counts.collateral)
      expect(logs.length).toBeGreaterThanOrEqual(counts.logs)
      expect(pairings.length).toBeGreaterThanOrEqual(counts.pairings)
    } else expect(manifest).toHaveLength(0)
  })
})

describe.each(valid)("$file", (entry) => {
  const quote = readVector(entry.file)
  const verify = (options: TdxOptions) => verifyQuoteSignatures({ quote }, options)

  it("is genuine, to both implementations of cryptography", () => {
    for (const crypto of [native, noble]) {
      const result = verify({ now: within(entry), crypto })
      if (result instanceof TdxError) throw result
      expect(result.emulated).toBe(false)
      expect(decoded(result.quote, result.platform)).toMatchObject(entry.fields ?? {})
    }
  })

  it("isn't before its certificate begins, after it ends, at no time, or under no root", () => {
    expect(codeOf(verify({ now: new Date("2017-01-01T00:00:00Z") }))).toBe("CERTIFICATE_NOT_YET_VALID")
    expect(codeOf(verify({ now: new Date("2060-01-01T00:00:00Z") }))).toBe("CERTIFICATE_EXPIRED")
    expect(codeOf(verify({ now: new Date(Number.NaN) }))).toBe("TIME_INVALID")
    expect(codeOf(verify({ now: within(entry), roots: [] }))).toBe("ROOT_UNKNOWN")
  })
})

/** Everything that the manifest knows of a quote. */
const decoded = (
  quote: ReturnType<typeof parseQuote>,
  platform: { fmspc: Uint8Array; pceId: Uint8Array; pceSvn: number; sgxComponents: readonly number[] },
) => {
  const { td } = quote
  const u64 = (raw: bigint): string => {
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigUint64(0, raw, true)
    return hexOf(bytes)
  }
  return {
    version: quote.version,
    teeType: 0x81,
    teeTcbSvn: hexOf(td.teeTcbSvn),
    mrSeam: hexOf(td.mrSeam),
    mrSignerSeam: hexOf(td.mrSignerSeam),
    seamAttributes: hexOf(td.seamAttributes),
    tdAttributes: u64(td.tdAttributes.raw),
    xfam: u64(td.xfam.raw),
    mrTd: hexOf(td.mrTd),
    mrConfigId: hexOf(td.mrConfigId),
    mrOwner: hexOf(td.mrOwner),
    mrOwnerConfig: hexOf(td.mrOwnerConfig),
    rtmr: td.rtmrs.map(hexOf),
    reportData: hexOf(td.reportData),
    ...(td.teeTcbSvn2 && { teeTcbSvn2: hexOf(td.teeTcbSvn2), bodyType: 3 }),
    ...(td.mrServiceTd && { mrServiceTd: hexOf(td.mrServiceTd) }),
    fmspc: hexOf(platform.fmspc),
    pceid: hexOf(platform.pceId),
    pceSvn: platform.pceSvn,
    sgxTcbComponents: platform.sgxComponents,
    trailingBytes: quote.trailingBytes,
  }
}

describe.each(pairs)("$file with $collateral", ({ file, collateral: folder, at, crls, expectedStatus }) => {
  const quote = readVector(file)
  const collateral = collateralOf(folder)
  const complete = crls === "complete"
  const rules = { now: new Date(at), ...(!complete && { missingCrl: "report" as const }) }

  it("has the status that the manifest says", () => {
    const result = verifyQuote({ quote, collateral }, rules)
    const fits = expectedStatus.platformTcb !== "NoMatchingLevel"
    expect(codeOf(result)).toBe(fits ? "believed" : "TCB_LEVEL_NONE")
    checkStatus(result.status, expectedStatus)
    if (result instanceof TdxError) return
    expect(result.revocation).toEqual({ pck: complete ? "good" : "unknown", issuers: "good" })
    const digests = result.collateral.map(({ sha256 }) => sha256)
    for (const bytes of Object.values(collateral))
      expect(digests).toContain(createHash("sha256").update(bytes).digest("hex"))
    for (const { issued, expires } of result.collateral) {
      expect(issued.getTime()).toBeLessThanOrEqual(rules.now.getTime())
      expect(expires.getTime()).toBeGreaterThanOrEqual(rules.now.getTime())
    }
  })

  it("is refused when the collateral is too new, too old, from before a known event, or incomplete", () => {
    const code = (change: object, of: TdxCollateral = collateral) =>
      codeOf(verifyQuote({ quote, collateral: of }, { ...rules, ...change }))
    const soon = new Date(rules.now.getTime() + 60 * 86_400_000)
    expect(code({ now: soon })).toMatch(/^(COLLATERAL|CRL)_EXPIRED$/)
    const before = new Date(rules.now.getTime() - 60 * 86_400_000)
    expect(code({ now: before })).toMatch(/_NOT_YET_VALID$/)
    expect(code({ minimumTcbEvaluationDataNumber: 99 })).toBe("COLLATERAL_SUPERSEDED")
    for (const name of ["tcbInfo", "qeIdentity", "rootCrl", "pckCrl"] as const) {
      const { [name]: _, ...without } = collateral
      expect(code({ missingCrl: "refuse" }, without)).toBe("COLLATERAL_MISSING")
    }
  })
})

const checkStatus = (status: TdxStatus | undefined, expected: Expected): void => {
  if (status === undefined) expect.fail("there is no status")
  expect(status.platform.status).toBe(expected.platformTcb)
  const date = status.platform.tcbDate?.toISOString().replace(".000Z", "Z") ?? null
  expect(date).toBe(expected.platformTcbDate)
  if (expected.advisories !== null) expect(status.platform.advisories).toEqual(expected.advisories)
  const { identity, status: module } = status.module
  if (identity === "base") expect(expected.tdxModule).toMatch(/^base entry/)
  else expect(`${identity} ${module}`).toBe(expected.tdxModule)
  expect(status.qe).toMatchObject({ status: expected.qe, isvSvn: expected.qeIsvSvn })
}

const rootFile = "tdx/certs/intel-sgx-root-ca.der"
const issuerOf = (file: string): string =>
  file.endsWith("pck-crl.der") ? "tdx/certs/intel-pck-platform-ca.der" : rootFile

/** What is read of a file of collateral once its signature held. */
const readCollateralFile = (entry: Entry): unknown => {
  const bytes = readVector(entry.file)
  if (entry.kind === "x509-crl") {
    const crl = verifyCrl("pckCrl", bytes, outlineOf("ca", readVector(issuerOf(entry.file))), native)
    return { notBefore: crl.thisUpdate, notAfter: crl.nextUpdate }
  }
  const key = outlineOf("tcbSigning", readVector("tdx/certs/intel-tcb-signing-2025.der")).publicKey
  const member = entry.kind === "intel-tcb-info" ? "tcbInfo" : "enclaveIdentity"
  const object = verifySignedJson(`collateral.${member}`, bytes, member, key, native)
  const { issueDate, nextUpdate } = member === "tcbInfo" ? readTcbInfo(object) : readQeIdentity(object)
  return { notBefore: issueDate, notAfter: nextUpdate }
}

describe.each(collateralFiles)("$file", (entry) => {
  it(`is ${entry.expect}`, () => {
    if (entry.expect === "invalid") {
      expect(() => readCollateralFile(entry)).toThrow(expect.objectContaining({ code: "COLLATERAL_KIND" }))
      return
    }
    const { notBefore = "", notAfter = "" } = entry.time ?? {}
    expect(readCollateralFile(entry)).toEqual({
      notBefore: new Date(notBefore),
      notAfter: new Date(notAfter),
    })
  })
})

const quoteOf = (entry: Entry): string | undefined =>
  entry.goesWith.find((file) => file.endsWith(".quote.bin"))

describe.each(logs.filter((entry) => quoteOf(entry) !== undefined))("$file", (entry) => {
  it(`is ${entry.expect} for its quote`, () => {
    const { td } = parseQuote(readVector(quoteOf(entry) ?? ""))
    const verify = entry.kind === "ccel-eventlog" ? verifyCcel : verifyRtmrEvents
    const result = verify(readVector(entry.file), td)
    expect(codeOf(result)).toBe(entry.expect === "valid" ? "believed" : "EVENT_LOG_MISMATCH")
    if (!(result instanceof TdxError)) expect(result.rtmrs).toEqual([0, 1, 2, 3])
  })
})

describe.each(logs.filter((entry) => quoteOf(entry) === undefined))("$file", (entry) => {
  it("replays to the registers that the manifest says, and to no quote's", () => {
    const { td } = parseQuote(readVector("tdx/v4-gcp-cos113.quote.bin"))
    const bytes = readVector(entry.file)
    expect(codeOf(verifyCcel(bytes, td))).toBe("EVENT_LOG_MISMATCH")
    const register = (i: number) => {
      const hex = entry.replay?.sha384[`${i}`]
      return hex === undefined ? new Uint8Array(48) : Uint8Array.from(Buffer.from(hex, "hex"))
    }
    const rtmrs = [register(1), register(2), register(3), register(4)] as const
    expect(codeOf(verifyCcel(bytes, { ...td, rtmrs }))).toBe("believed")
  })
})

describe.runIf(haveVectors)("the log of a guest agent", () => {
  it("names which events the register vouches for in full", () => {
    const { td } = parseQuote(readVector("tdx/v4-dstack.quote.bin"))
    const result = verifyRtmrEvents(readVector("tdx/eventlog/dstack.events.json"), td)
    if (result instanceof TdxError) throw result
    const application = result.events.filter(({ rtmr }) => rtmr === 3)
    expect(application.length).toBeGreaterThan(0)
    expect(application.every(({ isMeasured }) => isMeasured)).toBe(true)
  })

  it("belongs to the quote whose nonce it came with", () => {
    const { td } = parseQuote(readVector("tdx/v4-gcp-cos113.quote.bin"))
    expect(hexOf(td.reportData)).toBe(hexOf(readVector("tdx/eventlog/gcp-cos113.nonce.bin")))
  })
})

const invalid = (file: string): Uint8Array => readVector(`tdx/invalid/${file}`)

describe.runIf(haveVectors)("what isn't a genuine TDX quote", () => {
  const now = new Date("2024-01-01T00:00:00Z")

  it("an SGX enclave's quote is refused, though Intel vouches for it", () => {
    expect(codeOf(verifyQuoteSignatures({ quote: invalid("sgx-v3.quote.bin") }, { now }))).toBe(
      "QUOTE_VERSION",
    )
  })

  it("a root of Intel's name is refused for its key; listed as emulated, it is genuine sample data", () => {
    const evidence = { quote: invalid("self-made-root.quote.bin") }
    expect(codeOf(verifyQuoteSignatures(evidence, { now }))).toBe("ROOT_UNKNOWN")
    const key = new X509Certificate(invalid("self-made-root.ca.der")).publicKey
    const spki = key.export({ format: "der", type: "spki" })
    const key_digest = createHash("sha256").update(spki).digest("hex")
    const roots = [{ vendor: "intel" as const, key_digest, emulated: true }]
    const result = verifyQuoteSignatures(evidence, { now, roots })
    if (result instanceof TdxError) throw result
    expect(result.emulated).toBe(true)
  })
})

describe.runIf(haveVectors)("Intel's certificates", () => {
  it("the pinned root key is that of Intel's certificate", () => {
    const key = new X509Certificate(readVector(rootFile)).publicKey
    const digest = createHash("sha256")
      .update(key.export({ format: "der", type: "spki" }))
      .digest("hex")
    expect(intelRoots.map(({ key_digest }) => key_digest)).toEqual([digest])
  })

  it.each(["2018", "2025"])("the known TCB signing certificate of %s is Intel's", (year) => {
    const der = readVector(`tdx/certs/intel-tcb-signing-${year}.der`)
    expect(intelTcbSigning.map(hexOf)).toContain(hexOf(der))
    checkIssued("tcbSigning", outlineOf("tcbSigning", der), outlineOf("root", readVector(rootFile)), native)
  })

  it("the known TCB signing certificates have one key", () => {
    const keys = intelTcbSigning.map((der) => hexOf(outlineOf("tcbSigning", der).publicKey))
    expect(new Set(keys).size).toBe(1)
  })
})

/** What each pairing is refused for; a pairing that isn't named here may be refused for anything. */
const refusedFor: Readonly<Record<string, string>> = {
  "tdx-collateral-of-other-fmspc": "FMSPC_MISMATCH",
  "tdx-collateral-expired": "COLLATERAL_EXPIRED",
  "tdx-collateral-not-yet-valid": "COLLATERAL_NOT_YET_VALID",
  "tdx-qe-identity-of-sgx": "COLLATERAL_KIND",
  "tdx-root-crl-of-look-alike-root": "CRL_SIGNATURE",
  "tdx-event-log-of-other-boot": "EVENT_LOG_MISMATCH",
}

/** Which member of the collateral a file is. */
const memberOf = (file: string): keyof TdxCollateral | undefined =>
  file.endsWith("tcb-info.json")
    ? "tcbInfo"
    : file.endsWith("qe-identity.json")
      ? "qeIdentity"
      : file.endsWith("pck-crl.der")
        ? "pckCrl"
        : file.endsWith("root-ca-crl.der")
          ? "rootCrl"
          : undefined

/** What a pairing leaves out is filled up with what belongs to the quote or to the files that it names. */
const tryPairing = ({ uses, at }: Pairing): string => {
  const quoteFile = uses.find((file) => file.endsWith(".quote.bin"))
  const log = uses.find((file) => file.endsWith(".ccel.bin"))
  if (quoteFile === undefined) {
    const [crl, root] = uses
    try {
      verifyCrl("rootCrl", readVector(crl ?? ""), outlineOf("root", readVector(root ?? "")), native)
    } catch (error) {
      return codeOf(error)
    }
    return "believed"
  }
  const quote = readVector(quoteFile)
  if (log !== undefined) return codeOf(verifyCcel(readVector(log), parseQuote(quote).td))
  const folder =
    uses.find((file) => file.startsWith("tdx/collateral/"))?.replace(/\/[^/]*$/, "") ??
    manifest.find(({ file }) => file === quoteFile)?.verifications?.[0]?.collateral
  const named = uses.flatMap((file) => {
    const member = memberOf(file)
    return member === undefined ? [] : [[member, readVector(file)] as const]
  })
  const collateral = { ...collateralOf(folder ?? ""), ...Object.fromEntries(named) }
  return codeOf(verifyQuote({ quote, collateral }, { now: new Date(at ?? "") }))
}

describe.each(pairings)("$name", (pairing) => {
  it("is refused", () => {
    const code = tryPairing(pairing)
    expect(code).not.toBe("believed")
    if (refusedFor[pairing.name] !== undefined) expect(code).toBe(refusedFor[pairing.name])
  })
})

describe("without the samples", () => {
  it("a folder that isn't there is said to be unreadable", () => {
    expect(() => readCollateralFolder(join(vectorsDir, "nothing-here"))).toThrow(
      expect.objectContaining({ code: "FOLDER_UNREADABLE" }),
    )
  })
})

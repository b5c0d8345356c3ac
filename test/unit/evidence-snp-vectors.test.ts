/** Real reports and certificates, and what must be said of them. VOUCHSAFE_VECTORS names their directory. */
import { describe, expect, it } from "vitest"
import { noble } from "../../services/common/crypto/index.ts"
import {
  amdRoots,
  parseReport,
  SnpError,
  type VerifiedSnp,
  verifyReport,
} from "../../services/evidence/index.ts"
import { haveVectors, hexOf, readVector, readVectorJson, vectorsDir } from "./evidence-support.ts"

interface Entry {
  readonly file: string
  readonly kind: string
  readonly platform: string
  readonly expect: "valid" | "invalid"
  readonly goesWith: readonly string[]
  readonly time: { readonly verifyAt?: string; readonly notBefore?: string } | null
  readonly fields?: Readonly<Record<string, unknown>>
  readonly tcbExtensions?: Readonly<Record<string, unknown>>
}

interface Pairing {
  readonly name: string
  readonly uses: readonly string[]
  readonly at?: string
}

/** What each pairing is refused for; a pairing that isn't named here may be refused for anything. */
const refusedFor: Readonly<Record<string, string>> = {
  "snp-vcek-of-other-chip": "TCB_MISMATCH",
  "snp-genoa-vcek-under-milan": "CERTIFICATE_ISSUER",
  "snp-vlek-under-ask": "CERTIFICATE_ROLE",
  "snp-vlek-expired": "CERTIFICATE_EXPIRED",
  "snp-turin-other-chip": "TCB_MISMATCH",
  "snp-older-tcb-same-chip": "TCB_MISMATCH",
  "snp-vcek-bad-issuer-signature-legacy": "CERTIFICATE_SIGNATURE",
  "snp-vcek-bad-issuer-signature-new": "CERTIFICATE_SIGNATURE",
}

const vectorCount = 22
const pairingCount = 8

const manifest = haveVectors ? (readVectorJson("MANIFEST.json") as readonly Entry[]) : []
const pairings = haveVectors
  ? (readVectorJson("NEGATIVE-PAIRINGS.json") as readonly Pairing[]).filter(({ name }) =>
      name.startsWith("snp-"),
    )
  : []
const reports = manifest.filter(({ kind }) => kind === "snp-report")
const entryOf = (file: string): Entry | undefined => manifest.find((entry) => entry.file === file)

const isCertificate = (file: string): boolean => file.startsWith("snp/") && file.endsWith(".der")

/** The issuers that belong to a leaf, wherever the manifest names them. */
const issuersOf = (files: readonly string[]): readonly string[] =>
  files.filter((file) => file.startsWith("snp/certs/"))

const timeOf = (entry: Entry): Date => new Date(entry.time?.verifyAt ?? "2026-01-01T00:00:00Z")

const verify = (report: Uint8Array, certificates: readonly string[], at: Date) =>
  verifyReport({ report, certificates: certificates.map(readVector) }, { roots: amdRoots, now: at })

if (!haveVectors)
  console.warn(
    `NO REAL EVIDENCE TESTED: ${vectorCount} SNP reports and ${pairingCount} pairings skipped, for there is nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`,
  )

describe("real evidence", () => {
  it("is there, or its absence was said", () => {
    if (haveVectors) {
      expect(reports.length).toBeGreaterThanOrEqual(vectorCount)
      expect(pairings.length).toBeGreaterThanOrEqual(pairingCount)
    } else expect(reports).toHaveLength(0)
  })
})

describe.each(reports)("$file", (entry) => {
  const report = readVector(entry.file)
  const certificates = entry.goesWith.filter(isCertificate)

  it(`is ${entry.expect}`, () => {
    const result = verify(report, certificates, timeOf(entry))
    if (entry.expect === "invalid") {
      expect(result).toBeInstanceOf(SnpError)
      return
    }
    if (result instanceof SnpError) throw result
    expect(entry.platform).toContain(result.product)
    expect(result.emulated).toBe(false)
    checkFields(result, entry.fields ?? {})
  })

  if (entry.expect === "valid") {
    it("is genuine to the other crypto too", () => {
      const evidence = { report, certificates: certificates.map(readVector) }
      const result = verifyReport(evidence, { roots: amdRoots, now: timeOf(entry), crypto: noble })
      expect(result).not.toBeInstanceOf(SnpError)
    })

    it("isn't believed before its certificates begin, after they end, or under no root", () => {
      const code = (result: VerifiedSnp | SnpError) => (result instanceof SnpError ? result.code : "believed")
      expect(code(verify(report, certificates, new Date("2019-01-01T00:00:00Z")))).toBe(
        "CERTIFICATE_NOT_YET_VALID",
      )
      expect(code(verify(report, certificates, new Date("2099-01-01T00:00:00Z")))).toBe("CERTIFICATE_EXPIRED")
      expect(code(verify(report, certificates, new Date(Number.NaN)))).toBe("TIME_INVALID")
      const evidence = { report, certificates: certificates.map(readVector) }
      expect(code(verifyReport(evidence, { roots: [], now: timeOf(entry) }))).toBe("ROOT_UNKNOWN")
    })
  }
})

/** Everything that the manifest knows of a report. */
const checkFields = (verified: VerifiedSnp, fields: Readonly<Record<string, unknown>>): void => {
  const { report } = verified
  const { currentFirmware: current, committedFirmware: committed, cpuid } = report
  const firmware = (of: typeof current) => hexOf(Uint8Array.of(of.build, of.minor, of.major))
  expect({
    version: report.version,
    guestSvn: report.guestSvn,
    policy: Number(report.policy.raw),
    familyId: hexOf(report.familyId),
    imageId: hexOf(report.imageId),
    vmpl: report.vmpl,
    sigAlgo: 1,
    currentTcb: hexOf(report.currentTcb),
    platformInfo: Number(report.platformInfo.raw),
    flags:
      (report.signingKey === "VLEK" ? 4 : 0) |
      (report.maskChipKey ? 2 : 0) |
      (report.authorKeyEnabled ? 1 : 0),
    signingKey: report.signingKey,
    authorKeyEn: report.authorKeyEnabled ? 1 : 0,
    maskChipKey: report.maskChipKey ? 1 : 0,
    reportData: hexOf(report.reportData),
    measurement: hexOf(report.measurement),
    hostData: hexOf(report.hostData),
    idKeyDigest: hexOf(report.idKeyDigest),
    authorKeyDigest: hexOf(report.authorKeyDigest),
    reportId: hexOf(report.reportId),
    reportIdMa: hexOf(report.reportIdMa),
    reportedTcb: hexOf(report.reportedTcb),
    cpuidFms: cpuid ? hexOf(Uint8Array.of(cpuid.family, cpuid.model, cpuid.stepping)) : "000000",
    chipId: hexOf(report.chipId),
    committedTcb: hexOf(report.committedTcb),
    currentVer: firmware(current),
    committedVer: firmware(committed),
    launchTcb: hexOf(report.launchTcb),
    debugAllowed: report.policy.debug,
  }).toMatchObject(fields)
}

describe.each(pairings)("$name", ({ name, uses, at }) => {
  it("is refused", () => {
    const own = uses.find((file) => file.endsWith(".report.bin"))
    const leaf = uses.find((file) => isCertificate(file) && !file.startsWith("snp/certs/"))
    if (leaf === undefined) expect.fail("names no endorsement certificate")
    const product = leaf.includes("genoa") ? "genoa" : leaf.includes("turin") ? "turin" : "milan"
    const listed = issuersOf(uses)
    const issuers = [
      listed.find((file) => !file.endsWith("-ark.der")) ?? `snp/certs/${product}-ask.der`,
      listed.find((file) => file.endsWith("-ark.der")) ?? `snp/certs/${product}-ark.der`,
    ]
    // Where a pairing is about certificates alone, the report is the one that the leaf was issued for, or any of its line.
    const fitting =
      own ??
      reports.find((entry) => entry.goesWith.includes(leaf))?.file ??
      reports.find((entry) => entry.expect === "valid" && entry.file.includes(product))?.file
    if (fitting === undefined) expect.fail("there is no report to try it with")
    const result = verify(readVector(fitting), [leaf, ...issuers], pairingTime(leaf, at))
    if (!(result instanceof SnpError)) expect.fail("was believed")
    if (refusedFor[name] !== undefined) expect(result.code).toBe(refusedFor[name])
  })
})

/** Within the leaf's dates, so that nothing is refused for those unless the pairing is about them. */
const pairingTime = (leaf: string, at: string | undefined): Date => {
  if (at !== undefined) return new Date(at)
  const from = entryOf(leaf)?.time?.notBefore
  return new Date(
    (from === undefined ? new Date("2026-01-01T00:00:00Z") : new Date(from)).getTime() + 86_400_000,
  )
}

/** A certificate that AMD issued again for the same chip, TCB and key is as good as the first. */
describe.runIf(haveVectors)("certificates", () => {
  it("a VCEK issued again vouches as the first did", () => {
    const file = "snp/milan-v3-ms.report.bin"
    const again = ["snp/milan-v3-ms.vcek-reissued.der", "snp/certs/milan-ask.der", "snp/certs/milan-ark.der"]
    const result = verify(readVector(file), again, new Date("2026-03-01T00:00:00Z"))
    expect(result).not.toBeInstanceOf(SnpError)
  })

  it.each(["milan", "genoa", "turin"])(
    "%s: the pinned root key is that of AMD's certificate",
    async (line) => {
      const { X509Certificate, createHash } = await import("node:crypto")
      const key = new X509Certificate(readVector(`snp/certs/${line}-ark.der`)).publicKey
      const digest = createHash("sha256")
        .update(key.export({ format: "der", type: "spki" }))
        .digest("hex")
      expect(amdRoots.map(({ key_digest }) => key_digest)).toContain(digest)
    },
  )

  it("every report's bytes parse and are what was signed", () => {
    for (const { file } of reports) {
      const bytes = readVector(file)
      expect(parseReport(bytes).signed).toEqual(bytes.subarray(0, 0x2a0))
    }
  })
})

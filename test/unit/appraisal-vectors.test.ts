/**
 * Real evidence of every platform, appraised as a workflow's stage asks that is written for it; and refused as soon as
 * the stage asks otherwise. VOUCHSAFE_VECTORS names their directory.
 */
import { X509Certificate } from "node:crypto"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import type {
  Evidence,
  NitroPiece,
  PcrValue,
  SnpPiece,
  TdxPiece,
  TpmPiece,
} from "../../schemas/messages/common.ts"
import type { Chip, Demands, HardwareRoot, SevSnp, Tdx } from "../../schemas/platforms.ts"
import {
  type AppraisalClaims,
  amdRoots,
  appraise,
  awsRoots,
  type CollateralLookup,
  EvidenceCaches,
  googleTpmRoot1,
  identitiesOf,
  intelRoots,
  type Machine,
  machineOf,
  parseTpmQuoteAttest,
  readCollateralFolder,
  tdxCollateralOf,
  verifyPieces,
} from "../../services/evidence/index.ts"
import { checkOf, claims, judge, none, outcome, policyOf } from "./appraisal-support.ts"
import { flippedAt, haveVectors, hexOf, readVector, readVectorJson, vectorsDir } from "./evidence-support.ts"
import { evidenceOf, quotes } from "./evidence-tpm-support.ts"

const counts = { snp: 18, tdx: 10, azure: 6, gce: 2, nitro: 2 }

interface Entry {
  readonly file: string
  readonly kind: string
  readonly expect: string
  readonly goesWith: readonly string[]
  readonly time: Readonly<Record<string, string>> | null
  readonly verifications?: readonly {
    readonly collateral: string
    readonly at: string
    readonly crls: string
  }[]
}
const manifest = haveVectors ? (readVectorJson("MANIFEST.json") as readonly Entry[]) : []

if (!haveVectors)
  console.warn(
    `NO REAL EVIDENCE TESTED: appraisals of ${JSON.stringify(counts)} skipped, for there is nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`,
  )

const roots: readonly HardwareRoot[] = [
  ...amdRoots,
  ...intelRoots,
  ...awsRoots.map(({ name: _, ...root }) => root),
  {
    vendor: "tpm",
    use: "issuer",
    key_digest: "keyDigest" in googleTpmRoot1 ? googleTpmRoot1.keyDigest : "",
    emulated: false,
  },
]

interface Case {
  readonly name: string
  readonly evidence: Evidence
  readonly at: Date
  readonly collateral: CollateralLookup
}

const machineIn = ({ evidence, at, collateral }: Case): Machine => {
  const pieces = verifyPieces(evidence, { roots, now: at, collateral })
  const machine = machineOf(pieces)
  if (machine === undefined) throw new Error(`not genuine: ${JSON.stringify(pieces).slice(0, 300)}`)
  return machine
}

/** What a stage would have to say to take this very machine. */
const fitting = ({ platform, snp, tdx, tpm, nitro }: Machine): Demands => {
  const hex = (bytes: Uint8Array) => [hexOf(bytes)]
  const sev_snp: SevSnp | undefined = snp && {
    measurements: hex(snp.report.measurement),
    policy: { debug: snp.report.policy.debug, migration_agent: false, vmpl_max: snp.report.vmpl },
    provisional_firmware: true,
    host_data: hex(snp.report.hostData),
    ...(snp.cspId !== undefined && { vlek_of: [snp.cspId] }),
    tcb: { minimum: [snp.tcb.committed, snp.tcb.launch].map((tcb) => minimum(tcb, snp.tcb)) },
  }
  const own: Tdx | undefined = tdx && {
    mrtd: hex(tdx.quote.td.mrTd),
    rtmrs: { 1: hex(tdx.quote.td.rtmrs[1]), 2: hex(tdx.quote.td.rtmrs[2]) },
    mrseam: hex(tdx.quote.td.mrSeam),
    attributes: { sept_ve_disable: tdx.quote.td.tdAttributes.septVeDisable },
    xfam: [tdx.quote.td.xfam.raw.toString(16).padStart(16, "0")],
    tcb: {
      statuses: [tdx.status.converged as Tdx["tcb"]["statuses"][number]],
      minimum_evaluation: tdx.tcbEvaluationDataNumber,
      advisories: tdx.status.advisories.map((id) => ({ id, until: "2029-12-31" })),
    },
  }
  const bank = tpm && (Object.keys(tpm.quote.pcrs)[0] as "sha256")
  const pcrs = bank && [...(tpm.quote.pcrs[bank] ?? [])].map(([i, value]) => [`${i}`, hex(value)] as const)
  return {
    platforms: [platform],
    assurance: platform === "tpm" ? "tpm-only" : "hardware",
    ...(sev_snp && { sev_snp }),
    ...(own && { tdx: own }),
    ...(bank && pcrs && { tpm: { bank, pcrs: Object.fromEntries(pcrs) } }),
    ...(nitro && {
      nitro: { document: "enclave", pcrs: { "0": hex(nitro.document.pcrs.get(0) ?? new Uint8Array(0)) } },
    }),
  }
}

type Tcb = NonNullable<Machine["snp"]>["tcb"]["current"]

/** Each part the least of the four TCBs. */
const minimum = (tcb: Tcb, all: NonNullable<Machine["snp"]>["tcb"]): Tcb =>
  Object.fromEntries(
    (Object.keys(tcb) as (keyof Tcb)[]).map((part) => [
      part,
      Math.min(...Object.values(all).map((one) => one[part] ?? 0)),
    ]),
  ) as unknown as Tcb

const chipOf = (machine: Machine): Chip =>
  Object.fromEntries(Object.entries(identitiesOf(machine)).filter(([, id]) => id !== undefined))

/** What the evidence does carry stands for what a challenge would have made it carry. */
const claimsOf = ({ snp, tdx, tpm, nitro }: Machine): Partial<AppraisalClaims> => ({
  reportData:
    snp?.report.reportData ?? tdx?.quote.td.reportData ?? nitro?.document.userData ?? new Uint8Array(64),
  extraData: tpm?.quote.nonce ?? new Uint8Array(32),
})

/** Accepted as it is, refused for another machine, another assurance, and another question. */
const tryCase = (one: Case): void => {
  const machine = machineIn(one)
  const demands = fitting(machine)
  const isMasked = machine.snp !== undefined && machine.snp.chip.id === undefined
  const policy = policyOf(demands, roots, isMasked ? "any" : chipOf(machine))
  const claims = claimsOf(machine)
  const see = (asked = policy, said: Partial<AppraisalClaims> = claims) =>
    judge(one.evidence, asked, one.at, { claims: said, collateral: one.collateral })
  expect([one.name, see().reason]).toEqual([one.name, undefined])
  expect(see()).toMatchObject({ verdict: "accepted", assurance: demands.assurance })
  const wrong = { reportData: new Uint8Array(64).fill(0xee), extraData: new Uint8Array(32).fill(0xee) }
  expect(outcome(see(policy, wrong))).toBe(machine.tpm === undefined ? "report-data" : "tpm-report-data")
  const primary = Object.keys(chipOf(machine))[0] ?? "sev_snp"
  const stranger = { ...chipOf(machine), [primary]: primary === "nitro" ? "i-0" : "00".repeat(64) }
  expect(outcome(see({ ...policy, chips: [stranger] }))).toBe("chip-id")
  expect(outcome(see({ ...policy, dataplane: [] }))).toBe("dataplane")
  expect(outcome(see({ ...policy, roots: [] }))).toBe(machine.platform === "tpm" ? "tpm-key" : "genuine")
  const zeros = { mrtd: ["00".repeat(48)], measurements: ["00".repeat(48)] }
  if (policy.sev_snp)
    expect(outcome(see({ ...policy, sev_snp: { ...policy.sev_snp, ...zeros } }))).toBe("measurement")
  if (policy.tdx) expect(outcome(see({ ...policy, tdx: { ...policy.tdx, mrtd: zeros.mrtd } }))).toBe("mrtd")
  if (policy.nitro)
    expect(outcome(see({ ...policy, nitro: { ...policy.nitro, pcrs: { "0": zeros.mrtd } } }))).toBe(
      "nitro-pcr-0",
    )
  const [first] = Object.keys(policy.tpm?.pcrs ?? {})
  if (policy.tpm && first !== undefined)
    expect(outcome(see({ ...policy, tpm: { ...policy.tpm, pcrs: { [first]: ["ee".repeat(32)] } } }))).toBe(
      `tpm-pcr-${first}`,
    )
}

const snpPieceOf = (entry: Entry): { piece: SnpPiece; at: Date } => {
  const leaf = entry.goesWith.find((file) => /\.v[cl]ek\.der$/.test(file)) ?? ""
  const product = /(milan|genoa|turin|bergamo)/.exec(entry.file)?.[1] ?? ""
  const line = product === "bergamo" ? "genoa" : product
  const issuer = leaf.endsWith(".vlek.der") ? "asvk" : "ask"
  const certificates = [leaf, `snp/certs/${line}-${issuer}.der`, `snp/certs/${line}-ark.der`].map(readVector)
  const made = new X509Certificate(readVector(leaf)).validFrom
  const at = new Date(Date.parse(made) + 86_400_000)
  return { piece: { kind: "snp", report: readVector(entry.file), certificates }, at }
}

const folderCollateral = (folder: string): CollateralLookup => {
  const collateral = tdxCollateralOf(readCollateralFolder(join(vectorsDir, folder)))
  return { snp: () => ({}), tdx: () => collateral }
}

const tpmPieceOf = (folder: string, prefix = ""): TpmPiece => {
  const entry = quotes.find(({ file }) => file === `tpm/${folder}/${prefix}tpms-attest.bin`)
  if (entry === undefined) throw new Error(folder)
  const { attest, signature, akPublic, pcrs } = evidenceOf(entry)
  const hcl = entry.goesWith.find((file) => file.endsWith("/hcl-report.bin"))
  return {
    kind: "tpm",
    attest,
    signature,
    ak: typeof akPublic === "string" ? Buffer.from(akPublic) : akPublic,
    certificates: [],
    ...(hcl !== undefined && { hcl_report: readVector(hcl) }),
    pcrs: Object.entries(pcrs).flatMap(([bank, values]) =>
      [...(values ?? [])]
        .filter(([index]) =>
          parseTpmQuoteAttest(attest).selections.some((s) => s.bank === bank && s.pcrs.includes(index)),
        )
        .map(([index, value]) => ({ bank: bank as PcrValue["bank"], index, value })),
    ),
  }
}

const snpEntries = manifest.filter(({ kind, expect: what }) => kind === "snp-report" && what === "valid")
const isDebug = ({ file }: Entry) => file.includes("debug")

describe.runIf(haveVectors)("real SNP reports", () => {
  it("are there", () => expect(snpEntries.length).toBeGreaterThanOrEqual(counts.snp))

  it.each(snpEntries)("$file", (entry) => {
    const { piece, at } = snpPieceOf(entry)
    tryCase({ name: entry.file, evidence: { pieces: [piece] }, at, collateral: none })
  })
})

describe.runIf(haveVectors)("AMD's revocation lists", () => {
  it("are looked at where there are any: one that can't be read refuses the report", () => {
    const [entry] = snpEntries
    if (entry === undefined) throw new Error("no report")
    const { piece, at } = snpPieceOf(entry)
    const machine = machineIn({ name: "", evidence: { pieces: [piece] }, at, collateral: none })
    const appraisal = judge({ pieces: [piece] }, policyOf(fitting(machine), roots, "any"), at, {
      claims: claimsOf(machine),
      collateral: { ...none, snp: () => ({ crls: [Uint8Array.of(1)] }) },
    })
    expect(appraisal.reason).toMatchObject({ name: "genuine" })
    expect(appraisal.reason?.found).toContain("CRL_MALFORMED")
  })
})

describe.runIf(haveVectors)("real TDX quotes with their collateral", () => {
  const cases = manifest
    .filter(({ kind, expect: what }) => kind === "tdx-quote" && what === "valid")
    .flatMap((entry) =>
      (entry.verifications ?? []).map((one) => ({ ...one, file: entry.file, isDebug: isDebug(entry) })),
    )
  const caseOf = ({ file, collateral, at }: (typeof cases)[number]): Case => {
    const piece: TdxPiece = { kind: "tdx", quote: readVector(file), certificates: [] }
    return {
      name: file,
      evidence: { pieces: [piece] },
      at: new Date(at),
      collateral: folderCollateral(collateral),
    }
  }
  const verdicts = cases.map((one) => {
    const built = caseOf(one)
    const pieces = verifyPieces(built.evidence, { roots, now: built.at, collateral: built.collateral })
    return { one, built, isGenuine: machineOf(pieces) !== undefined }
  })
  const genuine = verdicts.filter(({ isGenuine, one }) => isGenuine && !one.isDebug)

  it("are there", () => expect(genuine.length).toBeGreaterThanOrEqual(counts.tdx))

  it.each(genuine.map(({ one, built }) => ({ ...one, built })))("$file by $collateral", ({ built }) => {
    tryCase(built)
  })

  it("that open their TD to the host are refused, whatever the workflow says", () => {
    const debug = verdicts.filter(({ one, isGenuine }) => one.isDebug && isGenuine)
    expect(debug.length).toBeGreaterThan(0)
    for (const { built } of debug) {
      const machine = machineIn(built)
      const policy = policyOf(fitting(machine), roots, chipOf(machine))
      const appraisal = judge(built.evidence, policy, built.at, {
        claims: claimsOf(machine),
        collateral: built.collateral,
      })
      expect(outcome(appraisal)).toBe("td-debug")
    }
  })
})

describe.runIf(haveVectors)("Azure's guests: a paravisor's TPM named in the hardware's report", () => {
  const folders = ["snp-milan-a", "snp-milan-b", "snp-milan-c", "snp-milan-v2", "snp-genoa"] as const
  const guests: Readonly<Record<(typeof folders)[number], string>> = {
    "snp-milan-a": "milan-v3-azure-vtpm-a",
    "snp-milan-b": "milan-v3-azure-vtpm-b",
    "snp-milan-c": "milan-v3-azure-vtpm-c",
    "snp-milan-v2": "milan-v2-azure-vtpm",
    "snp-genoa": "genoa-v3-azure-vtpm",
  }
  const hardware = (folder: (typeof folders)[number]) => {
    const entry = snpEntries.find(({ file }) => file === `snp/${guests[folder]}.report.bin`)
    if (entry === undefined) throw new Error(folder)
    return snpPieceOf(entry)
  }

  it.each(folders)("azure-%s", (folder) => {
    const { piece, at } = hardware(folder)
    const evidence = { pieces: [piece, tpmPieceOf(`azure-${folder}`)] }
    tryCase({ name: folder, evidence, at, collateral: none })
  })

  it("need no enrolment of the TPM beside the chip's, and no root for it", () => {
    const { piece, at } = hardware("snp-milan-a")
    const one = {
      name: "",
      evidence: { pieces: [piece, tpmPieceOf("azure-snp-milan-a")] },
      at,
      collateral: none,
    }
    const machine = machineIn(one)
    const { sev_snp = "" } = chipOf(machine)
    const policy = policyOf(fitting(machine), amdRoots, { sev_snp })
    const appraisal = judge(one.evidence, policy, at, { claims: claimsOf(machine) })
    expect(outcome(appraisal)).toBe("accepted")
    expect(checkOf(appraisal, "binding")?.found).toContain("names the TPM's key")
    const { tpm = "" } = chipOf(machine)
    const alone = judge(one.evidence, { ...policy, chips: [{ tpm }] }, at, { claims: claimsOf(machine) })
    expect(outcome(alone)).toBe("chip-id")
    const other = { ...policy, chips: [{ sev_snp, tpm: "00".repeat(32) }] }
    expect(outcome(judge(one.evidence, other, at, { claims: claimsOf(machine) }))).toBe("chip-id")
  })

  it("mixed with each other are refused: another report, another blob, another key", () => {
    const { piece, at } = hardware("snp-milan-a")
    const theirs = tpmPieceOf("azure-snp-milan-b")
    const own = tpmPieceOf("azure-snp-milan-a")
    const machine = machineIn({ name: "", evidence: { pieces: [piece, own] }, at, collateral: none })
    const policy = policyOf(fitting(machine), roots, chipOf(machine))
    const see = (tpm: TpmPiece) => {
      const appraisal = judge({ pieces: [piece, tpm] }, { ...policy, chips: "any" }, at, {
        claims: { ...claimsOf(machine), extraData: parseTpmQuoteAttest(tpm.attest).extraData },
      })
      return checkOf(appraisal, "tpm-key")?.found.split(" ")[0]
    }
    const { hcl_report: ownBlob, ...withoutBlob } = own
    const { hcl_report: theirBlob } = theirs
    if (ownBlob === undefined || theirBlob === undefined) throw new Error("no blob")
    expect(see(theirs)).toBe("BINDING_REPORT_MISMATCH")
    expect(see({ ...own, hcl_report: theirBlob })).toBe("BINDING_REPORT_MISMATCH")
    expect(see({ ...theirs, hcl_report: ownBlob })).toBe("BINDING_KEY_MISMATCH")
    expect(see(withoutBlob)).toBe("BINDING_KEY_UNNAMED")
    const foreign = hardware("snp-genoa").piece
    const crossed = judge({ pieces: [foreign, own] }, { ...policy, chips: "any" }, at, {
      claims: claimsOf(machine),
    })
    expect(checkOf(crossed, "tpm-key")?.result).toBe("failed")
    expect(crossed.verdict).toBe("refused")
  })

  it("hold together by every byte: changed anywhere, in any piece, they are refused", () => {
    const { piece, at } = hardware("snp-milan-a")
    const own = tpmPieceOf("azure-snp-milan-a")
    const machine = machineIn({ name: "", evidence: { pieces: [piece, own] }, at, collateral: none })
    const policy = policyOf(fitting(machine), roots, chipOf(machine))
    const caches = new EvidenceCaches()
    const see = (pieces: Evidence["pieces"]) =>
      appraise(
        verifyPieces({ pieces }, { roots, now: at, caches }),
        policy,
        { ...claims, ...claimsOf(machine) },
        at,
      ).verdict
    expect(see([piece, own])).toBe("accepted")
    // The blob holds a copy of the hardware's report: its signature belongs to who verifies the report itself.
    const isCopiedSignature = (i: number) => i >= 32 + 0x2a0 && i < 32 + 1_184
    let flips = 0
    for (const field of ["attest", "signature", "ak", "hcl_report"] as const) {
      const bytes = own[field] ?? new Uint8Array(0)
      for (let i = 0; i < bytes.length; i += 3) {
        if (field === "hcl_report" && isCopiedSignature(i)) continue
        flips += 1
        expect([field, i, see([piece, { ...own, [field]: flippedAt(bytes, i) }])]).toEqual([
          field,
          i,
          "refused",
        ])
      }
    }
    for (const [i, one] of own.pcrs.entries()) {
      const pcrs = own.pcrs.map((each, at) =>
        at === i ? { ...one, value: flippedAt(one.value, i % 32) } : each,
      )
      expect([i, see([piece, { ...own, pcrs }])]).toEqual([i, "refused"])
    }
    for (let i = 0; i < piece.report.length; i += 7) {
      flips += 1
      expect([i, see([{ ...piece, report: flippedAt(piece.report, i) }, own])]).toEqual([i, "refused"])
    }
    expect(flips).toBeGreaterThan(700)
  })

  it("azure-tdx-a, behind as it is: within grace, and refused after", () => {
    const entry = manifest.find(({ file }) => file === "tdx/v4-azure-a.quote.bin")
    const one = entry?.verifications?.[0]
    if (entry === undefined || one === undefined) throw new Error("no quote")
    const quote: TdxPiece = { kind: "tdx", quote: readVector(entry.file), certificates: [] }
    const evidence = { pieces: [quote, tpmPieceOf("azure-tdx-a")] }
    const built = { name: "", evidence, at: new Date(one.at), collateral: folderCollateral(one.collateral) }
    tryCase(built)
    const machine = machineIn(built)
    const demands = fitting(machine)
    const see = (grace_days: number) => {
      if (demands.tdx === undefined) throw new Error("no TDX")
      const tcb = { ...demands.tdx.tcb, statuses: ["UpToDate"] as const, grace_days }
      const policy = policyOf({ ...demands, tdx: { ...demands.tdx, tcb } }, roots, chipOf(machine))
      return judge(evidence, policy, built.at, { claims: claimsOf(machine), collateral: built.collateral })
    }
    expect(machine.tdx?.status.converged).toBe("OutOfDate")
    expect(outcome(see(0))).toBe("tcb-status")
    const behind = /behind for (\d+) days/.exec(checkOf(see(0), "tcb-status")?.found ?? "")?.[1]
    expect(Number(behind)).toBeGreaterThan(0)
    if (Number(behind) < 365) {
      expect(outcome(see(Number(behind) + 1))).toBe("accepted")
      expect(outcome(see(Number(behind)))).toBe("tcb-status")
    }
  })
})

describe.runIf(haveVectors)("Google's virtual TPM, its key certified", () => {
  const at = new Date("2022-01-01T00:00:00Z")
  const folder = "gce-cos85-nonce9009"
  const certified = (prefix: string): TpmPiece => ({
    ...tpmPieceOf(folder, prefix),
    certificates: [
      `tpm/${folder}/ak-cert.der`,
      "tpm/certs/google-tpm-ek-intermediate-2.der",
      "tpm/certs/google-tpm-ek-root-1.der",
    ].map(readVector),
    boot_log: readVector(`tpm/${folder}/eventlog.bin`),
  })

  it.each(["sha256.", "sha384."])("%s", (prefix) => {
    const evidence = { pieces: [certified(prefix)] }
    const bank = prefix === "sha256." ? "sha256" : "sha384"
    const one = { name: prefix, evidence, at, collateral: none }
    const machine = machineIn(one)
    const { tpm } = fitting(machine)
    const policy = policyOf(
      { assurance: "tpm-only", platforms: ["tpm"], tpm: { ...tpm, bank } },
      roots,
      chipOf(machine),
    )
    const see = (asked = policy) => judge(evidence, asked, at, { claims: claimsOf(machine) })
    expect([see().reason, see().assurance]).toEqual([undefined, "tpm-only"])
    // Its log leads to PCR 7 as quoted, and says how Secure Boot was.
    const secure = see({ ...policy, tpm: { bank, pcrs: tpm?.pcrs ?? {}, secure_boot: true } })
    expect(checkOf(secure, "tpm-secure-boot")?.found).toMatch(/^(on|off)/)
    const unnamed = { ...policy, roots: policy.roots.filter(({ vendor }) => vendor !== "tpm") }
    expect(outcome(see(unnamed))).toBe("tpm-key")
    // Named as an attestation key, an issuer's key vouches for no other.
    const asKey = policy.roots.map((root) => (root.vendor === "tpm" ? { ...root, use: "ak" as const } : root))
    expect(outcome(see({ ...policy, roots: asKey }))).toBe("tpm-key")
  })

  it("with SHA-1 is refused", () => {
    const [piece] = [certified("sha256.")]
    const old = { ...piece, ...tpmPieceOf(folder, "sha1."), pcrs: [] }
    const policy = policyOf(
      {
        assurance: "tpm-only",
        platforms: ["tpm"],
        tpm: { bank: "sha256", pcrs: { "0": ["00".repeat(32)] } },
      },
      roots,
      "any",
    )
    expect(judge({ pieces: [old] }, policy, at).reason?.found).toContain("SHA1_REFUSED")
  })
})

describe.runIf(haveVectors)("real Nitro documents", () => {
  const documents = manifest.filter(({ kind }) => kind === "nitro-attestation-doc")
  const pieceOf = ({ file }: Entry): NitroPiece => ({ kind: "nitro", document: readVector(file) })

  it("are there", () => expect(documents.length).toBeGreaterThanOrEqual(counts.nitro))

  it.each(documents.filter((entry) => !isDebug(entry)))("$file", (entry) => {
    const at = new Date(entry.time?.verifyAt ?? "")
    const evidence = { pieces: [pieceOf(entry)] }
    const machine = machineIn({ name: entry.file, evidence, at, collateral: none })
    const policy = policyOf(fitting(machine), roots, chipOf(machine))
    const appraisal = judge(evidence, policy, at, { claims: claimsOf(machine) })
    // These were made for others, with other user data than 64 bytes: all else holds, and that alone is refused.
    expect(appraisal.assurance).toBe("hardware")
    expect(appraisal.checks.filter(({ result }) => result === "failed").map(({ name }) => name)).toEqual(
      machine.nitro?.document.userData?.length === 64 ? [] : ["report-data"],
    )
  })

  it.each(documents.filter(isDebug))("$file is refused for debug mode", (entry) => {
    const at = new Date(entry.time?.verifyAt ?? "")
    const policy = policyOf(
      {
        assurance: "hardware",
        platforms: ["nitro"],
        nitro: { document: "enclave", pcrs: { "0": ["00".repeat(48)] } },
      },
      roots,
      "any",
    )
    expect(judge({ pieces: [pieceOf(entry)] }, policy, at).reason?.found).toContain("DEBUG_MODE")
  })
})

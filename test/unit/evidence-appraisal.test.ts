/** Genuine evidence against reference values: the verdict, every check, and which one it failed on. */
import { beforeAll, describe, expect, it } from "vitest"
import type { SevSnp, SnpTcb } from "../../schemas/platforms.ts"
import {
  type Appraisal,
  type AppraisalClaims,
  type AppraisalPolicy,
  amdRoots,
  appraise,
  type EmulatedChip,
  type EmulatedRoot,
  encodeGuestPolicy,
  type Launch,
  launchGuest,
  SnpError,
  tpmExtraData,
  type VerifiedSnp,
  verifyReport,
} from "../../services/evidence/index.ts"
import { at } from "../../services/evidence/snp/report.ts"
import {
  dataplane,
  haveVectors,
  hexOf,
  makeChip,
  makeRoot,
  measurement,
  now,
  policyFor,
  readVector,
  reportData,
  resigned,
} from "./evidence-support.ts"

let root: EmulatedRoot
let chip: EmulatedChip

beforeAll(() => {
  root = makeRoot()
  chip = makeChip(root)
})

const verified = (report: Uint8Array): VerifiedSnp => {
  const result = verifyReport(
    { report, certificates: chip.certificates },
    { roots: [root.hardwareRoot], now },
  )
  if (result instanceof SnpError) throw result
  return result
}

const guest = (launch: Partial<Launch> = {}): VerifiedSnp =>
  verified(launchGuest(chip, { measurement, ...launch }).report(reportData))

/** A guest whose report differs where `change` says, and is signed all the same. */
const changedGuest = (change: (view: DataView) => void): VerifiedSnp =>
  verified(resigned(chip, launchGuest(chip, { measurement }).report(reportData), change))

const claims: AppraisalClaims = { reportData, extraData: tpmExtraData(reportData), dataplane }

/** What the SNP section says otherwise, then the rest of the policy, then the claims. */
const judge = (
  evidence: VerifiedSnp | SnpError,
  snp: Partial<SevSnp> = {},
  policy: Partial<AppraisalPolicy> = {},
  change: Partial<AppraisalClaims> = {},
): Appraisal =>
  appraise(
    { platform: "sev-snp", kinds: ["snp"], snp: evidence },
    policyFor(root, policy, snp),
    { ...claims, ...change },
    now,
  )

const guestPolicy = { debug: false, migration_agent: false, vmpl_max: 0 }

const expectRefused = (appraisal: Appraisal, check: string): void => {
  expect(appraisal).toMatchObject({ verdict: "refused", reason: { name: check, result: "failed" } })
  expect(appraisal.checks.filter(({ result }) => result === "failed").map(({ name }) => name)).toContain(
    check,
  )
}

const names = [
  "platform",
  "genuine",
  "root",
  "assurance",
  "report-data",
  "dataplane",
  "chip-id",
  "binding",
  "measurement",
  "debug",
  "migration-agent",
  "vmpl",
  "smt",
  "single-socket",
  "cxl-memory",
  "platform-info",
  "tcb-current",
  "tcb-committed",
  "tcb-reported",
  "tcb-launch",
  "tcb-order",
  "committed-firmware",
  "signing-key",
  "revocation",
  "host-data",
  "family-id",
  "image-id",
  "id-key",
  "author-key",
]

describe("an appraisal", () => {
  it("accepts what fits, and lists every check", () => {
    const appraisal = judge(guest())
    expect(appraisal).toMatchObject({ verdict: "accepted", assurance: "emulated" })
    expect(appraisal.reason).toBeUndefined()
    expect(appraisal.checks.map(({ name }) => name)).toEqual(names)
    expect(appraisal.checks.some(({ result }) => result === "failed")).toBe(false)
  })

  it("lists every check also when several fail, and names the first", () => {
    const appraisal = judge(guest({ vmpl: 3 }), { measurements: [] }, { dataplane: [] })
    expectRefused(appraisal, "dataplane")
    expect(appraisal.checks.map(({ name }) => name)).toEqual(names)
    const failed = appraisal.checks.filter(({ result }) => result === "failed").map(({ name }) => name)
    expect(failed).toEqual(["dataplane", "measurement", "vmpl"])
  })

  it("refuses evidence that isn't genuine, says why, and has nothing to say of the rest", () => {
    const error = new SnpError("REPORT_SIGNATURE", "report.signature", "this", "that")
    const appraisal = judge(error)
    expectRefused(appraisal, "genuine")
    expect(appraisal.assurance).toBeUndefined()
    expect(appraisal.reason?.found).toBe("REPORT_SIGNATURE report.signature: this")
    expect(appraisal.checks.map(({ name }) => name)).toEqual(names)
    for (const check of appraisal.checks.slice(2)) expect(check.result).toBe("not-applicable")
  })

  it("keeps what it found and wanted short enough to be sent", () => {
    const many = Array.from({ length: 16 }, (_, i) => i.toString(16).padStart(96, "0"))
    for (const check of judge(guest(), { measurements: many }).checks) {
      expect(check.found.length).toBeLessThanOrEqual(256)
      expect(check.wanted.length).toBeLessThanOrEqual(512)
    }
  })
})

describe("refused by name", () => {
  it("debug, unless the policy takes it", () => {
    const debugged = guest({ policy: encodeGuestPolicy({ smt: true, debug: true }) })
    expectRefused(judge(debugged), "debug")
    expect(judge(debugged, { policy: { ...guestPolicy, debug: true } }).verdict).toBe("accepted")
  })

  it("a migration agent, unless the policy takes it", () => {
    const migrating = guest({ policy: encodeGuestPolicy({ migrationAgent: true }) })
    expectRefused(judge(migrating), "migration-agent")
    expect(judge(migrating, { policy: { ...guestPolicy, migration_agent: true } }).verdict).toBe("accepted")
  })

  it("a wrong launch measurement", () => {
    const other = new Uint8Array(48).fill(1)
    expectRefused(judge(guest({ measurement: other })), "measurement")
    expect(judge(guest({ measurement: other }), { measurements: [hexOf(other)] }).verdict).toBe("accepted")
    expectRefused(judge(guest(), { measurements: [] }), "measurement")
  })

  it("stale or foreign report data, and report data of the wrong length", () => {
    for (const wrong of [
      new Uint8Array(64),
      reportData.subarray(1),
      new Uint8Array(0),
      Uint8Array.from([...reportData, 0]),
    ])
      expectRefused(judge(guest(), {}, {}, { reportData: wrong }), "report-data")
  })

  it("another data plane, in whatever case or length it is written", () => {
    for (const wrong of ["d6".repeat(48), dataplane.toUpperCase(), "", dataplane.slice(2)])
      expectRefused(judge(guest(), {}, {}, { dataplane: wrong }), "dataplane")
    expectRefused(judge(guest(), {}, { dataplane: [] }), "dataplane")
  })

  it("another chip than the policy lists, or none by its kind", () => {
    const own = hexOf(chip.chipId)
    const other = "00".repeat(64)
    expect(judge(guest(), {}, { chips: [{ sev_snp: other }, { sev_snp: own }] }).verdict).toBe("accepted")
    expectRefused(judge(guest(), {}, { chips: [{ sev_snp: other }] }), "chip-id")
    expectRefused(judge(guest(), {}, { chips: [] }), "chip-id")
    expectRefused(judge(guest(), {}, { chips: [{}] }), "chip-id")
    expectRefused(judge(guest(), {}, { chips: [{ tpm: own, tdx: own }] }), "chip-id")
  })

  it("a VMPL above the highest allowed", () => {
    expectRefused(judge(guest({ vmpl: 1 })), "vmpl")
    expect(judge(guest({ vmpl: 1 }), { policy: { ...guestPolicy, vmpl_max: 1 } }).verdict).toBe("accepted")
    expectRefused(judge(guest(), { policy: { ...guestPolicy, vmpl_max: Number.NaN } }), "vmpl")
  })

  it("emulation where hardware is wanted, even with the root listed", () => {
    expectRefused(judge(guest(), {}, { assurance: "hardware" }), "assurance")
  })

  it("a root, or a platform, that the policy doesn't list", () => {
    expectRefused(judge(guest(), {}, { roots: amdRoots }), "root")
    expectRefused(judge(guest(), {}, { roots: [] }), "root")
    expectRefused(judge(guest(), {}, { roots: [{ ...root.hardwareRoot, emulated: false }] }), "root")
    expectRefused(judge(guest(), {}, { roots: [{ ...root.hardwareRoot, product: "Genoa" }] }), "root")
    expectRefused(judge(guest(), {}, { platforms: [] }), "platform")
  })

  it("multithreading or several sockets where the policy forbids them", () => {
    expectRefused(judge(guest(), { policy: { ...guestPolicy, smt: false } }), "smt")
    expect(judge(guest(), { policy: { ...guestPolicy, smt: true } }).verdict).toBe("accepted")
    expectRefused(judge(guest(), { policy: { ...guestPolicy, single_socket: true } }), "single-socket")
    const single = guest({ policy: encodeGuestPolicy({ singleSocket: true }) })
    expect(judge(single, { policy: { ...guestPolicy, smt: false, single_socket: true } }).verdict).toBe(
      "accepted",
    )
  })

  it("memory on CXL, and platform bits that nobody knows", () => {
    expectRefused(judge(changedGuest((view) => view.setUint8(at.policy + 2, 0x23))), "cxl-memory")
    expectRefused(judge(changedGuest((view) => view.setUint8(at.platformInfo + 1, 1))), "platform-info")
  })

  it("a TCB below the floor, in any part and any of the four", () => {
    const floor = { bootloader: 4, tee: 0, snp: 24, microcode: 219 }
    expect(judge(guest(), { tcb: { minimum: [floor] } }).verdict).toBe("accepted")
    // No FMC on Milan: a floor for it asks for nothing there.
    expect(judge(guest(), { tcb: { minimum: [{ ...floor, fmc: 9 }] } }).verdict).toBe("accepted")
    for (const part of ["bootloader", "tee", "snp", "microcode"] as const)
      expectRefused(judge(guest(), { tcb: { minimum: [{ [part]: floor[part] + 1 }] } }), "tcb-current")
    const lower = (offset: number) => changedGuest((view) => view.setUint8(offset + 7, 218))
    for (const [name, offset] of [
      ["tcb-current", at.currentTcb],
      ["tcb-committed", at.committedTcb],
      ["tcb-launch", at.launchTcb],
    ] as const)
      expectRefused(judge(lower(offset), { tcb: { minimum: [floor] }, provisional_firmware: true }), name)
    // What is reported is bound by the certificate: here a verification that would have let it pass stands in.
    const own = guest()
    const reported = { ...own, tcb: { ...own.tcb, reported: { ...own.tcb.reported, microcode: 218 } } }
    expectRefused(judge(reported, { tcb: { minimum: [floor] } }), "tcb-reported")
    expectRefused(judge(guest(), { tcb: { minimum: [{ microcode: Number.NaN }] } }), "tcb-current")
  })

  it("TCBs that contradict each other", () => {
    const contradicting = changedGuest((view) => view.setUint8(at.committedTcb + 7, 218))
    const appraisal = judge(contradicting, { provisional_firmware: true })
    expectRefused(appraisal, "tcb-order")
    expect(appraisal.reason?.found).toBe("microcode reported above committed")
    const ahead = changedGuest((view) => view.setUint8(at.currentTcb + 7, 218))
    expectRefused(judge(ahead, { provisional_firmware: true }), "tcb-order")
  })

  it("a key of which nobody can say whether AMD revoked it, where the policy wants to know", () => {
    expectRefused(judge(guest(), { revocation: true }), "revocation")
    const known = { ...guest(), revocation: { issuers: "good" } } as const
    expect(judge(known, { revocation: true }).verdict).toBe("accepted")
  })

  it("firmware that the host can still roll back, unless the policy takes it", () => {
    const provisional = changedGuest((view) => view.setUint8(at.committedFirmware, 28))
    expectRefused(judge(provisional), "committed-firmware")
    expect(judge(provisional, { provisional_firmware: true }).verdict).toBe("accepted")
  })

  it("other host data, family, image or keys, where the policy has a rule", () => {
    const zero = "00".repeat(32)
    expect(judge(guest(), { host_data: [zero] }).verdict).toBe("accepted")
    expectRefused(judge(guest(), { host_data: ["01".repeat(32)] }), "host-data")
    expectRefused(judge(guest(), { family_id: ["01".repeat(16)] }), "family-id")
    expectRefused(judge(guest(), { image_id: ["01".repeat(16)] }), "image-id")
    expectRefused(judge(guest(), { id_keys: [] }), "id-key")
    // The digest is there, but the flag that gives it meaning isn't.
    expectRefused(judge(guest(), { author_keys: ["00".repeat(48)] }), "author-key")
  })
})

describe("how far behind an SNP platform may be", () => {
  const floor = { bootloader: 4, tee: 0, snp: 24, microcode: 219 }
  const newer = { microcode: 220, since: "2026-06-11", advisory: "AMD-SB-1" }
  const see = (change: Partial<SnpTcb>, floors: SnpTcb["minimum"] = [floor, newer]) =>
    judge(guest(), { tcb: { minimum: floors, ...change } })

  it("is nothing without grace, and says by what and for how long it is behind", () => {
    const appraisal = see({})
    expectRefused(appraisal, "tcb-current")
    expect(appraisal.reason?.found).toContain("behind: microcode 219 < 220 for 20 days")
  })

  it("is as many days as the policy gives, from the day of the fix", () => {
    expect(see({ grace_days: 21 }).verdict).toBe("accepted")
    expectRefused(see({ grace_days: 20 }), "tcb-current")
    const found = see({ grace_days: 21 }).checks.find(({ name }) => name === "tcb-current")?.found
    expect(found).toContain("(within grace)")
  })

  it("begins when a fix is demanded, and never for a floor without a day", () => {
    expect(see({}, [floor, { ...newer, since: "2026-07-02" }]).verdict).toBe("accepted")
    expectRefused(see({}, [floor, { ...newer, since: "2026-07-01" }]), "tcb-current")
    expectRefused(see({ grace_days: 365 }, [{ microcode: 220 }]), "tcb-current")
  })

  it("may be accepted by the weakness that it is, until the end of a day", () => {
    const until = (day: string, id = "AMD-SB-1") => see({ advisories: [{ id, until: day }] })
    expect(until("2026-07-01").verdict).toBe("accepted")
    expectRefused(until("2026-06-30"), "tcb-current")
    expectRefused(until("2026-07-01", "AMD-SB-2"), "tcb-current")
    // A weakness without a name is nobody's to accept.
    expectRefused(see({ advisories: [{ id: "", until: "2026-07-01" }] }, [{ microcode: 220 }]), "tcb-current")
  })

  it("counts each floor by itself", () => {
    const other = { snp: 25, since: "2026-05-01" }
    expectRefused(see({ grace_days: 21 }, [floor, newer, other]), "tcb-current")
    expect(see({ grace_days: 62 }, [floor, newer, other]).verdict).toBe("accepted")
  })
})

describe.runIf(haveVectors)("real evidence", () => {
  const real = (name: string, leaf: string, issuer: string, time: string): VerifiedSnp => {
    const files = [`${name}.${leaf}.der`, `certs/milan-${issuer}.der`, "certs/milan-ark.der"]
    const certificates = files.map((file) => readVector(`snp/${file}`))
    const report = readVector(`snp/${name}.report.bin`)
    const result = verifyReport({ report, certificates }, { roots: amdRoots, now: new Date(time) })
    if (result instanceof SnpError) throw result
    return result
  }
  const fitting = (evidence: VerifiedSnp): Partial<SevSnp> => ({
    measurements: [hexOf(evidence.report.measurement)],
  })
  const hardware = { roots: amdRoots, assurance: "hardware" } as const

  it("is hardware, and accepted where it fits", () => {
    const evidence = real("milan-v3-oak-release", "vcek", "ask", "2026-01-01")
    const appraisal = judge(evidence, fitting(evidence), hardware, { reportData: evidence.report.reportData })
    expect(appraisal).toMatchObject({ verdict: "accepted", assurance: "hardware" })
  })

  it("with debugging allowed is refused for that", () => {
    const evidence = real("milan-v2-gce-debug", "vcek", "ask", "2023-01-01")
    const { reportData: own } = evidence.report
    expectRefused(judge(evidence, fitting(evidence), hardware, { reportData: own }), "debug")
  })

  it("at VMPL 1, under a VLEK, of a masked chip, is refused until the policy says otherwise", () => {
    const evidence = real("milan-v3-vlek-aws", "vlek", "asvk", "2025-06-01")
    const bound = { reportData: evidence.report.reportData }
    const vlek_of = [evidence.cspId ?? ""]
    // Its host was running firmware that it hadn't committed.
    const later = {
      ...fitting(evidence),
      provisional_firmware: true,
      policy: { ...guestPolicy, vmpl_max: 1 },
    }
    expectRefused(judge(evidence, fitting(evidence), hardware, bound), "vmpl")
    expectRefused(
      judge(evidence, { ...later, provisional_firmware: false }, hardware, bound),
      "committed-firmware",
    )
    expectRefused(judge(evidence, later, hardware, bound), "signing-key")
    const pinned = { ...hardware, chips: [{ sev_snp: hexOf(chip.chipId) }] }
    expectRefused(judge(evidence, { ...later, vlek_of }, pinned, bound), "chip-id")
    expect(judge(evidence, { ...later, vlek_of }, hardware, bound).verdict).toBe("accepted")
  })
})

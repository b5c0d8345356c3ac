/** A guest's anchors speak of the control plane's machine as stages speak of nodes: each platform, and each rule by name. */
import { describe, expect, it } from "vitest"
import type { Evidence } from "../../schemas/messages/common.ts"
import type { Demands, HardwareRoot } from "../../schemas/platforms.ts"
import type { Trust } from "../../services/common/config/anchors.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { tpmExtraData } from "../../services/evidence/index.ts"
import { bodyAt } from "../../services/evidence/tdx/td-report.ts"
import { controlCheck } from "../../services/guest/control-check.ts"
import { asksForCollateral } from "../../services/guest/control-collateral.ts"
import { MakeError } from "../../services/make/errors.ts"
import { Hierarchy, now } from "../support/tdx-lab.ts"
import { makeTpm, tdxPiece, tpmPiece } from "./appraisal-support.ts"
import { reportData } from "./evidence-support.ts"

const intel = new Hierarchy()
const tpm = makeTpm()
const zeros = "00".repeat(48)

const tdx: Demands = {
  assurance: "emulated",
  platforms: ["tdx"],
  tdx: { mrtd: [zeros], rtmrs: { 1: [zeros], 2: [zeros] }, tcb: { statuses: ["UpToDate"] } },
}
const roots: readonly HardwareRoot[] = [
  intel.root,
  { vendor: "tpm", use: "ak", key_digest: tpm.digest, emulated: false },
]

const trustOf = (change: Partial<Trust["controlPlane"]> = {}): Trust => ({
  domain: "lab",
  operatorKeys: [],
  threshold: 1,
  controlPlane: { ...tdx, roots, chips: [{ tdx: "9d".repeat(16) }], ...change },
})

const collateral = () => ({ snp: () => ({}), tdx: () => intel.collateral() })

const see = (
  evidence: Evidence,
  trust = trustOf(),
  options: Parameters<typeof controlCheck>[3] = { collateral },
) => {
  try {
    controlCheck(crypto, trust, () => now, options)(evidence, reportData)
    return "believed"
  } catch (error) {
    if (error instanceof MakeError) return `${error.code} ${error.field}`
    throw error
  }
}

describe("a control plane on TDX", () => {
  const evidence = { pieces: [tdxPiece(intel)] }

  it("is believed where the anchors name it", () => {
    expect(see(evidence)).toBe("believed")
  })

  it("is not believed without collateral, on another machine, as another image, in debug, or stale", () => {
    expect(see(evidence, trustOf(), {})).toBe("NOT_VOUCHED control.genuine")
    expect(see(evidence, trustOf({ chips: [{ tdx: "9e".repeat(16) }] }))).toBe("NOT_VOUCHED control.chip-id")
    const other = { pieces: [tdxPiece(intel, { change: (td) => td.set([1], bodyAt.mrTd) })] }
    expect(see(other)).toBe("NOT_VOUCHED control.mrtd")
    const debug = { pieces: [tdxPiece(intel, { change: (td) => td.set([1], bodyAt.tdAttributes) })] }
    expect(see(debug)).toBe("NOT_VOUCHED control.td-debug")
    const stale = { pieces: [tdxPiece(intel, { reportData: new Uint8Array(64) })] }
    expect(see(stale)).toBe("NOT_VOUCHED control.report-data")
    expect(see(evidence, trustOf({ assurance: "hardware" }))).toBe("NOT_VOUCHED control.assurance")
    expect(see(evidence, trustOf({ platforms: ["sev-snp"] }))).toBe("NOT_VOUCHED control.platform")
    expect(see(evidence, trustOf({ roots: [] }))).toBe("NOT_VOUCHED control.genuine")
  })
})

describe("a control plane with a TPM alone", () => {
  it("is believed where the anchors take no more than that", () => {
    const evidence = { pieces: [tpmPiece(tpm, { extraData: tpmExtraData(reportData) })] }
    const demands = { tpm: { bank: "sha256", pcrs: { "7": ["07".repeat(32)] } } } as const
    const trust = trustOf({
      platforms: ["tpm"],
      assurance: "tpm-only",
      ...demands,
      chips: [{ tpm: tpm.digest }],
    })
    expect(see(evidence, trust)).toBe("believed")
    expect(see(evidence, { ...trust, controlPlane: { ...trust.controlPlane, assurance: "hardware" } })).toBe(
      "NOT_VOUCHED control.assurance",
    )
  })
})

describe("collateral for the control plane", () => {
  it("is kept only by guests whose anchors need it", () => {
    const snp = { measurements: [zeros], policy: { debug: false, migration_agent: false, vmpl_max: 0 } }
    const anchors = (change: Partial<Trust["controlPlane"]>) => trustOf(change).controlPlane
    expect(asksForCollateral(anchors({}))).toBe(true)
    expect(asksForCollateral(anchors({ platforms: ["tdx+tpm"] }))).toBe(true)
    expect(asksForCollateral(anchors({ platforms: ["sev-snp"], sev_snp: snp }))).toBe(false)
    expect(
      asksForCollateral(anchors({ platforms: ["sev-snp"], sev_snp: { ...snp, revocation: true } })),
    ).toBe(true)
  })
})

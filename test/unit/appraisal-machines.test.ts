/** Several pieces of evidence: what holds them together, and mixes of machines, which nothing does. */
import { beforeAll, describe, expect, it } from "vitest"
import type { Evidence, SnpPiece } from "../../schemas/messages/common.ts"
import type { Chip, Demands, HardwareRoot, Platform } from "../../schemas/platforms.ts"
import {
  type AppraisalPolicy,
  type EmulatedChip,
  type EmulatedRoot,
  launchGuest,
} from "../../services/evidence/index.ts"
import { Hierarchy } from "../support/tdx-lab.ts"
import { checkOf, judge, makeTpm, outcome, policyOf, tdxPiece, tpmPiece } from "./appraisal-support.ts"
import { hexOf, makeChip, makeRoot, measurement, now, reportData } from "./evidence-support.ts"

let root: EmulatedRoot
let chip: EmulatedChip
let foreignChip: EmulatedChip
const intel = new Hierarchy()
const collateral = { snp: () => ({}), tdx: () => intel.collateral() }
const tpm = makeTpm()
const foreignTpm = makeTpm()

beforeAll(() => {
  root = makeRoot()
  chip = makeChip(root)
  foreignChip = makeChip(root)
})

const akRoots = (): HardwareRoot[] =>
  [tpm, foreignTpm].map(({ digest }) => ({ vendor: "tpm", use: "ak", key_digest: digest, emulated: false }))

const sections = {
  sev_snp: {
    measurements: [hexOf(measurement)],
    policy: { debug: false, migration_agent: false, vmpl_max: 0 },
  },
  tdx: {
    mrtd: ["00".repeat(48)],
    rtmrs: { 1: ["00".repeat(48)], 2: ["00".repeat(48)] },
    tcb: { statuses: ["UpToDate"] },
  },
  tpm: { bank: "sha256", pcrs: { "7": ["07".repeat(32)] } },
} as const satisfies Partial<Demands>

const policy = (platform: Platform, own: Chip | "any"): AppraisalPolicy => {
  const isSnp = platform.startsWith("sev-snp")
  const { sev_snp, tdx, tpm: registers } = sections
  return policyOf(
    {
      assurance: "emulated",
      platforms: [platform],
      ...(isSnp ? { sev_snp } : { tdx }),
      ...(platform.endsWith("+tpm") && { tpm: registers }),
    },
    [root.hardwareRoot, intel.root, ...akRoots()],
    own,
  )
}

const snpPiece = (of: EmulatedChip, data = reportData): SnpPiece => ({
  kind: "snp",
  report: launchGuest(of, { measurement }).report(data),
  certificates: [...of.certificates],
})

const snpChip = () => ({ sev_snp: hexOf(chip.chipId), tpm: tpm.digest })
const tdxChip = { tdx: "9d".repeat(16), tpm: tpm.digest }

const see = (evidence: Evidence, platform: Platform, own: Chip | "any") =>
  judge(evidence, policy(platform, own), now, { collateral })

describe("a report and a TPM's quote over the same report data", () => {
  it("are one machine where both are enrolled, in either order", () => {
    const pieces = [snpPiece(chip), tpmPiece(tpm)]
    const appraisal = see({ pieces }, "sev-snp+tpm", snpChip())
    expect(appraisal).toMatchObject({ verdict: "accepted", platform: "sev-snp+tpm", assurance: "emulated" })
    expect(checkOf(appraisal, "binding")?.result).toBe("passed")
    expect(outcome(see({ pieces: pieces.toReversed() }, "sev-snp+tpm", snpChip()))).toBe("accepted")
    expect(outcome(see({ pieces: [tdxPiece(intel), tpmPiece(tpm)] }, "tdx+tpm", tdxChip))).toBe("accepted")
  })

  it("are refused where either is another machine's, though its root names it", () => {
    expect(outcome(see({ pieces: [snpPiece(chip), tpmPiece(foreignTpm)] }, "sev-snp+tpm", snpChip()))).toBe(
      "chip-id",
    )
    expect(outcome(see({ pieces: [snpPiece(foreignChip), tpmPiece(tpm)] }, "sev-snp+tpm", snpChip()))).toBe(
      "chip-id",
    )
    expect(outcome(see({ pieces: [tdxPiece(intel), tpmPiece(foreignTpm)] }, "tdx+tpm", tdxChip))).toBe(
      "chip-id",
    )
  })

  it("are refused where the TPM isn't enrolled: a TPM elsewhere could have been asked the same", () => {
    const pieces = [snpPiece(chip), tpmPiece(tpm)]
    expect(outcome(see({ pieces }, "sev-snp+tpm", { sev_snp: hexOf(chip.chipId) }))).toBe("chip-id")
    expect(outcome(see({ pieces }, "sev-snp+tpm", "any"))).toBe("binding")
  })

  it("are refused where one of them answers another question", () => {
    const stale = new Uint8Array(64).fill(1)
    expect(outcome(see({ pieces: [snpPiece(chip, stale), tpmPiece(tpm)] }, "sev-snp+tpm", snpChip()))).toBe(
      "report-data",
    )
    const late = tpmPiece(tpm, { extraData: new Uint8Array(32) })
    expect(outcome(see({ pieces: [snpPiece(chip), late] }, "sev-snp+tpm", snpChip()))).toBe("tpm-report-data")
  })

  it("are refused where one of them isn't genuine, or fails its own rules", () => {
    const broken = { ...tpmPiece(tpm), signature: new Uint8Array(72) }
    expect(outcome(see({ pieces: [snpPiece(chip), broken] }, "sev-snp+tpm", snpChip()))).toBe("tpm-genuine")
    const report = { ...snpPiece(chip), report: new Uint8Array(1_184) }
    expect(outcome(see({ pieces: [report, tpmPiece(tpm)] }, "sev-snp+tpm", snpChip()))).toBe("genuine")
    const booted = tpmPiece(tpm, { pcrs: [{ bank: "sha256", index: 7, value: new Uint8Array(32) }] })
    expect(outcome(see({ pieces: [snpPiece(chip), booted] }, "sev-snp+tpm", snpChip()))).toBe("tpm-pcr-7")
    const unnamed = makeTpm()
    const own = { sev_snp: hexOf(chip.chipId), tpm: unnamed.digest }
    expect(outcome(see({ pieces: [snpPiece(chip), tpmPiece(unnamed)] }, "sev-snp+tpm", own))).toBe("tpm-key")
  })
})

describe("AMD's revocation lists", () => {
  it("aren't held against a lab's root, which is never theirs", () => {
    const strange = { ...collateral, snp: () => ({ crls: [Uint8Array.of(1)] }) }
    const asked = policy("sev-snp", { sev_snp: hexOf(chip.chipId) })
    const appraisal = judge({ pieces: [snpPiece(chip)] }, asked, now, { collateral: strange })
    expect(outcome(appraisal)).toBe("accepted")
    expect(checkOf(appraisal, "revocation")?.found).toBe("unknown: no list at hand")
  })
})

describe("pieces that the stage doesn't ask for", () => {
  it("are refused, whether too many, too few or of two machines", () => {
    const own = { ...snpChip(), ...tdxChip }
    expect(outcome(see({ pieces: [snpPiece(chip), tpmPiece(tpm)] }, "sev-snp", own))).toBe("platform")
    expect(outcome(see({ pieces: [snpPiece(chip)] }, "sev-snp+tpm", own))).toBe("platform")
    expect(outcome(see({ pieces: [tpmPiece(tpm)] }, "sev-snp+tpm", own))).toBe("platform")
    expect(outcome(see({ pieces: [snpPiece(chip), tdxPiece(intel)] }, "sev-snp", own))).toBe("platform")
    expect(outcome(see({ pieces: [snpPiece(chip), snpPiece(foreignChip)] }, "sev-snp", own))).toBe("platform")
    expect(outcome(see({ pieces: [snpPiece(chip), tpmPiece(tpm), tpmPiece(tpm)] }, "sev-snp+tpm", own))).toBe(
      "platform",
    )
  })

  it("take nothing from what was asked for: without a machine there is no assurance", () => {
    const appraisal = see({ pieces: [snpPiece(chip), tdxPiece(intel)] }, "sev-snp", "any")
    expect(appraisal.assurance).toBeUndefined()
    expect(appraisal.platform).toBeUndefined()
  })
})

describe("one machine of several that a list names", () => {
  it("has to be one of them in every part, not each part one of some", () => {
    const evidence = { pieces: [snpPiece(chip), tpmPiece(foreignTpm)] }
    const asked = policy("sev-snp+tpm", snpChip())
    const chips = [snpChip(), { sev_snp: hexOf(foreignChip.chipId), tpm: foreignTpm.digest }]
    expect(outcome(judge(evidence, { ...asked, chips }, now))).toBe("chip-id")
    const both = [...chips, { sev_snp: hexOf(chip.chipId), tpm: foreignTpm.digest }]
    expect(outcome(judge(evidence, { ...asked, chips: both }, now))).toBe("accepted")
  })
})

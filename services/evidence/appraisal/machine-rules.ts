/** The rules that hold for a machine as a whole, whatever its pieces are: whose, which, how good, and all of one. */
import type { Launch } from "../../../schemas/messages/attestation.ts"
import { type Assurance, type Chip, identities, type Platform, partsOf } from "../../../schemas/platforms.ts"
import { crypto } from "../../common/crypto/index.ts"
import { EvidenceError } from "../error.ts"
import { toHex } from "../text.ts"
import { finding, listed, notApplicable, oneOf } from "./finding.ts"
import type { Asked, Finding } from "./policy.ts"
import type { VerifiedPieces } from "./verify-pieces.ts"

/** Every piece genuine. */
export interface Machine {
  readonly platform: Platform
  readonly snp?: Genuine<VerifiedPieces["snp"]>
  readonly tdx?: Genuine<VerifiedPieces["tdx"]>
  readonly tpm?: Genuine<VerifiedPieces["tpm"]>
  readonly nitro?: Genuine<VerifiedPieces["nitro"]>
}

type Genuine<T> = Exclude<T, EvidenceError<string> | undefined>

const genuine = <T>(piece: T): Genuine<T> | undefined =>
  piece === undefined || piece instanceof EvidenceError ? undefined : (piece as Genuine<T>)

/** @returns the machine, unless one of its pieces isn't genuine or they make none */
export const machineOf = (pieces: VerifiedPieces): Machine | undefined => {
  const { platform } = pieces
  const [snp, tdx, tpm, nitro] = [
    genuine(pieces.snp),
    genuine(pieces.tdx),
    genuine(pieces.tpm),
    genuine(pieces.nitro),
  ]
  if (platform === undefined) return undefined
  const shown = { "sev-snp": snp, tdx, tpm, nitro }
  if (partsOf(platform).some((part) => shown[part] === undefined)) return undefined
  return { platform, ...(snp && { snp }), ...(tdx && { tdx }), ...(tpm && { tpm }), ...(nitro && { nitro }) }
}

/** A NitroTPM, as any TPM, says nothing of who can read the instance's memory. */
export const assuranceOf = (machine: Machine): Assurance => {
  const { snp, tdx, tpm, nitro, platform } = machine
  if ([snp, tdx, tpm, nitro].some((piece) => piece?.emulated === true)) return "emulated"
  return platform === "tpm" || nitro?.platform === "nitro-tpm" ? "tpm-only" : "hardware"
}

const ranks = { emulated: 0, "tpm-only": 1, hardware: 2 } as const
const best: readonly Assurance[] = ["hardware", "tpm-only", "emulated"]

/** The TPM's key is named by the report of the hardware beside it. */
const isNamedByHardware = ({ tpm }: Machine): boolean =>
  tpm !== undefined && !(tpm.binding instanceof EvidenceError) && tpm.binding.kind === "azure-hcl"

/** By each kind of evidence, as a `Chip` writes it; undefined where the evidence doesn't say. */
export const identitiesOf = ({
  snp,
  tdx,
  tpm,
  nitro,
}: Machine): { readonly [K in keyof Chip]-?: string | undefined } => ({
  sev_snp: snp?.chip.id,
  tdx: tdx && toHex(tdx.platform.ppid),
  tpm: tpm?.quote.ak.digest,
  tpm_ek: tpm?.ek,
  nitro: nitro?.document.moduleId,
})

/** What results carry: the hardware's identity, or the TPM's where it is alone; at most 64 bytes. */
export const chipBytesOf = (machine: Machine): Uint8Array | undefined => {
  const { sev_snp, tdx, tpm, tpm_ek, nitro } = identitiesOf(machine)
  const id = sev_snp ?? tdx ?? (machine.platform === "tpm" ? (tpm_ek ?? tpm) : undefined)
  const bytes = id === undefined ? Buffer.from(nitro ?? "") : Buffer.from(id, "hex")
  return bytes.length === 0 || bytes.length > 64 ? undefined : Uint8Array.from(bytes)
}

/** What each piece says of this very run of the machine: see `services/make/launch.ts`. */
export const launchOf = ({ snp, tpm }: Machine): Launch => {
  const run = tpm?.quote.clockInfo
  return {
    ...(snp && { report_id: snp.report.reportId, report_id_ma: snp.report.reportIdMa }),
    ...(run && {
      tpm: { resets: run.resetCount, restarts: run.restartCount, clock_ms: run.clock, safe: run.safe },
    }),
  }
}

/** For results, events and screens. */
export const describeMachine = ({ platform, snp, tdx, nitro }: Machine): string => {
  const model = snp?.productName ?? (tdx && toHex(tdx.platform.fmspc)) ?? nitro?.platform
  return model === undefined ? platform : `${platform} ${model}`
}

type Rule = (machine: Machine, asked: Asked) => Finding

export const machineRules: readonly (readonly [name: string, rule: Rule])[] = [
  ["root", (m, a) => judgeRoot(m, a)],
  [
    "assurance",
    (m, { policy }) => {
      const found = assuranceOf(m)
      const taken = best.filter((one) => ranks[one] >= ranks[policy.assurance])
      return finding(ranks[found] >= ranks[policy.assurance], found, taken.join(" or "))
    },
  ],
  ["report-data", (m, a) => judgeReportData(m, a)],
  [
    "dataplane",
    (_, { policy, claims }) =>
      policy.dataplane === undefined && claims.dataplane === undefined
        ? notApplicable("none")
        : oneOf(claims.dataplane ?? "none", policy.dataplane ?? []),
  ],
  ["chip-id", (m, a) => judgeChip(m, a)],
  ["binding", (m, a) => judgeTogether(m, a)],
]

/** Verification took only roots of this list; that the list says the same of them is checked here once more. */
const judgeRoot = ({ snp, tdx, nitro }: Machine, { policy }: Asked): Finding => {
  const root = snp?.root ?? tdx?.root ?? nitro?.root
  if (root === undefined) return notApplicable("a TPM: see tpm-key")
  const product = snp?.product
  const describe = (one: { vendor: string; product?: string; emulated: boolean; key_digest: string }) =>
    `${[one.vendor, one.product].filter((part) => part !== undefined).join(" ")}${one.emulated ? ", emulated" : ""}: ${one.key_digest}`
  const emulated = (snp ?? tdx ?? nitro)?.emulated === true
  const named = policy.roots.some(
    (one) =>
      one.vendor === root.vendor &&
      one.key_digest === root.key_digest &&
      one.emulated === emulated &&
      (one.vendor !== "amd" || one.product === product),
  )
  return finding(
    named,
    describe({ vendor: root.vendor, ...(product && { product }), emulated, key_digest: root.key_digest }),
    listed(policy.roots.map(describe)),
  )
}

const reportDataOf = ({ snp, tdx, nitro }: Machine): Uint8Array | undefined =>
  snp?.report.reportData ?? tdx?.quote.td.reportData ?? nitro?.document.userData

/** Under a paravisor the hardware's report data is the paravisor's; the TPM's quote, whose key it names, carries ours. */
const judgeReportData = (machine: Machine, { claims: { reportData } }: Asked): Finding => {
  if (machine.platform === "tpm") return notApplicable("a TPM: see tpm-report-data")
  if (isNamedByHardware(machine)) return notApplicable("the paravisor's: see tpm-report-data")
  const found = reportDataOf(machine) ?? new Uint8Array(0)
  return finding(
    reportData.length === 64 && crypto.equalConstantTime(found, reportData),
    toHex(found),
    toHex(reportData),
  )
}

const describeChip = (chip: Chip): string =>
  Object.entries(chip)
    .map(([kind, id]) => `${kind} ${id}`)
    .join(" and ")

/** Each piece must be of the machine that is named for its kind, unless the hardware's report names the TPM itself. */
const judgeChip = (machine: Machine, { policy: { chips } }: Asked): Finding => {
  const ids = identitiesOf(machine)
  const parts = partsOf(machine.platform).map((part) => identities[part])
  const shown = [...parts, ...(ids.tpm_ek === undefined ? [] : (["tpm_ek"] as const))]
  const found = shown.map((part) => `${part} ${ids[part] ?? "unknown: masked by the host"}`).join(" and ")
  if (chips === "any") return finding(true, found, "any chip")
  const isOne = (chip: Chip): boolean =>
    parts.every((part) => {
      const [wanted, own] = [chip[part], ids[part]]
      // Where both keys of a TPM are named, both must be right.
      if (part === "tpm" && chip.tpm_ek !== undefined)
        return ids.tpm_ek === chip.tpm_ek && (wanted === undefined || own === wanted)
      if (wanted === undefined) return part === "tpm" && isNamedByHardware(machine)
      return own !== undefined && (own === wanted || (part === "nitro" && instanceOf(own) === wanted))
    })
  return finding(chips.some(isOne), found, listed(chips.map(describeChip)))
}

/** An enclave has a new name each time that it starts; its instance keeps its own. */
const instanceOf = (moduleId: string): string | undefined => /^(i-[0-9a-f]+)-(?:enc|tpm)/.exec(moduleId)?.[1]

/** What holds two pieces together. The same report data alone doesn't: a TPM elsewhere could be asked the same. */
const judgeTogether = (machine: Machine, { policy }: Asked): Finding => {
  if (partsOf(machine.platform).length === 1) return notApplicable("one piece")
  const wanted =
    "a hardware report that names the TPM's key, or the same report data and both machines enrolled"
  if (isNamedByHardware(machine)) return finding(true, "the hardware's report names the TPM's key", wanted)
  if (policy.chips === "any")
    return finding(false, "the same report data, of any machine and any TPM", wanted)
  return finding(true, "the same report data; both are enrolled: see chip-id", wanted)
}

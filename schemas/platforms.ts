/**
 * What a machine must prove, written for people: whose hardware, which image, how new, which very machine. Stages of a
 * workflow and the control plane of a guest's anchors speak of machines in these words. Lists mean "any of these".
 */
import { Schema } from "effect"
import { list, text } from "./fields.ts"
import { limits } from "./limits.ts"

/** That many bytes in lower-case hex. */
export const hex = (bytes: number) =>
  Schema.String.check(Schema.isPattern(new RegExp(`^[0-9a-f]{${bytes * 2}}$`)))
const anyOf = (bytes: number) => list(hex(bytes), 16).check(Schema.isMinLength(1))
const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
const svn = between(0, 255)
/** A day, UTC. */
const Day = Schema.String.check(Schema.isPattern(/^20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$/))

const keyOfRoot = { key_digest: hex(32), emulated: Schema.Boolean } as const

/**
 * Whose signatures count: a key by the SHA-256 of its SubjectPublicKeyInfo. `emulated` must be said aloud. For AMD, Intel
 * and AWS only the vendor's own key can be genuine. For a TPM it is the operator's word: the key of an issuer that
 * certifies attestation keys, or one attestation key itself, or an endorsement key.
 */
export const HardwareRoot = Schema.Union([
  Schema.Struct({
    vendor: Schema.Literal("amd"),
    product: Schema.Literals(["Milan", "Genoa", "Turin"]),
    ...keyOfRoot,
  }),
  Schema.Struct({ vendor: Schema.Literal("intel"), ...keyOfRoot }),
  Schema.Struct({ vendor: Schema.Literal("aws"), ...keyOfRoot }),
  Schema.Struct({
    vendor: Schema.Literal("tpm"),
    use: Schema.Literals(["issuer", "ak", "ek"]),
    ...keyOfRoot,
  }),
])
export type HardwareRoot = typeof HardwareRoot.Type

export const HardwareRoots = list(HardwareRoot, limits.roots).check(Schema.isMinLength(1))

/** What a node may bring: one kind of evidence, or two that must be of one machine. */
export const Platform = Schema.Literals(["sev-snp", "tdx", "tpm", "nitro", "sev-snp+tpm", "tdx+tpm"])
export type Platform = typeof Platform.Type

/**
 * How far behind a machine may be. A fix that a vendor released on a day is demanded from that day on; `grace_days` later
 * at the latest a machine must have it. `advisories` are known weaknesses that are accepted, each until the end of a day.
 */
const drift = {
  grace_days: Schema.optionalKey(between(0, 365)),
  advisories: Schema.optionalKey(list(Schema.Struct({ id: text(64), until: Day }), 64)),
} as const

/** Least security version numbers; a part that isn't named has no floor. Demanded since a day, or always. */
export const TcbFloor = Schema.Struct({
  fmc: Schema.optionalKey(svn),
  bootloader: Schema.optionalKey(svn),
  tee: Schema.optionalKey(svn),
  snp: Schema.optionalKey(svn),
  microcode: Schema.optionalKey(svn),
  since: Schema.optionalKey(Day),
  /** The weakness that this floor fixes: on the list of accepted ones it isn't demanded. */
  advisory: Schema.optionalKey(text(64)),
})
export type TcbFloor = typeof TcbFloor.Type

export const SnpTcb = Schema.Struct({
  minimum: list(TcbFloor, 16).check(Schema.isMinLength(1)),
  ...drift,
})
export type SnpTcb = typeof SnpTcb.Type

/** AMD SEV-SNP. */
export const SevSnp = Schema.Struct({
  measurements: anyOf(48),
  policy: Schema.Struct({
    /** true takes either, false wants it off; so all but `single_socket`, where true wants it on. */
    debug: Schema.Boolean,
    migration_agent: Schema.Boolean,
    smt: Schema.optionalKey(Schema.Boolean),
    single_socket: Schema.optionalKey(Schema.Boolean),
    vmpl_max: between(0, 3),
  }),
  tcb: Schema.optionalKey(SnpTcb),
  /** true: AMD's revocation list must be at hand. A revoked key is refused always. */
  revocation: Schema.optionalKey(Schema.Boolean),
  /** Firmware that the host can still roll back. Refused unless true. */
  provisional_firmware: Schema.optionalKey(Schema.Boolean),
  host_data: Schema.optionalKey(anyOf(32)),
  family_id: Schema.optionalKey(anyOf(16)),
  image_id: Schema.optionalKey(anyOf(16)),
  id_keys: Schema.optionalKey(anyOf(48)),
  author_keys: Schema.optionalKey(anyOf(48)),
  /** Providers whose VLEKs count beside VCEKs: a VLEK is shared by all machines of a provider. */
  vlek_of: Schema.optionalKey(list(text(64), 8)),
})
export type SevSnp = typeof SevSnp.Type

/** Statuses of Intel's collateral that a policy may take. Revoked is never among them. */
export const TdxStatus = Schema.Literals([
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "TDRelaunchAdvised",
  "TDRelaunchAdvisedConfigurationNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
])

export const TdxTcb = Schema.Struct({
  statuses: list(TdxStatus, 8).check(Schema.isMinLength(1)),
  /** Least tcbEvaluationDataNumber of the collateral: no verdict by what Intel has since replaced. */
  minimum_evaluation: Schema.optionalKey(between(0, 65_535)),
  /** Least date of the platform's TCB level. */
  minimum_date: Schema.optionalKey(Day),
  ...drift,
})
export type TdxTcb = typeof TdxTcb.Type

/** Intel TDX. A TD that can be debugged is refused, whatever is written here. */
export const Tdx = Schema.Struct({
  mrtd: anyOf(48),
  /** The kernel and what it was started with are in 1 and 2 and nowhere else. */
  rtmrs: Schema.Struct({
    0: Schema.optionalKey(anyOf(48)),
    1: anyOf(48),
    2: anyOf(48),
    3: Schema.optionalKey(anyOf(48)),
  }),
  mrseam: Schema.optionalKey(anyOf(48)),
  mr_config_id: Schema.optionalKey(anyOf(48)),
  mr_owner: Schema.optionalKey(anyOf(48)),
  mr_owner_config: Schema.optionalKey(anyOf(48)),
  /** Service TDs bound to this one, which may move it elsewhere. None unless named. */
  mr_service_td: Schema.optionalKey(anyOf(48)),
  /** Each as written. `sept_ve_disable` is wanted and `migratable` is not, unless written otherwise. */
  attributes: Schema.optionalKey(
    Schema.Struct({
      sept_ve_disable: Schema.optionalKey(Schema.Boolean),
      migratable: Schema.optionalKey(Schema.Boolean),
      pks: Schema.optionalKey(Schema.Boolean),
      key_locker: Schema.optionalKey(Schema.Boolean),
      perfmon: Schema.optionalKey(Schema.Boolean),
    }),
  ),
  /** Most significant byte first. */
  xfam: Schema.optionalKey(anyOf(8)),
  /** true: the event log must be there, lead to RTMR 0 and say that Secure Boot was on. */
  secure_boot: Schema.optionalKey(Schema.Boolean),
  tcb: TdxTcb,
})
export type Tdx = typeof Tdx.Type

const registers = (bytes: RegExp) =>
  Schema.Record(
    Schema.String.check(Schema.isPattern(/^([0-9]|1[0-9]|2[0-3])$/)),
    list(Schema.String.check(Schema.isPattern(bytes)), 16).check(Schema.isMinLength(1)),
  )

/** TPM 2.0, alone or beside the evidence of the guest that it belongs to. */
export const Tpm = Schema.Struct({
  bank: Schema.Literals(["sha256", "sha384", "sha512"]),
  /** By number. The quote must cover them in this bank. */
  pcrs: Schema.optionalKey(registers(/^([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$/)),
  /** true: the event log must be there, lead to PCR 7 and say that Secure Boot was on. */
  secure_boot: Schema.optionalKey(Schema.Boolean),
  /** Digests of UEFI images: the event log must be there, lead to PCR 4, and name no image but these. */
  images: Schema.optionalKey(
    list(Schema.String.check(Schema.isPattern(/^([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$/)), 64).check(
      Schema.isMinLength(1),
    ),
  ),
})
export type Tpm = typeof Tpm.Type

/** AWS Nitro: documents of enclaves, or of the NitroTPM of an instance. Debug mode is refused. */
export const Nitro = Schema.Struct({
  document: Schema.Literals(["enclave", "tpm"]),
  pcrs: registers(/^[0-9a-f]{96}$/),
})
export type Nitro = typeof Nitro.Type

/** `hardware` is above `tpm-only`, that above `emulated`: the least that is taken. */
export const Assurance = Schema.Literals(["hardware", "tpm-only", "emulated"])
export type Assurance = typeof Assurance.Type

/** The fields of a stage or an anchor that speak of machines. */
export const demands = {
  assurance: Assurance,
  platforms: list(Platform, 6).check(Schema.isMinLength(1)),
  sev_snp: Schema.optionalKey(SevSnp),
  tdx: Schema.optionalKey(Tdx),
  tpm: Schema.optionalKey(Tpm),
  nitro: Schema.optionalKey(Nitro),
} as const
const Demands = Schema.Struct(demands)
export type Demands = typeof Demands.Type

/**
 * Which machine it must be, by each kind of evidence that it brings: SNP's chip id (64 bytes), TDX's PPID (16), the
 * SHA-256 of the TPM's attestation key (SubjectPublicKeyInfo) or of its endorsement key, or both, Nitro's module id or the instance at its beginning. `any`
 * gives identity up.
 */
export const Chip = Schema.Struct({
  sev_snp: Schema.optionalKey(hex(64)),
  tdx: Schema.optionalKey(hex(16)),
  tpm: Schema.optionalKey(hex(32)),
  tpm_ek: Schema.optionalKey(hex(32)),
  nitro: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^[A-Za-z0-9._:-]{1,64}$/))),
})
export type Chip = typeof Chip.Type

export const partsOf = (platform: Platform): ReadonlyArray<"sev-snp" | "tdx" | "tpm" | "nitro"> => {
  switch (platform) {
    case "sev-snp+tpm":
      return ["sev-snp", "tpm"]
    case "tdx+tpm":
      return ["tdx", "tpm"]
    default:
      return [platform]
  }
}

/** Where a `Chip` names the machine of each kind of evidence. */
export const identities = { "sev-snp": "sev_snp", tdx: "tdx", tpm: "tpm", nitro: "nitro" } as const

/** Whether some platform can be this machine. The TPM beside hardware may be named by the hardware's report instead. */
export const canBeOne = (chip: Chip, platforms: ReadonlyArray<Platform>): boolean =>
  platforms.some((platform) =>
    partsOf(platform).every(
      (part) =>
        chip[identities[part]] !== undefined ||
        (part === "tpm" && (platform !== "tpm" || chip.tpm_ek !== undefined)),
    ),
  )

const sections = [
  ["sev-snp", "sev_snp", "amd"],
  ["tdx", "tdx", "intel"],
  ["tpm", "tpm", "tpm"],
  ["nitro", "nitro", "aws"],
] as const

export interface Problem {
  readonly field: string
  readonly message: string
}

const bankBytes = { sha256: 32, sha384: 48, sha512: 64 } as const

/** What in demands can't be meant as it is written; undefined where all fits. Fields are below that of the demands. */
export const demandsProblem = (
  demanded: Demands,
  roots: ReadonlyArray<HardwareRoot>,
): Problem | undefined => {
  const parts = new Set(demanded.platforms.flatMap(partsOf))
  for (const [part, section, vendor] of sections) {
    if (parts.has(part) !== (demanded[section] !== undefined))
      return parts.has(part)
        ? { field: section, message: `is missing, but "${part}" is among the platforms` }
        : { field: section, message: `is there, but "${part}" isn't among the platforms` }
    // A TPM that the hardware's report names needs no root of its own.
    const standsAlone = part === "tpm" ? demanded.platforms.includes("tpm") : parts.has(part)
    if (standsAlone && !roots.some((root) => root.vendor === vendor))
      return { field: "platforms", message: `"${part}" is taken, but no root of vendor "${vendor}" is named` }
  }
  if (demanded.assurance === "emulated" && !roots.some((root) => root.emulated))
    return { field: "assurance", message: "accepts emulated hardware, but no root is marked emulated" }
  if (demanded.assurance === "hardware" && demanded.platforms.includes("tpm"))
    return { field: "assurance", message: 'a TPM alone is never "hardware"' }
  if (demanded.assurance === "hardware" && demanded.nitro?.document === "tpm")
    return { field: "assurance", message: 'a NitroTPM is never "hardware"' }
  return tpmProblem(demanded) ?? daysProblem(demanded)
}

const tpmProblem = ({ tpm, nitro }: Demands): Problem | undefined => {
  if (nitro !== undefined && Object.keys(nitro.pcrs).length === 0)
    return { field: "nitro.pcrs", message: "names no register" }
  if (tpm === undefined) return undefined
  if (Object.keys(tpm.pcrs ?? {}).length === 0 && tpm.images === undefined)
    return { field: "tpm", message: "names neither pcrs nor images: any boot would do" }
  const digits = 2 * bankBytes[tpm.bank]
  const values = [
    ...Object.entries(tpm.pcrs ?? {}).map(([pcr, wanted]) => [`pcrs.${pcr}`, wanted] as const),
    ["images", tpm.images ?? []] as const,
  ]
  const wrong = values.find(([, wanted]) => wanted.some(({ length }) => length !== digits))
  return wrong && { field: `tpm.${wrong[0]}`, message: `a value isn't one of ${tpm.bank}: ${digits} digits` }
}

/** The pattern lets 31 days pass for each month. */
const isDay = (day: string): boolean => {
  const date = new Date(`${day}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day)
}

const daysProblem = ({ sev_snp, tdx }: Demands): Problem | undefined => {
  const days = [
    ...(sev_snp?.tcb?.minimum ?? []).map(({ since }) => ["sev_snp.tcb.minimum", since] as const),
    ...(sev_snp?.tcb?.advisories ?? []).map(({ until }) => ["sev_snp.tcb.advisories", until] as const),
    ...(tdx?.tcb.advisories ?? []).map(({ until }) => ["tdx.tcb.advisories", until] as const),
    ["tdx.tcb.minimum_date", tdx?.tcb.minimum_date] as const,
  ]
  const wrong = days.find(([, day]) => day !== undefined && !isDay(day))
  return wrong && { field: wrong[0], message: `there is no ${wrong[1]}` }
}

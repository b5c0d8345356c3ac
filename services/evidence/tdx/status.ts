/**
 * How good a genuine platform is, by Intel's rule (Quote Verification Library, TcbLevelCheck; PCS API v4, "TCB info"):
 * the first level whose every bound the platform reaches, the TDX module's own level, the quoting enclave's own level,
 * and what the three make together.
 */
import { toHex } from "../text.ts"
import { TdxError } from "./error.ts"
import type { QeIdentity } from "./qe-identity.ts"
import type { QeReport } from "./quote.ts"
import type { PlatformIdentity } from "./sgx-extension.ts"
import type {
  ModuleIdentity,
  PartTcbStatus,
  PlatformTcbLevel,
  SvnLevel,
  TcbInfo,
  TcbStatus,
} from "./tcb-info.ts"
import type { TdReport } from "./td-report.ts"

export type NoLevel = "NoMatchingLevel"

export type ConvergedStatus =
  | TcbStatus
  | NoLevel
  | "TDRelaunchAdvised"
  | "TDRelaunchAdvisedConfigurationNeeded"

/** One part's level. */
export interface PartStatus<S> {
  readonly status: S
  /** When Intel released the fixes that make up the level; undefined when none fits. */
  readonly tcbDate?: Date
  readonly advisories: readonly string[]
  /** Better levels than this one that the collateral knows, and the date of the best. */
  readonly levelsBehind?: number
  /** The day of the oldest of the better levels: since then it has been behind. */
  readonly behindSince?: Date
  readonly newestTcbDate?: Date
}

export interface TdxStatus {
  readonly platform: PartStatus<TcbStatus | NoLevel>
  /** `identity` is `TDX_01` and the like, or `base` for a module of major version 0, whose level is the platform's. */
  readonly module: PartStatus<PartTcbStatus | NoLevel | "NotApplicable"> & { readonly identity: string }
  readonly qe: PartStatus<PartTcbStatus | NoLevel> & { readonly isvSvn: number }
  readonly converged: ConvergedStatus
  /** Of all three parts, sorted. */
  readonly advisories: readonly string[]
}

const noLevel = { status: "NoMatchingLevel", advisories: [] } as const

/** The first level that fits; its place in the list is how far behind it is. */
const levelOf = <L extends SvnLevel | PlatformTcbLevel>(
  levels: readonly L[],
  fits: (level: L) => boolean,
): PartStatus<L["status"] | NoLevel> => {
  const at = levels.findIndex(fits)
  const [newest] = levels
  const level = levels[at]
  if (level === undefined || newest === undefined) return noLevel
  const { status, tcbDate, advisories } = level
  const [behindSince] = levels
    .slice(0, at)
    .map((better) => better.tcbDate)
    .toSorted((a, b) => a.getTime() - b.getTime())
  return {
    status,
    tcbDate,
    advisories,
    levelsBehind: at,
    newestTcbDate: newest.tcbDate,
    ...(behindSince && { behindSince }),
  }
}

/**
 * @param td of a quote whose signatures held
 * @throws TdxError TDX_MODULE_MISMATCH
 */
export const judgeTcb = (
  td: TdReport,
  platform: PlatformIdentity,
  qe: QeReport,
  info: TcbInfo,
  identity: QeIdentity,
): TdxStatus => {
  const module = judgeModule(td, info)
  const ownQe = levelOf(identity.levels, ({ isvSvn }) => qe.isvSvn >= isvSvn)
  const sgx = levelOf(info.levels, (level) => reachesSgx(platform, level))
  const whole = levelOf(
    info.levels,
    (level) => reachesSgx(platform, level) && reachesTdx(td.teeTcbSvn, level),
  )
  const withModule = converge(whole.status, module.status)
  const current = relaunchHelps(td, info, sgx.status, withModule, module.status, ownQe.status)
    ? relaunch(sgx.status, withModule)
    : withModule
  return {
    platform: whole,
    module,
    qe: { ...ownQe, isvSvn: qe.isvSvn },
    converged: converge(current, ownQe.status),
    advisories: [...new Set([whole, module, ownQe].flatMap(({ advisories }) => advisories))].sort(),
  }
}

const reachesSgx = (platform: PlatformIdentity, level: PlatformTcbLevel): boolean =>
  platform.pceSvn >= level.pceSvn &&
  level.sgxComponents.every((svn, i) => (platform.sgxComponents[i] ?? -1) >= svn)

/** A module of a major version above 0 has levels of its own: then bytes 0 and 1 take no part here. */
const reachesTdx = (teeTcbSvn: Uint8Array, level: PlatformTcbLevel): boolean => {
  const first = majorOf(teeTcbSvn) > 0 ? 2 : 0
  return level.tdxComponents.every((svn, i) => i < first || (teeTcbSvn[i] ?? -1) >= svn)
}

const svnOf = (teeTcbSvn: Uint8Array): number => teeTcbSvn[0] ?? 0
const majorOf = (teeTcbSvn: Uint8Array): number => teeTcbSvn[1] ?? 0
const moduleIdOf = (teeTcbSvn: Uint8Array): string =>
  `TDX_${majorOf(teeTcbSvn).toString(16).toUpperCase().padStart(2, "0")}`

const judgeModule = (td: TdReport, info: TcbInfo): TdxStatus["module"] => {
  if (majorOf(td.teeTcbSvn) === 0) {
    checkModule(td, info.baseModule)
    return { identity: "base", status: "NotApplicable", advisories: [] }
  }
  const id = moduleIdOf(td.teeTcbSvn)
  const known = info.modules.find((one) => one.id === id)
  if (known === undefined)
    throw new TdxError(
      "TDX_MODULE_MISMATCH",
      "quote.teeTcbSvn[1]",
      id,
      info.modules.map((one) => one.id).join(" or ") || "0: the collateral knows no modules",
    )
  checkModule(td, known)
  return { identity: id, ...levelOf(known.levels, ({ isvSvn }) => svnOf(td.teeTcbSvn) >= isvSvn) }
}

/** Intel's modules have no attributes: whatever the mask leaves open, a set bit is refused. */
const checkModule = (td: TdReport, { mrSigner, attributes, attributesMask }: ModuleIdentity): void => {
  if (Buffer.compare(td.mrSignerSeam, mrSigner) !== 0)
    throw new TdxError("TDX_MODULE_MISMATCH", "quote.mrSignerSeam", toHex(td.mrSignerSeam), toHex(mrSigner))
  const masked = td.seamAttributes.map((byte, i) => byte & (attributesMask[i] ?? 0xff))
  if (Buffer.compare(masked, attributes) !== 0 || td.seamAttributes.some((byte) => byte !== 0))
    throw new TdxError(
      "TDX_MODULE_MISMATCH",
      "quote.seamAttributes",
      toHex(td.seamAttributes),
      `${toHex(attributes)}, and no bit set`,
    )
}

/** What a platform is together with one of its parts. */
const converge = (
  platform: ConvergedStatus,
  part: PartTcbStatus | NoLevel | "NotApplicable",
): ConvergedStatus => {
  if (platform === "NoMatchingLevel" || part === "NoMatchingLevel") return "NoMatchingLevel"
  if (platform === "Revoked" || part === "Revoked") return "Revoked"
  if (part !== "OutOfDate") return platform
  switch (platform) {
    case "UpToDate":
    case "SWHardeningNeeded":
      return "OutOfDate"
    case "ConfigurationNeeded":
    case "ConfigurationAndSWHardeningNeeded":
      return "OutOfDateConfigurationNeeded"
    default:
      return platform
  }
}

/**
 * A TD 1.5 says which module runs now (TEE_TCB_SVN_2) beside the one that it was launched under. Where only the older
 * module makes it out of date and the newer one is the newest, launching it again is all that it needs.
 */
const relaunchHelps = (
  td: TdReport,
  info: TcbInfo,
  sgx: TcbStatus | NoLevel,
  platform: ConvergedStatus,
  module: TdxStatus["module"]["status"],
  qe: TdxStatus["qe"]["status"],
): boolean => {
  const [newest] = info.levels
  if (td.teeTcbSvn2 === undefined || newest === undefined || module !== "OutOfDate" || qe !== "UpToDate")
    return false
  if (platform !== "OutOfDate" && platform !== "OutOfDateConfigurationNeeded") return false
  if (sgx === "NoMatchingLevel" || sgx.startsWith("OutOfDate") || sgx === "Revoked") return false
  if ((td.teeTcbSvn2[2] ?? 0) < (newest.tdxComponents[2] ?? 0xff)) return false
  if (majorOf(td.teeTcbSvn2) === 0) return svnOf(td.teeTcbSvn2) >= (newest.tdxComponents[0] ?? 0xff)
  const id = moduleIdOf(td.teeTcbSvn2)
  const known = info.modules.find((one) => one.id === id)
  if (known === undefined)
    throw new TdxError("TDX_MODULE_MISMATCH", "quote.teeTcbSvn2[1]", id, "a module that the collateral knows")
  const [newestLevel] = known.levels
  return newestLevel !== undefined && svnOf(td.teeTcbSvn2) >= newestLevel.isvSvn
}

const relaunch = (sgx: ConvergedStatus, platform: ConvergedStatus): ConvergedStatus =>
  [sgx, platform].some(
    (status) => status.startsWith("Configuration") || status.endsWith("ConfigurationNeeded"),
  )
    ? "TDRelaunchAdvisedConfigurationNeeded"
    : "TDRelaunchAdvised"

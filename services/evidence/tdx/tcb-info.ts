/** TCB info for TDX, version 3 (Intel PCS API v4): which security versions of a platform family are how good. */
import { TdxError } from "./error.ts"
import type { JsonObject } from "./json.ts"

export type TcbStatus =
  | "UpToDate"
  | "SWHardeningNeeded"
  | "ConfigurationNeeded"
  | "ConfigurationAndSWHardeningNeeded"
  | "OutOfDate"
  | "OutOfDateConfigurationNeeded"
  | "Revoked"

const tcbStatuses: readonly TcbStatus[] = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "Revoked",
]

/** What a TDX module or a quoting enclave can be. */
export type PartTcbStatus = "UpToDate" | "OutOfDate" | "Revoked"
const partStatuses: readonly PartTcbStatus[] = ["UpToDate", "OutOfDate", "Revoked"]

export interface PlatformTcbLevel {
  readonly sgxComponents: readonly number[]
  readonly pceSvn: number
  readonly tdxComponents: readonly number[]
  readonly tcbDate: Date
  readonly status: TcbStatus
  readonly advisories: readonly string[]
}

/** A level of a TDX module or a quoting enclave. */
export interface SvnLevel {
  readonly isvSvn: number
  readonly tcbDate: Date
  readonly status: PartTcbStatus
  readonly advisories: readonly string[]
}

/** Which SEAM module it must be: MRSIGNERSEAM, and SEAMATTRIBUTES under a mask. */
export interface ModuleIdentity {
  readonly mrSigner: Uint8Array
  readonly attributes: Uint8Array
  readonly attributesMask: Uint8Array
}

export interface TdxModule extends ModuleIdentity {
  /** `TDX_` and the module's major version, two hexadecimal digits. */
  readonly id: string
  readonly levels: readonly SvnLevel[]
}

/** What TCB info and QE identity have in common. */
export interface Dated {
  readonly issueDate: Date
  readonly nextUpdate: Date
  /** Rises with each TCB recovery event. */
  readonly evaluationDataNumber: number
}

export interface TcbInfo extends Dated {
  readonly fmspc: Uint8Array
  readonly pceId: Uint8Array
  /** For modules of major version 0. */
  readonly baseModule: ModuleIdentity
  readonly modules: readonly TdxModule[]
  /** Best first, as Intel sorts them. */
  readonly levels: readonly PlatformTcbLevel[]
}

const mostLevels = 64
const mostAdvisories = 128
const mostSvn = 0xffff

/**
 * @param info the inner object, whose signature held
 * @throws TdxError COLLATERAL_KIND, COLLATERAL_MALFORMED
 */
export const readTcbInfo = (info: JsonObject): TcbInfo => {
  expectKind(info, "TDX", 3)
  const type = info.integer("tcbType", 0xff)
  if (type !== 0)
    throw new TdxError(
      "COLLATERAL_KIND",
      `${info.field}.tcbType`,
      `${type}`,
      "0, the only layout of components",
    )
  const levels = info.list("tcbLevels", mostLevels).map(readPlatformLevel)
  return {
    ...readDated(info),
    fmspc: info.hex("fmspc", 6),
    pceId: info.hex("pceId", 2),
    baseModule: readModuleIdentity(info.object("tdxModule")),
    modules: info.has("tdxModuleIdentities") ? info.list("tdxModuleIdentities", 32).map(readModule) : [],
    levels,
  }
}

/** @throws TdxError COLLATERAL_KIND */
export const expectKind = (object: JsonObject, id: string, version: number): void => {
  const found = object.text("id")
  if (found !== id) throw new TdxError("COLLATERAL_KIND", `${object.field}.id`, found, `${id}, for TDX`)
  const foundVersion = object.integer("version", 0xff)
  if (foundVersion !== version)
    throw new TdxError("COLLATERAL_KIND", `${object.field}.version`, `${foundVersion}`, `${version}`)
}

export const readDated = (object: JsonObject): Dated => ({
  issueDate: object.date("issueDate"),
  nextUpdate: object.date("nextUpdate"),
  evaluationDataNumber: object.integer("tcbEvaluationDataNumber", 0xffff_ffff),
})

const readModuleIdentity = (object: JsonObject): ModuleIdentity => ({
  mrSigner: object.hex("mrsigner", 48),
  attributes: object.hex("attributes", 8),
  attributesMask: object.hex("attributesMask", 8),
})

const readModule = (object: JsonObject): TdxModule => ({
  id: object.text("id").toUpperCase(),
  ...readModuleIdentity(object),
  levels: readSvnLevels(object),
})

export const readSvnLevels = (object: JsonObject): SvnLevel[] =>
  object.list("tcbLevels", mostLevels).map((level) => ({
    isvSvn: level.object("tcb").integer("isvsvn", mostSvn),
    tcbDate: level.date("tcbDate"),
    status: level.oneOf("tcbStatus", partStatuses),
    advisories: level.texts("advisoryIDs", mostAdvisories),
  }))

const readPlatformLevel = (level: JsonObject): PlatformTcbLevel => {
  const tcb = level.object("tcb")
  return {
    sgxComponents: readComponents(tcb, "sgxtcbcomponents"),
    pceSvn: tcb.integer("pcesvn", mostSvn),
    tdxComponents: readComponents(tcb, "tdxtcbcomponents"),
    tcbDate: level.date("tcbDate"),
    status: level.oneOf("tcbStatus", tcbStatuses),
    advisories: level.texts("advisoryIDs", mostAdvisories),
  }
}

const readComponents = (tcb: JsonObject, name: string): number[] => {
  const components = tcb.list(name, 16)
  if (components.length !== 16)
    throw new TdxError(
      "COLLATERAL_MALFORMED",
      `${tcb.field}.${name}`,
      `${components.length} components`,
      "16",
    )
  return components.map((component) => component.integer("svn", 0xff))
}

/** A TDX quote; with collateral, also what Intel says of the platform that made it. */
import { basename, join } from "node:path"
import { toHex } from "../../common/hex.ts"
import { splitPem } from "../../evidence/collateral/pem.ts"
import {
  type GenuineTdx,
  parseQuote,
  type TdxCollateral,
  TdxError,
  type TdxQuote,
  type TdxStatus,
  tdxCollateralOf,
  type VerifiedTdx,
  verifyCcel,
  verifyQuote,
  verifyQuoteSignatures,
  verifyRtmrEvents,
} from "../../evidence/tdx/index.ts"
import { dersOf } from "./certificates.ts"
import type { Context } from "./context.ts"
import { folderOf, type Item, itemsIn, namesIn } from "./files.ts"
import { checkHclReport } from "./hcl-report.ts"
import { type Check, checksOf, errorOf, type Inspection, type Stage } from "./inspection.ts"
import { checkNonce } from "./nonce.ts"
import { recogniseSupport } from "./recognise.ts"

export const inspectTdx = (item: Item, context: Context): Inspection => {
  const { at } = context
  const evidence = { quote: item.bytes }
  const signatures = verifyQuoteSignatures(evidence, { now: at })
  const chosen = signatures instanceof TdxError ? undefined : chooseCollateral(signatures, context)
  const judged =
    chosen === undefined || signatures instanceof TdxError
      ? undefined
      : verifyQuote({ ...evidence, collateral: chosen.collateral }, { now: at, missingCrl: "report" })
  const quote = readQuote(item.bytes)
  const base = {
    file: item.path,
    kind: "tdx",
    version: quote?.version ?? null,
    at: at.toISOString(),
    fields: quote === undefined ? {} : fieldsOf(quote),
    usable: true,
  } as const
  if (signatures instanceof TdxError)
    return {
      ...base,
      genuine: false,
      platform: "Intel TDX",
      status: {},
      certificates: [],
      checks: checksOf(stagesOf(), signatures),
      error: errorOf(signatures),
    }
  const { status, checks, error } = conclude(judged, chosen?.from)
  const bindings = [
    ...checkEventLogs(signatures, context),
    ...checkHclReport(signatures.quote.td.reportData, context),
    ...checkNonce(signatures.quote.td.reportData, "report data", context),
  ]
  const broken = bindings.find((check) => check.result === "failed")
  return {
    ...base,
    genuine: error === null && broken === undefined,
    platform: `${signatures.emulated ? "EMULATED " : ""}Intel TDX ${signatures.quote.td.version}, FMSPC ${toHex(signatures.platform.fmspc)}`,
    status: { debug: signatures.quote.td.tdAttributes.debug, ...status },
    certificates: signatures.certificates,
    checks: [...checksOf(stagesOf(signatures)), ...checks, ...bindings],
    error:
      error ??
      (broken === undefined
        ? null
        : {
            code: "BINDING_MISMATCH",
            field: broken.name,
            message: `found ${broken.found}, wanted ${broken.wanted}`,
          }),
  }
}

/** Logs that the caller gave must lead to the quote's registers; RTMR3 is often extended without a log. */
const checkEventLogs = ({ quote: { td } }: GenuineTdx, { given }: Context): readonly Check[] =>
  given.flatMap(({ bytes }): readonly Check[] => {
    const kind = recogniseSupport(bytes)
    const isEvents = kind === "json" && Buffer.from(bytes.subarray(0, 4_096)).includes('"imr"')
    if (kind !== "event-log" && !isEvents) return []
    const result = isEvents ? verifyRtmrEvents(bytes, td) : verifyCcel(bytes, td, [0, 1, 2])
    const name = "event log"
    if (result instanceof TdxError)
      return [{ name, result: "failed", found: result.found, wanted: result.wanted }]
    const found = `explains RTMR ${result.rtmrs.join(", ")}`
    return [{ name, result: "passed", found, wanted: "replays to the quote's RTMRs" }]
  })

/**
 * A quote that no TCB level fits is still Intel's: its status says so, and a policy must refuse it. One whose TCB is
 * revoked isn't: its keys are known to have been within others' reach.
 */
const conclude = (
  judged: VerifiedTdx | TdxError | undefined,
  from: string | undefined,
): { status: Record<string, unknown>; checks: readonly Check[]; error: Inspection["error"] } => {
  if (judged === undefined) {
    const found = "no collateral given: neither revocation nor TCB status is known"
    return {
      status: { collateral: null },
      checks: [{ name: "collateral", result: "not applicable", found, wanted: "--collateral DIR" }],
      error: null,
    }
  }
  const collateral = from ?? "command line"
  if (judged instanceof TdxError) {
    const status = judged.status === undefined ? {} : statusOf(judged.status)
    const fits = judged.code !== "TCB_LEVEL_NONE"
    const name = judged.code.startsWith("TCB_") ? "TCB level" : "collateral"
    return {
      status: { collateral, ...status },
      checks: [{ name, result: "failed", found: judged.found, wanted: judged.wanted }],
      error: fits ? errorOf(judged) : null,
    }
  }
  return {
    status: {
      collateral,
      ...statusOf(judged.status),
      tcbEvaluationDataNumber: judged.tcbEvaluationDataNumber,
      revocation: judged.revocation,
      collateralUsed: judged.collateral,
    },
    checks: [
      {
        name: "collateral",
        result: "passed",
        found: collateral,
        wanted: "signed by Intel, current, for this FMSPC",
      },
      {
        name: "TCB level",
        result: "passed",
        found: judged.status.converged,
        wanted: "a level that fits and isn't revoked",
      },
    ],
    error: null,
  }
}

const dateOf = (date: Date | undefined): string | null => date?.toISOString() ?? null

const statusOf = ({ platform, module, qe, converged, advisories }: TdxStatus) => ({
  converged,
  platformTcb: platform.status,
  platformTcbDate: dateOf(platform.tcbDate),
  levelsBehind: platform.levelsBehind ?? null,
  newestTcbDate: dateOf(platform.newestTcbDate),
  tdxModule: module.status === "NotApplicable" ? module.identity : `${module.identity} ${module.status}`,
  qe: qe.status,
  qeIsvSvn: qe.isvSvn,
  advisories,
})

const readQuote = (bytes: Uint8Array): TdxQuote | undefined => {
  try {
    return parseQuote(bytes)
  } catch (error) {
    if (error instanceof TdxError) return undefined
    throw error
  }
}

interface Chosen {
  readonly collateral: TdxCollateral
  readonly from: string
}

/**
 * Files that the caller gave come first, each with what else its folder holds; else --collateral: the folder itself, or
 * those in it. Of several with TCB info, the one for this platform's family that is current, or else the newest.
 */
const chooseCollateral = (
  { platform, quote }: GenuineTdx,
  { given, collateral, at }: Context,
): Chosen | undefined => {
  const own = givenCollateral(given)
  const folders =
    collateral === undefined
      ? []
      : [collateral, ...namesIn(collateral, "folders").map((name) => join(collateral, name))]
  const ca = splitPem(quote.certification.data).some((one) => Buffer.from(one).includes("PCK Processor CA"))
    ? "Processor"
    : "Platform"
  const stored = folders.flatMap((from) => storedIn(from, ca).map((one) => ({ from, collateral: one })))
  const complete = own.filter(hasTcbInfo)
  const chosen = newestOf(
    complete.length > 0 ? complete : stored.filter(hasTcbInfo),
    toHex(platform.fmspc),
    at,
  )
  // Pieces that were given without TCB info of their own take the place of those that were found.
  const pieces = own.filter((one) => !hasTcbInfo(one))
  const from = chosen?.from ?? pieces[0]?.from ?? collateral
  if (from === undefined) return undefined
  return { collateral: Object.assign({}, chosen?.collateral, ...pieces.map((one) => one.collateral)), from }
}

const hasTcbInfo = ({ collateral }: Chosen): boolean => collateral.tcbInfo !== undefined

/** Where none is for the family, a lone one is taken all the same: the verifier says what is wrong with it. */
const newestOf = (from: readonly Chosen[], family: string, at: Date): Chosen | undefined => {
  const dated = from.map((one) => ({ one, ...datesOf(one.collateral.tcbInfo) }))
  const fitting = dated.filter(({ fmspc }) => fmspc === family)
  const current = fitting.filter(({ issued, until }) => issued <= at.getTime() && at.getTime() < until)
  const [newest] = (current.length > 0 ? current : fitting).toSorted((a, b) => b.issued - a.issued)
  return newest?.one ?? (from.length === 1 ? from[0] : undefined)
}

const collateralFile = /\.(?:json|der|pem|crl|crt|cer)$/i

const filesOf = (folder: string): ReadonlyMap<string, Uint8Array> =>
  new Map(itemsIn(folder, collateralFile).map(({ path, bytes }) => [basename(path), bytes]))

/**
 * What a folder holds, by the names that files of collateral have here; else by their content: then one for each platform
 * family, since many may lie in one folder.
 */
const storedIn = (folder: string, ca: string): readonly TdxCollateral[] => {
  const named = tdxCollateralOf(filesOf(folder))
  if (named.tcbInfo !== undefined) return [named]
  const rest: { -readonly [K in keyof TdxCollateral]: Uint8Array } = {}
  const infos: Uint8Array[] = []
  for (const item of itemsIn(folder, collateralFile).flatMap(singlesOf)) {
    const member = memberOf(item)
    const head = Buffer.from(item.bytes.subarray(0, 512)).toString("latin1")
    if (member === "tcbInfo" && /"id"\s*:\s*"TDX"/.test(head)) infos.push(item.bytes)
    else if (member === "qeIdentity" && !/"id"\s*:\s*"TD_QE"/.test(head)) continue
    else if (member === "pckCrl" && !head.includes(`PCK ${ca} CA`)) continue
    else if (member !== undefined && member !== "tcbInfo") rest[member] ??= item.bytes
  }
  return infos.length === 0 ? [named] : infos.map((tcbInfo) => ({ ...rest, ...named, tcbInfo }))
}

/** The blocks of PEM, each as a piece of its own. */
const singlesOf = ({ path, bytes }: Item): readonly Item[] =>
  bytes.length > 65_536 ? [] : splitPem(bytes).map((one) => ({ path, bytes: one }))

/** For choosing only: read before the signature is checked. */
const datesOf = (tcbInfo: Uint8Array | undefined): { fmspc: string; issued: number; until: number } => {
  const text = Buffer.from(tcbInfo ?? []).toString("latin1")
  const member = (name: string) => new RegExp(`"${name}"\\s*:\\s*"([^"]{1,40})"`).exec(text)?.[1] ?? ""
  return {
    fmspc: member("fmspc").toLowerCase(),
    issued: Date.parse(member("issueDate")),
    until: Date.parse(member("nextUpdate")),
  }
}

/** What was named on the command line, by folder; what is missing beside TCB info comes from its folder. */
const givenCollateral = (given: readonly Item[]): readonly Chosen[] => {
  const byFolder = new Map<string, { -readonly [K in keyof TdxCollateral]: Uint8Array }>()
  for (const item of given.flatMap(singlesOf)) {
    const member = memberOf(item)
    if (member === undefined) continue
    const folder = folderOf(item.path)
    byFolder.set(folder, { ...byFolder.get(folder), [member]: item.bytes })
  }
  return [...byFolder].map(([from, named]) => ({
    from,
    collateral: named.tcbInfo === undefined ? named : { ...tdxCollateralOf(filesOf(from)), ...named },
  }))
}

/** Recognised by what the JSON holds, and by who issued a revocation list. */
const memberOf = (item: Item): keyof TdxCollateral | undefined => {
  const kind = recogniseSupport(item.bytes)
  const head = Buffer.from(item.bytes.subarray(0, 512)).toString("latin1")
  if (kind === "json")
    return head.includes('"tcbInfo"')
      ? "tcbInfo"
      : head.includes('"enclaveIdentity"')
        ? "qeIdentity"
        : undefined
  if (kind === "crl") return head.includes("PCK") ? "pckCrl" : "rootCrl"
  return dersOf(item).some((der) => Buffer.from(der).includes("TCB Signing")) ? "tcbSigningChain" : undefined
}

const certificateCodes =
  /^CERTIFICATE_(?:MALFORMED|ALGORITHM|ROLE|ISSUER|SIGNATURE|EXTENSION)$|^CHAIN_|^TIME_/

const stagesOf = (genuine?: GenuineTdx): readonly Stage[] => {
  const ends = genuine?.certificates.map(({ notAfter }) => notAfter.getTime()) ?? []
  const until = ends.length === 0 ? "" : `until ${new Date(Math.min(...ends)).toISOString()}`
  const holds = genuine === undefined ? "" : "holds"
  return [
    {
      name: "quote format",
      codes: /^QUOTE_(?!SIGNATURE)/,
      wanted: "a TD quote, version 4 or 5",
      found: genuine === undefined ? "" : `version ${genuine.quote.version}, TD ${genuine.quote.td.version}`,
    },
    { name: "pinned root", codes: /^ROOT_/, wanted: "Intel's key", found: genuine?.root.key_digest ?? "" },
    {
      name: "certificate chain",
      codes: certificateCodes,
      wanted: "ECDSA P-256 signatures from the root down",
      found: genuine?.certificates.map(({ role }) => role).join(" < ") ?? "",
    },
    {
      name: "certificate dates",
      codes: /^CERTIFICATE_(?:EXPIRED|NOT_YET)/,
      wanted: "valid at that time",
      found: until,
    },
    { name: "QE report signature", codes: /^QE_REPORT/, wanted: "ECDSA P-256 by the PCK", found: holds },
    {
      name: "attestation key",
      codes: /^ATTESTATION_KEY/,
      wanted: "the one that the QE vouches for",
      found: holds,
    },
    {
      name: "quote signature",
      codes: /^QUOTE_SIGNATURE$/,
      wanted: "ECDSA P-256 by the attestation key",
      found: holds,
    },
  ]
}

const fieldsOf = ({ td, qe, userData, certification, trailingBytes }: TdxQuote) => {
  const { raw: _, ...ownQe } = qe
  return {
    ...td,
    tdAttributes: { ...td.tdAttributes, raw: `0x${td.tdAttributes.raw.toString(16)}` },
    qe: ownQe,
    userData,
    certificationType: certification.type,
    trailingBytes,
  }
}

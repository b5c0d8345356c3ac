/** An SEV-SNP report with the certificates that lie about it. */
import { join } from "node:path"
import { toHex } from "../../common/hex.ts"
import {
  amdRoots,
  describePlatform,
  parseReport,
  SnpError,
  type SnpReport,
  type VerifiedSnp,
  verifyReport,
} from "../../evidence/index.ts"
import { amdListsFor } from "./amd-lists.ts"
import { type AmdCertificate, amdCertificatesIn, amdCertificatesOf } from "./certificates.ts"
import type { Context } from "./context.ts"
import { folderOf, type Item, stemOf } from "./files.ts"
import { checkHclReport } from "./hcl-report.ts"
import {
  type Check,
  checksOf,
  errorOf,
  type Inspection,
  type Stage,
  UnusableError,
  unusable,
} from "./inspection.ts"
import { checkNonce } from "./nonce.ts"

const candidatesMost = 8

/** The certificate chains that may belong to a report; see `chainsFor`. None where it can't be read. */
export const amdChains = (item: Item, context: Context): readonly (readonly Uint8Array[])[] => {
  const report = readReport(item)
  return report instanceof SnpError ? [] : chainsFor(item, report, context)
}

export const inspectSnp = (item: Item, context: Context): Inspection => {
  const { at } = context
  const report = readReport(item)
  if (report instanceof SnpError)
    return {
      file: item.path,
      kind: "snp",
      genuine: false,
      platform: "AMD SEV-SNP",
      version: null,
      at: at.toISOString(),
      status: {},
      fields: {},
      certificates: [],
      checks: checksOf(stagesOf(), report),
      error: errorOf(report),
      usable: true,
    }
  const decoded = { platform: "AMD SEV-SNP", version: report.version, fields: fieldsOf(report) }
  const chains = chainsFor(item, report, context)
  const results = chains.map((certificates) =>
    verifyReport(
      {
        report: item.bytes,
        certificates,
        collateral: (product) => ({ crls: amdListsFor(product, context) }),
      },
      { roots: amdRoots, now: at, missingCrl: "report" },
    ),
  )
  const result = results.find((one) => !(one instanceof SnpError)) ?? results[0]
  if (result === undefined) {
    const wanted = `the ${report.signingKey} of this report and its issuers`
    const message = `${wanted} aren't beside it, in a certs folder or in --collateral`
    return unusable(
      item.path,
      "snp",
      at,
      new UnusableError("CERTIFICATE_MISSING", "certificates", message),
      decoded,
    )
  }
  if (result instanceof SnpError)
    return {
      ...decoded,
      file: item.path,
      kind: "snp",
      genuine: false,
      at: at.toISOString(),
      status: {},
      certificates: [],
      checks: checksOf(stagesOf(), result),
      error: errorOf(result),
      usable: true,
    }
  const bindings = [
    ...checkHclReport(report.reportData, context),
    ...checkNonce(report.reportData, "report data", context),
  ]
  const broken = bindings.find((check) => check.result === "failed")
  return {
    ...decoded,
    file: item.path,
    kind: "snp",
    genuine: broken === undefined,
    platform: describePlatform(result),
    at: at.toISOString(),
    status: statusOf(result),
    certificates: result.certificates,
    checks: [...checksOf(stagesOf(result)), revocationOf(result), ...bindings],
    error:
      broken === undefined
        ? null
        : {
            code: "BINDING_MISMATCH",
            field: broken.name,
            message: `found ${broken.found}, wanted ${broken.wanted}`,
          },
    usable: true,
  }
}

const readReport = ({ bytes }: Item): SnpReport | SnpError => {
  try {
    return parseReport(bytes)
  } catch (error) {
    if (error instanceof SnpError) return error
    throw error
  }
}

/** A list of AMD's can only name an issuer: the serial number of every VCEK and VLEK is 0. */
const revocationOf = ({ revocation, collateral }: VerifiedSnp): Check => {
  const [list] = collateral
  return revocation.issuers === "good" && list !== undefined
    ? {
        name: "revocation",
        result: "passed",
        found: `issuers not named by the list of ${list.issued.toISOString()}, good until ${list.expires.toISOString()}`,
        wanted: "no revoked issuer",
      }
    : {
        name: "revocation",
        result: "not applicable",
        found: "no list of revoked certificates consulted",
        wanted: "",
      }
}

/**
 * The chains to try, leaf first: the certificates given by the caller; else those named like the report; else those that
 * carry its chip id; else a lone leaf in the folder; else, where no chip id tells, any. Issuers by name, from what was given, then from the folders.
 */
const chainsFor = (item: Item, report: SnpReport, context: Context): readonly (readonly Uint8Array[])[] => {
  const given = context.given.flatMap(amdCertificatesOf)
  const folder = folderOf(item.path)
  const nearby = amdCertificatesIn(folder)
  const around = [
    join(folder, "certs"),
    join(folder, "..", "certs"),
    join(folder, ".."),
    ...(context.collateral === undefined ? [] : [context.collateral, join(context.collateral, "certs")]),
  ].flatMap(amdCertificatesIn)
  const leafRole = report.signingKey === "VCEK" ? "vcek" : "vlek"
  const leaves = leavesFor(
    given.filter(({ role }) => role === "vcek" || role === "vlek"),
    nearby.filter(({ role }) => role === leafRole),
    around.filter(({ role }) => role === leafRole),
    item,
    report,
  )
  return leaves.slice(0, candidatesMost).flatMap((leaf) => {
    const intermediate = issuerOf(leaf, given, [...nearby, ...around], ["ask", "asvk"])
    const ark = intermediate && issuerOf(intermediate, given, [...nearby, ...around], ["ark"])
    return intermediate === undefined || ark === undefined ? [] : [[leaf.der, intermediate.der, ark.der]]
  })
}

const leavesFor = (
  given: readonly AmdCertificate[],
  nearby: readonly AmdCertificate[],
  around: readonly AmdCertificate[],
  item: Item,
  report: SnpReport,
): readonly AmdCertificate[] => {
  if (given.length > 0) return given
  const stem = stemOf(item.path)
  const named = nearby.filter(({ path }) => stem !== "" && stemOfCertificate(path) === stem)
  if (named.length > 0) return named
  const significant = report.chipId.subarray(
    0,
    report.chipId.subarray(8).every((byte) => byte === 0) ? 8 : 64,
  )
  const ofChip = [...nearby, ...around].filter(
    ({ der }) => significant.some((byte) => byte !== 0) && Buffer.from(der).includes(significant),
  )
  if (ofChip.length > 0) return ofChip
  // Another chip's certificate is only worth a try where it is the one that somebody put there.
  if (nearby.length === 1) return nearby
  return report.signingKey === "VCEK" && significant.some((byte) => byte !== 0) ? [] : [...nearby, ...around]
}

const stemOfCertificate = (path: string): string =>
  (path.split("/").at(-1) ?? "").replace(/\.(?:vcek|vlek)\.\w+$/i, "")

/** What the caller gave for the role counts, fitting or not; only else is it looked for, by the issuer's name. */
const issuerOf = (
  of: AmdCertificate,
  given: readonly AmdCertificate[],
  found: readonly AmdCertificate[],
  wanted: readonly string[],
): AmdCertificate | undefined => {
  const own = given.filter(({ role }) => wanted.includes(role))
  const fits = ({ role, subject }: AmdCertificate) =>
    wanted.includes(role) && Buffer.compare(subject, of.issuer) === 0
  return own.length > 0 ? (own.find(fits) ?? own[0]) : found.find(fits)
}

const certificateCodes =
  /^CERTIFICATE_(?:MALFORMED|ALGORITHM|ROLE|ISSUER|SIGNATURE|EXTENSION)$|^CHAIN_|^TIME_/

const stagesOf = (verified?: VerifiedSnp): readonly Stage[] => {
  const ends = verified?.certificates.map(({ notAfter }) => notAfter.getTime()) ?? []
  const until = ends.length === 0 ? "" : `until ${new Date(Math.min(...ends)).toISOString()}`
  const { report } = verified ?? {}
  return [
    {
      name: "report format",
      codes: /^REPORT_(?!SIGNATURE)/,
      wanted: "AMD's ABI, versions 2 to 5",
      found: report ? `version ${report.version}` : "",
    },
    {
      name: "pinned root",
      codes: /^ROOT_/,
      wanted: "AMD's key",
      found: verified ? `ARK-${verified.root.product} ${verified.root.key_digest}` : "",
    },
    {
      name: "certificate chain",
      codes: certificateCodes,
      wanted: "RSA-PSS signatures from the root down",
      found: verified?.certificates.map(({ role }) => role).join(" < ") ?? "",
    },
    {
      name: "product",
      codes: /^PRODUCT_|^SIGNING_KEY_/,
      wanted: "one product line",
      found: verified?.productName ?? "",
    },
    {
      name: "certificate dates",
      codes: /^CERTIFICATE_(?:EXPIRED|NOT_YET)/,
      wanted: "valid at that time",
      found: until,
    },
    {
      name: "tcb binding",
      codes: /^TCB_/,
      wanted: "report and certificate agree",
      found: report ? toHex(report.reportedTcb) : "",
    },
    {
      name: "chip binding",
      codes: /^CHIP_/,
      wanted: "report and certificate agree",
      found: verified
        ? verified.chip.masked
          ? "chip id masked in the report"
          : (verified.chip.id ?? "")
        : "",
    },
    {
      name: "report signature",
      codes: /^REPORT_SIGNATURE$/,
      wanted: `ECDSA P-384 by the ${report?.signingKey ?? "leaf"}`,
      found: verified ? "holds" : "",
    },
  ]
}

const statusOf = ({ tcb, report, chip, cspId }: VerifiedSnp) => ({
  debug: report.policy.debug,
  migrationAgent: report.policy.migrationAgent,
  vmpl: report.vmpl,
  chipId: chip.id ?? null,
  ...(cspId !== undefined && { cspId }),
  tcb,
})

/** The names are those of AMD's ABI. */
const fieldsOf = (report: SnpReport) => {
  const { signature: _, signed: __, policy, platformInfo, ...rest } = report
  return {
    ...rest,
    policy: { ...policy, raw: `0x${policy.raw.toString(16)}` },
    platformInfo: { ...platformInfo, raw: `0x${platformInfo.raw.toString(16)}` },
  }
}

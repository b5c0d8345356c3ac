/** Is genuine evidence good enough? Every rule is looked at and listed, also when an earlier one has failed. */
import { partsOf } from "../../../schemas/platforms.ts"
import type { CollateralUse } from "../collateral/collateral.ts"
import { EvidenceError } from "../error.ts"
import { isoOf } from "../text.ts"
import { finding, listed, notApplicable, shortened } from "./finding.ts"
import { assuranceOf, type Machine, machineOf, machineRules } from "./machine-rules.ts"
import { nitroRules } from "./nitro-rules.ts"
import type { Appraisal, AppraisalClaims, AppraisalPolicy, Asked, Check, Finding } from "./policy.ts"
import { snpRules } from "./snp-rules.ts"
import { tdxRules } from "./tdx-rules.ts"
import { tpmRules } from "./tpm-rules.ts"
import type { VerifiedPieces } from "./verify-pieces.ts"

type Judge = (machine: Machine, asked: Asked) => Finding

/**
 * @param pieces what verification gave: each genuine, or why it isn't
 * @param now what days of grace and expiry are counted to
 * @returns a verdict; `refused` unless every applicable check has passed
 */
export const appraise = (
  pieces: VerifiedPieces,
  policy: AppraisalPolicy,
  claims: AppraisalClaims,
  now: Date,
): Appraisal => {
  const machine = machineOf(pieces)
  const asked = { policy, claims, now }
  const collateral = collateralOf(machine)
  const findings = [...machineRules, ...rulesOf(pieces, policy)].map(
    ([name, judge]) =>
      [name, machine === undefined ? notApplicable("no genuine evidence") : judge(machine, asked)] as const,
  )
  const checks = [
    named("platform", judgePlatform(pieces, policy)),
    ...genuineChecks(pieces),
    ...findings.map(([name, one]) => named(name, one)),
    ...collateral.map((use) => describeCollateral(use, now)),
  ]
  const reason = checks.find(({ result }) => result === "failed")
  const isAccepted = machine !== undefined && reason === undefined
  return {
    verdict: isAccepted ? "accepted" : "refused",
    platform: pieces.platform,
    assurance: machine && assuranceOf(machine),
    checks,
    ...(reason && { reason }),
    shown: findings.flatMap(([name, { result, found, values = [found] }]) =>
      result === "passed" ? [{ name, values }] : [],
    ),
    collateral,
  }
}

const named = (name: string, { result, found, wanted }: Finding): Check => ({
  name,
  result,
  found: shortened(found, 256),
  wanted: shortened(wanted, 512),
})

const judgePlatform = ({ platform, kinds }: VerifiedPieces, policy: AppraisalPolicy): Finding =>
  finding(
    platform !== undefined && policy.platforms.includes(platform),
    platform ?? `no platform: ${kinds.join(", ")}`,
    listed(policy.platforms),
  )

/** One for the hardware, and one for a TPM beside it. */
const genuineChecks = (pieces: VerifiedPieces): readonly Check[] => {
  const { snp, tdx, tpm, nitro, kinds, platform } = pieces
  const main = snp ?? tdx ?? nitro
  const wanted = "every signature right"
  const judge = (piece: object | undefined, what: string): Finding => {
    if (piece instanceof EvidenceError)
      return finding(false, `${piece.code} ${piece.field}: ${piece.found}`, piece.wanted)
    return piece === undefined
      ? finding(false, platform === undefined ? `no platform: ${kinds.join(", ")}` : "nothing", wanted)
      : finding(true, `${what}, signed up to the root`, wanted)
  }
  const what = describeSigner(pieces)
  if (main === undefined) return [named("genuine", judge(tpm, "a quote of an attestation key"))]
  return [
    named("genuine", judge(main, what)),
    ...(tpm === undefined ? [] : [named("tpm-genuine", judge(tpm, "a quote of an attestation key"))]),
  ]
}

const describeSigner = ({ snp, tdx }: VerifiedPieces): string => {
  if (snp !== undefined && !(snp instanceof EvidenceError)) return `${snp.signingKey} on ${snp.productName}`
  if (tdx !== undefined && !(tdx instanceof EvidenceError))
    return `a quote of version ${tdx.quote.version}, TD ${tdx.quote.td.version}`
  return "a document"
}

type Table = readonly (readonly [name: string, judge: Judge])[]

/** The tables of the platform's parts. */
const rulesOf = ({ platform }: VerifiedPieces, policy: AppraisalPolicy): Table =>
  platform === undefined ? [] : partsOf(platform).flatMap((part) => tables[part](policy))

/** Rules of a piece become rules of the machine; where the policy has no section for it, one that fails. */
const table = <Section, Piece>(
  name: string,
  section: Section | undefined,
  pick: (machine: Machine) => Piece | undefined,
  rulesFor: (
    section: Section,
  ) => readonly (readonly [name: string, judge: (piece: Piece, asked: Asked) => Finding])[],
): Table =>
  section === undefined
    ? [[name, () => finding(false, "no section in the policy", `one for ${name}`)]]
    : rulesFor(section).map(([rule, judge]) => [
        rule,
        (machine, asked) => {
          const piece = pick(machine)
          return piece === undefined ? finding(false, "nothing", name) : judge(piece, asked)
        },
      ])

const tables: Readonly<Record<ReturnType<typeof partsOf>[number], (policy: AppraisalPolicy) => Table>> = {
  "sev-snp": ({ sev_snp }) =>
    table(
      "sev-snp",
      sev_snp,
      ({ snp }) => snp,
      (section) =>
        snpRules.map(([name, rule]) => [name, (piece, { now }) => rule(piece, section, now)] as const),
    ),
  tdx: (policy) =>
    table(
      "tdx",
      policy.tdx,
      ({ tdx }) => tdx,
      (section) =>
        tdxRules.map(([name, rule]) => [name, (piece, { now }) => rule(piece, section, now)] as const),
    ),
  tpm: (policy) =>
    table(
      "tpm",
      policy.tpm,
      ({ tpm }) => tpm,
      (section) =>
        tpmRules(section).map(
          ([name, rule]) => [name, (piece, { claims }) => rule(piece, section, claims)] as const,
        ),
    ),
  nitro: (policy) =>
    table(
      "nitro",
      policy.nitro,
      ({ nitro }) => nitro,
      (section) =>
        nitroRules(section).map(([name, rule]) => [name, (piece) => rule(piece, section)] as const),
    ),
}

const collateralOf = (machine: Machine | undefined): readonly CollateralUse[] => [
  ...(machine?.snp?.collateral ?? []),
  ...(machine?.tdx?.collateral ?? []),
]

/** Verification has held it against the time; the record says which it was, so that the verdict can be given again. */
const describeCollateral = (
  { kind, sha256, issued, expires, evaluationDataNumber }: CollateralUse,
  now: Date,
) =>
  named(
    `collateral-${kind}`,
    finding(
      issued.getTime() <= now.getTime() && now.getTime() < expires.getTime(),
      [
        `of ${isoOf(issued)}, until ${isoOf(expires)}`,
        ...(evaluationDataNumber === undefined ? [] : [`number ${evaluationDataNumber}`]),
        `SHA-256 ${sha256}`,
      ].join(", "),
      `signed by the vendor, in force at ${isoOf(now)}`,
    ),
  )

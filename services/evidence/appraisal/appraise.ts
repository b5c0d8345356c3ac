/** Is genuine evidence good enough? Every rule is looked at and listed, also when an earlier one has failed. */
import { crypto } from "../../common/crypto/index.ts"
import { SnpError } from "../snp/error.ts"
import { describeTcb, type Tcb } from "../snp/product.ts"
import type { VerifiedSnp } from "../snp/verify.ts"
import { toHex } from "../text.ts"
import type { Appraisal, AppraisalClaims, AppraisalPolicy, Check, TcbFloor } from "./policy.ts"

/**
 * @param evidence what verification gave: a genuine report, or why it isn't one
 * @returns a verdict; `refused` unless every applicable check has passed
 */
export const appraise = (
  evidence: VerifiedSnp | SnpError,
  policy: AppraisalPolicy,
  claims: AppraisalClaims,
): Appraisal => {
  const checks = rules.map(([name, rule]): Check => {
    const { result, found, wanted } = judge(name, rule, evidence, policy, claims)
    return { name, result, found: shortened(found, 256), wanted: shortened(wanted, 512) }
  })
  const reason = checks.find(({ result }) => result === "failed")
  const accepted = reason === undefined && checks.some(({ result }) => result === "passed")
  return {
    verdict: accepted ? "accepted" : "refused",
    assurance: evidence instanceof SnpError ? undefined : evidence.emulated ? "emulated" : "hardware",
    checks,
    ...(reason && { reason }),
  }
}

type Finding = Omit<Check, "name">
type Rule = (evidence: VerifiedSnp, policy: AppraisalPolicy, claims: AppraisalClaims) => Finding

const judge = (
  name: string,
  rule: Rule,
  evidence: VerifiedSnp | SnpError,
  policy: AppraisalPolicy,
  claims: AppraisalClaims,
): Finding => {
  if (!(evidence instanceof SnpError)) return rule(evidence, policy, claims)
  if (name !== "genuine") return notApplicable("no genuine evidence")
  return finding(false, `${evidence.code} ${evidence.field}: ${evidence.found}`, evidence.wanted)
}

const finding = (passed: boolean, found: string, wanted: string): Finding => ({
  result: passed ? "passed" : "failed",
  found,
  wanted,
})

const notApplicable = (found: string, wanted = "no rule"): Finding => ({
  result: "not-applicable",
  found,
  wanted,
})

const oneOf = (found: string, wanted: readonly string[] | undefined): Finding =>
  wanted === undefined ? notApplicable(found) : finding(wanted.includes(found), found, listed(wanted))

const listed = (values: readonly string[]): string => {
  if (values.length === 0) return "none is accepted"
  return values.length === 1 ? `${values[0]}` : `one of ${values.length}: ${values.join(", ")}`
}

/** `allowed` is the policy's word; a policy that allows a flag has nothing against its absence. */
const onlyIf = (allowed: boolean | undefined, set: boolean): Finding => {
  if (allowed === undefined) return notApplicable(set ? "set" : "clear")
  return finding(!set || allowed === true, set ? "set" : "clear", allowed === true ? "either" : "clear")
}

const parts = ["fmc", "bootloader", "tee", "snp", "microcode"] as const

const atLeast = (floor: TcbFloor | undefined, tcb: Tcb): Finding => {
  const found = describeTcb(tcb)
  if (floor === undefined) return notApplicable(found)
  // Products before Turin have no FMC: there a floor for it asks for nothing.
  const applicable = parts.filter((part) => floor[part] !== undefined && tcb[part] !== undefined)
  const unknown = Object.keys(floor).filter((part) => !parts.some((known) => known === part))
  const wanted = applicable.map((part) => `${part} >= ${floor[part]}`).join(", ")
  const met = applicable.every((part) => (tcb[part] ?? -1) >= (floor[part] ?? Number.POSITIVE_INFINITY))
  return finding(
    met && unknown.length === 0,
    found,
    [wanted, ...unknown.map((part) => `unknown part ${part}`)].join(", "),
  )
}

const rules: readonly (readonly [name: string, rule: Rule])[] = [
  [
    "genuine",
    (e) =>
      finding(true, `${e.signingKey} on ${e.productName}, signed up to the root`, "every signature right"),
  ],
  ["platform", (_, p) => oneOf("sev-snp", p.platforms)],
  [
    "root",
    (e, p) =>
      finding(
        p.roots.some(
          (root) =>
            root.key_digest === e.root.key_digest &&
            root.product === e.product &&
            root.vendor === e.root.vendor &&
            root.emulated === e.emulated,
        ),
        `${e.root.vendor} ${e.product}${e.emulated ? ", emulated" : ""}: ${e.root.key_digest}`,
        listed(
          p.roots.map((root) => `${root.product}${root.emulated ? ", emulated" : ""}: ${root.key_digest}`),
        ),
      ),
  ],
  [
    "assurance",
    (e, p) =>
      finding(
        !e.emulated || p.assurance === "emulated",
        e.emulated ? "emulated" : "hardware",
        p.assurance === "emulated" ? "hardware or emulated" : "hardware",
      ),
  ],
  [
    "report-data",
    (e, _, c) =>
      finding(
        c.reportData.length === 64 && crypto.equalConstantTime(e.report.reportData, c.reportData),
        toHex(e.report.reportData),
        toHex(c.reportData),
      ),
  ],
  ["measurement", (e, p) => oneOf(toHex(e.report.measurement), p.measurements)],
  ["dataplane", (_, p, c) => oneOf(c.dataplane, p.dataplane)],
  ["chip-id", (e, p, c) => judgeChip(e, p, c)],
  ["debug", (e, p) => onlyIf(p.debug, e.report.policy.debug)],
  ["migration-agent", (e, p) => onlyIf(p.migrationAgent, e.report.policy.migrationAgent)],
  ["vmpl", (e, p) => finding(e.report.vmpl <= p.vmplMax, `${e.report.vmpl}`, `at most ${p.vmplMax}`)],
  ["smt", (e, p) => onlyIf(p.smt, e.report.policy.smt)],
  [
    "single-socket",
    (e, p) =>
      p.singleSocket === true
        ? finding(e.report.policy.singleSocket, e.report.policy.singleSocket ? "set" : "clear", "set")
        : notApplicable(e.report.policy.singleSocket ? "set" : "clear"),
  ],
  ["cxl-memory", (e) => onlyIf(false, e.report.policy.cxl)],
  [
    "platform-info",
    (e) =>
      finding(
        e.report.platformInfo.unknown === 0n,
        `0x${e.report.platformInfo.raw.toString(16)}`,
        "only bits 0 to 7",
      ),
  ],
  ["tcb-current", (e, p) => atLeast(p.minTcb, e.tcb.current)],
  ["tcb-committed", (e, p) => atLeast(p.minTcb, e.tcb.committed)],
  ["tcb-reported", (e, p) => atLeast(p.minTcb, e.tcb.reported)],
  ["tcb-launch", (e, p) => atLeast(p.minTcb, e.tcb.launch)],
  ["committed-firmware", (e, p) => judgeCommitted(e, p)],
  [
    "signing-key",
    (e, p) =>
      e.signingKey === "VCEK"
        ? finding(true, "VCEK", p.cspIds === undefined ? "VCEK" : "VCEK or VLEK")
        : finding(
            e.cspId !== undefined && (p.cspIds ?? []).includes(e.cspId),
            `VLEK of ${e.cspId}`,
            p.cspIds === undefined ? "VCEK" : `VCEK, or VLEK of ${listed(p.cspIds)}`,
          ),
  ],
  [
    "host-data",
    (e, p) => oneOf(toHex(e.report.hostData), p.hostData === undefined ? undefined : [p.hostData]),
  ],
  [
    "family-id",
    (e, p) => oneOf(toHex(e.report.familyId), p.familyId === undefined ? undefined : [p.familyId]),
  ],
  ["image-id", (e, p) => oneOf(toHex(e.report.imageId), p.imageId === undefined ? undefined : [p.imageId])],
  ["id-key", (e, p) => oneOf(toHex(e.report.idKeyDigest), p.idKeyDigests)],
  [
    "author-key",
    (e, p) =>
      // Without the flag the digest is no author's: a policy that asks for one gets "none".
      oneOf(e.report.authorKeyEnabled ? toHex(e.report.authorKeyDigest) : "none", p.authorKeyDigests),
  ],
]

const judgeChip = (evidence: VerifiedSnp, policy: AppraisalPolicy, claims: AppraisalClaims): Finding => {
  const found = evidence.chip.id ?? "unknown: masked by the host"
  const wanted = [
    policy.chipIds === "any" ? "any chip" : listed(policy.chipIds),
    ...(claims.chipId === undefined ? [] : [`the node's own: ${claims.chipId}`]),
  ].join("; ")
  const { id } = evidence.chip
  const accepted = policy.chipIds === "any" || (id !== undefined && policy.chipIds.includes(id))
  const enrolled = claims.chipId === undefined || claims.chipId === id
  return finding(accepted && enrolled, found, wanted)
}

/** Committed firmware can't be rolled back by the host; what runs beyond it can. */
const judgeCommitted = (evidence: VerifiedSnp, policy: AppraisalPolicy): Finding => {
  const { currentFirmware: current, committedFirmware: committed, currentTcb, committedTcb } = evidence.report
  const same =
    current.major === committed.major &&
    current.minor === committed.minor &&
    current.build === committed.build &&
    Buffer.compare(currentTcb, committedTcb) === 0
  const found = same ? "all committed" : `current ${toHex(currentTcb)}, committed ${toHex(committedTcb)}`
  if (policy.allowProvisionalFirmware === true) return finding(true, found, "either")
  return finding(same, found, "all committed")
}

const shortened = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, most - 3)}...`

/** The rules for an SEV-SNP report (AMD 56860), one for each field that a policy may speak of. */
import type { SevSnp } from "../../../schemas/platforms.ts"
import { crypto } from "../../common/crypto/index.ts"
import type { Tcb } from "../snp/product.ts"
import type { VerifiedSnp } from "../snp/verify.ts"
import { toHex } from "../text.ts"
import { judgeFloors } from "./drift.ts"
import { exactly, finding, listed, notApplicable, oneOf, onlyIf } from "./finding.ts"
import type { Finding } from "./policy.ts"

type Rule = (evidence: VerifiedSnp, policy: SevSnp, now: Date) => Finding

export const snpRules: readonly (readonly [name: string, rule: Rule])[] = [
  ["measurement", (e, p) => oneOf(toHex(e.report.measurement), p.measurements)],
  ["debug", (e, p) => onlyIf(p.policy.debug, e.report.policy.debug)],
  ["migration-agent", (e, p) => onlyIf(p.policy.migration_agent, e.report.policy.migrationAgent)],
  [
    "vmpl",
    (e, p) => finding(e.report.vmpl <= p.policy.vmpl_max, `${e.report.vmpl}`, `at most ${p.policy.vmpl_max}`),
  ],
  ["smt", (e, p) => onlyIf(p.policy.smt, e.report.policy.smt)],
  [
    "single-socket",
    (e, p) => exactly(p.policy.single_socket === true ? true : undefined, e.report.policy.singleSocket),
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
  ["tcb-current", (e, p, now) => judgeFloors(p.tcb, e.tcb.current, now)],
  ["tcb-committed", (e, p, now) => judgeFloors(p.tcb, e.tcb.committed, now)],
  ["tcb-reported", (e, p, now) => judgeFloors(p.tcb, e.tcb.reported, now)],
  ["tcb-launch", (e, p, now) => judgeFloors(p.tcb, e.tcb.launch, now)],
  ["tcb-order", (e) => judgeOrder(e)],
  ["committed-firmware", (e, p) => judgeCommitted(e, p)],
  ["signing-key", (e, p) => judgeSigner(e, p)],
  ["revocation", (e, p) => judgeRevocation(e, p)],
  ["host-data", (e, p) => oneOf(toHex(e.report.hostData), p.host_data)],
  ["family-id", (e, p) => oneOf(toHex(e.report.familyId), p.family_id)],
  ["image-id", (e, p) => oneOf(toHex(e.report.imageId), p.image_id)],
  ["id-key", (e, p) => oneOf(toHex(e.report.idKeyDigest), p.id_keys)],
  // Without the flag the digest is no author's: a policy that asks for one gets "none".
  [
    "author-key",
    (e, p) => oneOf(e.report.authorKeyEnabled ? toHex(e.report.authorKeyDigest) : "none", p.author_keys),
  ],
]

const tcbParts = ["fmc", "bootloader", "tee", "snp", "microcode"] as const

/** Firmware reports no more than it has committed to, and commits to no more than it runs. */
const judgeOrder = ({ tcb: { reported, committed, current } }: VerifiedSnp): Finding => {
  const above = (lower: Tcb, upper: Tcb) => tcbParts.filter((part) => (lower[part] ?? 0) > (upper[part] ?? 0))
  const wrong = [
    ...above(reported, committed).map((part) => `${part} reported above committed`),
    ...above(committed, current).map((part) => `${part} committed above current`),
  ]
  return finding(
    wrong.length === 0,
    wrong.length === 0 ? "in order" : wrong.join(", "),
    "reported at most committed, committed at most current",
  )
}

/** Committed firmware can't be rolled back by the host; what runs beyond it can. */
const judgeCommitted = (evidence: VerifiedSnp, policy: SevSnp): Finding => {
  const { currentFirmware: current, committedFirmware: committed, currentTcb, committedTcb } = evidence.report
  const same =
    current.major === committed.major &&
    current.minor === committed.minor &&
    current.build === committed.build &&
    crypto.equalConstantTime(currentTcb, committedTcb)
  const found = same ? "all committed" : `current ${toHex(currentTcb)}, committed ${toHex(committedTcb)}`
  if (policy.provisional_firmware === true) return finding(true, found, "either")
  return finding(same, found, "all committed")
}

const judgeSigner = ({ signingKey, cspId }: VerifiedSnp, { vlek_of }: SevSnp): Finding =>
  signingKey === "VCEK"
    ? finding(true, "VCEK", vlek_of === undefined ? "VCEK" : "VCEK or VLEK")
    : finding(
        cspId !== undefined && (vlek_of ?? []).includes(cspId),
        `VLEK of ${cspId}`,
        vlek_of === undefined ? "VCEK" : `VCEK, or VLEK of ${listed(vlek_of)}`,
      )

/** What is revoked is never genuine. Here it is about lists that weren't there to be looked at. */
const judgeRevocation = ({ revocation }: VerifiedSnp, policy: SevSnp): Finding => {
  const known = revocation.issuers === "good"
  if (known) return finding(true, "not revoked", "not revoked, by AMD's list")
  const found = "unknown: no list at hand"
  return policy.revocation === true
    ? finding(false, found, "not revoked, by AMD's list")
    : notApplicable(found)
}

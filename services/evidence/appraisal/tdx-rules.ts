/** The rules for a TDX quote (Intel TDX Module 1.5 ABI, PCS API v4), one for each field that a policy may speak of. */
import type { Tdx } from "../../../schemas/platforms.ts"
import { describeBoot } from "../eventlog/boot.ts"
import { TdxError } from "../tdx/error.ts"
import { verifyCcel } from "../tdx/eventlog.ts"
import type { VerifiedTdx } from "../tdx/verify.ts"
import { toHex } from "../text.ts"
import { judgeAdvisories, judgeDate, judgeStatus } from "./drift.ts"
import { exactly, finding, notApplicable, oneOf } from "./finding.ts"
import type { Finding } from "./policy.ts"

type Evidence = VerifiedTdx & { readonly eventLog: Uint8Array | undefined }
type Rule = (evidence: Evidence, policy: Tdx, now: Date) => Finding

const noServiceTd = ["00".repeat(48)]

const td = (e: Evidence) => e.quote.td
const attributes = (e: Evidence) => e.quote.td.tdAttributes
const bits = (value: bigint): string => value.toString(16).padStart(16, "0")

export const tdxRules: readonly (readonly [name: string, rule: Rule])[] = [
  ["mrtd", (e, p) => oneOf(toHex(td(e).mrTd), p.mrtd)],
  ["rtmr-0", (e, p) => oneOf(toHex(td(e).rtmrs[0]), p.rtmrs[0])],
  ["rtmr-1", (e, p) => oneOf(toHex(td(e).rtmrs[1]), p.rtmrs[1])],
  ["rtmr-2", (e, p) => oneOf(toHex(td(e).rtmrs[2]), p.rtmrs[2])],
  ["rtmr-3", (e, p) => oneOf(toHex(td(e).rtmrs[3]), p.rtmrs[3])],
  // Bit 0 opens all of the TD to its host: no policy can take it.
  ["td-debug", (e) => exactly(false, attributes(e).debug)],
  ["sept-ve-disable", (e, p) => exactly(p.attributes?.sept_ve_disable ?? true, attributes(e).septVeDisable)],
  ["migratable", (e, p) => exactly(p.attributes?.migratable ?? false, attributes(e).migratable)],
  ["pks", (e, p) => exactly(p.attributes?.pks, attributes(e).pks)],
  ["key-locker", (e, p) => exactly(p.attributes?.key_locker, attributes(e).keyLocker)],
  ["perfmon", (e, p) => exactly(p.attributes?.perfmon, attributes(e).perfmon)],
  [
    "td-attributes",
    (e) => finding(attributes(e).unknown === 0n, bits(attributes(e).raw), "no bit without a meaning"),
  ],
  ["xfam", (e, p) => oneOf(bits(td(e).xfam.raw), p.xfam)],
  ["mrseam", (e, p) => oneOf(toHex(td(e).mrSeam), p.mrseam)],
  ["mr-config-id", (e, p) => oneOf(toHex(td(e).mrConfigId), p.mr_config_id)],
  ["mr-owner", (e, p) => oneOf(toHex(td(e).mrOwner), p.mr_owner)],
  ["mr-owner-config", (e, p) => oneOf(toHex(td(e).mrOwnerConfig), p.mr_owner_config)],
  [
    "mr-service-td",
    (e, p) => {
      const { mrServiceTd } = td(e)
      if (mrServiceTd === undefined) return notApplicable("not in a report of version 1.0")
      return oneOf(toHex(mrServiceTd), p.mr_service_td ?? noServiceTd)
    },
  ],
  ["tcb-status", (e, p, now) => judgeStatus(p.tcb, e.status, now)],
  ["tcb-date", (e, p) => judgeDate(p.tcb, e.status)],
  ["tcb-advisories", (e, p, now) => judgeAdvisories(p.tcb, e.status, now)],
  [
    "tcb-evaluation",
    (e, p) => {
      const found = `${e.tcbEvaluationDataNumber}`
      const least = p.tcb.minimum_evaluation
      return least === undefined
        ? notApplicable(found)
        : finding(e.tcbEvaluationDataNumber >= least, found, `at least ${least}`)
    },
  ],
  [
    "revocation",
    ({ revocation: { pck, issuers } }) =>
      finding(
        pck === "good" && issuers === "good",
        `PCK ${pck}, issuers ${issuers}`,
        "not revoked, by Intel's lists",
      ),
  ],
  ["secure-boot", (e, p) => judgeSecureBoot(e, p)],
]

/** A CCEL counts RTMR 0 as register 1. */
const judgeSecureBoot = (evidence: Evidence, { secure_boot }: Tdx): Finding => {
  const { eventLog } = evidence
  if (secure_boot !== true)
    return notApplicable(eventLog === undefined ? "no event log" : "an event log, not looked at")
  const wanted = "on, by an event log that leads to RTMR 0"
  if (eventLog === undefined) return finding(false, "no event log", wanted)
  const proven = verifyCcel(eventLog, td(evidence), [0])
  if (proven instanceof TdxError)
    return finding(false, `${proven.code} ${proven.field}: ${proven.found}`, wanted)
  const { state, reason } = describeBoot(proven.log, "sha384", [1], 1).secureBoot
  return finding(state === "on", reason === undefined ? state : `${state}: ${reason}`, wanted)
}

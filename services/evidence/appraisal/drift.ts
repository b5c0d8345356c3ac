/**
 * How far behind a machine may be, in one language for AMD and Intel: what is demanded at least, since which day, how many
 * days of grace there are after it, and which known weaknesses are accepted until when. Days are UTC.
 */
import type { SnpTcb, TcbFloor, TdxTcb } from "../../../schemas/platforms.ts"
import { describeTcb, type Tcb } from "../snp/product.ts"
import type { PartStatus, TdxStatus } from "../tdx/status.ts"
import { finding, listed, notApplicable } from "./finding.ts"
import type { Finding } from "./policy.ts"

const dayMs = 86_400_000

const startOf = (day: string): number => Date.parse(`${day}T00:00:00Z`)
/** The day itself still counts. */
const endOf = (day: string): number => startOf(day) + dayMs

const days = (ms: number): string => `${Math.floor(ms / dayMs)} days`

type Accepted = SnpTcb["advisories"]

/** NaN compares false: a day that is none accepts nothing. */
const isAccepted = (advisories: Accepted, id: string | undefined, now: Date): boolean =>
  (advisories ?? []).some((one) => one.id === id && now.getTime() < endOf(one.until))

const isGrace = (since: number | undefined, graceDays: number | undefined, now: Date): boolean =>
  since !== undefined && now.getTime() < since + (graceDays ?? 0) * dayMs

const parts = ["fmc", "bootloader", "tee", "snp", "microcode"] as const

/** Parts that miss the floor, as people read it. Products before Turin have no FMC: there a floor for it asks nothing. */
const below = (floor: TcbFloor, tcb: Tcb): readonly string[] =>
  parts.flatMap((part) => {
    const [least, own] = [floor[part], tcb[part]]
    if (least === undefined || (own === undefined && part === "fmc")) return []
    return own !== undefined && own >= least ? [] : [`${part} ${own ?? "none"} < ${least}`]
  })

const describeFloor = (floor: TcbFloor): string =>
  [
    parts
      .filter((part) => floor[part] !== undefined)
      .map((part) => `${part} >= ${floor[part]}`)
      .join(", "),
    ...(floor.since === undefined ? [] : [`since ${floor.since}`]),
    ...(floor.advisory === undefined ? [] : [`for ${floor.advisory}`]),
  ].join(" ")

/** One of a report's four TCBs against every floor. */
export const judgeFloors = (rule: SnpTcb | undefined, tcb: Tcb, now: Date): Finding => {
  const found = describeTcb(tcb)
  if (rule === undefined) return notApplicable(found)
  const behind = rule.minimum.flatMap((floor) => {
    const missed = below(floor, tcb)
    if (missed.length === 0) return []
    const since = floor.since === undefined ? undefined : startOf(floor.since)
    const excuse = isAccepted(rule.advisories, floor.advisory, now)
      ? `${floor.advisory} is accepted`
      : isGrace(since, rule.grace_days, now)
        ? "within grace"
        : undefined
    const age = since === undefined || since > now.getTime() ? "" : ` for ${days(now.getTime() - since)}`
    return [
      { excused: excuse !== undefined, text: `${missed.join(", ")}${age}${excuse ? ` (${excuse})` : ""}` },
    ]
  })
  const grace = rule.grace_days === undefined ? "" : `; ${rule.grace_days} days of grace`
  return finding(
    behind.every(({ excused }) => excused),
    [found, ...behind.map(({ text }) => `behind: ${text}`)].join("; "),
    `${rule.minimum.map(describeFloor).join("; ")}${grace}`,
  )
}

const tdxParts = ["platform", "module", "qe"] as const

const isOutOfDate = ({ status }: PartStatus<string>): boolean => status.startsWith("OutOfDate")

/** Days that a part is behind, and whether they are within grace. */
const lag = (part: PartStatus<string>, rule: TdxTcb, now: Date) => {
  const since = part.behindSince?.getTime()
  return {
    within: isGrace(since, rule.grace_days, now),
    text:
      since === undefined ? "" : `, behind for ${days(now.getTime() - since)}, levels ${part.levelsBehind}`,
  }
}

/** What a machine would be once the fixes that it lacks were in. */
const afterUpdate: Readonly<Record<string, readonly string[]>> = {
  OutOfDate: ["UpToDate", "SWHardeningNeeded"],
  TDRelaunchAdvised: ["UpToDate", "SWHardeningNeeded"],
  OutOfDateConfigurationNeeded: ["ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"],
  TDRelaunchAdvisedConfigurationNeeded: ["ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"],
}

/** Grace counts for each part that is out of date, from the day on which the first fix that it lacks came out. */
export const judgeStatus = (rule: TdxTcb, status: TdxStatus, now: Date): Finding => {
  const late = tdxParts.map((name) => ({ name, part: status[name] })).filter(({ part }) => isOutOfDate(part))
  const lags = late.map(({ name, part }) => ({ name, ...lag(part, rule, now) }))
  const statuses: readonly string[] = rule.statuses
  const isTaken = statuses.includes(status.converged)
  const wouldBe = afterUpdate[status.converged] ?? []
  const isExcused =
    !isTaken &&
    wouldBe.some((one) => statuses.includes(one)) &&
    lags.length > 0 &&
    lags.every(({ within }) => within)
  const found = [
    status.converged,
    ...lags.map(({ name, text }) => `${name} out of date${text}`),
    ...(isExcused ? ["within grace"] : []),
  ].join("; ")
  const grace = rule.grace_days === undefined ? "" : `; ${rule.grace_days} days of grace`
  return finding(isTaken || isExcused, found, `${listed(rule.statuses)}${grace}`)
}

/** An advisory counts unless it is accepted, or its part is out of date within grace: then the fix is on its way. */
export const judgeAdvisories = (rule: TdxTcb, status: TdxStatus, now: Date): Finding => {
  const counting = tdxParts.flatMap((name) => {
    const part: PartStatus<string> = status[name]
    return isOutOfDate(part) && lag(part, rule, now).within ? [] : part.advisories
  })
  const open = [...new Set(counting)].filter((id) => !isAccepted(rule.advisories, id, now))
  const found = status.advisories.length === 0 ? "none" : status.advisories.join(", ")
  const accepted = (rule.advisories ?? []).map(({ id, until }) => `${id} until ${until}`)
  return finding(
    open.length === 0,
    open.length === 0 ? found : `not accepted: ${open.join(", ")}`,
    accepted.length === 0 ? "none" : `none but ${accepted.join(", ")}`,
  )
}

/** The day on which Intel released what makes up the platform's level. */
export const judgeDate = (rule: TdxTcb, { platform }: TdxStatus): Finding => {
  const found = platform.tcbDate?.toISOString().slice(0, 10) ?? "no level, no date"
  if (rule.minimum_date === undefined) return notApplicable(found)
  const date = platform.tcbDate?.getTime() ?? Number.NaN
  return finding(date >= startOf(rule.minimum_date), found, `${rule.minimum_date} or later`)
}

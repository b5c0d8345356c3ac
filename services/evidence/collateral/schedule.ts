/** When a source is asked again: often enough, never all at once, and slower the longer it fails. Times are milliseconds. */

export interface ScheduleRules {
  readonly everyMs: number
  /** The first try after a failure; each further failure doubles it, up to `everyMs`. */
  readonly retryMs: number
}

export const plainSchedule: ScheduleRules = { everyMs: 6 * 3_600_000, retryMs: 30_000 }

/**
 * @param failures in a row until now; 0 after a success
 * @param random 0 to 1, another each time: the pause is between 75 % and 125 % of what the rules say
 */
export const nextAskMs = (rules: ScheduleRules, failures: number, random: number): number => {
  const pause =
    failures === 0 ? rules.everyMs : Math.min(rules.everyMs, rules.retryMs * 2 ** Math.min(failures - 1, 20))
  return Math.round(pause * (0.75 + 0.5 * random))
}

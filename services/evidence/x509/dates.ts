/** Whether a certificate counts at a given time. */
import { isoOf } from "../text.ts"
import type { Refuse } from "./refuse.ts"

export interface Dates {
  readonly notBefore: Date
  readonly notAfter: Date
}

/** @param beyondMs for how long after notAfter it still counts, in milliseconds */
export const checkDates = ({ notBefore, notAfter }: Dates, now: Date, refuse: Refuse, beyondMs = 0): void => {
  // Written so that a date that isn't a number fails.
  if (!(notBefore.getTime() <= now.getTime()))
    throw refuse("CERTIFICATE_NOT_YET_VALID", "notBefore", isoOf(notBefore), `at most ${isoOf(now)}`)
  if (!(now.getTime() <= notAfter.getTime() + beyondMs))
    throw refuse("CERTIFICATE_EXPIRED", "notAfter", isoOf(notAfter), `at least ${isoOf(now)}`)
}

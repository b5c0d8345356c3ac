/** Loops that look at something from time to time look together: a process that wakes up once does so for all of them. */
import { Effect } from "effect"

const nowMs = () => performance.now()

/**
 * How long until the next whole multiple of the period, in ms, at least a quarter of the period away: timers may be early.
 * @param nowMs of a monotonic clock, the same for all
 */
export const untilStep = (periodMs: number, nowMs: number): number => {
  const restMs = periodMs - (nowMs % periodMs)
  return restMs < periodMs / 4 ? restMs + periodMs : restMs
}

/** Sleeps until then. */
export const nextStep = (periodMs: number): Effect.Effect<void> =>
  Effect.suspend(() => Effect.sleep(untilStep(periodMs, nowMs())))

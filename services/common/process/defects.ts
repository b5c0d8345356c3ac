/** Defects are errors of the program itself. A loop that runs as long as its service must not end by one and be missed. */
import { Effect } from "effect"

/** Logs a defect and goes on without a value. Errors and interruption stay what they are. */
export const surviving =
  (what: string) =>
  <A, E, R>(run: Effect.Effect<A, E, R>): Effect.Effect<A | undefined, E, R> =>
    run.pipe(
      Effect.catchDefect((defect) =>
        Effect.logError(`${what} failed by a defect`, defect).pipe(Effect.as(undefined)),
      ),
    )

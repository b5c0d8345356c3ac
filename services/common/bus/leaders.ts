/** The bucket of leaders: one short-lived entry per domain, taken by whoever finds none. Nobody believes it. */
import { Effect } from "effect"
import { token } from "../../../schemas/pattern.ts"
import type { Core } from "./bus.ts"
import { subscribed } from "./listen.ts"
import { apiAnswer, LEADER_STREAM, leaderSubject, WRONG_LAST_SEQUENCE } from "./streams.ts"
import { BusError, type BusShape } from "./types.ts"

/** An answer that comes later than an entry lives says nothing any more. */
const ANSWER_MS = 700

/** JetStream's header for the sequence that the newest entry must have, and its value when there must be none. */
const EXPECTED = "Nats-Expected-Last-Subject-Sequence"
const NONE = "0"

const keyOf = (domain: string): Effect.Effect<string, BusError> =>
  Effect.try({
    try: () => leaderSubject(token("domain", domain)),
    catch: (error) =>
      new BusError({ reason: "Invalid", subject: "leader", message: (error as Error).message }),
  })

export const makeLeaders = (core: Core): BusShape["leaders"] => ({
  put: (domain, value, last) =>
    Effect.gen(function* () {
      const key = yield* keyOf(domain)
      const { data } = yield* core.pack("leader", { domain }, value)
      const message = yield* Effect.tryPromise({
        try: () =>
          core.connection.request(key, data, ANSWER_MS, {
            "Nats-Expected-Stream": LEADER_STREAM,
            [EXPECTED]: last === 0 ? NONE : String(last),
          }),
        catch: (error) => error as BusError,
      })
      const found = apiAnswer(message.data)
      if (found?.error?.err_code === WRONG_LAST_SEQUENCE) return undefined
      if (found === undefined || found.error !== undefined || !Number.isSafeInteger(found.seq))
        return yield* new BusError({
          reason: "Stream",
          subject: key,
          message: found?.error?.description ?? "not an answer of JetStream",
        })
      return found.seq
    }),
  watch: (domain, seen) =>
    Effect.gen(function* () {
      // Everybody hears also what the bucket refuses: whoever tries for the lead, or itself, is no sign of a leader.
      yield* subscribed(core, yield* keyOf(domain), undefined, (message) => {
        if (message.header(EXPECTED) !== NONE) seen()
      })
    }),
})

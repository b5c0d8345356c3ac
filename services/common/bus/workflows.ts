/** The bucket of signed workflows: read by direct get, followed by listening to the subject that stores them. */
import { Effect, Latch } from "effect"
import { token } from "../../../schemas/pattern.ts"
import { subjects } from "../../../schemas/subjects.ts"
import { SignedWorkflow } from "../../../schemas/workflow.ts"
import { decode } from "../codec/index.ts"
import type { Core } from "./bus.ts"
import { api } from "./events.ts"
import { subscribed } from "./listen.ts"
import { BUCKET_STREAM, bucketSubject } from "./streams.ts"
import type { SubjectError } from "./subject.ts"
import { BusError, type BusShape, type StoredWorkflow } from "./types.ts"

/**
 * What is stored is asked for again about this often, for a message may be lost; not by all at once, though all began at
 * once. After each new connection it is asked for soon: what was said meanwhile has been missed.
 */
const LOOK_MS = 30_000
const FAILED_LOOK_MS = 5_000
const CONNECTION_MS = 1_000
const jittered = (ms: number): number => performance.now() + ms * (0.8 + 0.4 * Math.random())
const { bytesMax } = subjects.workflow

const keyOf = (domain: string): Effect.Effect<string, BusError> =>
  Effect.try({
    try: () => bucketSubject(token("domain", domain)),
    catch: (error) =>
      new BusError({ reason: "Invalid", subject: "workflow", message: (error as SubjectError).message }),
  })

export const makeWorkflows = (core: Core): BusShape["workflows"] => {
  const understood = (data: Uint8Array, subject: string): Effect.Effect<SignedWorkflow, BusError> => {
    const found = decode(SignedWorkflow, data, { subject, bytesMax })
    if (found.ok) return Effect.succeed(found.value)
    const { code, field, message } = found.error
    core.refuse({ code, subject, field, message })
    return Effect.fail(new BusError({ reason: "Decode", subject, message: `${code} ${field}: ${message}` }))
  }

  const stored = (key: string) =>
    Effect.gen(function* () {
      const at = `$JS.API.DIRECT.GET.${BUCKET_STREAM}.${key}`
      const message = yield* Effect.tryPromise({
        try: () => core.connection.request(at, new Uint8Array(0), 2_000),
        catch: (error) => error as BusError,
      })
      if (message.status === 404) return undefined
      if (message.status >= 400)
        return yield* new BusError({ reason: "Stream", subject: at, message: `status ${message.status}` })
      const revision = Number(message.header("Nats-Sequence"))
      return { revision: Number.isSafeInteger(revision) ? revision : 0, data: message.data }
    })

  const get = (domain: string): Effect.Effect<StoredWorkflow | undefined, BusError> =>
    Effect.gen(function* () {
      const key = yield* keyOf(domain)
      const found = yield* stored(key)
      if (found === undefined) return undefined
      return { revision: found.revision, value: yield* understood(found.data, key) }
    })

  const put = (domain: string, value: SignedWorkflow) =>
    Effect.gen(function* () {
      const key = yield* keyOf(domain)
      const { data } = yield* core.pack("workflow", { domain }, value)
      const { seq } = yield* api(core, key, data, { "Nats-Expected-Stream": BUCKET_STREAM })
      return seq ?? 0
    })

  const watch: BusShape["workflows"]["watch"] = (domain, handler) =>
    Effect.gen(function* () {
      const key = yield* keyOf(domain)
      const context = yield* Effect.context<Effect.Services<ReturnType<typeof handler>>>()
      let last: Uint8Array | undefined
      const offer = (data: Uint8Array) =>
        Effect.suspend(() => {
          if (last !== undefined && Buffer.compare(last, data) === 0) return Effect.void
          last = Uint8Array.from(data)
          return understood(data, key).pipe(
            Effect.flatMap(handler),
            Effect.provideContext(context),
            Effect.catchCause((cause) =>
              Effect.logError("a workflow could not be taken", { subject: key }, cause),
            ),
          )
        })
      const look = stored(key).pipe(
        Effect.flatMap((found) => (found === undefined ? Effect.void : offer(found.data))),
      )
      let live: Uint8Array | undefined
      const arrived = yield* Latch.make(false)
      let connections = core.counting.reconnects
      let lookMs = jittered(LOOK_MS)
      const again = ({ reason }: BusError) => {
        lookMs = jittered(FAILED_LOOK_MS)
        return Effect.logWarning("the stored workflow cannot be read", { reason })
      }
      const follow = Effect.gen(function* () {
        for (;;) {
          yield* arrived.await.pipe(Effect.timeoutOption(CONNECTION_MS))
          arrived.closeUnsafe()
          const data = live
          live = undefined
          const { reconnects } = core.counting
          if (data !== undefined) yield* offer(data)
          else if (reconnects !== connections || performance.now() >= lookMs) {
            connections = reconnects
            lookMs = jittered(LOOK_MS)
            yield* look.pipe(Effect.catch(again))
          }
        }
      })
      yield* subscribed(core, key, undefined, (message) => {
        live = message.data
        arrived.openUnsafe()
      })
      // Whoever runs the bus can answer in the store's place: no such answer keeps a service from starting. A server that
      // lets this identity ask nothing, or isn't there, does.
      yield* look.pipe(Effect.catchIf(({ reason }) => reason !== "Denied" && reason !== "Closed", again))
      yield* Effect.forkScoped(follow)
    })

  return { get, put, watch }
}

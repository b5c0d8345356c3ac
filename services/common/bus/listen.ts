/** Subscriptions that do not answer: beacons, pulls, releases, acknowledgements, statistics, events. */
import { Cause, Effect, Latch } from "effect"
import { subjects } from "../../../schemas/subjects.ts"
import { decode, type MessageSchema } from "../codec/index.ts"
import type { Core } from "./bus.ts"
import { senderPace } from "./counters.ts"
import type { Message } from "./nats.ts"
import { Pending } from "./pending.ts"
import { filter, parse, senderOf } from "./subject.ts"
import { BusError, type BusShape } from "./types.ts"

/** Subscribes and waits until the server has seen it, so that a refusal fails here and not silently later. */
export const subscribed = (
  core: Core,
  at: string,
  queue: string | undefined,
  onMessage: (message: Message) => void,
) =>
  Effect.acquireRelease(
    Effect.gen(function* () {
      let refusal: BusError | undefined
      let established = false
      const onRefused = (error: BusError): void => {
        refusal = error
        if (established) core.fail(error)
      }
      const subscription = yield* Effect.try({
        try: () => core.connection.subscribe(at, queue, onMessage, onRefused),
        catch: () => new BusError({ reason: "Closed", subject: at, message: "the connection is closed" }),
      })
      yield* Effect.tryPromise({ try: () => core.connection.flush(), catch: (error) => error as BusError })
      if (refusal !== undefined) return yield* Effect.fail(refusal)
      established = true
      return subscription
    }),
    (subscription) => Effect.promise(() => subscription.drain()).pipe(Effect.timeoutOption("2 seconds")),
  )

export const listener =
  (core: Core): BusShape["subscribe"] =>
  (name, tokens, handler, { waitingMax = 1_024, perSenderMax = 4, pace } = {}) =>
    Effect.gen(function* () {
      const { payload, bytesMax } = subjects[name]
      const { prefix } = core.config
      const at = filter(prefix, name, tokens)
      const pending = new Pending<Message>(waitingMax, perSenderMax)
      const arrived = yield* Latch.make(false)
      const inPace = senderPace(pace)
      let busy = false

      const handle = (message: Message) =>
        Effect.suspend(() => {
          const refuse = (code: string, field: string, text: string) =>
            Effect.sync(() => core.refuse({ code, subject: message.subject, field, message: text }))
          const from = parse(prefix, name, message.subject)
          const sender = from === undefined ? null : senderOf(name, from)
          if (from === undefined || sender === null)
            return refuse("BAD_SUBJECT", "", "the subject names nobody who may publish on it")
          const found = decode(payload as MessageSchema, message.data, { subject: message.subject, bytesMax })
          if (!found.ok) return refuse(found.error.code, found.error.field, found.error.message)
          return handler(found.value as never, { tokens: from, sender })
        }).pipe(
          Effect.catchCause((cause) =>
            Cause.hasInterruptsOnly(cause)
              ? Effect.void
              : Effect.logError("a message could not be handled", { subject: message.subject }, cause),
          ),
        )

      const worker = Effect.gen(function* () {
        for (;;) {
          const message = pending.take()
          if (message === undefined) {
            busy = false
            arrived.closeUnsafe()
            yield* arrived.await
            continue
          }
          busy = true
          yield* handle(message)
        }
      })
      const idle = Effect.gen(function* () {
        while (busy || pending.size > 0) yield* Effect.sleep("10 millis")
      }).pipe(Effect.timeoutOption("5 seconds"))

      yield* Effect.forkScoped(worker)
      yield* Effect.addFinalizer(() => idle)
      yield* subscribed(core, at, undefined, (message) => {
        if (!inPace(message.subject)) {
          core.counting.displaced++
          return
        }
        if (!pending.add(message.subject, message)) core.counting.displaced++
        busy = true
        arrived.openUnsafe()
      })
    })

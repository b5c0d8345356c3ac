/** Events into the stream EVENTS and out of it, and the settings of the streams. */
import { randomUUID } from "node:crypto"
import { Effect, Queue, Schedule } from "effect"
import { Event } from "../../../schemas/messages/event.ts"
import { fill } from "../../../schemas/pattern.ts"
import { streams, subjects } from "../../../schemas/subjects.ts"
import { decode } from "../codec/index.ts"
import type { Core } from "./bus.ts"
import { type ApiAnswer, apiAnswer, STREAM_NOT_FOUND, settings } from "./streams.ts"
import { parse } from "./subject.ts"
import { BusError, type BusShape, type EventDraft, type StoredEvent } from "./types.ts"

const QUEUE = 1_024
const ATTEMPTS = 8
const ACK_MS = 2_000
const AGAIN = Schedule.jittered(Schedule.exponential("100 millis"))

type Parts = Pick<Core, "config" | "connection" | "counting" | "fork" | "pack">

const sourceOf = (identity: string): string => `/vouchsafe/${identity}`

/** One request to JetStream; fails with reason Stream when it says no. */
export const api = (
  core: Parts,
  at: string,
  data: Uint8Array,
  headers?: Record<string, string>,
): Effect.Effect<ApiAnswer, BusError> =>
  Effect.tryPromise({
    try: () => core.connection.request(at, data, ACK_MS, headers),
    catch: (error) => error as BusError,
  }).pipe(
    Effect.flatMap((message) => {
      const found = apiAnswer(message.data)
      if (found !== undefined && found.error === undefined) return Effect.succeed(found)
      const text =
        found === undefined ? "not an answer of JetStream" : (found.error?.description ?? "refused")
      return Effect.fail(
        new BusError({ reason: "Stream", subject: at, message: `${text} (${found?.error?.err_code ?? 0})` }),
      )
    }),
  )

const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))

/** Changing comes first: making a stream that exists is refused for want of room when its limits are reserved already. */
const ensureStreams = (core: Parts): Effect.Effect<void, BusError> =>
  Effect.forEach(
    settings(core.config.prefix),
    (stream) =>
      api(core, `$JS.API.STREAM.UPDATE.${stream.name}`, json(stream)).pipe(
        Effect.catch((error) =>
          error.message.endsWith(`(${STREAM_NOT_FOUND})`)
            ? api(core, `$JS.API.STREAM.CREATE.${stream.name}`, json(stream))
            : Effect.fail(error),
        ),
      ),
    { discard: true },
  )

const history =
  (core: Parts): BusShape["history"] =>
  ({ after, most }) =>
    Effect.gen(function* () {
      const at = `$JS.API.DIRECT.GET.${streams.events}`
      const nextBy = fill(core.config.prefix, subjects.event.pattern, () => "*", { wild: true })
      const found: StoredEvent[] = []
      let seq = after + 1
      while (found.length < most) {
        const message = yield* Effect.tryPromise({
          try: () => core.connection.request(at, json({ seq, next_by_subj: nextBy }), ACK_MS),
          catch: (error) => error as BusError,
        })
        if (message.status === 404) break
        const sequence = Number(message.header("Nats-Sequence"))
        const subject = message.header("Nats-Subject") ?? ""
        if (message.status >= 400 || !Number.isSafeInteger(sequence) || sequence < seq)
          return yield* new BusError({
            reason: "Stream",
            subject: at,
            message: `unusable answer (${message.status})`,
          })
        seq = sequence + 1
        const identity = parse(core.config.prefix, "event", subject)?.identity
        const event = decode(Event, message.data, { subject, bytesMax: subjects.event.bytesMax })
        if (identity === undefined || !event.ok || event.value.source !== sourceOf(identity))
          core.counting.refuse("BAD_EVENT")
        else found.push({ sequence, identity, event: event.value })
      }
      return found
    })

/** The queue of events and the fiber that stores them one after another; what is left is sent when the scope closes. */
export const makeEvents = (core: Parts) =>
  Effect.gen(function* () {
    const { config, counting } = core
    const { name } = config.identity
    const queue = yield* Queue.dropping<Event>(QUEUE)
    let storing = false

    const store = (event: Event) =>
      core.pack("event", { identity: name }, event).pipe(
        Effect.flatMap(({ subject, data }) =>
          api(core, subject, data, { "Nats-Msg-Id": event.id, "Nats-Expected-Stream": streams.events }).pipe(
            Effect.retry({ times: ATTEMPTS - 1, schedule: AGAIN }),
          ),
        ),
        Effect.catch((error) => {
          counting.eventsLost++
          return Effect.logError("an event was lost", {
            type: event.type,
            id: event.id,
            reason: error.reason,
            message: error.message,
          })
        }),
      )

    const event = (draft: EventDraft) =>
      Effect.suspend(() => {
        const full: Event = {
          v: 1,
          specversion: "1.0",
          id: randomUUID(),
          source: sourceOf(name),
          type: draft.type,
          ...(draft.subject === undefined ? {} : { subject: draft.subject }),
          time: new Date().toISOString(),
          data: draft.data,
        }
        if (Queue.offerUnsafe(queue, full)) return Effect.void
        counting.eventsDropped++
        return Effect.void
      })

    const worker = Effect.gen(function* () {
      for (;;) {
        const next = yield* Queue.take(queue)
        storing = true
        yield* store(next)
        storing = false
      }
    })
    yield* Effect.forkScoped(worker)
    const emptied = Effect.gen(function* () {
      while (storing || Queue.sizeUnsafe(queue) > 0) yield* Effect.sleep("10 millis")
    })
    yield* Effect.addFinalizer(() => emptied.pipe(Effect.timeoutOption("2 seconds")))
    return { event, history: history(core), ensureStreams: ensureStreams(core) }
  })

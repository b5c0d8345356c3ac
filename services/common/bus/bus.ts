/** The bus as services see it: values of the table's schemas in and out, every hostile message ended here. */
import { Context, Deferred, Effect, Layer, Redacted, Schedule, Scope } from "effect"
import { limits } from "../../../schemas/limits.ts"
import { type SubjectName, subjects } from "../../../schemas/subjects.ts"
import { decode, EncodeError, encode, type MessageSchema } from "../codec/index.ts"
import { makeCollateral } from "./collateral.ts"
import type { BusConfig } from "./config.ts"
import { Counting, Pace } from "./counters.ts"
import { makeEvents } from "./events.ts"
import { makeLeaders } from "./leaders.ts"
import { listener } from "./listen.ts"
import { type Connection, connect, mayRetry, type Status } from "./nats.ts"
import { makeProofs } from "./proofs.ts"
import { server, unreadServer } from "./serve.ts"
import { inbox, SubjectError, subject } from "./subject.ts"
import { BusError, type BusShape } from "./types.ts"
import { makeWorkflows } from "./workflows.ts"

export * from "./config.ts"
export type { Counters } from "./counters.ts"
export { newUser } from "./nats.ts"
export { type Identity, identity, SubjectError, type Tokens } from "./subject.ts"
export * from "./types.ts"

/** What the parts of the bus share. */
export interface Core {
  readonly config: BusConfig
  readonly connection: Connection
  readonly counting: Counting
  /** Counts a refused message, logs it, and publishes an event about it unless there were too many already. */
  readonly refuse: (what: {
    readonly code: string
    readonly subject: string
    readonly field: string
    readonly message: string
  }) => void
  /** Runs an effect beside the caller, with the bus's logger. */
  readonly fork: (effect: Effect.Effect<unknown>) => void
  /** Where everything that answers or listens lives: closed, all at once, before events and the connection are. */
  readonly work: Scope.Scope
  /** Ends the service through `closed`: it has become deaf, and must not go on as if it were not. */
  readonly fail: (error: BusError) => void
  /** Subject and bytes of a message of our own, or why there are none. */
  readonly pack: <N extends SubjectName>(
    name: N,
    tokens: object,
    value: unknown,
  ) => Effect.Effect<{ readonly subject: string; readonly data: Uint8Array }, BusError>
}

const pack =
  (prefix: string): Core["pack"] =>
  (name, tokens, value) =>
    Effect.suspend(() => {
      try {
        const { payload, bytesMax } = subjects[name]
        const at = subject(prefix, name, tokens as never)
        const data = encode(payload as MessageSchema, value)
        if (data.length <= bytesMax) return Effect.succeed({ subject: at, data })
        const message = `${data.length} bytes, at most ${bytesMax} on ${name}`
        return Effect.fail(new BusError({ reason: "Invalid", subject: at, message }))
      } catch (error) {
        if (error instanceof EncodeError || error instanceof SubjectError)
          return Effect.fail(new BusError({ reason: "Invalid", subject: name, message: error.message }))
        throw error
      }
    })

const request = (core: Core): BusShape["request"] =>
  Effect.fnUntraced(function* (name, tokens, value, { timeoutMs }) {
    const packed = yield* core.pack(name, tokens, value)
    const answer = yield* Effect.tryPromise({
      try: () => core.connection.request(packed.subject, packed.data, timeoutMs),
      catch: (error) => error as BusError,
    })
    const schema = subjects[name].reply as MessageSchema
    const found = decode(schema, answer.data, { subject: packed.subject, bytesMax: limits.messageBytes })
    if (found.ok) return found.value as never
    const { code, field, message } = found.error
    core.refuse({ code, subject: packed.subject, field, message })
    return yield* new BusError({
      reason: "Decode",
      subject: packed.subject,
      message: `${code} ${field}: ${message}`,
    })
  })

const publish = (core: Core): BusShape["publish"] =>
  Effect.fnUntraced(function* (name, tokens, value) {
    const packed = yield* core.pack(name, tokens, value)
    yield* Effect.try({
      try: () => core.connection.publish(packed.subject, packed.data),
      catch: (error) => error as BusError,
    })
  })

/** Connects, trying again until it works or cannot work; closes (with all sent) when the scope does. */
const connected = (config: BusConfig, onStatus: (status: Status) => void) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () =>
        connect({
          url: config.url,
          seed: Redacted.value(config.seed),
          name: config.identity.name,
          inboxPrefix: inbox(config.identity.name),
          onStatus,
        }),
      catch: (error) => error as BusError,
    }).pipe(
      Effect.tapError((error) =>
        mayRetry(error)
          ? Effect.logWarning(`${error.message}; trying again`, { url: config.url })
          : Effect.void,
      ),
      Effect.retry({ while: mayRetry, schedule: Schedule.jittered(Schedule.spaced("500 millis")) }),
    ),
    (connection) => Effect.promise(() => connection.close()).pipe(Effect.timeoutOption("3 seconds")),
    { interruptible: true },
  )

const ended = (connection: Connection): Effect.Effect<never, BusError> =>
  Effect.flatMap(
    Effect.promise(() => connection.closed),
    (code) => {
      const why = code === "" ? "" : ` (${code})`
      return Effect.fail(
        new BusError({
          reason: "Closed",
          subject: "",
          message: `the connection to the NATS server is closed for good${why}`,
        }),
      )
    },
  )

/**
 * Ends with the caller's scope or with the bus, whichever closes first: a service that is told to stop answers what it
 * began while there still is a connection, wherever its author put the layer.
 */
const inBoth = <A, E, R>(core: Core, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const own = yield* Scope.fork(core.work)
    yield* Effect.addFinalizer((exit) => Scope.close(own, exit))
    return yield* Scope.provide(effect, own)
  })

const make = (config: BusConfig) =>
  Effect.gen(function* () {
    const counting = new Counting()
    const context = yield* Effect.context<never>()
    const fork = (effect: Effect.Effect<unknown>): void => void Effect.runForkWith(context)(effect)
    const violations = new Pace(10, 1_000)
    const onStatus = (status: Status): void => {
      if (status.type === "violation") {
        counting.violations++
        if (violations.take())
          fork(
            Effect.logError("the server's permissions refused this identity", {
              operation: status.operation,
              subject: status.subject,
            }),
          )
      } else if (status.type === "reconnected") {
        counting.reconnects++
        fork(Effect.logInfo("connected to the NATS server again"))
      } else if (status.type === "disconnected") fork(Effect.logWarning("lost the NATS server; reconnecting"))
      else if (status.type === "error")
        fork(Effect.logWarning("the NATS server reported an error", { code: status.code }))
    }
    const connection = yield* connected(config, onStatus)
    const packer = pack(config.prefix)
    const events = yield* makeEvents({ config, connection, counting, fork, pack: packer })
    const deaf = yield* Deferred.make<never, BusError>()
    const work = yield* Scope.fork(yield* Effect.scope, "parallel")
    const refusals = new Pace(10, 1_000)
    const core: Core = {
      config,
      connection,
      counting,
      fork,
      work,
      fail: (error) => Deferred.doneUnsafe(deaf, Effect.fail(error)),
      pack: packer,
      refuse: ({ code, subject: at, field, message }) => {
        counting.refuse(code)
        if (!refusals.take()) return
        fork(Effect.logWarning("refused a message", { subject: at, code, field, message }))
        fork(
          events.event({
            type: "vouchsafe.message.refused",
            subject: at.slice(0, 160),
            data: { code, field, message },
          }),
        )
      },
    }
    const workflows = makeWorkflows(core)
    const leaders = makeLeaders(core)
    const shape: BusShape = {
      identity: config.identity,
      prefix: config.prefix,
      request: request(core),
      publish: publish(core),
      event: events.event,
      history: events.history,
      serve: (...of) => inBoth(core, server(core)(...of)),
      serveUnread: (...of) => inBoth(core, unreadServer(core)(...of)),
      subscribe: (...of) => inBoth(core, listener(core)(...of)),
      workflows: {
        ...workflows,
        watch: (...of) => inBoth(core, workflows.watch(...of)),
      },
      leaders: { ...leaders, watch: (...of) => inBoth(core, leaders.watch(...of)) },
      collateral: makeCollateral(core),
      proofs: makeProofs(core),
      ensureStreams: events.ensureStreams,
      counters: () => counting.snapshot(),
      closed: Effect.raceFirst(Deferred.await(deaf), ended(connection)),
    }
    return shape
  })

export class Bus extends Context.Service<Bus, BusShape>()("vouchsafe/common/bus") {
  /** One connection for as long as the layer lives; the layer is built once the server has accepted the identity. */
  static readonly layer = (config: BusConfig): Layer.Layer<Bus, BusError> => Layer.effect(Bus, make(config))
}

/** Answering requests: who may be answered, in what order a request is looked at, and how many at once. */
import { Cause, Effect, FiberSet } from "effect"
import { Refusal } from "../../../schemas/messages/common.ts"
import { subjects } from "../../../schemas/subjects.ts"
import { decode, encode, type MessageSchema } from "../codec/index.ts"
import type { Core } from "./bus.ts"
import { senderPace } from "./counters.ts"
import { subscribed } from "./listen.ts"
import type { Message } from "./nats.ts"
import { filter, insideInbox, parse, senderOf, type Tokens } from "./subject.ts"
import { type BusShape, Refused, type RequestName, type ServeOptions } from "./types.ts"

const DRAIN = "5 seconds"

/** How many requests are being answered, in all and by sender. */
class Places {
  readonly #most: number
  readonly #perSenderMost: number
  readonly #bySender = new Map<string, number>()
  #taken = 0

  constructor(most: number, perSenderMost: number) {
    this.#most = most
    this.#perSenderMost = perSenderMost
  }

  take(sender: string): boolean {
    const own = this.#bySender.get(sender) ?? 0
    if (this.#taken >= this.#most || own >= this.#perSenderMost) return false
    this.#taken++
    this.#bySender.set(sender, own + 1)
    return true
  }

  leave(sender: string): void {
    const own = (this.#bySender.get(sender) ?? 1) - 1
    this.#taken--
    if (own === 0) this.#bySender.delete(sender)
    else this.#bySender.set(sender, own)
  }
}

const answer = (core: Core, reply: string, data: Uint8Array): void => {
  try {
    core.connection.publish(reply, data)
  } catch {
    // The connection is down: the sender asks again.
  }
}

const refusal = (
  core: Core,
  { code, field, message }: { code: string; field: string; message: string },
): Uint8Array =>
  encode(Refusal, {
    v: 1,
    kind: "refused",
    by: core.config.identity.name,
    code: /^[A-Z][A-Z0-9_]{1,63}$/.test(code) ? code : "REFUSED",
    field: field.slice(0, 128),
    message: message.slice(0, 512),
  })

interface Admitted<N extends RequestName> {
  readonly ok: true
  readonly tokens: Tokens<N>
  readonly sender: string
  readonly reply: string
}
type Admission<N extends RequestName> =
  | Admitted<N>
  | { readonly ok: false; readonly code: string; readonly text: string }

/** Answers a request with a no. */
type Say = (no: { readonly code: string; readonly field: string; readonly message: string }) => void

/** The sender of a request that may be answered, or the code and sentence of why it may not. Looks at no payload. */
const admit = <N extends RequestName>(core: Core, name: N, message: Message): Admission<N> => {
  const no = (code: string, text: string): Admission<N> => ({ ok: false, code, text })
  const tokens = parse(core.config.prefix, name, message.subject)
  const sender = tokens === undefined ? null : senderOf(name, tokens)
  if (tokens === undefined || sender === null || sender === undefined)
    return no("BAD_SUBJECT", "the subject names nobody who may ask on it")
  if (message.reply === undefined) return no("NO_REPLY", "a request without a place for the answer")
  // An answer elsewhere would let the sender publish, through us, where it may not itself.
  if (!insideInbox(message.reply, sender))
    return no("BAD_REPLY", "the reply subject is not in the sender's inbox")
  return { ok: true, tokens, sender, reply: message.reply }
}

type Handled<R> = Effect.Effect<unknown, Refused, R>

/** Subscribes; `start` looks at an admitted request: what it does, or undefined when it was refused already. */
const serving = <N extends RequestName, R>(
  core: Core,
  name: N,
  tokens: Partial<Tokens<N>>,
  { inFlightMax = 256, perSenderMax = 4, pace }: ServeOptions,
  start: (message: Message, admitted: Admitted<N>, say: Say) => Handled<R> | undefined,
) =>
  Effect.gen(function* () {
    const row = subjects[name]
    const places = new Places(inFlightMax, perSenderMax)
    const inPace = senderPace(pace)
    const running = yield* FiberSet.make<void>()
    const run = yield* FiberSet.runtime(running)<R>()

    const onMessage = (message: Message): void => {
      // The subject is as good as a name of the sender, and has cost nothing yet.
      if (!inPace(message.subject)) {
        core.counting.displaced++
        return
      }
      const admitted = admit(core, name, message)
      if (!admitted.ok) {
        core.refuse({ code: admitted.code, subject: message.subject, field: "", message: admitted.text })
        return
      }
      const { sender, reply } = admitted
      const say: Say = (no) => answer(core, reply, refusal(core, no))
      if (!places.take(sender)) {
        core.counting.refuse("BUSY")
        say({ code: "BUSY", field: "", message: "too many requests are being answered; ask again later" })
        return
      }
      const started = start(message, admitted, say)
      if (started === undefined) {
        places.leave(sender)
        return
      }
      const handled = started.pipe(
        Effect.map((value) => answer(core, reply, encode(row.reply as MessageSchema, value))),
        Effect.catchCause((cause) => {
          const failed = Cause.findErrorOption(cause)
          if (failed._tag === "Some" && failed.value instanceof Refused)
            return Effect.sync(() => say(failed.value))
          say({ code: "INTERNAL", field: "", message: "the service failed; its log says why" })
          return Effect.logError("a request could not be answered", { subject: message.subject }, cause)
        }),
        Effect.ensuring(Effect.sync(() => places.leave(sender))),
      )
      run(handled)
    }

    // Closed in reverse order: no more messages, then the answers under way, and the connection outlives both.
    yield* Effect.addFinalizer(() => FiberSet.awaitEmpty(running).pipe(Effect.timeoutOption(DRAIN)))
    const queue = "queue" in row ? row.queue : undefined
    yield* subscribed(core, filter(core.config.prefix, name, tokens), queue, onMessage)
  })

/** Decodes a request; one that can't be is counted and recorded. */
const readRequest = <N extends RequestName>(core: Core, name: N, { subject, data }: Message) => {
  const { payload, bytesMax } = subjects[name]
  const found = decode(payload as MessageSchema, data, { subject, bytesMax })
  if (found.ok) return { ok: true, value: found.value as never } as const
  const { code, field, message } = found.error
  core.refuse({ code, subject, field, message })
  return { ok: false, no: new Refused({ code, field, message }) } as const
}

export const server =
  (core: Core): BusShape["serve"] =>
  (name, tokens, handler, options = {}) =>
    serving(core, name, tokens, options, (message, { tokens: from, sender }, say) => {
      const found = readRequest(core, name, message)
      if (found.ok) return handler(found.value, { tokens: from, sender })
      say(found.no)
      return undefined
    })

export const unreadServer =
  (core: Core): BusShape["serveUnread"] =>
  (name, tokens, handler, options = {}) =>
    serving(core, name, tokens, options, (message, { tokens: from, sender }, say) => {
      const { bytesMax } = subjects[name]
      const { data: bytes, subject } = message
      if (bytes.length > bytesMax) {
        const no = { code: "TOO_LARGE", field: "", message: `${bytes.length} bytes, at most ${bytesMax}` }
        core.refuse({ ...no, subject })
        say(no)
        return undefined
      }
      const read = Effect.suspend(() => {
        const found = readRequest(core, name, message)
        return found.ok ? Effect.succeed(found.value) : Effect.fail(found.no)
      })
      return handler({ bytes, read }, { tokens: from, sender })
    })

/**
 * Requests that wait for their answers: one subscription for all of them, each under a token that nobody can guess. The
 * client's own way makes an error, with its stack, for each request that is answered.
 */
import { randomUUID } from "node:crypto"
import type { Message } from "./nats.ts"
import type { BusReason } from "./types.ts"

/** The status of an answer that the server gives itself: nobody listens on the subject. */
const NO_RESPONDERS = 503

export interface Wire {
  /** Throws what `failed` is given. */
  readonly send: (
    subject: string,
    data: Uint8Array,
    reply: string,
    headers: Readonly<Record<string, string>> | undefined,
  ) => void
  /** `onRefused`: the server takes the subscription away. */
  readonly listen: (subject: string, onMessage: (message: Message) => void, onRefused: () => void) => void
  /** What a request fails with. */
  readonly error: (reason: BusReason, subject: string) => Error
  readonly failed: (cause: unknown, subject: string) => Error
}

interface Waiting {
  readonly subject: string
  readonly answered: (message: Message) => void
  readonly failed: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

export class Requests {
  readonly #wire: Wire
  readonly #base: string
  readonly #waiting = new Map<string, Waiting>()
  #listening = false

  /** @param inboxPrefix subjects below it are this identity's alone */
  constructor(wire: Wire, inboxPrefix: string) {
    this.#wire = wire
    this.#base = `${inboxPrefix}.${randomUUID()}.`
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** Rejects with the wire's errors: Timeout, NoResponders, Denied, Closed, or why it can't be sent. */
  ask(
    subject: string,
    data: Uint8Array,
    timeoutMs: number,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Message> {
    return new Promise((resolve, reject) => {
      const token = randomUUID()
      const timer = setTimeout(() => this.#fail(token, "Timeout"), timeoutMs)
      this.#waiting.set(token, { subject, answered: resolve, failed: reject, timer })
      try {
        this.#listen()
        this.#wire.send(subject, data, `${this.#base}${token}`, headers)
      } catch (cause) {
        this.#take(token)?.failed(this.#wire.failed(cause, subject))
      }
    })
  }

  /** The server doesn't let this identity publish there: it says so of a subject, not of a message. */
  denied(subject: string): void {
    for (const [token, waiting] of this.#waiting)
      if (waiting.subject === subject) {
        this.#fail(token, "Denied")
        return
      }
  }

  /** No answer comes any more. */
  end(reason: BusReason): void {
    for (const token of [...this.#waiting.keys()]) this.#fail(token, reason)
  }

  #listen(): void {
    if (this.#listening) return
    this.#wire.listen(
      `${this.#base}*`,
      (message) => this.#answer(message),
      () => {
        this.#listening = false
        this.end("Denied")
      },
    )
    this.#listening = true
  }

  #answer(message: Message): void {
    const token = message.subject.slice(this.#base.length)
    // An answer too late, a second one, or none of ours.
    if (!this.#waiting.has(token)) return
    if (message.data.length === 0 && message.status === NO_RESPONDERS) this.#fail(token, "NoResponders")
    else this.#take(token)?.answered(message)
  }

  #fail(token: string, reason: BusReason): void {
    const waiting = this.#take(token)
    waiting?.failed(this.#wire.error(reason, waiting.subject))
  }

  #take(token: string): Waiting | undefined {
    const waiting = this.#waiting.get(token)
    if (waiting === undefined) return undefined
    this.#waiting.delete(token)
    clearTimeout(waiting.timer)
    return waiting
  }
}

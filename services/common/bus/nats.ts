/**
 * The only file that knows the NATS client. It gives a connection with promises and callbacks, bytes and subjects;
 * meaning is added by `bus.ts`. The client checks no subject: callers build them with `subject.ts`.
 */
import {
  connect as dial,
  ErrorCode,
  Events,
  type Msg,
  MsgHdrsImpl,
  headers as makeHeaders,
  type NatsConnection,
  NatsError,
} from "nats"
import { userKey } from "./nkey.ts"
import { BusError, type BusReason } from "./types.ts"

export { newUser } from "./nkey.ts"

export interface ConnectOptions {
  readonly url: string
  /** The user's nkey seed, as text in bytes. */
  readonly seed: Uint8Array
  readonly name: string
  /** Where answers come to: `_INBOX.<name>`. */
  readonly inboxPrefix: string
  readonly onStatus: (status: Status) => void
}

export type Status =
  | { readonly type: "disconnected" }
  | { readonly type: "reconnected" }
  | { readonly type: "violation"; readonly operation: string; readonly subject: string }
  | { readonly type: "error"; readonly code: string }

export interface Message {
  readonly subject: string
  readonly reply: string | undefined
  readonly data: Uint8Array
  /** A header's value, or undefined. */
  readonly header: (name: string) => string | undefined
  /** The status of a JetStream answer (404: not there), 0 when it has none. */
  readonly status: number
}

export interface Subscription {
  /** Takes no more messages; those already received are still delivered. */
  readonly drain: () => Promise<void>
}

export interface Connection {
  /** Rejects with BusError. While the connection is down it waits for it, within the same time. */
  readonly request: (
    subject: string,
    data: Uint8Array,
    timeoutMs: number,
    headers?: Readonly<Record<string, string>>,
  ) => Promise<Message>
  /** Throws BusError when the connection is down. */
  readonly publish: (subject: string, data: Uint8Array) => void
  readonly subscribe: (
    subject: string,
    queue: string | undefined,
    onMessage: (message: Message) => void,
    onRefused: (error: BusError) => void,
  ) => Subscription
  /** Resolves when the server has seen all that was sent. */
  readonly flush: () => Promise<void>
  /** Ends when the connection is closed for good, with the cause where there is one. */
  readonly closed: Promise<string>
  readonly close: () => Promise<void>
}

/** Failures that another attempt cannot mend. */
const hopeless: ReadonlySet<string> = new Set([
  ErrorCode.AuthorizationViolation,
  ErrorCode.AuthenticationExpired,
  ErrorCode.AuthenticationTimeout,
  ErrorCode.BadAuthentication,
  ErrorCode.BadCreds,
  ErrorCode.InvalidOption,
  ErrorCode.ServerOptionNotAvailable,
])

const codeOf = (error: unknown): string =>
  error instanceof NatsError ? error.code : error instanceof Error ? error.name : "UNKNOWN"

const reasons: Readonly<Record<string, BusReason>> = {
  [ErrorCode.Timeout]: "Timeout",
  [ErrorCode.NoResponders]: "NoResponders",
  [ErrorCode.PermissionsViolation]: "Denied",
  [ErrorCode.MaxPayloadExceeded]: "Invalid",
  [ErrorCode.BadSubject]: "Invalid",
}

const sentences: Readonly<Record<BusReason, string>> = {
  Timeout: "no answer in time",
  NoResponders: "nobody answers on this subject now",
  Denied: "the server's permissions for this identity do not allow it",
  Decode: "the answer was not understood",
  Closed: "the connection to the NATS server is down",
  Invalid: "the message cannot be sent as it is",
  Stream: "the stream refused it",
}

const failure = (error: unknown, subject: string): BusError => {
  if (error instanceof BusError) return error
  const reason = reasons[codeOf(error)] ?? "Closed"
  return new BusError({ reason, subject, message: sentences[reason] })
}

/**
 * The client reads headers with the code that makes them, which throws for what no client would send. Thrown there, it ends
 * the connection's reader: whoever may publish anything could make everybody who gets it deaf for seconds. Headers that
 * can't be read are none, for the client's own look at an answer too.
 */
const readHeaders = MsgHdrsImpl.decode
MsgHdrsImpl.decode = (bytes) => {
  try {
    return readHeaders(bytes)
  } catch {
    return new MsgHdrsImpl()
  }
}

const received = (msg: Msg): Message => ({
  subject: msg.subject,
  reply: msg.reply === "" ? undefined : msg.reply,
  data: msg.data,
  header: (name) => {
    const value = msg.headers?.get(name)
    return value === undefined || value === "" ? undefined : value
  },
  status: msg.headers?.code ?? 0,
})

/** Follows the client's status, and knows whether the connection is up right now. */
class Link {
  up = true
  #waiting: Array<() => void> = []

  async follow(nc: NatsConnection, onStatus: (status: Status) => void): Promise<void> {
    for await (const status of nc.status()) {
      if (status.type === Events.Disconnect) {
        this.up = false
        onStatus({ type: "disconnected" })
      } else if (status.type === Events.Reconnect) {
        this.up = true
        for (const wake of this.#waiting.splice(0)) wake()
        onStatus({ type: "reconnected" })
      } else if (status.type === Events.Error) {
        const context = status.permissionContext
        onStatus(
          context === undefined
            ? { type: "error", code: String(status.data) }
            : { type: "violation", operation: context.operation, subject: context.subject },
        )
      }
    }
  }

  /** Resolves to whether the connection is up, waiting for it at most `timeoutMs`. */
  async ready(timeoutMs: number): Promise<boolean> {
    if (this.up) return true
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs)
      this.#waiting.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
    return this.up
  }
}

const connection = (nc: NatsConnection, onStatus: ConnectOptions["onStatus"]): Connection => {
  const link = new Link()
  const following = link.follow(nc, onStatus)
  following.catch(() => {})
  return {
    request: async (subject, data, timeoutMs, headers) => {
      const began = performance.now()
      const options: { timeout: number; headers?: ReturnType<typeof makeHeaders> } = { timeout: timeoutMs }
      if (headers !== undefined) {
        options.headers = makeHeaders()
        for (const [name, value] of Object.entries(headers)) options.headers.set(name, value)
      }
      try {
        if (!(await link.ready(timeoutMs)))
          throw new BusError({ reason: "Closed", subject, message: sentences.Closed })
        options.timeout = Math.max(1, Math.round(timeoutMs - (performance.now() - began)))
        return received(await nc.request(subject, data, options))
      } catch (error) {
        throw failure(error, subject)
      }
    },
    publish: (subject, data) => {
      // The client would take it and lose it: each new connection starts with an empty buffer.
      if (!link.up) throw new BusError({ reason: "Closed", subject, message: sentences.Closed })
      try {
        nc.publish(subject, data)
      } catch (error) {
        throw failure(error, subject)
      }
    },
    subscribe: (subject, queue, onMessage, onRefused) => {
      const sub = nc.subscribe(subject, {
        ...(queue === undefined ? {} : { queue }),
        callback: (error, msg) =>
          error === null ? onMessage(received(msg)) : onRefused(failure(error, subject)),
      })
      return { drain: () => sub.drain().catch(() => {}) }
    },
    flush: () =>
      nc.flush().catch((error: unknown) => {
        throw failure(error, "")
      }),
    closed: nc.closed().then((error) => (error instanceof Error ? codeOf(error) : "")),
    close: async () => {
      if (!nc.isClosed()) await nc.drain().catch(() => {})
      if (!nc.isClosed()) await nc.close().catch(() => {})
    },
  }
}

/** Signs the server's nonce. Throws BusError for what is no seed: no attempt after this one would work. */
const authenticator = (seed: Uint8Array) => {
  const { publicKey, sign } = keyOf(seed)
  return (nonce = "") => ({ nkey: publicKey, sig: Buffer.from(sign(Buffer.from(nonce))).toString("base64") })
}

const keyOf = (seed: Uint8Array) => {
  try {
    return userKey(seed)
  } catch (error) {
    throw new BusError({ reason: "Denied", subject: "", message: (error as RangeError).message })
  }
}

/** Whether the first connection may be tried again after this failure of `connect`. */
export const mayRetry = (error: BusError): boolean => error.reason === "Closed"

/** Makes one attempt to connect (2 s); after that the connection comes back by itself. Rejects with BusError. */
export const connect = async (options: ConnectOptions): Promise<Connection> => {
  try {
    // The client takes no notice of the scheme: without this option it would go on in the clear.
    const tls = options.url.split(",").some((url) => url.startsWith("tls://")) ? { tls: {} } : {}
    const nc = await dial({
      ...tls,
      servers: options.url.split(","),
      name: options.name,
      authenticator: authenticator(options.seed),
      inboxPrefix: options.inboxPrefix,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 150,
      reconnectJitter: 100,
      pingInterval: 1_000,
      maxPingOut: 2,
      timeout: 2_000,
      ignoreClusterUpdates: true,
      // Two stacks for each request, which only its own errors would show.
      noAsyncTraces: true,
    })
    return connection(nc, options.onStatus)
  } catch (error) {
    if (error instanceof BusError) throw error
    const code = codeOf(error)
    const refused = hopeless.has(code)
    const message =
      code === ErrorCode.ServerOptionNotAvailable
        ? "the NATS server does not speak TLS, which the URL asks for"
        : refused
          ? `the NATS server does not accept this identity (${code}): check its seed and the server's list of users`
          : `no connection to a NATS server (${code})`
    throw new BusError({ reason: refused ? "Denied" : "Closed", subject: "", message })
  }
}

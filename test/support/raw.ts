/** A NATS connection below the bus, for tests that do what no service does. */
import {
  type ConnectionOptions,
  connect,
  type Msg,
  type NatsConnection,
  type NatsError,
  nkeyAuthenticator,
} from "nats"
import type { TestNats, TestUser } from "./nats.ts"

export interface Raw {
  /** Sends any bytes with any reply subject; the client checks neither. */
  readonly send: (subject: string, data: Uint8Array, reply?: string) => void
  /** Messages that arrive on a subject. */
  readonly listen: (subject: string) => Promise<Msg[]>
  /** Whether the server lets it subscribe; the subscription is given up at once. */
  readonly maySubscribe: (subject: string, queue?: string) => Promise<boolean>
  /** Answers requests with whatever `make` gives. */
  readonly answer: (subject: string, queue: string, make: () => Uint8Array) => Promise<void>
  /** Asks with a reply inside the user's own inbox. */
  readonly ask: (subject: string, data: Uint8Array, timeoutMs?: number) => Promise<Uint8Array>
  /** Waits until the server has seen all that was sent, and its complaints have come back. */
  readonly settle: () => Promise<void>
  /** Subjects that the server refused so far, as "publish x" or "subscription x". */
  readonly refused: ReadonlyArray<string>
  readonly close: () => Promise<void>
}

const arrivals = new WeakMap<Msg, number>()

/** When a message that was listened for has arrived, ms of the monotonic clock. */
export const arrivedMs = (msg: Msg): number => arrivals.get(msg) ?? Number.NaN

/** The server gives up on whoever stood still for two seconds before it has said who it is: a few attempts. */
const patiently = async (options: ConnectionOptions): Promise<NatsConnection> => {
  for (let left = 4; ; left--) {
    try {
      return await connect(options)
    } catch (error) {
      if (left === 0 || (error as NatsError).code === "AUTHORIZATION_VIOLATION") throw error
    }
  }
}

export const rawUser = async (nats: TestNats, { role, instance }: TestUser): Promise<Raw> => {
  const name = `${role}-${instance}`
  const nc = await patiently({
    servers: nats.url,
    name,
    inboxPrefix: `_INBOX.${name}`,
    authenticator: nkeyAuthenticator(nats.seed(role, instance)),
    reconnect: false,
  })
  const refused: string[] = []
  const watching = (async () => {
    for await (const { permissionContext } of nc.status())
      if (permissionContext !== undefined)
        refused.push(`${permissionContext.operation} ${permissionContext.subject}`)
  })()
  watching.catch(() => {})
  const settle = async (): Promise<void> => {
    await nc.flush()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return {
    send: (subject, data, reply) => nc.publish(subject, data, reply === undefined ? {} : { reply }),
    listen: async (subject) => {
      const got: Msg[] = []
      const callback = (error: Error | null, msg: Msg): void => {
        if (error !== null) return
        arrivals.set(msg, performance.now())
        got.push(msg)
      }
      nc.subscribe(subject, { callback })
      await settle()
      return got
    },
    maySubscribe: async (subject, queue) => {
      const before = refused.length
      const subscription = nc.subscribe(subject, {
        callback: () => {},
        ...(queue === undefined ? {} : { queue }),
      })
      await settle()
      subscription.unsubscribe()
      return refused.length === before
    },
    answer: async (subject, queue, make) => {
      nc.subscribe(subject, { queue, callback: (_, msg) => void msg.respond(make()) })
      await settle()
    },
    ask: async (subject, data, timeoutMs = 1_000) =>
      (await nc.request(subject, data, { timeout: timeoutMs })).data,
    settle,
    refused,
    close: () => nc.close(),
  }
}

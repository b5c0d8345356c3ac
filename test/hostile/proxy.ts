/** Stands between services and a real server: sees each message both ways, and may say anything to either side. */
import { createConnection, createServer, type Socket } from "node:net"
import { fits } from "./adversary-bus.ts"
import { bytesOf, FrameError, FrameReader, type Message } from "./proxy-frames.ts"

/** One service's connection. */
export interface Wire {
  /** The service's identity, as it says when it connects. */
  readonly name: string
  /** Subjects that it listens to, by subscription. */
  readonly listens: ReadonlyMap<string, string>
  /** As the server would hand it over; `sid` is the subscription. */
  readonly hand: (message: Message) => void
  /** As the service would publish it: the server holds it against the service's permissions. */
  readonly say: (message: Message) => void
  /** Anything at all, to the service. */
  readonly inject: (bytes: Uint8Array) => void
  readonly cut: () => void
}

export interface ProxyOptions {
  /** Something is on its way from the server to a service: what is not handed over is lost. */
  readonly onDelivery: (wire: Wire, message: Message) => void
  /** A service has published something; it goes on to the server. */
  readonly onPublish?: (wire: Wire, message: Message) => void
}

export interface Between {
  readonly url: string
  readonly wires: ReadonlySet<Wire>
  /** What it could not read, by which it then cut a connection: nothing, between honest parties. */
  readonly unread: ReadonlyArray<string>
  readonly close: () => Promise<void>
}

const nameIn = (connect: string): string => {
  const { name } = JSON.parse(connect) as { name?: unknown }
  return typeof name === "string" ? name : ""
}

/** @param server `nats://host:port` of the real one */
export const startProxy = async (server: string, options: ProxyOptions): Promise<Between> => {
  const { hostname, port } = new URL(server)
  const wires = new Set<Wire>()
  const sockets = new Set<Socket>()
  const unread: string[] = []

  const join = (service: Socket): void => {
    const upstream = createConnection({ host: hostname, port: Number(port) })
    const listens = new Map<string, string>()
    let name = ""
    const end = (): void => {
      service.destroy()
      upstream.destroy()
      wires.delete(wire)
      for (const socket of [service, upstream]) sockets.delete(socket)
    }
    const put = (socket: Socket, bytes: Uint8Array): void => void (socket.writable && socket.write(bytes))
    const wire: Wire = {
      get name() {
        return name
      },
      listens,
      hand: (message) => put(service, bytesOf(message)),
      say: (message) => put(upstream, bytesOf({ ...message, sid: undefined })),
      inject: (bytes) => put(service, bytes),
      cut: end,
    }
    const heed = (line: string): void => {
      const [verb = "", ...words] = line.split(/[ \t]+/)
      const op = verb.toUpperCase()
      if (op === "CONNECT") name = nameIn(line.slice(verb.length))
      if (op === "SUB") listens.set(words.at(-1) ?? "", words[0] ?? "")
      if (op === "UNSUB" && words.length === 1) listens.delete(words[0] ?? "")
    }
    const reading = (from: Socket, to: Socket, onMessage: (message: Message) => void): void => {
      const reader = new FrameReader()
      from.on("data", (chunk) => {
        try {
          for (const frame of reader.take(Buffer.from(chunk))) {
            if (frame.kind === "message") onMessage(frame)
            else {
              if (from === service) heed(frame.text)
              put(to, bytesOf(frame))
            }
          }
        } catch (error) {
          unread.push(error instanceof FrameError ? error.message : String(error))
          end()
        }
      })
      from.on("error", end)
      from.on("close", end)
    }
    for (const socket of [service, upstream]) {
      socket.setNoDelay(true)
      sockets.add(socket)
    }
    wires.add(wire)
    reading(service, upstream, (message) => {
      options.onPublish?.(wire, message)
      put(upstream, bytesOf(message))
    })
    reading(upstream, service, (message) => options.onDelivery(wire, message))
  }

  const listening = createServer(join)
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve))
  const address = listening.address()
  if (address === null || typeof address === "string") throw new Error("no port")
  return {
    url: `nats://127.0.0.1:${address.port}`,
    wires,
    unread,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => listening.close(resolve))
    },
  }
}

/** Hands a message to a service on each of its subscriptions that fit. @returns whether there was one */
export const handAs = (
  wire: Wire,
  message: Omit<Message, "sid" | "kind">,
  subject = message.subject,
): boolean => {
  const sids = [...wire.listens].filter(([, pattern]) => fits(pattern, message.subject)).map(([sid]) => sid)
  for (const sid of sids) wire.hand({ ...message, kind: "message", subject, sid })
  return sids.length > 0
}

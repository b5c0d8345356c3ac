/**
 * An ordinary application in a namespace: listens, connects, sends, and says what came of it. Runs as a child with an IPC
 * channel; takes `Order`s and answers each. It knows nothing of Vouchsafe and uses plain sockets, but for `frames`, which
 * puts raw frames on a device as root of a namespace can.
 */
import { createSocket, type Socket as Datagrams } from "node:dgram"
import { connect, createServer, isIPv6, type Server, type Socket } from "node:net"
import { openSender } from "../../infra/lab/packet-socket.ts"

export type Order =
  | { readonly op: "tcp-listen"; readonly port: number }
  | { readonly op: "tcp-close"; readonly port: number }
  /** Connects, says a line and waits for its echo. `keep` names the connection for `tcp-ask`. */
  | {
      readonly op: "tcp-connect"
      readonly address: string
      readonly port: number
      readonly from?: number
      readonly timeoutMs: number
      readonly keep?: string
    }
  | { readonly op: "tcp-ask"; readonly name: string; readonly timeoutMs: number }
  | { readonly op: "udp-listen"; readonly port: number }
  | {
      readonly op: "udp-send"
      readonly address: string
      readonly port: number
      readonly from?: number
      readonly count: number
    }
  | { readonly op: "frames"; readonly device: string; readonly frames: ReadonlyArray<string> }
  /** Numbered datagrams from 1 on, each with `text` behind its number, until `stream-stop`. */
  | {
      readonly op: "stream"
      readonly address: string
      readonly port: number
      readonly perSecond: number
      readonly text: string
    }
  | { readonly op: "stream-stop" }
  | { readonly op: "received" }

/** `answered`: the echo came back; `refused`: the peer's kernel said no; `silent`: nothing in time; `failed`: the own kernel refused. */
export type TcpOutcome = "answered" | "refused" | "silent" | "failed"

export interface Received {
  /** TCP connections that were accepted. */
  readonly accepted: number
  readonly datagrams: number
  /** By number of a stream's datagram, when it came: ns of CLOCK_MONOTONIC as a decimal text. */
  readonly numbers: ReadonlyArray<readonly [number: number, at: string]>
}

export interface Answers {
  "tcp-connect": TcpOutcome
  "tcp-ask": TcpOutcome
  "udp-send": number
  "stream-stop": number
  received: Received
}

const servers = new Map<number, Server>()
const kept = new Map<string, Socket>()
let accepted = 0
let datagrams = 0
let numbers: Array<readonly [number, string]> = []

const listen = (port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      accepted += 1
      socket.on("error", () => socket.destroy())
      socket.pipe(socket)
    })
    servers.set(port, server)
    server.once("error", reject)
    // Of both families.
    server.listen({ port, host: "::" }, resolve)
  })

const unlisten = (port: number): Promise<void> =>
  new Promise((resolve) => {
    const server = servers.get(port)
    servers.delete(port)
    if (server === undefined) resolve()
    else server.close(() => resolve())
  })

const echo = (socket: Socket, timeoutMs: number): Promise<TcpOutcome> =>
  new Promise((resolve) => {
    const text = `are you there? ${Math.random()}\n`
    let back = ""
    const clock = setTimeout(() => end("silent"), timeoutMs)
    const end = (outcome: TcpOutcome): void => {
      clearTimeout(clock)
      socket.removeAllListeners()
      socket.on("error", () => socket.destroy())
      resolve(outcome)
    }
    socket.on("data", (chunk: Buffer) => {
      back += chunk.toString()
      if (back === text) end("answered")
    })
    socket.on("error", (error: NodeJS.ErrnoException) =>
      end(error.code === "ECONNREFUSED" || error.code === "ECONNRESET" ? "refused" : "failed"),
    )
    socket.write(text)
  })

const tcpConnect = async (order: Extract<Order, { op: "tcp-connect" }>): Promise<TcpOutcome> => {
  const socket = connect({
    host: order.address,
    port: order.port,
    ...(order.from === undefined ? {} : { localPort: order.from }),
  })
  const outcome = await echo(socket, order.timeoutMs)
  if (outcome === "answered" && order.keep !== undefined) kept.set(order.keep, socket)
  else socket.destroy()
  return outcome
}

/** For a peer's address of either family, or to listen for both. */
const datagramSocket = (port: number | undefined, peer = "::"): Promise<Datagrams> =>
  new Promise((resolve, reject) => {
    const socket = createSocket({ type: isIPv6(peer) ? "udp6" : "udp4", recvBufferSize: 4 << 20 })
    socket.once("error", reject)
    socket.bind(port ?? 0, () => resolve(socket))
  })

const udpListen = async (port: number): Promise<void> => {
  const socket = await datagramSocket(port)
  socket.on("message", (message) => {
    datagrams += 1
    if (message.length >= 4) numbers.push([message.readUInt32BE(0), process.hrtime.bigint().toString()])
  })
}

const send = (socket: Datagrams, bytes: Buffer, port: number, address: string): Promise<boolean> =>
  new Promise((resolve) => socket.send(bytes, port, address, (error) => resolve(error === null)))

/** Gives how many the own kernel took. */
const udpSend = async (order: Extract<Order, { op: "udp-send" }>): Promise<number> => {
  const socket = await datagramSocket(order.from, order.address)
  let taken = 0
  for (let i = 0; i < order.count; i++)
    if (await send(socket, Buffer.from("let me in"), order.port, order.address)) taken += 1
  socket.close()
  return taken
}

let stream: { stop(): Promise<number> } | undefined

const startStream = async (order: Extract<Order, { op: "stream" }>): Promise<void> => {
  const socket = await datagramSocket(undefined, order.address)
  const began = performance.now()
  let sent = 0
  // Catches up after a pause of the scheduler, a hundred at most at once: the rate is what was asked for.
  const sendDue = (): void => {
    const due = Math.floor(((performance.now() - began) / 1_000) * order.perSecond)
    for (let burst = 0; sent < due && burst < 100; burst++) {
      const message = Buffer.alloc(4 + order.text.length, order.text)
      sent += 1
      message.writeUInt32BE(sent, 0)
      message.write(order.text, 4)
      socket.send(message, order.port, order.address, () => undefined)
    }
  }
  const timer = setInterval(sendDue, 1)
  stream = {
    stop: async () => {
      clearInterval(timer)
      sendDue()
      await new Promise((resolve) => setTimeout(resolve, 50))
      socket.close()
      return sent
    },
  }
}

const obey = async (order: Order): Promise<unknown> => {
  switch (order.op) {
    case "tcp-listen":
      return listen(order.port)
    case "tcp-close":
      return unlisten(order.port)
    case "tcp-connect":
      return tcpConnect(order)
    case "tcp-ask": {
      const socket = kept.get(order.name)
      if (socket === undefined) throw new Error(`no connection ${order.name}`)
      return echo(socket, order.timeoutMs)
    }
    case "udp-listen":
      return udpListen(order.port)
    case "udp-send":
      return udpSend(order)
    case "frames": {
      const sender = openSender(order.device)
      for (const frame of order.frames) sender.send(Buffer.from(frame, "hex"))
      sender.close()
      return undefined
    }
    case "stream":
      return startStream(order)
    case "stream-stop":
      return stream?.stop()
    case "received": {
      const now: Received = { accepted, datagrams, numbers }
      accepted = 0
      datagrams = 0
      numbers = []
      return now
    }
  }
}

process.on("message", ({ id, order }: { id: number; order: Order }) => {
  obey(order).then(
    (answer) => process.send?.({ id, answer }),
    (error: unknown) => process.send?.({ id, error: error instanceof Error ? error.message : String(error) }),
  )
})
process.on("disconnect", () => process.exit(0))

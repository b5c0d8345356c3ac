/**
 * Joins two listeners' worlds: every connection to one address is carried to another. The lab uses a pair of these to let
 * its bus, which listens on the machine's loopback, be one more machine on the wire.
 *
 *   node relay.ts LISTEN TARGET      each `tcp:ADDRESS:PORT` (IPv6 in brackets) or `unix:PATH`
 *
 * Prints `ready` on stdout once it listens. Ends on SIGTERM.
 */
import {
  createConnection,
  createServer,
  type ListenOptions,
  type NetConnectOpts,
  type Socket,
} from "node:net"

const parse = (text: string | undefined): { path: string } | { host: string; port: number } => {
  const [, path] = /^unix:(.+)$/.exec(text ?? "") ?? []
  if (path !== undefined) return { path }
  const [, six, four, digits] = /^tcp:(?:\[([0-9a-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text ?? "") ?? []
  const [host, port] = [six ?? four, Number(digits)]
  if (host !== undefined && port > 0 && port < 65_536) return { host, port }
  process.stderr.write("usage: relay.ts LISTEN TARGET, each tcp:ADDRESS:PORT or unix:PATH\n")
  process.exit(2)
}

const listen: ListenOptions = parse(process.argv[2])
const target: NetConnectOpts = parse(process.argv[3])

/** Bounds what a peer can make us hold open. */
const CONNECTIONS_MAX = 64

const join = (a: Socket, b: Socket): void => {
  // A connection's end reaches the other side after its data; an error ends both at once.
  a.pipe(b)
  b.pipe(a)
  const drop = (): void => {
    a.destroy()
    b.destroy()
  }
  for (const socket of [a, b]) {
    socket.setNoDelay(true)
    socket.on("error", drop)
    socket.on("close", drop)
  }
}

const server = createServer({ allowHalfOpen: true }, (near) => {
  join(near, createConnection({ ...target, allowHalfOpen: true }))
})
server.maxConnections = CONNECTIONS_MAX
server.on("error", (error) => {
  process.stderr.write(`relay: ${error.message}\n`)
  process.exit(1)
})
server.listen(listen, () => process.stdout.write("ready\n"))
process.on("SIGTERM", () => process.exit(0))

/**
 * One end of a ping-pong, or of opening connections one after another, on blocking sockets of libc, since an event loop would
 * add more than what is measured. One process for each end, so that each can be put into a namespace and onto a core.
 *
 *   node pong.ts udp-serve|tcp-serve|conn-serve ADDRESS PORT
 *   node pong.ts udp|tcp ADDRESS PORT SIZE COUNT   -> {"p50_us","p99_us","p999_us","lost"}: one way, half of there and back
 *   node pong.ts conn ADDRESS PORT COUNT           -> {"per_second"}: connected and reset, one after another
 */
import koffi from "koffi"
import { quantile } from "./machine.ts"

const libc = koffi.load("libc.so.6")
const socket: (family: number, type: number, protocol: number) => number =
  libc.func("int socket(int, int, int)")
const bind: (fd: number, address: Uint8Array, size: number) => number = libc.func(
  "int bind(int, const void *, int)",
)
const connect: typeof bind = libc.func("int connect(int, const void *, int)")
const listen: (fd: number, backlog: number) => number = libc.func("int listen(int, int)")
const accept: (fd: number, address: null, size: null) => number = libc.func("int accept(int, void *, void *)")
const setsockopt: (fd: number, level: number, option: number, value: Uint8Array, size: number) => number =
  libc.func("int setsockopt(int, int, int, const void *, int)")
const recvfrom: (
  fd: number,
  buffer: Uint8Array,
  size: number,
  flags: number,
  from: Uint8Array | null,
  fromSize: Uint8Array | null,
) => number = libc.func("long recvfrom(int, void *, size_t, int, _Out_ uint8_t *, _Inout_ uint8_t *)")
const sendto: (
  fd: number,
  buffer: Uint8Array,
  size: number,
  flags: number,
  to: Uint8Array | null,
  toSize: number,
) => number = libc.func("long sendto(int, const void *, size_t, int, const void *, int)")
const close: (fd: number) => number = libc.func("int close(int)")

const [AF_INET, SOCK_STREAM, SOCK_DGRAM, SOL_SOCKET, IPPROTO_TCP] = [2, 1, 2, 1, 6]
const [SO_REUSEADDR, SO_LINGER, SO_RCVTIMEO, TCP_NODELAY] = [2, 13, 20, 1]
const on = Uint8Array.of(1, 0, 0, 0)

const addressOf = (text: string, port: number): Uint8Array =>
  Uint8Array.of(AF_INET, 0, port >> 8, port & 255, ...text.split(".").map(Number), ...new Uint8Array(8))

const must = (result: number, what: string): number => {
  if (result < 0) throw new Error(`${what}: errno ${koffi.errno()}`)
  return result
}

const open = (type: number): number => must(socket(AF_INET, type, 0), "socket")

const listenOn = (address: Uint8Array): number => {
  const fd = open(SOCK_STREAM)
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, on, 4)
  must(bind(fd, address, 16), "bind")
  must(listen(fd, 1024), "listen")
  return fd
}

const sendAll = (fd: number, buffer: Uint8Array, size: number): boolean =>
  sendto(fd, buffer, size, 0, null, 0) === size

/** Reads `size` bytes; false at the end or after a timeout. */
const receiveAll = (fd: number, buffer: Uint8Array, size: number): boolean => {
  for (let got = 0; got < size; ) {
    const more = recvfrom(fd, buffer, size - got, 0, null, null)
    if (more <= 0) return false
    got += more
  }
  return true
}

const serveUdp = (address: Uint8Array): never => {
  const fd = open(SOCK_DGRAM)
  must(bind(fd, address, 16), "bind")
  const [buffer, from, size] = [new Uint8Array(2048), new Uint8Array(16), Uint8Array.of(16, 0, 0, 0)]
  for (;;) {
    const got = recvfrom(fd, buffer, buffer.length, 0, from, size)
    if (got > 0) sendto(fd, buffer, got, 0, from, 16)
  }
}

/** The first two bytes on a connection say how long each message is. */
const serveTcp = (address: Uint8Array): never => {
  const listening = listenOn(address)
  const buffer = new Uint8Array(2048)
  for (;;) {
    const fd = must(accept(listening, null, null), "accept")
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, on, 4)
    if (receiveAll(fd, buffer, 2)) {
      const size = ((buffer[0] ?? 0) << 8) | (buffer[1] ?? 0)
      while (size > 0 && size <= buffer.length && receiveAll(fd, buffer, size)) sendAll(fd, buffer, size)
    }
    close(fd)
  }
}

const serveConnections = (address: Uint8Array): never => {
  const listening = listenOn(address)
  for (;;) close(must(accept(listening, null, null), "accept"))
}

const pingPong = (kind: "udp" | "tcp", address: Uint8Array, size: number, count: number) => {
  const fd = open(kind === "udp" ? SOCK_DGRAM : SOCK_STREAM)
  const timeout = new Uint8Array(16)
  timeout[0] = 1
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, 16)
  // The other end may still be starting.
  for (let attempt = 0; attempt < 50 && connect(fd, address, 16) < 0; attempt++)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
  const buffer = new Uint8Array(2048)
  if (kind === "tcp") {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, on, 4)
    sendAll(fd, Uint8Array.of(size >> 8, size & 255), 2)
  }
  const times: number[] = []
  let lost = 0
  const warmUp = Math.floor(count / 10)
  for (let i = -warmUp; i < count && lost < 20; i++) {
    const from = process.hrtime.bigint()
    sendAll(fd, buffer, size)
    if (!receiveAll(fd, buffer, size)) lost += 1
    else if (i >= 0) times.push(Number(process.hrtime.bigint() - from) / 2000)
  }
  close(fd)
  const at = (part: number): number => Number(quantile(times, part).toFixed(2))
  return { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), lost }
}

const connections = (address: Uint8Array, count: number) => {
  const began = process.hrtime.bigint()
  for (let i = 0; i < count; i++) {
    const fd = open(SOCK_STREAM)
    // Reset, not closed: no port then waits for two minutes.
    setsockopt(fd, SOL_SOCKET, SO_LINGER, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0), 8)
    must(connect(fd, address, 16), "connect")
    close(fd)
  }
  return { per_second: Math.round((count * 1e9) / Number(process.hrtime.bigint() - began)) }
}

const [mode = "", ip = "", port = "", first = "", second = ""] = process.argv.slice(2)
const address = addressOf(ip, Number(port))
const answer = (result: object): void => void process.stdout.write(`${JSON.stringify(result)}\n`)
if (mode === "udp-serve") serveUdp(address)
else if (mode === "tcp-serve") serveTcp(address)
else if (mode === "conn-serve") serveConnections(address)
else if (mode === "udp" || mode === "tcp") answer(pingPong(mode, address, Number(first), Number(second)))
else if (mode === "conn") answer(connections(address, Number(first)))
else {
  process.stderr.write("pong: udp-serve, tcp-serve, conn-serve, udp, tcp or conn\n")
  process.exitCode = 64
}

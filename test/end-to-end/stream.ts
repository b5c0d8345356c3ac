/**
 * Applications that send as fast as they get answers, on blocking sockets of libc: a numbered UDP stream and a TCP bulk
 * transfer. Neither has ever more under way than the kernel has room for, so that what is missing was lost by the data plane.
 *
 *   node stream.ts udp-receive ADDRESS PORT                -> {"datagrams","distinct","highest","longest_gap_ms"}
 *   node stream.ts udp-send ADDRESS PORT STOPFILE          -> {"sent","stalls"}
 *   node stream.ts tcp-receive ADDRESS PORT                -> {"bytes","error"}
 *   node stream.ts tcp-send ADDRESS PORT STOPFILE          -> {"bytes","error"}
 */
import { existsSync } from "node:fs"
import koffi from "koffi"

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
const shutdown: (fd: number, how: number) => number = libc.func("int shutdown(int, int)")

const [AF_INET, SOCK_STREAM, SOCK_DGRAM, SOL_SOCKET] = [2, 1, 2, 1]
const [SO_REUSEADDR, SO_SNDBUF, SO_RCVBUF, SO_RCVTIMEO, SO_RCVBUFFORCE] = [2, 7, 8, 20, 33]
const [MSG_DONTWAIT, MSG_NOSIGNAL] = [0x40, 0x4000]
const EAGAIN = 11

/** Datagrams under way at most: fewer than the kernel's backlog of a device has room for. */
const WINDOW = 256
const ANSWER_EVERY = 32
const SIZE = 512
const END = 0xffffffff
/** Without an answer for this long, what is missing counts as lost, and the stream goes on. */
const STALL_MS = 3_000
const TCP_BUFFER = 128 << 10

const u32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}
const timeval = (ms: number): Uint8Array => {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setBigInt64(0, BigInt(Math.floor(ms / 1_000)), true)
  view.setBigInt64(8, BigInt((ms % 1_000) * 1_000), true)
  return bytes
}
const addressOf = (text: string, port: number): Uint8Array =>
  Uint8Array.of(AF_INET, 0, port >> 8, port & 255, ...text.split(".").map(Number), ...new Uint8Array(8))

const must = (result: number, what: string): number => {
  if (result < 0) throw new Error(`${what}: errno ${koffi.errno()}`)
  return result
}
const open = (type: number): number => {
  const fd = must(socket(AF_INET, type, 0), "socket")
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, u32(1), 4)
  return fd
}
const waitFor = (fd: number, ms: number): void =>
  void must(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval(ms), 16), "timeout")
const say = (result: object): void => console.log(JSON.stringify(result))

const udpReceive = (address: Uint8Array): void => {
  const fd = open(SOCK_DGRAM)
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, u32(16 << 20), 4)
  must(bind(fd, address, 16), "bind")
  waitFor(fd, 120_000)
  console.error("ready")
  const [buffer, from, fromSize] = [new Uint8Array(2_048), new Uint8Array(16), u32(16)]
  const view = new DataView(buffer.buffer)
  const answer = new Uint8Array(4)
  const answerView = new DataView(answer.buffer)
  let seen = new Uint8Array(1 << 20)
  let [datagrams, distinct, highest, gap, last] = [0, 0, 0, 0, performance.now()]
  for (;;) {
    if (recvfrom(fd, buffer, buffer.length, 0, from, fromSize) < 4) break
    const number = view.getUint32(0)
    if (number === END) break
    const now = performance.now()
    if (datagrams > 0) gap = Math.max(gap, now - last)
    last = now
    datagrams += 1
    highest = Math.max(highest, number)
    if (number >= seen.length) {
      const grown = new Uint8Array(Math.max(2 * seen.length, number + 1))
      grown.set(seen)
      seen = grown
    }
    if (seen[number] === 0) distinct += 1
    seen[number] = 1
    if (datagrams % ANSWER_EVERY !== 0) continue
    answerView.setUint32(0, datagrams)
    sendto(fd, answer, 4, MSG_DONTWAIT, from, 16)
  }
  say({ datagrams, distinct, highest, longest_gap_ms: Math.round(gap) })
}

const udpSend = (address: Uint8Array, stopFile: string): void => {
  const fd = open(SOCK_DGRAM)
  must(connect(fd, address, 16), "connect")
  waitFor(fd, STALL_MS)
  const message = new Uint8Array(SIZE)
  const view = new DataView(message.buffer)
  const answer = new Uint8Array(16)
  const answerView = new DataView(answer.buffer)
  let [sent, answered, stalls] = [0, 0, 0]
  for (;;) {
    if (sent % ANSWER_EVERY === 0 && existsSync(stopFile)) break
    const full = sent - answered >= WINDOW
    const got = full || sent % 8 === 0 ? recvfrom(fd, answer, 16, full ? 0 : MSG_DONTWAIT, null, null) : -1
    if (got === 4) answered = Math.max(answered, answerView.getUint32(0))
    if (full && got !== 4) {
      stalls += 1
      answered = sent
    }
    if (sent - answered >= WINDOW) continue
    view.setUint32(0, sent)
    if (sendto(fd, message, SIZE, 0, null, 0) === SIZE) sent += 1
  }
  // What is on its way arrives before the end does.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500)
  view.setUint32(0, END)
  for (let i = 0; i < 5; i++) sendto(fd, message, SIZE, 0, null, 0)
  say({ sent, stalls })
}

const buffers = (fd: number): void => {
  for (const option of [SO_SNDBUF, SO_RCVBUF]) setsockopt(fd, SOL_SOCKET, option, u32(TCP_BUFFER), 4)
}

const tcpReceive = (address: Uint8Array): void => {
  const listening = open(SOCK_STREAM)
  buffers(listening)
  must(bind(listening, address, 16), "bind")
  must(listen(listening, 1), "listen")
  console.error("ready")
  const fd = must(accept(listening, null, null), "accept")
  waitFor(fd, 30_000)
  const buffer = new Uint8Array(64 << 10)
  let [bytes, error] = [0, 0]
  for (;;) {
    const got = recvfrom(fd, buffer, buffer.length, 0, null, null)
    if (got < 0) error = koffi.errno()
    if (got <= 0) break
    bytes += got
  }
  say({ bytes, error })
}

const tcpSend = (address: Uint8Array, stopFile: string): void => {
  const fd = open(SOCK_STREAM)
  buffers(fd)
  must(connect(fd, address, 16), "connect")
  const chunk = new Uint8Array(16 << 10).fill(0x5a)
  let [bytes, error] = [0, 0]
  while (!existsSync(stopFile)) {
    const took = sendto(fd, chunk, chunk.length, MSG_NOSIGNAL, null, 0)
    if (took < 0 && koffi.errno() !== EAGAIN) {
      error = koffi.errno()
      break
    }
    bytes += Math.max(0, took)
  }
  shutdown(fd, 1)
  waitFor(fd, 10_000)
  // Nothing more comes: the end of the connection shows that all has arrived.
  if (recvfrom(fd, chunk, chunk.length, 0, null, null) < 0 && error === 0) error = koffi.errno()
  say({ bytes, error })
}

const [mode, address = "", port = "0", stopFile = ""] = process.argv.slice(2)
const at = addressOf(address, Number(port))
if (mode === "udp-receive") udpReceive(at)
else if (mode === "udp-send") udpSend(at, stopFile)
else if (mode === "tcp-receive") tcpReceive(at)
else if (mode === "tcp-send") tcpSend(at, stopFile)
else throw new Error(`no mode ${mode}`)

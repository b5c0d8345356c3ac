/**
 * Runs inside the guest, which has Linux's own ESP (XFRM): what our sealer makes goes into a network device whose kernel has the same
 * keys, and what that kernel sends to us comes out of it and goes through our opener. Both are judged by what applications get. Prints
 * one line for each thing that held.
 */
import { execFileSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import koffi from "koffi"
import { ifIndex } from "../../services/common/kernel/netdev.ts"
import { setLink } from "../../services/common/kernel/rtnetlink.ts"
import { type Association, byteSource, frame, frame6, udpPacket, udpPacket6 } from "./packets.ts"
import { ESP_PORT, edge1, own, PEER_PORT, type Plane, peer, peerWire } from "./plane.ts"
import { type Family, families, own6, peer6, peerWire6, readyPlane6 } from "./plane6.ts"

const hold = (what: string, held: boolean, about: unknown = ""): void => {
  console.log(`${held ? "held" : `BROKEN (${about})`}: ${what}`)
  if (!held) process.exitCode = 1
}

// --- sockets, which node has none of for frames and for encapsulation ---

const libc = koffi.load("libc.so.6")
const socket = libc.func("int socket(int family, int type, int protocol)")
const bind = libc.func("int bind(int fd, void *address, uint32_t length)")
const setOption = libc.func("int setsockopt(int fd, int level, int name, void *value, uint32_t length)")
const sendTo = libc.func(
  "long sendto(int fd, void *bytes, size_t length, int flags, void *to, uint32_t size)",
)
const receive = libc.func("long recv(int fd, void *buffer, size_t size, int flags)")

const INET = { 4: 2, 6: 10 } as const
const [PACKET, DGRAM, RAW] = [17, 2, 3]
const words = (...values: ReadonlyArray<number>): Uint8Array => new Uint8Array(Int32Array.from(values).buffer)
const ok = (what: string, result: number): number => {
  if (result < 0) throw new Error(`${what}: errno ${koffi.errno()}`)
  return result
}
const four = (address: number): Uint8Array =>
  Uint8Array.of(address >>> 24, address >>> 16, address >>> 8, address)
/** A `struct sockaddr_in` or `sockaddr_in6`. */
const sockaddr = (address: Uint8Array, port: number): Uint8Array => {
  const six = address.length === 16
  const bytes = new Uint8Array(six ? 28 : 16)
  bytes.set([six ? INET[6] : INET[4], 0, port >> 8, port & 255])
  bytes.set(address, six ? 8 : 4)
  return bytes
}
const open = (family: number, type: number, protocol: number, seconds: number): number => {
  const fd = ok("socket", socket(family, type, protocol))
  // SO_RCVTIMEO, a struct timeval.
  ok("timeout", setOption(fd, 1, 20, words(Math.floor(seconds), 0, (seconds % 1) * 1e6, 0), 16))
  return fd
}
const next = (fd: number): Uint8Array | undefined => {
  const buffer = new Uint8Array(4096)
  const length = Number(receive(fd, buffer, buffer.length, 0))
  return length < 0 ? undefined : buffer.subarray(0, length)
}

/** A datagram socket of the peer's application at its workflow address. */
const application = (address: Uint8Array, seconds: number): number => {
  const fd = open(address.length === 16 ? INET[6] : INET[4], DGRAM, 0, seconds)
  ok("bind", bind(fd, sockaddr(address, PEER_PORT), address.length === 16 ? 28 : 16))
  return fd
}
/** The peer's socket for ESP in UDP (RFC 3948). */
const encapsulation = (family: Family): number => {
  const fd = open(INET[family], DGRAM, 0, 1)
  if (family === 6) ok("v6 only", setOption(fd, 41, 26, words(1), 4))
  ok("bind", bind(fd, sockaddr(new Uint8Array(family === 6 ? 16 : 4), ESP_PORT), family === 6 ? 28 : 16))
  ok("encapsulation", setOption(fd, 17, 100, words(2), 4))
  return fd
}

// --- the peer: this kernel, at one end of a veth whose other end nobody has ---

const modules = [
  "veth",
  "xfrm_user",
  "esp4",
  "esp6",
  "chacha_generic",
  "poly1305_generic",
  "chacha20poly1305",
  "seqiv",
]
for (const module of modules) execFileSync("modprobe", [module])
const ip = (lines: ReadonlyArray<string>): void =>
  void execFileSync("ip", ["-batch", "-"], { input: `${lines.join("\n")}\n` })
const MAC = "02:00:00:00:00:02"
ip([
  `link add x0 address ${MAC} mtu 1500 type veth peer name x1`,
  "link set lo up",
  "addr add 10.77.0.2/32 dev lo",
  "addr add fd77::2/128 dev lo nodad",
])
for (const name of ["all", "x0"]) writeFileSync(`/proc/sys/net/ipv4/conf/${name}/rp_filter`, "0")
setLink(ifIndex("x0"), true)
setLink(ifIndex("x1"), true)
ip([
  "addr add 192.0.2.2/24 dev x0",
  "addr add 2001:db8::2/64 dev x0 nodad",
  "neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev x0",
  "neigh replace 2001:db8::1 lladdr 02:00:00:00:00:01 dev x0",
  "route add 10.77.0.1/32 dev x0 src 10.77.0.2",
  "route add fd77::1/128 dev x0 src fd77::2",
])
const far = open(PACKET, RAW, 0x0300, 5)
const link = new Uint8Array(20)
new DataView(link.buffer).setUint16(0, PACKET, true)
new DataView(link.buffer).setUint16(2, 3)
new DataView(link.buffer).setInt32(4, ifIndex("x1"), true)
ok("bind to the veth", bind(far, link, link.length))

const toPeer = (sealed: Uint8Array): void => {
  const bytes = sealed.slice()
  bytes.set([2, 0, 0, 0, 0, 2])
  ok("send", Number(sendTo(far, bytes, bytes.length, 0, link, link.length)))
}
/** The next frame that the peer sends to our ESP port. */
const fromPeer = (): Uint8Array | undefined => {
  for (let i = 0; i < 50; i++) {
    const bytes = next(far)
    if (bytes === undefined) return undefined
    const [type, at] = [(bytes[12] ?? 0) * 256 + (bytes[13] ?? 0), bytes[12] === 8 ? 34 : 54]
    const port = (bytes[at + 2] ?? 0) * 256 + (bytes[at + 3] ?? 0)
    if ((type === 0x0800 || type === 0x86dd) && bytes[type === 0x0800 ? 23 : 20] === 17 && port === ESP_PORT)
      return bytes.slice()
  }
  return undefined
}

interface Numbers {
  readonly esn: boolean
  /** The last sequence number that both directions have used already. */
  readonly used: bigint
}
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
const configure = (family: Family, ours: Association, theirs: Association, { esn, used }: Numbers): void => {
  const [us, them, none] =
    family === 4 ? ["192.0.2.1", "192.0.2.2", "0.0.0.0"] : ["2001:db8::1", "2001:db8::2", "::"]
  const state = (source: string, target: string, sa: Association): string =>
    `xfrm state add src ${source} dst ${target} proto esp spi 0x${sa.spi.toString(16)} mode tunnel ` +
    `replay-window 128 replay-seq 0x${used.toString(16)} replay-oseq 0x${used.toString(16)} flag af-unspec${esn ? " flag esn" : ""} ` +
    `aead rfc7539esp(chacha20,poly1305) 0x${hex(sa.key)}${hex(sa.salt)} 128 encap espinudp ${ESP_PORT} ${ESP_PORT} ${none}`
  const policy = (from: string, to: string, direction: string, source: string, target: string): string =>
    `xfrm policy add src ${from} dst ${to} dir ${direction} tmpl src ${source} dst ${target} proto esp mode tunnel`
  ip([
    "xfrm state flush",
    "xfrm policy flush",
    state(us, them, ours),
    state(them, us, theirs),
    ...[
      ["10.77.0.1", "10.77.0.2"],
      ["fd77::1", "fd77::2"],
    ].flatMap(([mine = "", other = ""]) => [
      policy(mine, other, "in", us, them),
      policy(other, mine, "out", them, us),
    ]),
  ])
}

// --- both ways ---

const bytes = byteSource(0x7fa)
const sockets = { 4: application(four(peer), 5), 6: application(peer6, 5) }
const impatient = 0.5

/** Says something to the peer's application and lets it answer. Gives what went wrong, or undefined. */
const converse = (plane: Plane, inner: Family, length: number): string | undefined => {
  const said = bytes(length)
  const packet =
    inner === 4
      ? frame(udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, said))
      : frame6(udpPacket6({ source: own6, target: peer6, from: 40_000, to: PEER_PORT }, said))
  const sealed = plane.run("vs_seal", packet)
  if (sealed.verdict !== "SEALED") return `sealing: ${sealed.verdict}`
  toPeer(sealed.packet)
  const heard = next(sockets[inner])
  if (heard === undefined || Buffer.compare(heard, said) !== 0)
    return `XFRM heard ${heard?.length} of ${length} bytes`
  const answer = bytes(length)
  const to = inner === 4 ? sockaddr(four(own), 40_000) : sockaddr(own6, 40_000)
  ok("answer", Number(sendTo(sockets[inner], answer, length, 0, to, to.length)))
  const arrived = fromPeer()
  if (arrived === undefined) return "XFRM sent nothing"
  const opened = plane.run("vs_open", arrived)
  if (opened.verdict !== "OPENED") return `opening: ${opened.verdict}`
  const got = opened.packet.subarray(inner === 4 ? 42 : 62)
  return Buffer.compare(got, answer) === 0 ? undefined : "opened to something else"
}

const lengths = [0, 1, 2, 3, 4, 63, 500, 1300]
const plane = readyPlane6(4)
let spi = 0x10_0000
for (const family of families) {
  encapsulation(family)
  plane.endpoint(1, { peerInner6: peer6, peerWire: family === 4 ? peerWire : peerWire6 })
  for (const numbers of [
    { esn: false, used: 0n },
    { esn: true, used: 0n },
    { esn: true, used: 0xffff_fff8n },
  ]) {
    spi += 1
    const keys = {
      edge: 1,
      out: { ...edge1.out, spi, esn: numbers.esn, key: bytes(32), salt: bytes(4) },
      in: { ...edge1.in, spi: spi + 0x1000, esn: numbers.esn, key: bytes(32), salt: bytes(4) },
    }
    plane.keys(keys, numbers.used)
    configure(family, keys.out, keys.in, numbers)
    const title = `over IPv${family} ${numbers.esn ? "with" : "without"} ESN${numbers.used > 0n ? ", over the wrap of the low half" : ""}`
    for (const inner of families) {
      const wrong = lengths.flatMap((length) => {
        const problem = converse(plane, inner, length)
        return problem === undefined ? [] : [`${length} bytes: ${problem}`]
      })
      hold(`IPv${inner} ${title}`, wrong.length === 0, wrong[0])
    }
    const forged = plane.run(
      "vs_seal",
      frame(udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, bytes(8))),
    ).packet
    const good = forged.slice()
    forged[forged.length - 1] = (forged[forged.length - 1] ?? 0) ^ 1
    ok("timeout", setOption(sockets[4], 1, 20, words(0, 0, impatient * 1e6, 0), 16))
    toPeer(forged)
    hold(`XFRM takes no forgery ${title}`, next(sockets[4]) === undefined)
    toPeer(good)
    const once = next(sockets[4])
    toPeer(good)
    hold(`XFRM takes ours once ${title}`, once?.length === 8 && next(sockets[4]) === undefined)
    ok("timeout", setOption(sockets[4], 1, 20, words(5, 0, 0, 0), 16))
  }
}
plane.close()

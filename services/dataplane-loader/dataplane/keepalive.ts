/**
 * NAT keepalives (RFC 3948, section 2.3): a UDP datagram of one byte 0xff on the pair of ports of each lane that was silent, so
 * that a translation between the nodes stays, or what a stateful firewall remembers, which IPv6 has too. It says nothing, and
 * the peer's opener drops it with a verdict of its own. The guard lets out this and nothing else with the mark that it carries.
 */
import koffi from "koffi"
import { closeFd, lastErrno } from "../../common/kernel/bpf.ts"
import { fromErrno } from "../../common/kernel/errors.ts"
import { updateFlag } from "../../common/kernel/maps.ts"
import * as records from "../../common/kernel/records.ts"
import type { Maps } from "./associations.ts"
import { readConfig } from "./configure.ts"
import { readLane } from "./counters.ts"

const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM_CLOEXEC = 0o2000002
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
const SO_MARK = 36
const MSG_DONTWAIT = 0x40
const KEEPALIVE = Uint8Array.of(0xff)

type Calls = {
  readonly socket: (family: number, type: number, protocol: number) => number
  readonly bind: (fd: number, address: Uint8Array, size: number) => number
  readonly setsockopt: (fd: number, level: number, name: number, value: Uint8Array, size: number) => number
  readonly sendto: (
    fd: number,
    bytes: Uint8Array,
    size: number,
    flags: number,
    to: Uint8Array,
    toSize: number,
  ) => bigint | number
}
let calls: Calls | undefined

const libc = (): Calls => {
  if (calls === undefined) {
    const library = koffi.load("libc.so.6")
    calls = {
      socket: library.func("int socket(int family, int type, int protocol)"),
      bind: library.func("int bind(int fd, const void *address, unsigned int size)"),
      setsockopt: library.func(
        "int setsockopt(int fd, int level, int name, const void *value, unsigned int size)",
      ),
      sendto: library.func(
        "long sendto(int fd, const void *bytes, size_t size, int flags, const void *to, unsigned int toSize)",
      ),
    }
  }
  return calls
}

/** `struct sockaddr_in` or `struct sockaddr_in6`. */
const socketAddress = (address: records.Address, port: number): Uint8Array => {
  const bytes = new Uint8Array(typeof address === "number" ? 16 : 28)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, typeof address === "number" ? AF_INET : AF_INET6, true)
  view.setUint16(2, port)
  if (typeof address === "number") view.setUint32(4, address)
  else bytes.set(address, 8)
  return bytes
}

const u32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

interface Lane {
  readonly edge: number
  readonly lane: number
  readonly address: records.Address
  readonly port: number
}

const learntOf = (
  maps: Maps,
  edge: number,
  lane: number,
  six: boolean,
): records.EndpointRecord | undefined => {
  const key = records.endpointKey(edge, lane)
  if (!six) return records.decodeEndpoint(maps.endpoints.lookup(key) ?? records.noEndpoint())
  return records.decodeEndpoint6(maps.endpoints6.lookup(key, updateFlag.LOCK) ?? records.noEndpoint6())
}

/** Every lane that has keys, and where its peer was heard last, or is by the signed document. */
const lanesInUse = (maps: Maps): ReadonlyArray<Lane> =>
  maps.outbound.keys().flatMap((key): ReadonlyArray<Lane> => {
    const { edge, lane } = records.decodeLaneKey(key)
    const value = maps.edges.lookup(records.edgeKey(edge))
    if (value === undefined) return []
    const { peerWire, peerPort } = records.decodeEdge(value)
    const learnt = learntOf(maps, edge, lane, typeof peerWire !== "number")
    return [{ edge, lane, address: learnt?.address ?? peerWire, port: learnt?.port ?? peerPort }]
  })

const openLane = (own: records.Address, port: number, mark: number): number => {
  const address = socketAddress(own, port)
  const family = typeof own === "number" ? AF_INET : AF_INET6
  const fd = libc().socket(family, SOCK_DGRAM_CLOEXEC, 0)
  if (fd < 0) throw fromErrno("open", "keepalive socket", lastErrno())
  const ready =
    libc().setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, u32(1), 4) === 0 &&
    libc().setsockopt(fd, SOL_SOCKET, SO_MARK, u32(mark), 4) === 0 &&
    libc().bind(fd, address, address.length) === 0
  if (ready) return fd
  const errno = lastErrno()
  closeFd(fd)
  throw fromErrno("bind", `keepalive port ${port}`, errno)
}

interface Sent {
  /** Those that the kernel took. */
  readonly lanes: ReadonlyArray<Lane>
  /** The first failure, such as a port that is somebody else's. */
  readonly failure: unknown
}

/** Sends one on each of these lanes; one that fails doesn't keep the others waiting. */
const sendOn = (config: records.ConfigRecord, lanes: ReadonlyArray<Lane>): Sent => {
  const sockets = new Map<string, number>()
  let failure: unknown
  const took = ({ lane, address, port }: Lane): boolean => {
    const own = typeof address === "number" ? config.wireAddress : config.wireAddress6
    // An edge whose peer has an address of a family that we have not got on the wire at the moment.
    if (own === undefined || own === 0) return false
    const name = `${typeof own} ${lane}`
    try {
      const fd = sockets.get(name) ?? openLane(own, config.espPort + lane, ~config.mark >>> 0)
      sockets.set(name, fd)
      const to = socketAddress(address, port)
      return Number(libc().sendto(fd, KEEPALIVE, 1, MSG_DONTWAIT, to, to.length)) === 1
    } catch (error) {
      failure ??= error
      return false
    }
  }
  try {
    return { lanes: lanes.filter(took), failure }
  } finally {
    for (const fd of sockets.values()) closeFd(fd)
  }
}

interface Silence {
  readonly sealed: bigint
  readonly sinceNs: bigint
}

/** Knows since when each lane is silent, to within the time between calls. */
export class Keepalives {
  readonly #maps: Maps
  #lanes = new Map<string, Silence>()

  constructor(maps: Maps) {
    this.#maps = maps
  }

  /** Sends one on every lane with keys that was silent for `idleNs`, or is seen for the first time; gives how many. KernelError, when it has sent what it could. */
  send(nowNs: bigint, idleNs: bigint): number {
    const config = readConfig(this.#maps)
    if (config === undefined) return 0
    const known = this.#lanes
    this.#lanes = new Map()
    const silent = lanesInUse(this.#maps).filter((at) => {
      const sealed = readLane(this.#maps, at.edge, at.lane).sealedPackets
      const before = known.get(nameOf(at))
      const silence = before === undefined || before.sealed === sealed ? before : { sealed, sinceNs: nowNs }
      if (silence !== undefined) this.#lanes.set(nameOf(at), silence)
      return silence === undefined || nowNs - silence.sinceNs >= idleNs
    })
    const sent = sendOn(config, silent)
    for (const at of sent.lanes)
      this.#lanes.set(nameOf(at), {
        sealed: readLane(this.#maps, at.edge, at.lane).sealedPackets,
        sinceNs: nowNs,
      })
    if (sent.failure !== undefined) throw sent.failure
    return sent.lanes.length
  }
}

const nameOf = ({ edge, lane, address, port }: Lane): string =>
  `${edge} ${lane} ${records.formatAddress(address)} ${port}`

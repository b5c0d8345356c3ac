/**
 * NAT keepalives (RFC 3948, section 2.3): a UDP datagram of one byte 0xff on each lane's own pair of ports, so that a
 * translation between the nodes stays. It says nothing, and the peer's opener drops it with a verdict of its own.
 */
import koffi from "koffi"
import { closeFd, lastErrno } from "../../common/kernel/bpf.ts"
import { fromErrno } from "../../common/kernel/errors.ts"
import * as records from "../../common/kernel/records.ts"
import type { Maps } from "./associations.ts"

const AF_INET = 2
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

/** `struct sockaddr_in`. */
const socketAddress = (address: number, port: number): Uint8Array => {
  const bytes = new Uint8Array(16)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, AF_INET, true)
  view.setUint16(2, port)
  view.setUint32(4, address)
  return bytes
}

const u32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value, true)
  return bytes
}

interface Lane {
  readonly lane: number
  readonly address: number
  readonly port: number
}

/** Every lane that has keys, and where its peer was heard last, or is by the signed document. IPv4 only. */
export const lanesInUse = (maps: Maps): ReadonlyArray<Lane> =>
  maps.outbound.keys().flatMap((key): ReadonlyArray<Lane> => {
    const { edge, lane } = records.decodeLaneKey(key)
    const value = maps.edges.lookup(records.edgeKey(edge))
    if (value === undefined) return []
    const { peerWire, peerPort } = records.decodeEdge(value)
    const learnt = records.decodeEndpoint(
      maps.endpoints.lookup(records.endpointKey(edge, lane)) ?? new Uint8Array(8),
    )
    const address = learnt?.address ?? peerWire
    return typeof address === "number" ? [{ lane, address, port: learnt?.port ?? peerPort }] : []
  })

const openLane = (wireAddress: number, port: number, mark: number): number => {
  const fd = libc().socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0)
  if (fd < 0) throw fromErrno("open", "keepalive socket", lastErrno())
  const own = socketAddress(wireAddress, port)
  // The guard lets out what carries the plane's mark, from a lane's port.
  const ready =
    libc().setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, u32(1), 4) === 0 &&
    libc().setsockopt(fd, SOL_SOCKET, SO_MARK, u32(mark), 4) === 0 &&
    libc().bind(fd, own, own.length) === 0
  if (ready) return fd
  const errno = lastErrno()
  closeFd(fd)
  throw fromErrno("bind", `keepalive port ${port}`, errno)
}

/** Sends one keepalive on every lane in use; gives how many the kernel took. KernelError when a port is somebody else's. */
export const sendKeepalives = (maps: Maps): number => {
  const value = maps.config.lookup(records.indexKey(0))
  const config = value === undefined ? undefined : records.decodeConfig(value)
  if (config?.layout !== records.VS_LAYOUT || !config.wireAddress) return 0
  const sockets = new Map<number, number>()
  let sent = 0
  try {
    for (const { lane, address, port } of lanesInUse(maps)) {
      const fd = sockets.get(lane) ?? openLane(config.wireAddress, config.espPort + lane, config.mark)
      sockets.set(lane, fd)
      const to = socketAddress(address, port)
      if (Number(libc().sendto(fd, KEEPALIVE, 1, MSG_DONTWAIT, to, to.length)) === 1) sent += 1
    }
    return sent
  } finally {
    for (const fd of sockets.values()) closeFd(fd)
  }
}

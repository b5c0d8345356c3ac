/**
 * Routing netlink (rtnetlink(7)) as far as the data plane asks it: filters on a device, the device itself, its addresses,
 * and news of all three. A question costs some ten microseconds, where starting `tc` or `ip` costs milliseconds.
 */
import koffi from "koffi"
import { Attr, closeFd, lastErrno } from "./bpf.ts"
import { fromErrno, invalid, KernelError } from "./errors.ts"

const AF_NETLINK = 16
const AF_INET = 2
const AF_INET6 = 10
const NETLINK_ROUTE = 0
const SOCK_RAW_CLOEXEC = 0o2000003
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const SO_ATTACH_FILTER = 26
const MSG_DONTWAIT = 0x40
const MSG_TRUNC = 0x20
const EAGAIN = 11
const ENOBUFS = 105

/** <linux/netlink.h> and <linux/rtnetlink.h>. */
const NLMSG = { ERROR: 2, DONE: 3 } as const
const FLAG = { REQUEST: 1, ACK: 4, DUMP_INTR: 0x10, DUMP: 0x300 } as const
export const message = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWQDISC: 36,
  DELQDISC: 37,
  NEWTFILTER: 44,
  DELTFILTER: 45,
  GETTFILTER: 46,
} as const
/** Groups as bits of `sockaddr_nl.nl_groups`. */
const GROUPS = { link: 1, tc: 1 << 3, ipv4Address: 1 << 4, ipv6Address: 1 << 8 } as const
const TCA = { KIND: 1, OPTIONS: 2, CHAIN: 11 } as const
const TCA_BPF_ID = 11
const IFLA = { IFNAME: 3, MTU: 4, XDP: 43 } as const
const IFLA_XDP = { ATTACHED: 2, PROG_ID: 4 } as const
const IFA = { ADDRESS: 1, LOCAL: 2, FLAGS: 8 } as const
const IFA_F_TENTATIVE = 0x40
const IFF_UP = 1
const SCOPE_UNIVERSE = 0
/** Parents of the clsact queueing discipline's two sides. */
const PARENT = { ingress: 0xfffffff2, egress: 0xfffffff3 } as const

const HEADER = 16
const RECEIVE = 64 << 10
const DUMPS = 4

type Calls = {
  readonly socket: (family: number, type: number, protocol: number) => number
  readonly bind: (fd: number, address: Uint8Array, size: number) => number
  readonly setsockopt: (fd: number, level: number, name: number, value: Uint8Array, size: number) => number
  readonly send: (fd: number, bytes: Uint8Array, size: number, flags: number) => bigint | number
  readonly recv: (fd: number, bytes: Uint8Array, size: number, flags: number) => bigint | number
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
      send: library.func("long send(int fd, const void *bytes, size_t size, int flags)"),
      recv: library.func("long recv(int fd, void *bytes, size_t size, int flags)"),
    }
  }
  return calls
}

const openSocket = (groups: number): number => {
  const fd = libc().socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE)
  if (fd < 0) throw fromErrno("open", "rtnetlink", lastErrno())
  const address = new Uint8Array(12)
  const view = new DataView(address.buffer)
  view.setUint16(0, AF_NETLINK, true)
  view.setUint32(8, groups, true)
  // A kernel that doesn't answer must not hold the process for ever.
  const seconds = new Uint8Array(16)
  new DataView(seconds.buffer).setBigInt64(0, 5n, true)
  if (
    libc().bind(fd, address, address.length) !== 0 ||
    libc().setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, seconds, seconds.length) !== 0
  ) {
    const errno = lastErrno()
    closeFd(fd)
    throw fromErrno("bind", "rtnetlink", errno)
  }
  return fd
}

export interface Message {
  readonly type: number
  /** What follows the netlink header. */
  readonly body: Uint8Array
}

interface Framed extends Message {
  readonly flags: number
  readonly sequence: number
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
const align = (size: number): number => (size + 3) & ~3

/** Splits what one recv gave. KernelError INVALID when a length doesn't fit. */
const frames = (bytes: Uint8Array): ReadonlyArray<Framed> => {
  const view = viewOf(bytes)
  const found: Array<Framed> = []
  for (let at = 0; at + HEADER <= bytes.length; ) {
    const length = view.getUint32(at, true)
    if (length < HEADER || at + length > bytes.length)
      throw invalid("read", "rtnetlink", `a message of ${length} bytes`)
    found.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: bytes.slice(at + HEADER, at + length),
    })
    at += align(length)
  }
  return found
}

/** Attributes by number, from `offset` on; of those that come twice the last. KernelError INVALID when one doesn't fit. */
export const attributes = (bytes: Uint8Array, offset: number): ReadonlyMap<number, Uint8Array> => {
  const view = viewOf(bytes)
  const found = new Map<number, Uint8Array>()
  for (let at = offset; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true)
    if (length < 4 || at + length > bytes.length)
      throw invalid("read", "rtnetlink", `an attribute of ${length} bytes`)
    // The two highest bits say how it is packed.
    found.set(view.getUint16(at + 2, true) & 0x3fff, bytes.subarray(at + 4, at + length))
    at += align(length)
  }
  return found
}

/** One for all questions: they don't overlap, and what is kept of an answer is a copy. */
const buffer = new Uint8Array(RECEIVE)
let sequence = 0

/** Sends one request and gives the answers. KernelError with the kernel's errno, or INVALID. */
const ask = (type: number, flags: number, body: Uint8Array, subject: string): ReadonlyArray<Message> => {
  sequence = (sequence + 1) >>> 0
  const own = sequence
  const request = new Uint8Array(HEADER + body.length)
  const view = new DataView(request.buffer)
  view.setUint32(0, request.length, true)
  view.setUint16(4, type, true)
  view.setUint16(6, FLAG.REQUEST | flags, true)
  view.setUint32(8, own, true)
  request.set(body, HEADER)
  const fd = openSocket(0)
  try {
    if (Number(libc().send(fd, request, request.length, 0)) !== request.length)
      throw fromErrno("ask", subject, lastErrno())
    return answers(fd, own, subject)
  } finally {
    closeFd(fd)
  }
}

/** Thrown by a dump during which what it lists has changed. */
const changed = (subject: string): KernelError =>
  new KernelError("list", subject, "EINTR", "changed meanwhile")

const answers = (fd: number, own: number, subject: string): ReadonlyArray<Message> => {
  const found: Array<Message> = []
  for (;;) {
    const size = Number(libc().recv(fd, buffer, buffer.length, MSG_TRUNC))
    if (size < 0) throw fromErrno("ask", subject, lastErrno())
    if (size > buffer.length) throw invalid("ask", subject, "the kernel's answer is too long")
    let interrupted = false
    for (const one of frames(buffer.subarray(0, size))) {
      if (one.sequence !== own) continue
      if ((one.flags & FLAG.DUMP_INTR) !== 0) interrupted = true
      if (one.type === NLMSG.DONE || one.type === NLMSG.ERROR) {
        const errno = one.body.length < 4 ? 0 : -viewOf(one.body).getInt32(0, true)
        if (errno > 0) throw fromErrno("ask", subject, errno)
        if (interrupted) throw changed(subject)
        return found
      }
      found.push({ type: one.type, body: one.body })
    }
    if (interrupted) throw changed(subject)
  }
}

/** A dump, again when what it lists changed under it. */
const dump = (type: number, body: Uint8Array, subject: string): ReadonlyArray<Message> => {
  for (let attempt = 1; ; attempt++)
    try {
      return ask(type, FLAG.DUMP, body, subject)
    } catch (error) {
      if (!(error instanceof KernelError && error.code === "EINTR" && attempt < DUMPS)) throw error
    }
}

const text = (bytes: Uint8Array | undefined): string =>
  bytes === undefined ? "" : Buffer.from(bytes).toString("latin1").replace(/\0.*$/s, "")

const number32 = (bytes: Uint8Array | undefined): number | undefined =>
  bytes === undefined || bytes.length < 4 ? undefined : viewOf(bytes).getUint32(0, true)

export interface Filter {
  readonly kind: string
  readonly preference: number
  readonly chain: number
  /** Of a BPF filter; undefined for every other, and for the row that only announces a filter's kind. */
  readonly programId: number | undefined
  /** Whether this row describes a filter and doesn't only announce some. */
  readonly described: boolean
}

const TCMSG = 20

/** One row of a filter dump. */
export const parseFilter = ({ type, body }: Message): Filter => {
  if (type !== message.NEWTFILTER || body.length < TCMSG)
    throw invalid("list", "filters", `an answer of type ${type} with ${body.length} bytes`)
  const found = attributes(body, TCMSG)
  const kind = text(found.get(TCA.KIND))
  const options = found.get(TCA.OPTIONS)
  return {
    kind,
    preference: viewOf(body).getUint32(16, true) >>> 16,
    chain: number32(found.get(TCA.CHAIN)) ?? 0,
    programId:
      kind === "bpf" && options !== undefined ? number32(attributes(options, 0).get(TCA_BPF_ID)) : undefined,
    described: options !== undefined,
  }
}

/** The filters of clsact (or ingress) on one side of a device, in the kernel's order. A device that is gone has none. */
export const listFilters = (ifindex: number, direction: keyof typeof PARENT): ReadonlyArray<Filter> => {
  const body = new Uint8Array(TCMSG)
  const view = new DataView(body.buffer)
  view.setInt32(4, ifindex, true)
  view.setUint32(12, PARENT[direction], true)
  return dump(message.GETTFILTER, body, `filters of ifindex ${ifindex}`).map(parseFilter)
}

export interface Link {
  readonly ifindex: number
  readonly name: string
  /** Administratively up. */
  readonly up: boolean
  readonly mtu: number
  /** Id of the XDP program, 0 when the kernel names none; undefined without XDP. */
  readonly xdp: number | undefined
}

const IFINFOMSG = 16

export const parseLink = ({ type, body }: Message): Link => {
  if (type !== message.NEWLINK || body.length < IFINFOMSG)
    throw invalid("describe", "device", `an answer of type ${type} with ${body.length} bytes`)
  const view = viewOf(body)
  const found = attributes(body, IFINFOMSG)
  const xdp = found.get(IFLA.XDP)
  const within = xdp === undefined ? undefined : attributes(xdp, 0)
  const attached = (within?.get(IFLA_XDP.ATTACHED)?.[0] ?? 0) !== 0
  return {
    ifindex: view.getInt32(4, true),
    name: text(found.get(IFLA.IFNAME)),
    up: (view.getUint32(8, true) & IFF_UP) !== 0,
    mtu: number32(found.get(IFLA.MTU)) ?? 0,
    xdp: attached ? (number32(within?.get(IFLA_XDP.PROG_ID)) ?? 0) : undefined,
  }
}

const linkBody = (ifindex: number, flags = 0, change = 0): Uint8Array => {
  const body = new Uint8Array(IFINFOMSG)
  const view = new DataView(body.buffer)
  view.setInt32(4, ifindex, true)
  view.setUint32(8, flags, true)
  view.setUint32(12, change, true)
  return body
}

/** A device of this network namespace; undefined when there is none with this index. */
export const findLink = (ifindex: number): Link | undefined => {
  try {
    const [answer] = ask(message.GETLINK, FLAG.ACK, linkBody(ifindex), `ifindex ${ifindex}`)
    return answer === undefined ? undefined : parseLink(answer)
  } catch (error) {
    if (error instanceof KernelError && error.code === "ENODEV") return undefined
    throw error
  }
}

/** Sets a device up or down. KernelError ENODEV. */
export const setLink = (ifindex: number, up: boolean): void => {
  ask(message.NEWLINK, FLAG.ACK, linkBody(ifindex, up ? IFF_UP : 0, IFF_UP), `ifindex ${ifindex}`)
}

export interface Address {
  readonly ifindex: number
  readonly family: 4 | 6
  /** 4 or 16 bytes. */
  readonly bytes: Uint8Array
  /** Valid beyond the link, and past duplicate detection. */
  readonly usable: boolean
}

const IFADDRMSG = 8

/** One row of an address dump; undefined for a family that isn't IP. */
const parseAddress = ({ body }: Message): Address | undefined => {
  if (body.length < IFADDRMSG) throw invalid("list", "addresses", `an answer of ${body.length} bytes`)
  const view = viewOf(body)
  const [family, flags, scope] = [body[0], body[2] ?? 0, body[3]]
  const found = attributes(body, IFADDRMSG)
  const bytes = found.get(IFA.LOCAL) ?? found.get(IFA.ADDRESS)
  if (bytes === undefined || (family !== AF_INET && family !== AF_INET6)) return undefined
  if (bytes.length !== (family === AF_INET ? 4 : 16))
    throw invalid("list", "addresses", `an address of ${bytes.length} bytes`)
  const all = number32(found.get(IFA.FLAGS)) ?? flags
  return {
    ifindex: view.getUint32(4, true),
    family: family === AF_INET ? 4 : 6,
    bytes: bytes.slice(),
    usable: scope === SCOPE_UNIVERSE && (all & IFA_F_TENTATIVE) === 0,
  }
}

/** The addresses of a device, in the kernel's order. */
export const listAddresses = (ifindex: number): ReadonlyArray<Address> =>
  dump(message.GETADDR, new Uint8Array(IFADDRMSG), "addresses").flatMap((one) => {
    const address = parseAddress(one)
    return address?.ifindex === ifindex ? [address] : []
  })

/** What happened to something, and the index of the device that it happened to. */
export interface News {
  readonly type: number
  readonly ifindex: number
}

export interface NewsReader {
  /** What has happened since the last call, as far as it is known; `lost`: not all of it is. */
  readonly read: () => { readonly found: ReadonlyArray<News>; readonly lost: boolean }
  readonly close: () => void
}

/** Instructions of a socket filter (<linux/filter.h>): loads swap from network order, so what they are compared to is swapped too. */
const LOAD16 = 0x28
const LOAD32 = 0x20
const JUMP_EQUAL = 0x15
const RETURN = 0x06
const swap16 = (value: number): number => ((value & 0xff) << 8) | (value >>> 8)
const swap32 = (value: number): number => ((swap16(value & 0xffff) << 16) | swap16(value >>> 16)) >>> 0

/** Has the kernel queue only changes of filters on these devices: what happens to others then neither fills the queue nor is lost. */
const onlyFiltersOf = (fd: number, ifindexes: ReadonlyArray<number>): void => {
  const types = [message.NEWTFILTER, message.DELTFILTER]
  const devices = ifindexes.length
  const code: ReadonlyArray<readonly [number, number, number, number]> = [
    [LOAD16, 0, 0, 4],
    ...types.map((type, i) => [JUMP_EQUAL, types.length - i, 0, swap16(type)] as const),
    [RETURN, 0, 0, 0],
    [LOAD32, 0, 0, HEADER + 4],
    ...ifindexes.map((ifindex, i) => [JUMP_EQUAL, devices - i, 0, swap32(ifindex)] as const),
    [RETURN, 0, 0, 0],
    [RETURN, 0, 0, 0xffffffff],
  ]
  const bytes = new Uint8Array(8 * code.length)
  const view = new DataView(bytes.buffer)
  for (const [i, [operation, yes, no, operand]] of code.entries()) {
    view.setUint16(8 * i, operation, true)
    view.setUint8(8 * i + 2, yes)
    view.setUint8(8 * i + 3, no)
    view.setUint32(8 * i + 4, operand, true)
  }
  const program = new Attr(16).u32(0, code.length).pointer(8, bytes)
  const result = libc().setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program.bytes, program.bytes.length)
  if (result !== 0 || program.held !== 1) throw fromErrno("filter", "rtnetlink", lastErrno())
}

/**
 * Listens, in the network namespace that this is called in, for changes of devices and their addresses, or of filters on the devices
 * with these indexes.
 */
export const openNews = (of: "devices" | { readonly filtersOn: ReadonlyArray<number> }): NewsReader => {
  const fd = openSocket(of === "devices" ? GROUPS.link | GROUPS.ipv4Address | GROUPS.ipv6Address : GROUPS.tc)
  try {
    if (of !== "devices") onlyFiltersOf(fd, of.filtersOn)
  } catch (error) {
    closeFd(fd)
    throw error
  }
  return { read: () => readNews(fd), close: () => closeFd(fd) }
}

const readNews = (fd: number): ReturnType<NewsReader["read"]> => {
  const found: Array<News> = []
  let lost = false
  // Bounded: a flood of changes is itself the news.
  for (let round = 0; round < 256; round++) {
    const size = Number(libc().recv(fd, buffer, buffer.length, MSG_DONTWAIT | MSG_TRUNC))
    if (size < 0) {
      const errno = lastErrno()
      if (errno === EAGAIN) return { found, lost }
      if (errno !== ENOBUFS) throw fromErrno("read", "rtnetlink", errno)
      lost = true
    } else if (size > buffer.length) lost = true
    // In each of the three kinds of message the device's index lies at the same place.
    else
      for (const { type, body } of frames(buffer.subarray(0, size)))
        if (body.length >= 8) found.push({ type, ifindex: viewOf(body).getInt32(4, true) })
  }
  return { found, lost: true }
}

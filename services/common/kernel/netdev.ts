import koffi from "koffi"
import { c, closeFd, lastErrno } from "./bpf.ts"
import { fromErrno, invalid } from "./errors.ts"

/**
 * Devices of the network namespace that this process is in. Asked through ioctl(2), not /sys/class/net: after
 * `nsenter --net` the mounted sysfs still shows the namespace that mounted it.
 */
const AF_INET = 2
const SOCK_DGRAM_CLOEXEC = 0o2000002
const SIOCGIFHWADDR = 0x8927
const SIOCGIFMTU = 0x8921
const ARPHRD_ETHER = 1
const IFREQ_SIZE = 40
const DATA = 16

type Calls = {
  readonly socket: (family: number, type: number, protocol: number) => number
  readonly ioctl: (fd: number, request: number, argument: Uint8Array) => number
  readonly indexToName: (index: number, name: Uint8Array) => bigint | null
}
let calls: Calls | undefined

const libc = (): Calls => {
  if (calls === undefined) {
    const library = koffi.load("libc.so.6")
    calls = {
      socket: library.func("int socket(int family, int type, int protocol)"),
      ioctl: library.func("int ioctl(int fd, unsigned long request, void *argument)"),
      indexToName: library.func("void *if_indextoname(unsigned int index, void *name)"),
    }
  }
  return calls
}

const checkName = (name: string): void => {
  if (!/^[A-Za-z0-9_.@-]{1,15}$/.test(name))
    throw invalid("find device", name.slice(0, 32), "is no device name")
}

/** The interface index of a device in this process's network namespace. KernelError ENODEV when there is none. */
export const ifIndex = (name: string): number => {
  checkName(name)
  const index = c().ifNameToIndex(name)
  if (index === 0) throw fromErrno("find device", name, lastErrno())
  return index
}

/** The name of the device with this index in this process's network namespace. */
export const ifName = (index: number): string => {
  const name = new Uint8Array(16)
  if (libc().indexToName(index, name) === null)
    throw fromErrno("find device", `ifindex ${index}`, lastErrno())
  return Buffer.from(name.subarray(0, name.indexOf(0))).toString("latin1")
}

const ioctl = (name: string, request: number): Uint8Array => {
  checkName(name)
  const ifreq = new Uint8Array(IFREQ_SIZE)
  ifreq.set(Buffer.from(name, "latin1"))
  const fd = libc().socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0)
  if (fd < 0) throw fromErrno("open socket for", name, lastErrno())
  const result = libc().ioctl(fd, request, ifreq)
  const errno = lastErrno()
  closeFd(fd)
  if (result < 0) throw fromErrno("ask device", name, errno)
  return ifreq
}

/** The Ethernet address of a device, 6 bytes. */
export const macOf = (name: string): Uint8Array => {
  const ifreq = ioctl(name, SIOCGIFHWADDR)
  if (new DataView(ifreq.buffer).getUint16(DATA, true) !== ARPHRD_ETHER)
    throw invalid("ask device", name, "is not an Ethernet device")
  return ifreq.slice(DATA + 2, DATA + 8)
}

/** A device's MTU in bytes. */
export const mtuOf = (name: string): number =>
  new DataView(ioctl(name, SIOCGIFMTU).buffer).getInt32(DATA, true)

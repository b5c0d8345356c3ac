import koffi from "koffi"
import { fromErrno, invalid, KernelError } from "./errors.ts"

/**
 * The bpf(2) system call. `union bpf_attr` is laid out by hand: offsets are those of <linux/bpf.h>, integers in the
 * byte order of the machine (little endian on both architectures that we know).
 */
const numbers: Readonly<Record<string, number>> = { x64: 321, arm64: 280 }

/** bpf(2) commands, named as in <linux/bpf.h> without BPF_. */
export const command = {
  MAP_CREATE: 0,
  MAP_LOOKUP_ELEM: 1,
  MAP_UPDATE_ELEM: 2,
  MAP_DELETE_ELEM: 3,
  MAP_GET_NEXT_KEY: 4,
  PROG_LOAD: 5,
  OBJ_PIN: 6,
  OBJ_GET: 7,
  PROG_TEST_RUN: 10,
  PROG_GET_NEXT_ID: 11,
  PROG_GET_FD_BY_ID: 13,
  MAP_GET_FD_BY_ID: 14,
  OBJ_GET_INFO_BY_FD: 15,
  PROG_QUERY: 16,
  MAP_FREEZE: 22,
  LINK_CREATE: 28,
  LINK_UPDATE: 29,
  LINK_GET_FD_BY_ID: 30,
  LINK_GET_NEXT_ID: 31,
  ENABLE_STATS: 32,
  LINK_DETACH: 34,
} as const

type Libc = {
  readonly syscall: (number: number, cmd: number, attr: Uint8Array, size: number) => number | bigint
  readonly close: (fd: number) => number
  readonly ifNameToIndex: (name: string) => number
  readonly clockGetTime: (clock: number, timespec: Uint8Array) => number
}

let libc: Libc | undefined

/** libc by soname, loaded on first use. */
export const c = (): Libc => {
  if (libc !== undefined) return libc
  let library: ReturnType<typeof koffi.load>
  try {
    library = koffi.load("libc.so.6")
  } catch {
    throw new KernelError("load", "libc.so.6", "ENOENT", "the C library was not found")
  }
  libc = {
    syscall: library.func("long syscall(long number, long cmd, void *attr, size_t size)"),
    close: library.func("int close(int fd)"),
    ifNameToIndex: library.func("unsigned int if_nametoindex(const char *name)"),
    clockGetTime: library.func("int clock_gettime(int clock, void *timespec)"),
  }
  return libc
}

/** The errno of the last call, valid until the next one. */
export const lastErrno = (): number => koffi.errno()

/** A `union bpf_attr` under construction: the buffers it points to live as long as it does. */
export class Attr {
  readonly bytes: Uint8Array
  readonly #view: DataView
  readonly #held: Array<Uint8Array> = []

  /** @param size bytes that are handed to the kernel; what a command doesn't define stays zero. */
  constructor(size: number) {
    this.bytes = new Uint8Array(new ArrayBuffer(size))
    this.#view = new DataView(this.bytes.buffer)
  }

  u32(offset: number, value: number): this {
    this.#view.setUint32(offset, value, true)
    return this
  }

  u64(offset: number, value: bigint): this {
    this.#view.setBigUint64(offset, value, true)
    return this
  }

  /** Stores the address of `target`, which must not be detached or resized before the call. */
  pointer(offset: number, target: Uint8Array): this {
    this.#held.push(target)
    this.#view.setBigUint64(offset, koffi.address(target), true)
    return this
  }

  readU32(offset: number): number {
    return this.#view.getUint32(offset, true)
  }

  readU64(offset: number): bigint {
    return this.#view.getBigUint64(offset, true)
  }

  /** How many buffers are held: read after a call, so that no collector takes them before. */
  get held(): number {
    return this.#held.length
  }
}

/** bpf(2): gives the result (>= 0), or -errno. */
export const tryBpf = (cmd: number, attr: Attr): number => {
  const result = tryBpfAt(cmd, attr.bytes)
  if (attr.held < 0) throw invalid("bpf", String(cmd), "unreachable")
  return result
}

/** The same, of attributes that lie where the collector moves nothing; so do the buffers that they point to. */
export const tryBpfAt = (cmd: number, attr: Uint8Array): number => {
  const number = numbers[process.arch]
  if (number === undefined) throw invalid("bpf", process.arch, "unknown processor architecture")
  const result = Number(c().syscall(number, cmd, attr, attr.length))
  return result < 0 ? -lastErrno() : result
}

/** bpf(2): gives the result, or throws KernelError with `op` and `subject`. */
export const bpf = (cmd: number, attr: Attr, op: string, subject: string): number => {
  const result = tryBpf(cmd, attr)
  if (result < 0) throw fromErrno(op, subject, -result)
  return result
}

/** Closes a file descriptor; closing one twice is the caller's mistake and ignored. */
export const closeFd = (fd: number): void => {
  if (fd >= 0) c().close(fd)
}

/** Runs `use` on a descriptor and closes it whatever happens. */
export const withFd = <A>(fd: number, use: (fd: number) => A): A => {
  try {
    return use(fd)
  } finally {
    closeFd(fd)
  }
}

const cString = (text: string, what: string): Uint8Array => {
  if (text.includes("\0")) throw invalid(what, "path", "contains a zero byte")
  return Uint8Array.from(Buffer.from(`${text}\0`, "utf8"))
}

/** Pins a map, program or link to `path` on a mounted bpffs. */
export const pin = (fd: number, path: string): void => {
  bpf(command.OBJ_PIN, new Attr(16).pointer(0, cString(path, "pin")).u32(8, fd), "pin", path)
}

/** Opens what is pinned at `path`; gives a new descriptor, undefined if nothing is there. */
export const openPinned = (path: string): number | undefined => {
  const result = tryBpf(command.OBJ_GET, new Attr(16).pointer(0, cString(path, "open")))
  if (result === -2) return undefined
  if (result < 0) throw fromErrno("open pinned", path, -result)
  return result
}

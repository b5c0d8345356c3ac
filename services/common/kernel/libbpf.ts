import { readFileSync } from "node:fs"
import koffi from "koffi"
import { Attr, bpf, command, lastErrno, tryBpf } from "./bpf.ts"
import { fromErrno, invalid, KernelError } from "./errors.ts"
import { checkShape, type MapShape, mapInfo } from "./maps.ts"

export { closeFd, openPinned, pin } from "./bpf.ts"
export { KernelError } from "./errors.ts"

/** An object file of programs is far smaller; larger ones are refused before libbpf sees them. */
const OBJECT_MAX = 16 << 20
const OBJECT_NAME = Uint8Array.from(Buffer.from("vouchsafe\0", "latin1"))
const LOG_SIZE = 16 << 20
const LOG_LINES = 12

type Pointer = bigint | null
type Library = {
  readonly openMem: (bytes: Uint8Array, size: number, opts: Uint8Array) => Pointer
  readonly load: (object: Pointer) => number
  readonly close: (object: Pointer) => void
  readonly nextMap: (object: Pointer, after: Pointer) => Pointer
  readonly mapName: (map: Pointer) => string
  readonly mapFd: (map: Pointer) => number
  readonly mapType: (map: Pointer) => number
  readonly mapKeySize: (map: Pointer) => number
  readonly mapValueSize: (map: Pointer) => number
  readonly mapMaxEntries: (map: Pointer) => number
  readonly reuseFd: (map: Pointer, fd: number) => number
  readonly nextProgram: (object: Pointer, after: Pointer) => Pointer
  readonly programName: (program: Pointer) => string
  readonly programFd: (program: Pointer) => number
}

let library: Library | undefined

const libbpf = (): Library => {
  if (library !== undefined) return library
  let handle: ReturnType<typeof koffi.load>
  try {
    handle = koffi.load("libbpf.so.1")
  } catch {
    throw new KernelError("load", "libbpf.so.1", "ENOENT", "install libbpf 1.x (Debian: libbpf1)")
  }
  // Without this libbpf writes to stderr of its own accord; the verifier's log is fetched through a buffer instead.
  handle.func("void *libbpf_set_print(void *fn)")(null)
  library = {
    openMem: handle.func("void *bpf_object__open_mem(const void *buf, size_t size, const void *opts)"),
    load: handle.func("int bpf_object__load(void *object)"),
    close: handle.func("void bpf_object__close(void *object)"),
    nextMap: handle.func("void *bpf_object__next_map(const void *object, const void *map)"),
    mapName: handle.func("const char *bpf_map__name(const void *map)"),
    mapFd: handle.func("int bpf_map__fd(const void *map)"),
    mapType: handle.func("int bpf_map__type(const void *map)"),
    mapKeySize: handle.func("uint32_t bpf_map__key_size(const void *map)"),
    mapValueSize: handle.func("uint32_t bpf_map__value_size(const void *map)"),
    mapMaxEntries: handle.func("uint32_t bpf_map__max_entries(const void *map)"),
    reuseFd: handle.func("int bpf_map__reuse_fd(void *map, int fd)"),
    nextProgram: handle.func("void *bpf_object__next_program(const void *object, void *program)"),
    programName: handle.func("const char *bpf_program__name(const void *program)"),
    programFd: handle.func("int bpf_program__fd(const void *program)"),
  }
  return library
}

/** The end of a zero-terminated log, at most LOG_LINES lines. */
const logTail = (log: Uint8Array): string => {
  const end = log.indexOf(0)
  const from = Math.max(0, (end < 0 ? log.length : end) - 8192)
  const text = Buffer.from(log.subarray(from, end < 0 ? log.length : end)).toString("latin1")
  return text.trim().split("\n").slice(-LOG_LINES).join("\n")
}

/**
 * A BPF object file: opened by `openObject`, then loaded once. Descriptors that it gives belong to it and are closed by
 * `close`; what was pinned or attached stays.
 */
export class BpfObject {
  readonly path: string
  /** `struct bpf_object_open_opts`; libbpf keeps pointers into the log until the object is closed. */
  readonly #log: Uint8Array
  readonly #maps = new Map<string, Pointer>()
  readonly #programs = new Map<string, Pointer>()
  #object: Pointer
  #loaded = false

  constructor(path: string, bytes: Uint8Array) {
    const lib = libbpf()
    this.path = path
    this.#log = Buffer.allocUnsafeSlow(LOG_SIZE)
    this.#log[0] = 0
    // Without a name libbpf makes one of the buffer's address, and names the data maps by it.
    const opts = new Attr(80)
      .u64(0, 80n)
      .pointer(8, OBJECT_NAME)
      .pointer(56, this.#log)
      .u64(64, BigInt(LOG_SIZE))
    this.#object = lib.openMem(bytes, bytes.length, opts.bytes)
    if (this.#object === null || opts.held < 0)
      throw fromErrno("open", path, lastErrno(), "not a BPF object file that libbpf understands")
    for (let m = lib.nextMap(this.#object, null); m !== null; m = lib.nextMap(this.#object, m))
      this.#maps.set(lib.mapName(m), m)
    for (let p = lib.nextProgram(this.#object, null); p !== null; p = lib.nextProgram(this.#object, p))
      this.#programs.set(lib.programName(p), p)
  }

  /** Names of all maps, libbpf's own (".rodata" with a prefix) among them, in the file's order. */
  get mapNames(): ReadonlyArray<string> {
    return [...this.#maps.keys()]
  }

  get programNames(): ReadonlyArray<string> {
    return [...this.#programs.keys()]
  }

  /** What the file declares a map to be. */
  mapShape(name: string): MapShape {
    const [lib, map] = [libbpf(), this.#map(name)]
    return {
      type: lib.mapType(map),
      keySize: lib.mapKeySize(map),
      valueSize: lib.mapValueSize(map),
      maxEntries: lib.mapMaxEntries(map),
    }
  }

  /** Makes the load use an existing map instead of a new one. Before `load`; the caller keeps its descriptor. */
  reuseMap(name: string, fd: number): void {
    // libbpf takes whatever shape the descriptor has for the declared one.
    checkShape(name, mapInfo(fd), this.mapShape(name))
    const result = libbpf().reuseFd(this.#map(name), fd)
    if (result < 0) throw fromErrno("reuse map", name, -result)
  }

  /** Creates the maps and loads the programs; on refusal the error's hint carries the last lines of the verifier's log. */
  load(): void {
    this.#open()
    if (this.#loaded) throw invalid("load", this.path, "is loaded already")
    const result = libbpf().load(this.#object)
    if (result < 0) {
      const tail = logTail(this.#log)
      throw tail === "" ? fromErrno("load", this.path, -result) : fromErrno("load", this.path, -result, tail)
    }
    this.#loaded = true
  }

  mapFd(name: string): number {
    const fd = libbpf().mapFd(this.#map(name))
    if (fd < 0 || !this.#loaded) throw invalid("map", name, "the object is not loaded")
    return fd
  }

  programFd(name: string): number {
    this.#open()
    const program = this.#programs.get(name)
    if (program === undefined) throw invalid("program", name, `is not in ${this.path}`)
    const fd = libbpf().programFd(program)
    if (fd < 0 || !this.#loaded) throw invalid("program", name, "the object is not loaded")
    return fd
  }

  /** Closes all descriptors of the object. May be called again. */
  close(): void {
    if (this.#object === null) return
    libbpf().close(this.#object)
    this.#object = null
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #open(): void {
    if (this.#object === null) throw invalid("use", this.path, "the object is closed")
  }

  #map(name: string): Pointer {
    this.#open()
    const map = this.#maps.get(name)
    if (map === undefined) throw invalid("map", name, `is not in ${this.path}`)
    return map
  }
}

/** Reads and parses an object file; nothing reaches the kernel before `load`. */
export const openObject = (path: string): BpfObject => {
  let bytes: Uint8Array
  try {
    bytes = readFileSync(path)
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "EIO"
    throw new KernelError("read", path, code)
  }
  if (bytes.length > OBJECT_MAX) throw invalid("read", path, `is longer than ${OBJECT_MAX} bytes`)
  return new BpfObject(path, bytes)
}

/** Opens and loads an object file with maps of its own. The caller closes it. */
export const loadObject = (path: string): BpfObject => {
  const object = openObject(path)
  try {
    object.load()
    return object
  } catch (error) {
    object.close()
    throw error
  }
}

export interface TestRunOptions {
  /** For SEC("syscall") programs: the context; it comes back, as the program left it, in `context`. */
  readonly ctxIn?: Uint8Array
  /** skb->mark on entry. */
  readonly mark?: number
  /** skb->ifindex on entry: a device of this network namespace. */
  readonly ifindex?: number
  /** skb->ingress_ifindex on entry. */
  readonly ingressIfindex?: number
  /** gso_segs and gso_size on entry, to look like a super-packet. */
  readonly gsoSegs?: number
  readonly gsoSize?: number
  /** Room for the packet as the program leaves it; a longer one is an error (ENOSPC). As long as a packet can be, unless told. */
  readonly outMax?: number
}

export interface TestRunResult {
  /** The program's return value, as an unsigned 32-bit number. */
  readonly retval: number
  /** The packet as the program left it; empty for a SEC("syscall") program. */
  readonly packet: Uint8Array
  /** The context as the program left it: `struct __sk_buff`, or what `ctxIn` became. */
  readonly context: Uint8Array
  /** skb->mark on return; 0 for a SEC("syscall") program. */
  readonly mark: number
  readonly durationNs: number
}

const PACKET_OUT_MAX = 1 << 16
/** sizeof(struct __sk_buff) and the offsets of its fields that a test run may set. */
const SKB = { size: 192, mark: 8, ingressIfindex: 36, ifindex: 40, gsoSegs: 164, gsoSize: 176 } as const

/**
 * Runs a program once (BPF_PROG_TEST_RUN, repeat 1) on `packet`, an Ethernet frame. For a SEC("syscall") program the
 * packet is empty and `ctxIn` given.
 */
export const testRun = (
  programFd: number,
  packet: Uint8Array,
  options: TestRunOptions = {},
): TestRunResult => {
  if (packet.length === 0) return testRunSyscall(programFd, options.ctxIn ?? new Uint8Array(0))
  const skb = new Uint8Array(SKB.size)
  const view = new DataView(skb.buffer)
  view.setUint32(SKB.mark, options.mark ?? 0, true)
  view.setUint32(SKB.ifindex, options.ifindex ?? 0, true)
  view.setUint32(SKB.ingressIfindex, options.ingressIfindex ?? 0, true)
  view.setUint32(SKB.gsoSegs, options.gsoSegs ?? 0, true)
  view.setUint32(SKB.gsoSize, options.gsoSize ?? 0, true)
  const contextOut = new Uint8Array(SKB.size)
  const packetOut = new Uint8Array(options.outMax ?? PACKET_OUT_MAX)
  const attr = new Attr(80)
    .u32(0, programFd)
    .u32(8, packet.length)
    .u32(12, packetOut.length)
    .pointer(16, packet)
    .pointer(24, packetOut)
    .u32(32, 1)
    .u32(40, skb.length)
    .u32(44, contextOut.length)
    .pointer(48, skb)
    .pointer(56, contextOut)
  bpf(command.PROG_TEST_RUN, attr, "test run", `program fd ${programFd}`)
  const length = attr.readU32(12)
  if (length > packetOut.length)
    throw invalid("test run", `program fd ${programFd}`, "packet out is too long")
  return {
    retval: attr.readU32(4),
    packet: packetOut.slice(0, length),
    context: contextOut,
    mark: new DataView(contextOut.buffer).getUint32(SKB.mark, true),
    durationNs: attr.readU32(36),
  }
}

const testRunSyscall = (programFd: number, ctxIn: Uint8Array): TestRunResult => {
  const context = ctxIn.slice()
  const attr = new Attr(80).u32(0, programFd).u32(40, context.length)
  if (context.length > 0) attr.pointer(48, context)
  const result = tryBpf(command.PROG_TEST_RUN, attr)
  if (result < 0) throw fromErrno("test run", `program fd ${programFd}`, -result)
  const duration = attr.readU32(36)
  return { retval: attr.readU32(4), packet: new Uint8Array(0), context, mark: 0, durationNs: duration }
}

import { readFileSync } from "node:fs"
import koffi from "koffi"
import { Attr, bpf, closeFd, command, tryBpf, tryBpfAt } from "./bpf.ts"
import { fromErrno, invalid } from "./errors.ts"

/** Map types that we use, numbered as in <linux/bpf.h>. */
export const mapType = { HASH: 1, ARRAY: 2, PERCPU_ARRAY: 6, ARRAY_OF_MAPS: 12 } as const
/** How an update treats an entry that exists; LOCK takes the lock in the value, so that no program sees half of it. */
export const updateFlag = { ANY: 0, NOEXIST: 1, EXIST: 2, LOCK: 4 } as const
export type UpdateFlag = (typeof updateFlag)[keyof typeof updateFlag]

export const MAP_FLAG_NO_PREALLOC = 1
/** BPF_F_RDONLY_PROG: programs may not write (`.rodata`). */
export const MAP_FLAG_RDONLY_PROG = 1 << 7

export interface MapInfo {
  readonly type: number
  /** The kernel's id, unique while the map lives. */
  readonly id: number
  readonly keySize: number
  /** As declared: for per-CPU maps, of one CPU. */
  readonly valueSize: number
  readonly maxEntries: number
  readonly flags: number
  /** At most 15 characters. */
  readonly name: string
  /** Id of the value's type, or 0: a pinned map with types can be printed by reading its pin. */
  readonly valueTypeId: number
}

export const NAME_SIZE = 16

/** A kernel object's name: zero-terminated within 16 bytes. */
export const objectName = (bytes: Uint8Array): string => {
  const end = bytes.indexOf(0)
  return Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end)).toString("latin1")
}

/** BPF_OBJ_GET_INFO_BY_FD for a map. */
export const mapInfo = (fd: number): MapInfo => {
  const info = new Uint8Array(88)
  bpf(command.OBJ_GET_INFO_BY_FD, new Attr(16).u32(0, fd).u32(4, info.length).pointer(8, info), "info", "map")
  const view = new DataView(info.buffer)
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    keySize: view.getUint32(8, true),
    valueSize: view.getUint32(12, true),
    maxEntries: view.getUint32(16, true),
    flags: view.getUint32(20, true),
    name: objectName(info.subarray(24, 24 + NAME_SIZE)),
    valueTypeId: view.getUint32(72, true),
  }
}

/** A new descriptor of the map with this id. */
export const mapFdById = (id: number): number =>
  bpf(command.MAP_GET_FD_BY_ID, new Attr(12).u32(0, id), "open", `map id ${id}`)

let cpus: number | undefined

/** How many CPUs a per-CPU value has room for: the highest number in the kernel's list of possible CPUs, plus one. */
export const possibleCpus = (): number => {
  if (cpus !== undefined) return cpus
  const path = "/sys/devices/system/cpu/possible"
  const text = readFileSync(path, "utf8").trim()
  if (!/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(text)) throw invalid("read", path, "is not a list of CPUs")
  const count = Math.max(...text.split(/[,-]/).map(Number)) + 1
  if (count > 65536) throw invalid("read", path, "names more CPUs than any kernel has")
  cpus = count
  return count
}

const ATTR_SIZE = 32
/** Of a deletion: the kernel refuses what lies behind the key. */
const KEY_ATTR_SIZE = 16
const KEY_AT = 64
/** Keys have at most 512 bytes (MAX_BPF_STACK). */
const VALUE_AT = 1_024

/**
 * Where the kernel finds what a call on an element speaks of: attributes, key and value, each in its place. One such space
 * serves all calls, which end before the next begins: making buffers for each costs three times what the kernel does.
 */
class Space {
  readonly #bytes: Uint8Array
  readonly #attr: Uint8Array
  readonly #keyAttr: Uint8Array
  readonly #view: DataView
  readonly #key: bigint

  constructor(valueSize: number) {
    this.#bytes = new Uint8Array(new ArrayBuffer(VALUE_AT + valueSize))
    this.#attr = this.#bytes.subarray(0, ATTR_SIZE)
    this.#keyAttr = this.#bytes.subarray(0, KEY_ATTR_SIZE)
    this.#view = new DataView(this.#bytes.buffer)
    const base: bigint = koffi.address(this.#bytes)
    this.#key = base + BigInt(KEY_AT)
    this.#view.setBigUint64(16, base + BigInt(VALUE_AT), true)
  }

  get valueSize(): number {
    return this.#bytes.length - VALUE_AT
  }

  /** Gives the result (>= 0), or -errno. No key asks for the first one. */
  call(cmd: number, fd: number, key: Uint8Array | undefined, flag: number): number {
    this.#view.setUint32(0, fd, true)
    this.#view.setBigUint64(8, key === undefined ? 0n : this.#key, true)
    this.#view.setUint32(24, flag, true)
    if (key !== undefined) this.#bytes.set(key, KEY_AT)
    return tryBpfAt(cmd, cmd === command.MAP_DELETE_ELEM ? this.#keyAttr : this.#attr)
  }

  put(value: Uint8Array): void {
    this.#bytes.set(value, VALUE_AT)
  }

  /** Nothing of it stays: it may be a key. */
  take(size: number): Uint8Array {
    const value = this.#bytes.slice(VALUE_AT, VALUE_AT + size)
    this.wipe(size)
    return value
  }

  wipe(size: number): void {
    this.#bytes.fill(0, VALUE_AT, VALUE_AT + size)
  }
}

let space = new Space(4_096)

/** With room for keys and values of these sizes. */
const spaceFor = (map: string, keySize: number, valueSize: number): Space => {
  if (keySize > VALUE_AT - KEY_AT) throw invalid("map", map, `has keys of ${keySize} bytes`)
  if (valueSize > space.valueSize) space = new Space(valueSize)
  return space
}

/** A map by descriptor. Keys and values are checked against the sizes that the kernel reports. */
export class BpfMap {
  readonly fd: number
  readonly info: MapInfo
  readonly #perCpu: boolean

  /** Takes over `fd`: `close` closes it. */
  constructor(fd: number) {
    this.fd = fd
    this.info = mapInfo(fd)
    this.#perCpu = this.info.type === mapType.PERCPU_ARRAY
  }

  get name(): string {
    return this.info.name
  }

  /** A copy of the value, undefined when the key is absent; with LOCK not while a program writes it. Not for per-CPU maps. */
  lookup(key: Uint8Array, flag: 0 | typeof updateFlag.LOCK = 0): Uint8Array | undefined {
    if (this.#perCpu) throw invalid("map lookup", this.name, "is a per-CPU map")
    return this.#lookup(key, this.info.valueSize, flag)
  }

  /** The value of each possible CPU, undefined when the key is absent. Only for per-CPU maps. */
  lookupPerCpu(key: Uint8Array): ReadonlyArray<Uint8Array> | undefined {
    if (!this.#perCpu) throw invalid("map lookup", this.name, "is not a per-CPU map")
    const stride = (this.info.valueSize + 7) & ~7
    const all = this.#lookup(key, stride * possibleCpus())
    if (all === undefined) return undefined
    return Array.from({ length: possibleCpus() }, (_, cpu) =>
      all.slice(cpu * stride, cpu * stride + this.info.valueSize),
    )
  }

  /** Writes an entry. KernelError EEXIST (NOEXIST), ENOENT (EXIST), E2BIG (full). */
  update(key: Uint8Array, value: Uint8Array, flag: UpdateFlag = updateFlag.ANY): void {
    const errno = this.#update(key, value, flag)
    if (errno !== 0) throw fromErrno("map update", this.name, errno)
  }

  /** Sets an entry of a per-CPU array to zero on each CPU; what programs count at that moment may be lost, or stay. */
  clearPerCpu(key: Uint8Array): void {
    if (!this.#perCpu) throw invalid("map clear", this.name, "is not a per-CPU map")
    this.#checkKey(key, "map clear")
    const zeros = new Uint8Array(((this.info.valueSize + 7) & ~7) * possibleCpus())
    const attr = new Attr(32).u32(0, this.fd).pointer(8, key).pointer(16, zeros)
    const result = tryBpf(command.MAP_UPDATE_ELEM, attr)
    if (result < 0) throw fromErrno("map clear", this.name, -result)
  }

  /** Writes an entry only if its key is absent; false when it is there already. */
  insert(key: Uint8Array, value: Uint8Array): boolean {
    const errno = this.#update(key, value, updateFlag.NOEXIST)
    if (errno !== 0 && errno !== 17) throw fromErrno("map insert", this.name, errno)
    return errno === 0
  }

  /** Removes an entry; false when the key was absent. */
  delete(key: Uint8Array): boolean {
    this.#checkKey(key, "map delete")
    const result = spaceFor(this.name, key.length, 0).call(command.MAP_DELETE_ELEM, this.fd, key, 0)
    if (result === -2) return false
    if (result < 0) throw fromErrno("map delete", this.name, -result)
    return true
  }

  has(key: Uint8Array): boolean {
    const value = this.#lookup(
      key,
      this.#perCpu ? possibleCpus() * ((this.info.valueSize + 7) & ~7) : this.info.valueSize,
    )
    value?.fill(0)
    return value !== undefined
  }

  /** All keys, in the kernel's order. A map that somebody else changes meanwhile may give a key twice or miss one. */
  keys(): ReadonlyArray<Uint8Array> {
    const keys: Array<Uint8Array> = []
    let last: Uint8Array | undefined
    // A hash starts again from its beginning when `last` vanished: the bound ends what would be an endless loop.
    for (let step = 0; step <= 2 * this.info.maxEntries; step++) {
      const room = spaceFor(this.name, this.info.keySize, this.info.keySize)
      const result = room.call(command.MAP_GET_NEXT_KEY, this.fd, last, 0)
      if (result === -2) return keys
      if (result < 0) throw fromErrno("map keys", this.name, -result)
      const next = room.take(this.info.keySize)
      keys.push(next)
      last = next
    }
    throw invalid("map keys", this.name, "gave more keys than it has room for")
  }

  close(): void {
    closeFd(this.fd)
  }

  #lookup(key: Uint8Array, size: number, flag = 0): Uint8Array | undefined {
    this.#checkKey(key, "map lookup")
    const room = spaceFor(this.name, key.length, size)
    const result = room.call(command.MAP_LOOKUP_ELEM, this.fd, key, flag)
    if (result === -2) return undefined
    if (result < 0) throw fromErrno("map lookup", this.name, -result)
    return room.take(size)
  }

  #update(key: Uint8Array, value: Uint8Array, flag: UpdateFlag): number {
    this.#checkKey(key, "map update")
    if (this.#perCpu) throw invalid("map update", this.name, "is a per-CPU map: only the kernel counts in it")
    if (value.length !== this.info.valueSize)
      throw invalid(
        "map update",
        this.name,
        `value of ${value.length} bytes, the map has ${this.info.valueSize}`,
      )
    const room = spaceFor(this.name, key.length, value.length)
    room.put(value)
    const result = room.call(command.MAP_UPDATE_ELEM, this.fd, key, flag)
    room.wipe(value.length)
    return -result
  }

  #checkKey(key: Uint8Array, op: string): void {
    if (key.length !== this.info.keySize)
      throw invalid(op, this.name, `key of ${key.length} bytes, the map has ${this.info.keySize}`)
  }
}

export interface MapShape {
  readonly type: number
  readonly keySize: number
  readonly valueSize: number
  readonly maxEntries: number
}

/** Refuses a map whose type or sizes are not those of `shape`, naming the map and the first thing that differs. */
export const checkShape = (name: string, info: MapInfo, shape: MapShape): void => {
  for (const field of ["type", "keySize", "valueSize", "maxEntries"] as const)
    if (info[field] !== shape[field])
      throw invalid("open map", name, `${field} is ${info[field]}, expected ${shape[field]}`)
}

/** Creates a map that no program uses (BPF_MAP_CREATE); gives its descriptor. `innerFd` only for maps of maps. */
export const createMap = (name: string, shape: MapShape, flags = 0, innerFd = 0): number => {
  const encoded = Buffer.from(name, "latin1")
  if (encoded.length >= NAME_SIZE) throw invalid("map create", name, "the name has more than 15 characters")
  const attr = new Attr(48)
    .u32(0, shape.type)
    .u32(4, shape.keySize)
    .u32(8, shape.valueSize)
    .u32(12, shape.maxEntries)
    .u32(16, flags)
    .u32(20, innerFd)
  attr.bytes.set(encoded, 28)
  return bpf(command.MAP_CREATE, attr, "map create", name)
}

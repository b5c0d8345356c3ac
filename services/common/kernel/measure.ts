import { readFileSync } from "node:fs"
import { crypto } from "../crypto/index.ts"
import { closeFd, withFd } from "./bpf.ts"
import { invalid, KernelError } from "./errors.ts"
import { type BpfObject, loadObject } from "./libbpf.ts"
import { type Direction, hasXdp, queryHook } from "./links.ts"
import { BpfMap, MAP_FLAG_RDONLY_PROG, type MapInfo, mapFdById, mapType } from "./maps.ts"
import {
  allPrograms,
  allTracingLinks,
  describeProgram,
  type ProgramInfo,
  programFdById,
  programInfo,
  programType,
  type TracingLink,
  translated,
} from "./programs.ts"
import { VS_LAYOUT } from "./records.ts"

/**
 * The data plane's digest: what the four hooks really run, as one SHA-384. The translated instructions are taken, not the
 * kernel's 8-byte tag, which is short and leaves out what maps look like. Helper calls are kernel offsets in them, so a
 * digest belongs to one build of the kernel.
 */
export const hooks = [
  { name: "wire-ingress", device: "wire", direction: "ingress", program: "vs_open" },
  { name: "wire-egress", device: "wire", direction: "egress", program: "vs_guard" },
  { name: "inner-ingress", device: "inner", direction: "ingress", program: "vs_seal" },
  { name: "inner-egress", device: "inner", direction: "egress", program: "vs_inner" },
] as const satisfies ReadonlyArray<{
  readonly name: string
  readonly device: "wire" | "inner"
  readonly direction: Direction
  readonly program: string
}>
export type HookName = (typeof hooks)[number]["name"]

export interface MeasuredProgram {
  readonly hook: HookName
  readonly id: number
  readonly name: string
  /** SHA-384 over the program and the shapes of its maps: tells which of the four differs. */
  readonly digest: Uint8Array
}

export interface Measurement {
  /** SHA-384, 48 bytes. */
  readonly digest: Uint8Array
  /** In the order of `hooks`. */
  readonly programs: ReadonlyArray<MeasuredProgram>
  /** The kernel's id of every map that the programs use, by name. */
  readonly mapIds: ReadonlyMap<string, number>
}

export interface Devices {
  readonly wireIfindex: number
  readonly innerIfindex: number
}

const LABEL = "vouchsafe data plane"
const READ_ONLY_MAX = 1 << 20

const u32be = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes
}

/** A sequence of (label, value) pairs, each with its length before it, so that no two sequences encode alike. */
class Encoding {
  readonly #parts: Array<Uint8Array> = []

  add(label: string, value: Uint8Array | string | number): void {
    const bytes =
      typeof value === "number"
        ? u32be(value)
        : typeof value === "string"
          ? Buffer.from(value, "latin1")
          : value
    const name = Buffer.from(label, "latin1")
    this.#parts.push(u32be(name.length), name, u32be(bytes.length), bytes)
  }

  digest(): Uint8Array {
    return crypto.sha384(Buffer.concat(this.#parts))
  }
}

const LD_IMM64 = 0x18
const CALL = 0x85
const MOV64_IMM = 0xb7
const MOV64_REG = 0xbf
const PSEUDO_MAP_FD = 1
const PSEUDO_MAP_VALUE = 2
const PSEUDO_FUNC = 4

/**
 * Where both architectures keep memory, code and modules (Documentation/arch/x86/x86_64/mm.rst, arch/arm64/memory.rst).
 * The gaps that are left out hold constants of ordinary programs, like -1 << 32.
 */
const looksLikeAddress = (value: bigint): boolean =>
  (value >= 0xffff000000000000n && value < 0xfffffe0000000000n) ||
  (value >= 0xffffffff80000000n && value < 0xffffffffff000000n)

/**
 * Instructions without what differs between two loads of the same program: a map's id becomes its place in `order`, the
 * ids in order of first use, which is extended as new ones appear.
 */
export const normalise = (name: string, instructions: Uint8Array, order: Array<number>): Uint8Array => {
  const refuse = (index: number, why: string): KernelError =>
    invalid("measure", name, `instruction ${index} ${why}`)
  const out = instructions.slice()
  const view = new DataView(out.buffer)
  for (let at = 0; at < out.length; at += 8) {
    const code = view.getUint8(at)
    const source = view.getUint8(at + 1) >> 4
    if (code === CALL && view.getInt32(at + 4, true) === 0)
      throw new KernelError(
        "measure",
        name,
        "HIDDEN",
        "the kernel hides which helpers a program calls: sysctl kernel.kptr_restrict must be 0 or 1, with CAP_SYSLOG",
      )
    // The verifier inlines per-CPU variables by the address of their symbol, which moves with every boot.
    if (
      code === MOV64_REG &&
      view.getInt16(at + 2, true) === -1 &&
      at >= 8 &&
      view.getUint8(at - 8) === MOV64_IMM
    )
      throw refuse(at / 8 - 1, "holds the address of a per-CPU variable (an inlined helper)")
    if (code !== LD_IMM64) continue
    if (at + 16 > out.length) throw refuse(at / 8, "is cut off")
    if (source === PSEUDO_MAP_FD || source === PSEUDO_MAP_VALUE) {
      const id = view.getUint32(at + 4, true)
      if (!order.includes(id)) order.push(id)
      view.setUint32(at + 4, order.indexOf(id), true)
    } else if (source === 0) {
      const high = BigInt(view.getUint32(at + 12, true))
      if (looksLikeAddress((high << 32n) | BigInt(view.getUint32(at + 4, true))))
        throw refuse(at / 8, "holds a kernel address")
    } else if (source !== PSEUDO_FUNC) throw refuse(at / 8, `loads a constant of unknown kind ${source}`)
    at += 8
  }
  return out
}

/** SHA-384 over a read-only map's content, which nobody can change once it is frozen. */
const readOnlyContent = (map: BpfMap): Uint8Array => {
  const { info } = map
  if (info.type !== mapType.ARRAY || info.valueSize * info.maxEntries > READ_ONLY_MAX)
    throw invalid("measure", info.name, "is read-only, but not an array of at most 1 MiB")
  if (!/^frozen:\s+1$/m.test(readFileSync(`/proc/self/fdinfo/${map.fd}`, "latin1")))
    throw invalid("measure", info.name, "is read-only for programs, but not frozen")
  const content = new Encoding()
  for (let index = 0; index < info.maxEntries; index++) {
    const key = new Uint8Array(4)
    new DataView(key.buffer).setUint32(0, index, true)
    const value = map.lookup(key)
    if (value === undefined) throw invalid("measure", info.name, `has no entry ${index}`)
    content.add("entry", value)
  }
  return content.digest()
}

const addMap = (to: Encoding, id: number): MapInfo =>
  withFd(mapFdById(id), (fd) => {
    const map = new BpfMap(fd)
    const { info } = map
    to.add("map", info.name)
    to.add("type", info.type)
    to.add("key size", info.keySize)
    to.add("value size", info.valueSize)
    to.add("max entries", info.maxEntries)
    to.add("flags", info.flags)
    const readOnly = (info.flags & MAP_FLAG_RDONLY_PROG) !== 0
    to.add("content", readOnly ? readOnlyContent(map) : new Uint8Array(0))
    return info
  })

const addProgram = (to: Encoding, fd: number, mapIds: Map<string, number>): ProgramInfo => {
  const about = programInfo(fd)
  const { instructions, mapIds: held } = translated(fd, about)
  if (instructions.length === 0)
    throw new KernelError(
      "measure",
      about.name,
      "HIDDEN",
      "the kernel doesn't show translated instructions: sysctl net.core.bpf_jit_harden must be 0 or 1, with CAP_BPF",
    )
  if (about.ifindex !== 0) throw invalid("measure", about.name, "is offloaded to a network card")
  const order: Array<number> = []
  const code = normalise(about.name, instructions, order)
  for (const id of order)
    if (!held.includes(id)) throw invalid("measure", about.name, `uses map id ${id} without holding it`)
  for (const id of held) if (!order.includes(id)) order.push(id)
  to.add("program", about.name)
  to.add("type", about.type)
  to.add("instructions", code)
  to.add("maps", order.length)
  for (const id of order) {
    const info = addMap(to, id)
    const other = mapIds.get(info.name)
    // Two maps of one name would let one program obey a table that another program, and the loader, never see.
    if (other !== undefined && other !== id)
      throw new KernelError(
        "measure",
        about.name,
        "FOREIGN_MAP",
        `has a map ${info.name} of its own (id ${id})`,
      )
    mapIds.set(info.name, id)
  }
  return about
}

/** The first of `all` that replaces or traces a function of one of the `measured`, or is loaded for that. */
export const findExtension = (
  measured: ReadonlyArray<ProgramInfo>,
  all: ReadonlyArray<ProgramInfo>,
  links: ReadonlyArray<TracingLink>,
): ProgramInfo | undefined => {
  const btfs = new Set(measured.map((about) => about.btfId).filter((id) => id !== 0))
  const ids = new Set(measured.map((about) => about.id))
  const linked = new Set(links.filter((link) => ids.has(link.targetId)).map((link) => link.programId))
  return all.find((about) => {
    if (about.type !== programType.EXT && about.type !== programType.TRACING) return false
    // A link's target may also be the id of a module's types; its program then still says so itself.
    return about.targetBtfId === 0 ? linked.has(about.id) : btfs.has(about.targetBtfId)
  })
}

/**
 * Function replacement and tracing leave a program's own instructions as they are: found from the other side.
 * @throws KernelError FOREIGN_PROGRAM for a program that replaces or traces a function of one of these
 */
export const refuseExtensions = (measured: ReadonlyArray<ProgramInfo>): void => {
  const found = findExtension(measured, allPrograms(), allTracingLinks())
  if (found !== undefined)
    throw new KernelError(
      "measure",
      `${found.name} (id ${found.id})`,
      "FOREIGN_PROGRAM",
      "replaces or traces a function of the data plane",
    )
}

const measure = (programFds: ReadonlyArray<number>): Measurement => {
  const encoding = new Encoding()
  const mapIds = new Map<string, number>()
  encoding.add("label", LABEL)
  encoding.add("layout", VS_LAYOUT)
  const measured: Array<ProgramInfo> = []
  const programs = hooks.map((hook, index) => {
    const own = new Encoding()
    const about = addProgram(own, programFds[index] ?? -1, mapIds)
    measured.push(about)
    const digest = own.digest()
    encoding.add("hook", hook.name)
    encoding.add("programs", 1)
    encoding.add("program", digest)
    return { hook: hook.name, id: about.id, name: about.name, digest }
  })
  refuseExtensions(measured)
  return { digest: encoding.digest(), programs, mapIds }
}

/** The one program on a hook; anything else is an error that names what is there. */
const soleProgram = (ifindex: number, direction: Direction, name: HookName): number => {
  const attached = queryHook(ifindex, direction)
  const [first, ...others] = attached
  if (first === undefined)
    throw new KernelError("measure", name, "MISSING_PROGRAM", "nothing is attached there")
  if (others.length === 0 && first.programId !== 0) return first.programId
  const list = attached.map((one) =>
    one.programId === 0 ? one.by : `${describeProgram(one.programId)} by ${one.by}`,
  )
  throw new KernelError("measure", name, "FOREIGN_PROGRAM", `expected one program, found ${list.join(", ")}`)
}

const attachedIds = (devices: Devices): ReadonlyArray<number> => {
  for (const ifindex of [devices.wireIfindex, devices.innerIfindex])
    if (hasXdp(ifindex))
      throw new KernelError("measure", `ifindex ${ifindex}`, "FOREIGN_PROGRAM", "an XDP program is attached")
  return hooks.map((hook) =>
    soleProgram(
      hook.device === "wire" ? devices.wireIfindex : devices.innerIfindex,
      hook.direction,
      hook.name,
    ),
  )
}

/**
 * Measures what is attached to the two devices of this network namespace. KernelError: MISSING_PROGRAM, FOREIGN_PROGRAM
 * (another program on a hook, or one that reaches into ours), FOREIGN_MAP, HIDDEN, INVALID.
 */
export const measureAttached = (devices: Devices): Measurement => {
  const ids = attachedIds(devices)
  const fds: Array<number> = []
  try {
    for (const id of ids) fds.push(programFdById(id))
    const result = measure(fds)
    // What was measured must still be what runs.
    if (attachedIds(devices).some((id, index) => id !== ids[index]))
      throw invalid("measure", "hooks", "changed while they were measured")
    return result
  } finally {
    for (const fd of fds) closeFd(fd)
  }
}

/** The digest that a loaded object's programs will have when attached: what the kernel took, whatever its file says now. */
export const measureLoaded = (object: BpfObject): Measurement =>
  measure(hooks.map((hook) => object.programFd(hook.program)))

/**
 * Loads an object file without attaching it and gives the digest that it will have when attached, on this very kernel.
 * Its maps and programs are gone when this returns.
 */
export const measureObject = (path: string): Measurement => {
  using object = loadObject(path)
  return measureLoaded(object)
}

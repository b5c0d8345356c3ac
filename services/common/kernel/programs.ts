import { Attr, bpf, command, tryBpf, withFd } from "./bpf.ts"
import { fromErrno, invalid } from "./errors.ts"
import { NAME_SIZE, objectName } from "./maps.ts"

/** Program types that we meet, numbered as in <linux/bpf.h>. */
export const programType = { SCHED_CLS: 3, TRACING: 26, EXT: 28 } as const

export interface ProgramInfo {
  readonly type: number
  readonly id: number
  /** At most 15 characters. */
  readonly name: string
  /** Bytes of translated instructions; 0 when the kernel doesn't show them. */
  readonly translatedSize: number
  readonly mapCount: number
  /** Bound to a network card (offloaded), or 0. */
  readonly ifindex: number
  /** Id of the program's own type information, or 0. */
  readonly btfId: number
  /**
   * For EXT and TRACING programs: id of the type information of what they are meant for. 0 once they are attached to a
   * BPF program: from then on only their link names it.
   */
  readonly targetBtfId: number
  /** How many instructions the verifier went through; it gives up at a million. */
  readonly verified: number
}

const INFO_SIZE = 232
const INFO = { translatedSize: 20, translated: 32, mapCount: 52, mapIds: 56, name: 64 } as const

const askInfo = (
  fd: number,
  info: Uint8Array,
  held: ReadonlyArray<readonly [number, Uint8Array]>,
): DataView => {
  const view = new DataView(info.buffer)
  const attr = new Attr(16).u32(0, fd).u32(4, info.length).pointer(8, info)
  // The addresses inside `info` are written through an Attr of their own, which keeps their buffers alive.
  const inner = new Attr(INFO_SIZE)
  for (const [offset, buffer] of held) {
    inner.pointer(offset, buffer)
    info.set(inner.bytes.subarray(offset, offset + 8), offset)
  }
  bpf(command.OBJ_GET_INFO_BY_FD, attr, "info", "program")
  if (inner.held !== held.length) throw invalid("info", "program", "unreachable")
  return view
}

/** BPF_OBJ_GET_INFO_BY_FD for a program. */
export const programInfo = (fd: number): ProgramInfo => {
  const info = new Uint8Array(INFO_SIZE)
  const view = askInfo(fd, info, [])
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    name: objectName(info.subarray(INFO.name, INFO.name + NAME_SIZE)),
    translatedSize: view.getUint32(INFO.translatedSize, true),
    mapCount: view.getUint32(INFO.mapCount, true),
    ifindex: view.getUint32(80, true),
    btfId: view.getUint32(128, true),
    targetBtfId: view.getUint32(220, true),
    verified: view.getUint32(216, true),
  }
}

/** The verifier refuses programs of more than a million instructions. */
const TRANSLATED_MAX = 8 << 20
const MAPS_MAX = 64

export interface TranslatedProgram {
  /** Instructions as the kernel runs (or compiles) them, 8 bytes each; empty when it doesn't show them. */
  readonly instructions: Uint8Array
  /** Ids of all maps that the program holds, in the kernel's order. */
  readonly mapIds: ReadonlyArray<number>
}

/** A program's translated instructions and its maps. */
export const translated = (fd: number, about: ProgramInfo): TranslatedProgram => {
  if (about.translatedSize > TRANSLATED_MAX || about.translatedSize % 8 !== 0)
    throw invalid("read program", about.name, `has ${about.translatedSize} bytes of instructions`)
  if (about.mapCount > MAPS_MAX) throw invalid("read program", about.name, `uses ${about.mapCount} maps`)
  const instructions = new Uint8Array(Math.max(8, about.translatedSize))
  const ids = new Uint8Array(4 * MAPS_MAX)
  const info = new Uint8Array(INFO_SIZE)
  new DataView(info.buffer).setUint32(INFO.translatedSize, about.translatedSize, true)
  new DataView(info.buffer).setUint32(INFO.mapCount, MAPS_MAX, true)
  const view = askInfo(fd, info, [
    [INFO.translated, instructions],
    [INFO.mapIds, ids],
  ])
  const shown = view.getBigUint64(INFO.translated, true) !== 0n
  if (view.getUint32(INFO.translatedSize, true) !== about.translatedSize)
    throw invalid("read program", about.name, "changed its size while it was read")
  const count = view.getUint32(INFO.mapCount, true)
  if (count !== about.mapCount)
    throw invalid("read program", about.name, "changed its maps while it was read")
  const idView = new DataView(ids.buffer)
  return {
    instructions: instructions.slice(0, shown ? about.translatedSize : 0),
    mapIds: Array.from({ length: count }, (_, i) => idView.getUint32(4 * i, true)),
  }
}

/** A new descriptor of the program with this id. */
export const programFdById = (id: number): number =>
  bpf(command.PROG_GET_FD_BY_ID, new Attr(12).u32(0, id), "open", `program id ${id}`)

/** "name (id N)" for messages; a program that is gone already has no name. */
export const describeProgram = (id: number): string => {
  const fd = tryBpf(command.PROG_GET_FD_BY_ID, new Attr(12).u32(0, id))
  return fd < 0 ? `program id ${id}` : withFd(fd, () => `${programInfo(fd).name} (id ${id})`)
}

const OBJECTS_MAX = 65536

const EAGAIN = 11
const UNFINISHED_MS = 200

/** A descriptor, or -errno. A link that somebody is just making has an id before it can be opened: it is waited for. */
const openObject = (openCommand: number, id: number): number => {
  const until = performance.now() + UNFINISHED_MS
  for (;;) {
    const fd = tryBpf(openCommand, new Attr(12).u32(0, id))
    if (fd !== -EAGAIN || performance.now() >= until) return fd
    Atomics.wait(pause, 0, 0, 1)
  }
}
const pause = new Int32Array(new SharedArrayBuffer(4))

/** Runs `use` on a descriptor of every object that a pair of commands lists. Those that go away meanwhile are left out. */
const forEachObject = (
  nextCommand: number,
  openCommand: number,
  what: string,
  use: (fd: number) => void,
): void => {
  let id = 0
  for (let step = 0; step < OBJECTS_MAX; step++) {
    const next = new Attr(12).u32(0, id)
    const result = tryBpf(nextCommand, next)
    if (result === -2) return
    if (result < 0) throw fromErrno(`list ${what}s after`, `id ${id}`, -result)
    id = next.readU32(4)
    const fd = openObject(openCommand, id)
    if (fd === -2) continue
    if (fd < 0) throw fromErrno("open", `${what} id ${id}`, -fd)
    withFd(fd, use)
  }
  throw invalid(`list ${what}s`, "kernel", `has more than ${OBJECTS_MAX}`)
}

/** Every program that is loaded in this kernel. */
export const allPrograms = (): ReadonlyArray<ProgramInfo> => {
  const found: Array<ProgramInfo> = []
  forEachObject(command.PROG_GET_NEXT_ID, command.PROG_GET_FD_BY_ID, "program", (fd) =>
    found.push(programInfo(fd)),
  )
  return found
}

export interface TracingLink {
  readonly programId: number
  /** Id of the program that is traced or extended; for a function of the kernel or a module the id of its types. */
  readonly targetId: number
}

const LINK_TYPE_TRACING = 2

/** Every link by which a program traces or replaces a function. */
export const allTracingLinks = (): ReadonlyArray<TracingLink> => {
  const found: Array<TracingLink> = []
  forEachObject(command.LINK_GET_NEXT_ID, command.LINK_GET_FD_BY_ID, "link", (fd) => {
    const info = new Uint8Array(64)
    bpf(
      command.OBJ_GET_INFO_BY_FD,
      new Attr(16).u32(0, fd).u32(4, info.length).pointer(8, info),
      "info",
      "link",
    )
    const view = new DataView(info.buffer)
    if (view.getUint32(0, true) !== LINK_TYPE_TRACING) return
    found.push({ programId: view.getUint32(8, true), targetId: view.getUint32(20, true) })
  })
  return found
}

export interface ProgramRuns {
  /** How long the program has run in all, and how often, since the kernel was told to count. */
  readonly ns: bigint
  readonly count: bigint
}

/** What the kernel has counted of a program's runs: 0 and 0 unless `countRuns` is in force. */
export const programRuns = (fd: number): ProgramRuns => {
  const view = askInfo(fd, new Uint8Array(INFO_SIZE), [])
  return { ns: view.getBigUint64(192, true), count: view.getBigUint64(200, true) }
}

/** Makes the kernel time every run of every program until the descriptor that this gives is closed (BPF_ENABLE_STATS). */
export const countRuns = (): number =>
  bpf(command.ENABLE_STATS, new Attr(4).u32(0, 0), "count", "program runs")

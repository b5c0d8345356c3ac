import { existsSync, unlinkSync } from "node:fs"
import koffi from "koffi"
import { Attr, bpf, closeFd, command, openPinned, pin, tryBpf, withFd } from "./bpf.ts"
import { fromErrno, invalid, KernelError } from "./errors.ts"
import { type Filter, findLink, type Link, listFilters } from "./rtnetlink.ts"

/**
 * Where programs hang on a device. Kernel 6.6 has TCX: a link, pinned, that only its holder may replace. Before that
 * there are clsact filters, which whoever has CAP_NET_ADMIN can remove. Either way a query sees both kinds.
 */
export type Direction = "ingress" | "egress"
export type HookKind = "tcx" | "clsact"

/** One program on a hook: its id, or for a filter that isn't a BPF program 0. */
export interface Attached {
  readonly programId: number
  readonly by: string
}

const attachType = { ingress: 46, egress: 47 } as const
const LINK_TYPE_TCX = 11
const QUERY_MAX = 64
const LOOPBACK = 1

interface TcxPrograms {
  /** In running order. */
  readonly programIds: ReadonlyArray<number>
  readonly revision: bigint
}

/** The TCX programs on a hook; undefined when the kernel doesn't know TCX. */
const queryTcx = (ifindex: number, direction: Direction): TcxPrograms | undefined => {
  const ids = new Uint8Array(4 * QUERY_MAX)
  const attr = new Attr(64).u32(0, ifindex).u32(4, attachType[direction]).pointer(16, ids).u32(24, QUERY_MAX)
  const result = tryBpf(command.PROG_QUERY, attr)
  if (result === -22) return undefined
  // Nothing was ever attached there.
  if (result === -2) return { programIds: [], revision: 0n }
  if (result < 0) throw fromErrno("query", `${direction} of ifindex ${ifindex}`, -result)
  const view = new DataView(ids.buffer)
  return {
    programIds: Array.from({ length: attr.readU32(24) }, (_, i) => view.getUint32(4 * i, true)),
    revision: attr.readU64(56),
  }
}

/** What this kernel offers, found by asking the loopback device. */
export const probeHooks = (): HookKind => (queryTcx(LOOPBACK, "ingress") === undefined ? "clsact" : "tcx")

/**
 * The filters that rows of a dump speak of. A kind and preference is announced by a row of its own before its filters;
 * where no filter follows, it counts as one that isn't ours: a filter must not vanish from the count.
 */
export const attachedFilters = (rows: ReadonlyArray<Filter>): ReadonlyArray<Attached> => {
  const named = rows.map((row) => ({
    ...row,
    by: `filter ${row.kind} pref ${row.preference}${row.chain === 0 ? "" : ` chain ${row.chain}`}`,
  }))
  const shown = new Set(named.filter(({ described }) => described).map(({ by }) => by))
  return [
    ...named
      .filter(({ described }) => described)
      .map(({ programId, by }) => ({ programId: programId ?? 0, by })),
    ...[...new Set(named.map(({ by }) => by))]
      .filter((by) => !shown.has(by))
      .map((by) => ({ programId: 0, by })),
  ]
}

const describeDevice = (ifindex: number): Link => {
  const link = findLink(ifindex)
  if (link === undefined) throw new KernelError("query", `ifindex ${ifindex}`, "ENODEV")
  return link
}

/** All programs and filters on one direction of a device, in running order (TCX runs before clsact). */
export const queryHook = (ifindex: number, direction: Direction): ReadonlyArray<Attached> => {
  const tcx = queryTcx(ifindex, direction)
  // Without TCX nobody has asked for the device yet, and one that is gone has no filters either.
  if (tcx === undefined) describeDevice(ifindex)
  return [
    ...(tcx?.programIds ?? []).map((programId) => ({ programId, by: "tcx" })),
    ...attachedFilters(listFilters(ifindex, direction)),
  ]
}

/**
 * How often the programs on a TCX hook have changed; what was there for a moment shows in it. Undefined where the kernel
 * doesn't count.
 */
export const hookRevision = (ifindex: number, direction: Direction): bigint | undefined =>
  queryTcx(ifindex, direction)?.revision

/** Whether an XDP program sits on a device, before everything that we could attach there. */
export const hasXdp = (ifindex: number): boolean => describeDevice(ifindex).xdp !== undefined

export interface LinkInfo {
  readonly id: number
  readonly programId: number
  /** 0 when the device is gone. */
  readonly ifindex: number
  readonly direction: Direction
}

/** What a TCX link holds together. */
export const linkInfo = (fd: number): LinkInfo => {
  const info = new Uint8Array(64)
  bpf(
    command.OBJ_GET_INFO_BY_FD,
    new Attr(16).u32(0, fd).u32(4, info.length).pointer(8, info),
    "info",
    "link",
  )
  const view = new DataView(info.buffer)
  const type = view.getUint32(20, true)
  if (
    view.getUint32(0, true) !== LINK_TYPE_TCX ||
    (type !== attachType.ingress && type !== attachType.egress)
  )
    throw invalid("info", "link", "is not a TCX link")
  return {
    id: view.getUint32(4, true),
    programId: view.getUint32(8, true),
    ifindex: view.getUint32(16, true),
    direction: type === attachType.ingress ? "ingress" : "egress",
  }
}

/** Attaching, in the way that the kernel offers. `pinPath` names the link's pin for TCX; clsact has none. */
export interface Hooks {
  readonly kind: HookKind
  /** Puts a program on a hook; KernelError EEXIST when clsact's place is taken. */
  readonly attach: (ifindex: number, direction: Direction, programFd: number, pinPath: string) => void
  /** Puts another program in place of the one that `attach` put there, with no packet between them. */
  readonly replace: (ifindex: number, direction: Direction, programFd: number, pinPath: string) => void
  /** Takes our program away; absent is fine. */
  readonly detach: (ifindex: number, direction: Direction, pinPath: string) => void
}

/** BPF_LINK_CREATE of a TCX link; gives its descriptor. The link lives as long as that or a pin. `flags`: BPF_F_BEFORE and its like. */
export const createTcxLink = (
  ifindex: number,
  direction: Direction,
  programFd: number,
  flags = 0,
): number => {
  const attr = new Attr(32).u32(0, programFd).u32(4, ifindex).u32(8, attachType[direction]).u32(12, flags)
  return bpf(command.LINK_CREATE, attr, "attach", `${direction} of ifindex ${ifindex}`)
}

/** Puts another program in place of a TCX link's, with no packet between them. */
export const updateTcxLink = (linkFd: number, programFd: number, subject: string): void => {
  bpf(command.LINK_UPDATE, new Attr(16).u32(0, linkFd).u32(4, programFd), "replace", subject)
}

const openLink = (pinPath: string): number => {
  const fd = openPinned(pinPath)
  if (fd === undefined) throw new KernelError("open link", pinPath, "ENOENT")
  return fd
}

const tcx: Hooks = {
  kind: "tcx",
  attach: (ifindex, direction, programFd, pinPath) =>
    withFd(createTcxLink(ifindex, direction, programFd), (fd) => pin(fd, pinPath)),
  replace: (_ifindex, direction, programFd, pinPath) =>
    withFd(openLink(pinPath), (fd) => updateTcxLink(fd, programFd, direction)),
  detach: (_ifindex, direction, pinPath) => {
    if (!existsSync(pinPath)) return
    withFd(openLink(pinPath), (fd) => {
      const result = tryBpf(command.LINK_DETACH, new Attr(4).u32(0, fd))
      // ENOLINK: the device is gone and took the attachment with it.
      if (result < 0 && result !== -67) throw fromErrno("detach", direction, -result)
    })
    unlinkSync(pinPath)
  },
}

type TcCalls = {
  readonly create: (hook: Uint8Array) => number
  readonly attach: (hook: Uint8Array, opts: Uint8Array) => number
  readonly detach: (hook: Uint8Array, opts: Uint8Array) => number
}
let tcCalls: TcCalls | undefined

const tc = (): TcCalls => {
  if (tcCalls === undefined) {
    const library = koffi.load("libbpf.so.1")
    library.func("void *libbpf_set_print(void *fn)")(null)
    tcCalls = {
      create: library.func("int bpf_tc_hook_create(void *hook)"),
      attach: library.func("int bpf_tc_attach(const void *hook, void *opts)"),
      detach: library.func("int bpf_tc_detach(const void *hook, const void *opts)"),
    }
  }
  return tcCalls
}

/** A fixed place, so that a replacement meets what it replaces. */
const PRIORITY = 1
const HANDLE = 1
const FLAG_REPLACE = 1

/** `struct bpf_tc_hook`. */
const tcHook = (ifindex: number, direction: Direction): Uint8Array =>
  new Attr(24)
    .u64(0, 24n)
    .u32(8, ifindex)
    .u32(12, direction === "ingress" ? 1 : 2).bytes

/** `struct bpf_tc_opts`. */
const tcOpts = (programFd: number, flags: number): Uint8Array =>
  new Attr(32).u64(0, 32n).u32(8, programFd).u32(12, flags).u32(20, HANDLE).u32(24, PRIORITY).bytes

const attachFilter = (ifindex: number, direction: Direction, programFd: number, flags: number): void => {
  const subject = `${direction} of ifindex ${ifindex}`
  const hook = tcHook(ifindex, direction)
  const created = tc().create(hook)
  if (created < 0 && created !== -17) throw fromErrno("create clsact for", subject, -created)
  const result = tc().attach(hook, tcOpts(programFd, flags))
  if (result < 0) throw fromErrno("attach", subject, -result)
}

const clsact: Hooks = {
  kind: "clsact",
  attach: (ifindex, direction, programFd) => attachFilter(ifindex, direction, programFd, 0),
  replace: (ifindex, direction, programFd) => attachFilter(ifindex, direction, programFd, FLAG_REPLACE),
  detach: (ifindex, direction) => {
    const result = tc().detach(tcHook(ifindex, direction), tcOpts(0, 0))
    // No such filter, no clsact, or no device: there is nothing of ours.
    if (result < 0 && ![-2, -22, -19].includes(result))
      throw fromErrno("detach", `${direction} of ifindex ${ifindex}`, -result)
  },
}

/** The hooks of this kernel, or of a kind that the caller insists on. */
export const hooksOf = (kind: HookKind = probeHooks()): Hooks => (kind === "tcx" ? tcx : clsact)

/** A pinned TCX link's description, undefined when nothing is pinned there. */
export const pinnedLink = (pinPath: string): LinkInfo | undefined => {
  const fd = openPinned(pinPath)
  if (fd === undefined) return undefined
  try {
    return linkInfo(fd)
  } finally {
    closeFd(fd)
  }
}

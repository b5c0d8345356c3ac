import { closeSync, existsSync, lstatSync, mkdirSync, openSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import koffi from "koffi"
import { openPinned, withFd } from "../../common/kernel/bpf.ts"
import { BPFFS, ensureBpffs } from "../../common/kernel/bpffs.ts"
import { invalid, KernelError } from "../../common/kernel/errors.ts"
import type { HookName } from "../../common/kernel/measure.ts"
import { programInfo } from "../../common/kernel/programs.ts"

/**
 * The directory of a plane's pins:
 *   tombstones           outlives a plane that was only half made
 *   live/                the plane; appears by one rename when it is complete
 *     maps/NAME  programs/NAME  links/HOOK
 *     next/              what an upgrade is putting in place: programs, and all maps or the programs' own; complete from the start
 *     making/  done/     the same before it is complete, and when it is over
 *   new/                 a plane in the making
 *   gone/                a plane that is being removed
 * `next` and what is after it are there only after a crash, or for a moment.
 */
export interface Pins {
  readonly root: string
  readonly live: string
  readonly staging: string
  readonly gone: string
  readonly tombstones: string
  /** Ends the exclusive hold on the directory. */
  readonly unlock: () => void
}

/** Paths inside `live` or `staging`. The kernel refuses dots in names of pins, which libbpf puts into those of data maps. */
export const mapPin = (base: string, name: string): string => join(base, "maps", name.replaceAll(".", "_"))
export const programPin = (base: string, name: string): string => join(base, "programs", name)
export const linkPin = (base: string, hook: HookName): string => join(base, "links", hook)

const LOCK_EX_NB = 6
const EWOULDBLOCK = 11

/**
 * Makes what is missing of a path below the BPF file system, and refuses what isn't ours alone: whoever may write above a pin
 * can take away links, and with them the programs, or the memory of used epochs. Where others may make files in the file
 * system's own directory, as in one that was mounted without a mode, they may have made the first part of the path.
 */
const ownDirectory = (path: string): void => {
  const isTop = path === BPFFS
  if (!isTop) {
    ownDirectory(dirname(path))
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) mkdirSync(path, { mode: 0o700 })
  }
  const stat = lstatSync(path)
  const { uid, mode } = stat
  const isSticky = isTop && (mode & 0o1000) !== 0
  if (!stat.isDirectory() || (uid !== 0 && uid !== process.getuid?.()) || ((mode & 0o022) !== 0 && !isSticky))
    throw invalid("open plane", path, "must be a directory of this user or root that nobody else may write")
}

/**
 * Makes sure that the directory exists and holds it alone: two loaders on one plane could both pass a tombstone's check.
 * KernelError EBUSY when another process holds it; INVALID for a path outside /sys/fs/bpf, or that others may write.
 */
export const openPins = (directory: string): Pins => {
  const root = resolve(directory)
  if (!root.startsWith(`${BPFFS}/`) || !/^[A-Za-z0-9_/-]+$/.test(root))
    throw new KernelError("open plane", directory, "INVALID", `is not a plain path below ${BPFFS}`)
  ensureBpffs()
  ownDirectory(root)
  const fd = openSync(root, "r")
  const flock: (fd: number, operation: number) => number = koffi
    .load("libc.so.6")
    .func("int flock(int fd, int operation)")
  if (flock(fd, LOCK_EX_NB) !== 0) {
    const errno = koffi.errno()
    closeSync(fd)
    throw new KernelError(
      "open plane",
      root,
      errno === EWOULDBLOCK ? "EBUSY" : "EIO",
      "another loader holds it",
    )
  }
  return {
    root,
    live: join(root, "live"),
    staging: join(root, "new"),
    gone: join(root, "gone"),
    tombstones: join(root, "tombstones"),
    unlock: () => closeSync(fd),
  }
}

/** Makes the directories of a plane in the making. */
export const makeStaging = (pins: Pins): void => {
  for (const part of ["maps", "programs", "links"])
    mkdirSync(join(pins.staging, part), { recursive: true, mode: 0o700 })
}

export const hasPlane = (pins: Pins): boolean => existsSync(pins.live)

/** Places of an upgrade inside `live`: the rename from one to the next says how far it has come. */
export const nextPin = (pins: Pins): string => join(pins.live, "next")
export const makingPin = (pins: Pins): string => join(pins.live, "making")
export const donePin = (pins: Pins): string => join(pins.live, "done")
/** Maps of an upgrade: the programs' own ones, which join those that are there, or all of a plane, which take their place. */
export const ownMaps = (base: string): string => join(base, "maps")
export const allMaps = (base: string): string => join(base, "all")

/** Id of the program that is pinned there; undefined when there is none. */
export const pinnedId = (path: string): number | undefined => {
  const fd = openPinned(path)
  return fd === undefined ? undefined : withFd(fd, () => programInfo(fd).id)
}

/** Ids of the programs that we may have put on a hook: the one in use, and that of an upgrade that didn't end. */
export const knownIds = (base: string, program: string): ReadonlyArray<number> =>
  [programPin(base, program), join(base, "next", program)].flatMap((path) => pinnedId(path) ?? [])

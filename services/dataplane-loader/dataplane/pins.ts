import { closeSync, existsSync, mkdirSync, openSync, readdirSync } from "node:fs"
import { join, resolve } from "node:path"
import koffi from "koffi"
import { openPinned, withFd } from "../../common/kernel/bpf.ts"
import { BPFFS, ensureBpffs } from "../../common/kernel/bpffs.ts"
import { KernelError } from "../../common/kernel/errors.ts"
import type { HookName } from "../../common/kernel/measure.ts"
import { programInfo } from "../../common/kernel/programs.ts"

/**
 * The directory of a plane's pins:
 *   tombstones           outlives a plane that was only half made
 *   live/                the plane; appears by one rename when it is complete
 *     maps/NAME  programs/NAME  links/HOOK
 *     next/NUMBER/     what an upgrade is about to put in place; left there only by a crash
 *   new/                 a plane in the making; left there only by a crash
 */
export interface Pins {
  readonly root: string
  readonly live: string
  readonly staging: string
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
 * Makes sure that the directory exists and holds it alone: two loaders on one plane could both pass a tombstone's check.
 * KernelError EBUSY when another process holds it; INVALID for a path outside /sys/fs/bpf.
 */
export const openPins = (directory: string): Pins => {
  const root = resolve(directory)
  if (!root.startsWith(`${BPFFS}/`) || !/^[A-Za-z0-9_/-]+$/.test(root))
    throw new KernelError("open plane", directory, "INVALID", `is not a plain path below ${BPFFS}`)
  ensureBpffs()
  mkdirSync(root, { recursive: true, mode: 0o700 })
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

/**
 * Where an upgrade keeps what it is about to put in place: a directory for each attempt, so that what an attempt which
 * didn't end has attached stays known as ours until the next one has replaced it.
 */
const attempts = (pins: Pins): ReadonlyArray<string> => {
  const root = join(pins.live, "next")
  return existsSync(root) ? readdirSync(root).map((name) => join(root, name)) : []
}

/** Ids of the programs that we may have put on a hook: those in use, and those of upgrades that didn't end. */
export const knownIds = (pins: Pins, program: string): ReadonlyArray<number> =>
  [programPin(pins.live, program), ...attempts(pins).map((attempt) => join(attempt, program))].flatMap(
    (path) => {
      const fd = openPinned(path)
      return fd === undefined ? [] : [withFd(fd, () => programInfo(fd).id)]
    },
  )

/** A directory for a new attempt. */
export const newAttempt = (pins: Pins): string => {
  const path = join(pins.live, "next", String(attempts(pins).length))
  mkdirSync(join(path, "maps"), { recursive: true, mode: 0o700 })
  return path
}

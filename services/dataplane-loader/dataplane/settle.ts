/**
 * What an upgrade left that ended in the middle, by a crash or an error. It is prepared as a whole before the first hook is touched, and
 * its pins move only after the last one: so a plane that runs the new programs on every hook is finished, any other goes back to what is
 * pinned, and none stays mixed. Interrupted itself, it goes on the next time.
 */
import { existsSync, readdirSync, renameSync } from "node:fs"
import { join } from "node:path"
import { openPinned, withFd } from "../../common/kernel/bpf.ts"
import { removePins } from "../../common/kernel/bpffs.ts"
import { KernelError } from "../../common/kernel/errors.ts"
import { type Hooks, queryHook } from "../../common/kernel/links.ts"
import { type Devices, hooks as hookTable } from "../../common/kernel/measure.ts"
import { attachOrder, hookOf, ifindexOf } from "./assemble.ts"
import {
  allMaps,
  donePin,
  linkPin,
  makingPin,
  nextPin,
  ownMaps,
  type Pins,
  pinnedId,
  programPin,
} from "./pins.ts"

/** One rename ends what it was, however far removing it comes. */
const dropNext = (pins: Pins): void => {
  renameSync(nextPin(pins), donePin(pins))
  removePins(donePin(pins))
}

/** Has the pins follow the hooks, all of which run the new programs. */
export const finishUpgrade = (pins: Pins): void => {
  const next = nextPin(pins)
  for (const { program } of hookTable) {
    const path = join(next, program)
    if (existsSync(path)) renameSync(path, programPin(pins.live, program))
  }
  const [own, all, maps] = [ownMaps(next), allMaps(next), join(pins.live, "maps")]
  if (existsSync(all)) {
    if (existsSync(maps)) renameSync(maps, join(next, "old"))
    renameSync(all, maps)
  }
  if (existsSync(own)) for (const name of readdirSync(own)) renameSync(join(own, name), join(maps, name))
  dropNext(pins)
}

const runs = (devices: Devices, hook: (typeof hookTable)[number], id: number | undefined): boolean =>
  queryHook(ifindexOf(devices, hook.device), hook.direction).some(({ programId }) => programId === id)

/** Puts what is pinned back on the hooks that run the new programs. Others aren't ours to touch. */
const takeBack = (pins: Pins, devices: Devices, hooks: Hooks): void => {
  for (const name of attachOrder) {
    const hook = hookOf(name)
    if (!runs(devices, hook, pinnedId(join(nextPin(pins), hook.program)))) continue
    const path = programPin(pins.live, hook.program)
    const fd = openPinned(path)
    if (fd === undefined) throw new KernelError("open plane", path, "MISSING")
    withFd(fd, () =>
      hooks.replace(ifindexOf(devices, hook.device), hook.direction, fd, linkPin(pins.live, name)),
    )
  }
  dropNext(pins)
}

/** Ends or takes back what an upgrade left; gives which, or undefined when there was nothing. */
export const settleUpgrade = (
  pins: Pins,
  devices: Devices,
  hooks: Hooks,
): "finished" | "taken back" | undefined => {
  removePins(makingPin(pins))
  removePins(donePin(pins))
  const next = nextPin(pins)
  if (!existsSync(next)) return undefined
  const ids = hookTable.map((hook) => ({ hook, id: pinnedId(join(next, hook.program)) }))
  // Pins that have begun to move say that all hooks had been replaced.
  if (ids.some(({ id }) => id === undefined) || ids.every(({ hook, id }) => runs(devices, hook, id))) {
    finishUpgrade(pins)
    return "finished"
  }
  takeBack(pins, devices, hooks)
  return "taken back"
}

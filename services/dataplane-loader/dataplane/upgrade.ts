/**
 * Other programs in place of those that run, without a packet between them. Two ways, by what the maps look like:
 * the same layout keeps its maps, and with them keys and traffic; another layout gets maps of its own and begins with
 * default deny, since a key is never copied.
 */
import { renameSync } from "node:fs"
import { join } from "node:path"
import { openPinned, pin, withFd } from "../../common/kernel/bpf.ts"
import { removePins } from "../../common/kernel/bpffs.ts"
import { KernelError } from "../../common/kernel/errors.ts"
import { type BpfObject, loadObject, openObject } from "../../common/kernel/libbpf.ts"
import { type Hooks, queryHook } from "../../common/kernel/links.ts"
import { BpfMap, checkShape, createMap, type MapShape, mapInfo } from "../../common/kernel/maps.ts"
import {
  type Devices,
  hooks as hookTable,
  type Measurement,
  measureLoaded,
} from "../../common/kernel/measure.ts"
import { describeProgram } from "../../common/kernel/programs.ts"
import { decodeConfig, indexKey, type MapName, shapes, VS_LAYOUT } from "../../common/kernel/records.ts"
import { attachOrder, expectSame, hookOf, ifindexOf } from "./assemble.ts"
import type { Maps } from "./associations.ts"
import { noteShapes } from "./notes.ts"
import { knownIds, linkPin, mapPin, newAttempt, type Pins, programPin } from "./pins.ts"

const names = Object.keys(shapes) as Array<MapName>
const isShared = (name: string): boolean => Object.hasOwn(shapes, name)

const putOnHooks = (pins: Pins, object: BpfObject, devices: Devices, hooks: Hooks): void => {
  for (const name of attachOrder) {
    const hook = hookOf(name)
    const ifindex = ifindexOf(devices, hook.device)
    hooks.replace(ifindex, hook.direction, object.programFd(hook.program), linkPin(pins.live, name))
  }
}

/** The programs' scratch memory is taken over too; constants (whose names have dots) are each build's own. */
const reusePinned = (pins: Pins, object: BpfObject, name: string): boolean => {
  const fd = name.includes(".") ? undefined : openPinned(mapPin(pins.live, name))
  if (fd === undefined) return false
  withFd(fd, () => object.reuseMap(name, fd))
  return true
}

/**
 * Puts the object's programs in place of those that run, on the maps that are there. Throws KernelError before anything is
 * replaced when the object declares other maps, the kernel refuses it, or what was loaded isn't what is wanted (DIFFERENT):
 * the file may have changed since it was measured. Interrupted, it can be done again.
 *
 * @param touching called just before the first hook is touched: whatever is thrown later leaves a plane in between
 */
export const replacePrograms = (
  pins: Pins,
  path: string,
  devices: Devices,
  hooks: Hooks,
  maps: Maps,
  wanted: Measurement,
  touching: () => void,
): void => {
  using object = openObject(path)
  for (const name of names) object.reuseMap(name, maps[name].fd)
  const own: Array<string> = []
  for (const name of object.mapNames.filter((one) => !isShared(one)))
    if (!reusePinned(pins, object, name)) own.push(name)
  object.load()
  expectSame(measureLoaded(object), wanted, path)
  const attempt = newAttempt(pins)
  for (const { program } of hookTable) pin(object.programFd(program), join(attempt, program))
  for (const name of own) pin(object.mapFd(name), mapPin(attempt, name))
  touching()
  putOnHooks(pins, object, devices, hooks)
  for (const { program } of hookTable) renameSync(join(attempt, program), programPin(pins.live, program))
  for (const name of own) renameSync(mapPin(attempt, name), mapPin(pins.live, name))
  removePins(join(pins.live, "next"))
}

const pinnedInfo = (path: string) => {
  const fd = openPinned(path)
  if (fd === undefined) throw new KernelError("open plane", path, "MISSING")
  return withFd(fd, mapInfo)
}

const sameShape = (pins: Pins, name: string, shape: MapShape): boolean => {
  const info = pinnedInfo(mapPin(pins.live, name))
  return (["type", "keySize", "valueSize", "maxEntries"] as const).every((part) => info[part] === shape[part])
}

/** Whether the plane that is there has this side's layout. KernelError MISSING when a map isn't there at all. */
export const hasOurLayout = (pins: Pins): boolean => {
  const { edge_ids, associations } = noteShapes
  const all: Readonly<Record<string, MapShape>> = { ...shapes, edge_ids, associations }
  if (!Object.entries(all).every(([name, shape]) => sameShape(pins, name, shape))) return false
  const map = new BpfMap(openPinned(mapPin(pins.live, "config")) ?? -1)
  try {
    const config = map.lookup(indexKey(0))
    const layout = config === undefined ? 0 : decodeConfig(config).layout
    return layout === 0 || layout === VS_LAYOUT
  } finally {
    map.close()
  }
}

/** Something that isn't ours on a hook isn't replaced. */
const refuseForeign = (pins: Pins, devices: Devices): void => {
  for (const hook of hookTable) {
    const known = knownIds(pins, hook.program)
    for (const { programId, by } of queryHook(ifindexOf(devices, hook.device), hook.direction))
      if (!known.includes(programId)) {
        const what = programId === 0 ? by : describeProgram(programId)
        throw new KernelError("renew plane", hook.name, "FOREIGN_PROGRAM", `the hook is taken by ${what}`)
      }
  }
}

/**
 * Puts the object's programs, on maps of their own, in place of a plane of another layout: from the first replaced hook on
 * it drops everything, until it is configured. The memory of used epochs stays.
 */
export const renewPlane = (pins: Pins, path: string, devices: Devices, hooks: Hooks): void => {
  refuseForeign(pins, devices)
  using object = loadObject(path)
  for (const name of names) checkShape(name, mapInfo(object.mapFd(name)), shapes[name])
  const attempt = newAttempt(pins)
  for (const { program } of hookTable) pin(object.programFd(program), join(attempt, program))
  for (const name of object.mapNames) pin(object.mapFd(name), mapPin(attempt, name))
  for (const name of ["edge_ids", "associations"] as const)
    withFd(createMap(name, noteShapes[name]), (fd) => pin(fd, mapPin(attempt, name)))
  putOnHooks(pins, object, devices, hooks)
  for (const { program } of hookTable) renameSync(join(attempt, program), programPin(pins.live, program))
  renameSync(join(pins.live, "maps"), join(attempt, "old"))
  renameSync(join(attempt, "maps"), join(pins.live, "maps"))
  removePins(join(pins.live, "next"))
}

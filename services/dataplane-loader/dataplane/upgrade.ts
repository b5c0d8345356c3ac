/**
 * Other programs in place of those that run, without a packet between them. Two ways, by what the maps look like:
 * the same layout keeps its maps, and with them keys and traffic; another layout gets maps of its own and begins with
 * default deny, since a key is never copied.
 */
import { mkdirSync, renameSync } from "node:fs"
import { join } from "node:path"
import { openPinned, pin, withFd } from "../../common/kernel/bpf.ts"
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
import { indexKey, type MapName, shapes, VS_LAYOUT } from "../../common/kernel/records.ts"
import { attachOrder, expectSame, hookOf, ifindexOf } from "./assemble.ts"
import type { Maps } from "./associations.ts"
import { noteShapes } from "./notes.ts"
import { allMaps, knownIds, linkPin, makingPin, mapPin, nextPin, ownMaps, type Pins } from "./pins.ts"
import { finishUpgrade, settleUpgrade } from "./settle.ts"

const names = Object.keys(shapes) as Array<MapName>
const isShared = (name: string): boolean => Object.hasOwn(shapes, name)

const putOnHooks = (pins: Pins, object: BpfObject, devices: Devices, hooks: Hooks): void => {
  for (const name of attachOrder) {
    const hook = hookOf(name)
    const ifindex = ifindexOf(devices, hook.device)
    hooks.replace(ifindex, hook.direction, object.programFd(hook.program), linkPin(pins.live, name))
  }
}

/** As `mapPin`, in a directory that holds nothing but maps. */
const pinIn = (directory: string, name: string): string => join(directory, name.replaceAll(".", "_"))

/** Pins the object's programs, and maps, as the next ones; complete or not there. */
const prepare = (pins: Pins, object: BpfObject, maps: string, pinMaps: (directory: string) => void): void => {
  const making = makingPin(pins)
  mkdirSync(maps, { recursive: true, mode: 0o700 })
  for (const { program } of hookTable) pin(object.programFd(program), join(making, program))
  pinMaps(maps)
  renameSync(making, nextPin(pins))
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
 * the file may have changed since it was measured. Interrupted, `settleUpgrade` ends it or takes it back.
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
  settleUpgrade(pins, devices, hooks)
  using object = openObject(path)
  for (const name of names) object.reuseMap(name, maps[name].fd)
  const own: Array<string> = []
  for (const name of object.mapNames.filter((one) => !isShared(one)))
    if (!reusePinned(pins, object, name)) own.push(name)
  object.load()
  expectSame(measureLoaded(object), wanted, path)
  prepare(pins, object, ownMaps(makingPin(pins)), (directory) => {
    for (const name of own) pin(object.mapFd(name), pinIn(directory, name))
  })
  touching()
  putOnHooks(pins, object, devices, hooks)
  finishUpgrade(pins)
}

const mapShape = (pins: Pins, name: string): MapShape | undefined => {
  const fd = openPinned(mapPin(pins.live, name))
  return fd === undefined ? undefined : withFd(fd, mapInfo)
}

const sameShape = (found: MapShape, shape: MapShape): boolean =>
  (["type", "keySize", "valueSize", "maxEntries"] as const).every((part) => found[part] === shape[part])

/** The layout that a plane was configured with, 0 before it was; undefined where the record isn't of a shape that says. */
const layoutOf = (pins: Pins): number | undefined => {
  const path = mapPin(pins.live, "config")
  const fd = openPinned(path)
  if (fd === undefined)
    throw new KernelError(
      "open plane",
      path,
      "MISSING",
      "the pin was removed; remove the plane to start afresh",
    )
  const map = new BpfMap(fd)
  try {
    if (map.info.keySize !== shapes.config.keySize || map.info.valueSize < 4) return undefined
    // Every layout begins with its number.
    const config = map.lookup(indexKey(0))
    return config === undefined ? 0 : new DataView(config.buffer, config.byteOffset).getUint32(0, true)
  } finally {
    map.close()
  }
}

/**
 * Whether the plane that is there has this side's layout. One that was never configured holds nothing: where its maps aren't ours, it
 * is another one. KernelError MISSING when one that says it is ours has lost a map.
 */
export const hasOurLayout = (pins: Pins): boolean => {
  const { edge_ids, associations } = noteShapes
  const all: Readonly<Record<string, MapShape>> = { ...shapes, edge_ids, associations }
  const layout = layoutOf(pins)
  if (layout !== 0 && layout !== VS_LAYOUT) return false
  return Object.entries(all).every(([name, shape]) => {
    const found = mapShape(pins, name)
    if (found !== undefined) return sameShape(found, shape)
    if (layout === VS_LAYOUT) throw new KernelError("open plane", mapPin(pins.live, name), "MISSING")
    return false
  })
}

/** Something that isn't ours on a hook isn't replaced. */
const refuseForeign = (pins: Pins, devices: Devices): void => {
  for (const hook of hookTable) {
    const known = knownIds(pins.live, hook.program)
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
  prepare(pins, object, allMaps(makingPin(pins)), (directory) => {
    for (const name of object.mapNames) pin(object.mapFd(name), pinIn(directory, name))
    for (const name of ["edge_ids", "associations"] as const)
      withFd(createMap(name, noteShapes[name]), (fd) => pin(fd, pinIn(directory, name)))
  })
  putOnHooks(pins, object, devices, hooks)
  finishUpgrade(pins)
}

import { existsSync, renameSync } from "node:fs"
import { closeFd, openPinned, pin, withFd } from "../../common/kernel/bpf.ts"
import { removePins } from "../../common/kernel/bpffs.ts"
import { KernelError } from "../../common/kernel/errors.ts"
import { loadObject } from "../../common/kernel/libbpf.ts"
import { type Hooks, pinnedLink, queryHook } from "../../common/kernel/links.ts"
import { BpfMap, checkShape, createMap, mapInfo } from "../../common/kernel/maps.ts"
import {
  type Devices,
  hooks as hookTable,
  type Measurement,
  measureAttached,
} from "../../common/kernel/measure.ts"
import { describeProgram } from "../../common/kernel/programs.ts"
import { decodeConfig, indexKey, type MapName, shapes, VS_LAYOUT } from "../../common/kernel/records.ts"
import type { Maps } from "./associations.ts"
import { noteShapes } from "./notes.ts"
import { knownIds, linkPin, makeStaging, mapPin, type Pins, programPin } from "./pins.ts"

/** Guards first, so that no program that lets packets through is ever without the one that judges its output. */
export const attachOrder = ["wire-egress", "inner-egress", "wire-ingress", "inner-ingress"] as const

export const hookOf = (name: (typeof attachOrder)[number]) => {
  const hook = hookTable.find((one) => one.name === name)
  if (hook === undefined) throw new KernelError("attach", name, "INVALID")
  return hook
}

export const ifindexOf = (devices: Devices, device: "wire" | "inner"): number =>
  device === "wire" ? devices.wireIfindex : devices.innerIfindex

const different = (subject: string, why: string): KernelError =>
  new KernelError("reuse plane", subject, "DIFFERENT", `${why}; remove the plane to start afresh`)

type MaybeDevices = { readonly [Device in keyof Devices]: number | undefined }

/** Detaches and unpins what is pinned below `base`. `ours`: only filters that run a program of it. Absent parts are fine. */
const takeAway = (base: string, devices: MaybeDevices, hooks: Hooks, ours: boolean): void => {
  // Guards last.
  for (const name of [...attachOrder].reverse()) {
    const hook = hookOf(name)
    const ifindex = hook.device === "wire" ? devices.wireIfindex : devices.innerIfindex
    if (ifindex === undefined) continue
    // A TCX link goes with its pin; a filter stays until it is removed.
    const known = ours && hooks.kind === "clsact" ? knownIds(base, hook.program) : undefined
    if (
      known === undefined ||
      queryHook(ifindex, hook.direction).some((one) => known.includes(one.programId))
    )
      hooks.detach(ifindex, hook.direction, linkPin(base, hook.name))
  }
  removePins(base)
}

/**
 * Takes away what a loader left that died while it made a plane, which was never configured and dropped everything, or while it
 * removed one.
 */
export const clearUnfinished = (pins: Pins, devices: Devices, hooks: Hooks): void => {
  for (const base of [pins.staging, pins.gone]) if (existsSync(base)) takeAway(base, devices, hooks, true)
}

/** Loads, pins and attaches a new plane, which drops everything until it is configured. Nothing is left when it fails. */
export const makePlane = (pins: Pins, path: string, devices: Devices, hooks: Hooks): void => {
  for (const hook of hookTable) {
    const [first] = queryHook(ifindexOf(devices, hook.device), hook.direction)
    if (first === undefined) continue
    const what = first.programId === 0 ? first.by : describeProgram(first.programId)
    throw new KernelError("make plane", hook.name, "FOREIGN_PROGRAM", `the hook is taken by ${what}`)
  }
  using object = loadObject(path)
  for (const name of Object.keys(shapes) as Array<MapName>)
    checkShape(name, mapInfo(object.mapFd(name)), shapes[name])
  try {
    makeStaging(pins)
    for (const name of object.mapNames) pin(object.mapFd(name), mapPin(pins.staging, name))
    for (const name of ["edge_ids", "associations"] as const)
      withFd(createMap(name, noteShapes[name]), (fd) => pin(fd, mapPin(pins.staging, name)))
    for (const { program } of hookTable) pin(object.programFd(program), programPin(pins.staging, program))
    for (const name of attachOrder) {
      const hook = hookOf(name)
      const ifindex = ifindexOf(devices, hook.device)
      hooks.attach(ifindex, hook.direction, object.programFd(hook.program), linkPin(pins.staging, name))
    }
    renameSync(pins.staging, pins.live)
  } catch (error) {
    clearUnfinished(pins, devices, hooks)
    throw error
  }
}

/** The map of epochs that were used, made on first use. `fresh`: there was none, so nothing is known of earlier epochs. */
export const openTombstones = (pins: Pins): { readonly map: BpfMap; readonly fresh: boolean } => {
  const present = openPinned(pins.tombstones)
  const fd = present ?? createMap("tombstones", noteShapes.tombstones, 0)
  try {
    if (present === undefined) pin(fd, pins.tombstones)
    const map = new BpfMap(fd)
    checkShape("tombstones", map.info, noteShapes.tombstones)
    return { map, fresh: present === undefined }
  } catch (error) {
    closeFd(fd)
    throw error
  }
}

/** Opens every pinned map and holds it to its shape. KernelError MISSING or INVALID names the map. */
export const openMaps = (pins: Pins, tombstones: BpfMap): Maps => {
  const opened: Partial<Record<keyof Maps, BpfMap>> = { tombstones }
  try {
    const { edge_ids, associations } = noteShapes
    for (const [name, shape] of Object.entries({ ...shapes, edge_ids, associations })) {
      const fd = openPinned(mapPin(pins.live, name))
      if (fd === undefined)
        throw new KernelError(
          "open plane",
          mapPin(pins.live, name),
          "MISSING",
          "the pin was removed; remove the plane to start afresh",
        )
      const map = new BpfMap(fd)
      opened[name as keyof Maps] = map
      checkShape(name, map.info, shape)
    }
    return opened as Maps
  } catch (error) {
    for (const [name, map] of Object.entries(opened)) if (name !== "tombstones") map.close()
    throw error
  }
}

const checkLink = (
  pins: Pins,
  hook: (typeof hookTable)[number],
  ifindex: number,
  programId: number,
): void => {
  const link = pinnedLink(linkPin(pins.live, hook.name))
  if (link === undefined) throw new KernelError("open plane", `link ${hook.name}`, "MISSING")
  if (link.ifindex !== ifindex || link.direction !== hook.direction)
    throw different(
      `link ${hook.name}`,
      `is on ${link.direction} of ifindex ${link.ifindex}, not of ${ifindex}`,
    )
  if (link.programId !== programId)
    throw different(`link ${hook.name}`, `runs ${describeProgram(link.programId)}`)
}

/**
 * Holds a plane that is there against the devices and the pins: our programs on their hooks, through the pinned links, using
 * the pinned maps. KernelError DIFFERENT or MISSING names what isn't so.
 */
export const checkAttached = (pins: Pins, devices: Devices, hooks: Hooks, maps: Maps): Measurement => {
  const attached = measureAttached(devices)
  for (const [index, program] of attached.programs.entries()) {
    const hook = hookTable[index]
    if (hook === undefined) throw different("hooks", "have another number")
    if (!existsSync(programPin(pins.live, hook.program)))
      throw new KernelError("open plane", `program ${hook.program}`, "MISSING")
    if (!knownIds(pins.live, hook.program).includes(program.id))
      throw different(hook.name, `runs ${describeProgram(program.id)}, not the pinned program`)
    if (hooks.kind === "tcx") checkLink(pins, hook, ifindexOf(devices, hook.device), program.id)
  }
  for (const name of Object.keys(shapes) as Array<MapName>) {
    const used = attached.mapIds.get(name)
    if (used !== undefined && used !== maps[name].info.id)
      throw different(`map ${name}`, "is not the one that the programs use")
  }
  checkConfig(maps, devices)
  return attached
}

/** Refuses programs that aren't those of the object file: KernelError DIFFERENT names the first. */
export const expectSame = (attached: Measurement, wanted: Measurement, path: string): void => {
  for (const [index, { digest }] of attached.programs.entries())
    if (Buffer.compare(digest, wanted.programs[index]?.digest ?? new Uint8Array(0)) !== 0)
      throw different(`program ${hookTable[index]?.program}`, `differs from the one in ${path}`)
  if (Buffer.compare(attached.digest, wanted.digest) !== 0) throw different("plane", `differs from ${path}`)
}

const checkConfig = (maps: Maps, devices: Devices): void => {
  const value = maps.config.lookup(indexKey(0))
  if (value === undefined) throw new KernelError("open plane", "config", "MISSING")
  const config = decodeConfig(value)
  if (config.layout === 0) return
  if (config.layout !== VS_LAYOUT) throw different("config", `has layout ${config.layout}, not ${VS_LAYOUT}`)
  if (config.wireIfindex !== devices.wireIfindex || config.innerIfindex !== devices.innerIfindex)
    throw different("config", "names other devices")
}

/** Detaches and unpins a plane, but keeps the memory of used epochs. Absent parts are fine. Interrupted, the next start ends it. */
export const removeLive = (pins: Pins, devices: MaybeDevices, hooks: Hooks): void => {
  removePins(pins.gone)
  if (existsSync(pins.live)) renameSync(pins.live, pins.gone)
  takeAway(pins.gone, devices, hooks, false)
}

/** Detaches and unpins a plane and all that is in its directory. */
export const removePlane = (pins: Pins, devices: MaybeDevices, hooks: Hooks): void => {
  removeLive(pins, devices, hooks)
  removePins(pins.root)
}

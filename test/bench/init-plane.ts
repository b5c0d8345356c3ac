/**
 * A data plane's maps without the hooks: the product's object is loaded once in a process, and each node gets maps of its
 * own that are made like the object's. What writes to them is the product's code.
 */
import { Attr, bpf, command } from "../../services/common/kernel/bpf.ts"
import { KernelError } from "../../services/common/kernel/errors.ts"
import { createGrace } from "../../services/common/kernel/grace.ts"
import { type BpfObject, loadObject } from "../../services/common/kernel/libbpf.ts"
import { BpfMap, createMap, MAP_FLAG_NO_PREALLOC, mapType } from "../../services/common/kernel/maps.ts"
import * as records from "../../services/common/kernel/records.ts"
import { Associations, type Maps } from "../../services/dataplane-loader/dataplane/associations.ts"
import { readCounters } from "../../services/dataplane-loader/dataplane/counters.ts"
import { noteShapes } from "../../services/dataplane-loader/dataplane/notes.ts"
import type { EdgeState, Plane, PlaneConfig } from "../../services/dataplane-loader/dataplane/plane.ts"

const BTF_GET_FD_BY_ID = 19
const names = Object.keys(records.shapes) as ReadonlyArray<records.MapName>

/** One map as the kernel describes it, types included: a map with a spin lock can't be made without them. */
interface Pattern {
  readonly name: records.MapName
  readonly type: number
  readonly keySize: number
  readonly valueSize: number
  readonly maxEntries: number
  readonly flags: number
  readonly btfId: number
  readonly btfKey: number
  readonly btfValue: number
}

const patternOf = (name: records.MapName, fd: number): Pattern => {
  const info = new Uint8Array(88)
  bpf(command.OBJ_GET_INFO_BY_FD, new Attr(16).u32(0, fd).u32(4, info.length).pointer(8, info), "info", name)
  const view = new DataView(info.buffer)
  const at = (offset: number): number => view.getUint32(offset, true)
  return {
    name,
    type: at(0),
    keySize: at(8),
    valueSize: at(12),
    maxEntries: at(16),
    flags: at(20),
    btfId: at(64),
    btfKey: at(68),
    btfValue: at(72),
  }
}

const likePattern = (pattern: Pattern, btfFd: number, onDemand: boolean): number => {
  const sparse = onDemand && pattern.type === mapType.HASH ? MAP_FLAG_NO_PREALLOC : 0
  const attr = new Attr(72)
    .u32(0, pattern.type)
    .u32(4, pattern.keySize)
    .u32(8, pattern.valueSize)
    .u32(12, pattern.maxEntries)
    .u32(16, pattern.flags | sparse)
  attr.bytes.set(Buffer.from(pattern.name.slice(0, 15), "latin1"), 28)
  if (pattern.btfId !== 0) attr.u32(48, btfFd).u32(52, pattern.btfKey).u32(56, pattern.btfValue)
  return bpf(command.MAP_CREATE, attr, "map create", pattern.name)
}

const TRIES = 100

/** The kernel refills what a map on demand takes memory from in its own time: it refuses for a moment when many fill at once. */
class MapOnDemand extends BpfMap {
  override update(...given: Parameters<BpfMap["update"]>): void {
    patiently(() => super.update(...given))
  }

  override insert(...given: Parameters<BpfMap["insert"]>): boolean {
    return patiently(() => super.insert(...given))
  }
}

const patiently = <A>(write: () => A): A => {
  for (let tried = 1; ; tried++) {
    try {
      return write()
    } catch (error) {
      if (tried === TRIES || !(error instanceof KernelError) || error.code !== "ENOMEM") throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
    }
  }
}

export interface MapSets {
  /** Maps of one node. `onDemand`: hash maps take memory as they fill, which the product's don't. */
  readonly make: (onDemand: boolean) => Maps
  /** The programs, with maps of their own. */
  readonly object: BpfObject
  readonly close: () => void
}

/** Loads the object once: what its maps are made of, and programs to send packets through. */
export const mapSets = (object: string): MapSets => {
  const loaded = loadObject(object)
  const patterns = names.map((name) => patternOf(name, loaded.mapFd(name)))
  const fds = new Map<number, number>()
  for (const { btfId } of patterns)
    if (btfId !== 0 && !fds.has(btfId))
      fds.set(btfId, bpf(BTF_GET_FD_BY_ID, new Attr(12).u32(0, btfId), "open", "types"))
  return {
    object: loaded,
    close: () => loaded.close(),
    make: (onDemand) => {
      const made: Partial<Record<keyof Maps, BpfMap>> = {}
      for (const pattern of patterns)
        made[pattern.name] = new (onDemand ? MapOnDemand : BpfMap)(
          likePattern(pattern, fds.get(pattern.btfId) ?? 0, onDemand),
        )
      for (const [name, shape] of Object.entries(noteShapes))
        made[name as keyof typeof noteShapes] = new (onDemand ? MapOnDemand : BpfMap)(
          createMap(name, shape, onDemand ? MAP_FLAG_NO_PREALLOC : 0),
        )
      return made as Maps
    },
  }
}

export interface NodePlane extends Plane {
  readonly maps: Maps
}

/** The product's plane over such maps, as far as a node's life needs it. */
export const planeOver = (maps: Maps, digest: Uint8Array): NodePlane => {
  const grace = createGrace()
  const associations = new Associations(maps, grace, { empty: true, forgotten: true })
  let edges: EdgeState = { edges: [], policies: [] }
  const absent = (): never => {
    throw new Error("not part of this plane")
  }
  return {
    maps,
    fresh: true,
    forgotten: true,
    measurement: { digest, programs: [], mapIds: new Map() },
    keepAlive: absent,
    swept: 0,
    configured: () => true,
    configure: (config: PlaneConfig) =>
      maps.config.update(
        records.indexKey(0),
        records.encodeConfig({
          ...config,
          wireIfindex: 1,
          innerIfindex: 1,
          mark: 0x5653,
          layout: records.VS_LAYOUT,
        }),
      ),
    moveTo: absent,
    setEdges: (desired) => {
      edges = desired
      for (const edge of desired.edges) {
        maps.edges.update(records.edgeKey(edge.index), records.encodeEdge(edge))
        maps.edge_ids.update(records.edgeKey(edge.index), edge.id)
      }
      for (const policy of desired.policies)
        maps.policies.update(records.encodePolicyKey(policy), records.encodePolicy(policy))
    },
    edges: () => edges,
    installInbound: (sa) => associations.install("in", sa),
    installOutbound: (sa) => associations.install("out", sa),
    setLease: (key, deadline) => associations.setLease(key, deadline),
    activate: (edge, lane, spi) => associations.activate(edge, lane, spi),
    retire: (key) => associations.retire(key),
    revoke: (edge) => associations.revoke(edge),
    revokeAll: () => associations.revokeAll(),
    associations: () => associations.list(),
    used: () => associations.used(),
    counters: () => readCounters(maps),
    drops: () => [],
    inspect: () => [],
    cutOff: absent,
    restore: () => [],
    waiting: undefined,
    upgrade: absent,
    close: () => {
      grace.close()
      for (const map of Object.values(maps)) map.close()
    },
    teardown: absent,
  }
}

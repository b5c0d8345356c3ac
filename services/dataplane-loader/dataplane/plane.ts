import { crypto } from "../../common/crypto/index.ts"
import { KernelError } from "../../common/kernel/errors.ts"
import { createGrace } from "../../common/kernel/grace.ts"
import { type HookKind, hooksOf } from "../../common/kernel/links.ts"
import { updateFlag } from "../../common/kernel/maps.ts"
import { type Measurement, measureAttached, measureObject } from "../../common/kernel/measure.ts"
import { ifIndex } from "../../common/kernel/netdev.ts"
import * as records from "../../common/kernel/records.ts"
import {
  checkAttached,
  clearStaging,
  expectSame,
  makePlane,
  openMaps,
  openTombstones,
  removeLive,
  removePlane,
} from "./assemble.ts"
import {
  type Association,
  Associations,
  type Maps,
  type NewAssociation,
  type UsedEpoch,
} from "./associations.ts"
import { type Counters, readCounters } from "./counters.ts"
import { type Drop, DropReader } from "./drops.ts"
import { type Finding, Integrity } from "./integrity.ts"
import { sendKeepalives } from "./keepalive.ts"
import type { AssociationKey } from "./notes.ts"
import { hasPlane, openPins } from "./pins.ts"
import { type Edge, type EdgeState, type Policy, reconcile } from "./reconcile.ts"
import { hasOurLayout, renewPlane, replacePrograms } from "./upgrade.ts"

export type { Association, NewAssociation, UsedEpoch } from "./associations.ts"
export type { Counters } from "./counters.ts"
export type { Drop } from "./drops.ts"
export type { Finding } from "./integrity.ts"
export type { AssociationKey, Epoch, SaDirection } from "./notes.ts"
export type { Edge, EdgeState, Policy } from "./reconcile.ts"

export interface PlaneOptions {
  /** A directory below /sys/fs/bpf, made if missing; this process holds it alone until `close`. */
  readonly pins: string
  /** The BPF object file. */
  readonly object: string
  /** Names of the untrusted wire and of the far end of the internal veth, in this process's network namespace. */
  readonly wire: string
  readonly inner: string
  /** Insists on a way to attach; otherwise the kernel is asked. */
  readonly hooks?: HookKind
  /**
   * Takes over a plane whose programs aren't the object's: one of the same layout as it is, for `upgrade`; one of another
   * layout is replaced at once by a fresh one. Otherwise both are refused.
   */
  readonly upgrade?: boolean
}

export interface PlaneConfig {
  /** This node's workflow addresses, IPv4 as a number (10.0.0.1 is 0x0a000001), IPv6 as 16 bytes: one at least. */
  readonly innerAddress?: number | undefined
  readonly innerAddress6?: Uint8Array | undefined
  /** Its addresses on the wire: one at least. Edges go by the family that their peer's wire address has. */
  readonly wireAddress?: number | undefined
  readonly wireAddress6?: Uint8Array | undefined
  /** The bus's addresses: one at least, of a family that the wire has. */
  readonly busAddress?: number | undefined
  readonly busAddress6?: Uint8Array | undefined
  readonly busPort: number
  readonly espPort: number
  /** Ethernet address of the internal veth's near end, 6 bytes. */
  readonly innerMac: Uint8Array
}

/** What the loader does to the kernel. All methods are synchronous and throw KernelError; none reads a key back. */
export interface Plane {
  /** True when nothing was pinned before: it drops everything until `configure`. */
  readonly fresh: boolean
  /**
   * True when there was no memory of used epochs: an epoch that any earlier plane may have held must not be installed;
   * the releaser has to give new ones.
   */
  readonly forgotten: boolean
  /** What runs, as it was measured when the plane was opened or upgraded. */
  readonly measurement: Measurement
  /** The object's own measurement where it isn't what runs: `upgrade` puts it in place. */
  readonly waiting: Measurement | undefined
  /** Puts the object's programs in place of those that run; maps, keys and traffic stay. KernelError: nothing is changed. */
  readonly upgrade: () => void
  /** How many leftovers of an interrupted install were removed. */
  readonly swept: number
  /** Whether the programs have a configuration; until then they drop everything. */
  readonly configured: () => boolean
  /** Writes the configuration unless it is there already; for the moment of writing everything is dropped. */
  readonly configure: (config: PlaneConfig) => void
  /** Writes the node's own addresses on the wire into a configuration that is there, if they are others. */
  readonly moveTo: (wire: Pick<PlaneConfig, "wireAddress" | "wireAddress6">) => void
  /** Full desired state. Keys, leases and flows of edges that vanish or get another peer are removed. */
  readonly setEdges: (desired: EdgeState) => void
  readonly edges: () => EdgeState
  /** KernelError EPOCH_USED, EEXIST, E2BIG, INVALID. `key` and `salt` are zeroed in any case. */
  readonly installInbound: (sa: NewAssociation) => void
  readonly installOutbound: (sa: NewAssociation) => void
  /** Raises a deadline; false when it is no later than the present one. KernelError ENOENT without the association. */
  readonly setLease: (key: AssociationKey, deadline: bigint) => boolean
  readonly activate: (edge: number, lane: number, spi: number) => void
  readonly retire: (key: AssociationKey) => boolean
  /** Removes all keys of an edge, or of all edges, at once. */
  readonly revoke: (edge: number) => void
  readonly revokeAll: () => void
  readonly associations: () => ReadonlyArray<Association>
  /** What was ever installed in this boot, also by earlier planes and of edges that are gone. */
  readonly used: () => ReadonlyArray<UsedEpoch>
  readonly counters: () => Counters
  /** Sends a NAT keepalive on every lane in use; gives how many. From within the wire's namespace. */
  readonly keepAlive: () => number
  /** What isn't as it was measured; empty when the plane is whole. Cheap enough for several times a second. */
  readonly inspect: () => ReadonlyArray<Finding>
  /** Nothing flows any more: every key goes, and the internal veth goes down. */
  readonly cutOff: () => void
  /**
   * Puts back what was taken away, where no foreign program is in the way; gives what is still amiss. When that is
   * nothing, the plane was measured anew, is what it was, and the internal veth is up again.
   */
  readonly restore: () => ReadonlyArray<Finding>
  /** Samples of what was dropped since the last call, few of each kind. */
  readonly drops: () => ReadonlyArray<Drop>
  /** Closes descriptors and ends the hold on the directory; the kernel goes on enforcing. */
  readonly close: () => void
  /** Detaches, unpins and removes the directory, tombstones included: for good. Closes the plane too. */
  readonly teardown: () => void
}

const KEY = records.indexKey(0)

/** The mark by which the programs know each other's packets: not guessable by who may set marks on sockets. */
const newMark = (): number => {
  const bytes = crypto.randomBytes(4)
  const mark = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
  // Neither the mark nor its complement, which the programs use too, may be what an unmarked packet has.
  return mark === 0 || mark === 0xffffffff ? newMark() : mark
}

const readEdges = (maps: Maps): EdgeState => {
  const edges: Array<Edge> = []
  for (const key of maps.edges.keys()) {
    const value = maps.edges.lookup(key)
    const id = maps.edge_ids.lookup(key)
    // An edge without an id was left half-written: an id of zeros makes it differ from every real one.
    if (value !== undefined)
      edges.push({
        index: records.decodeIndexKey(key),
        id: id ?? new Uint8Array(8),
        ...records.decodeEdge(value),
      })
  }
  const policies: Array<Policy> = []
  for (const map of [maps.policies, maps.policies6])
    for (const key of map.keys()) {
      const value = map.lookup(key)
      if (value !== undefined)
        policies.push({ ...records.decodePolicyKey(key), ...records.decodePolicy(value) })
    }
  return { edges, policies }
}

const NO_PATH_MTU = records.encodePathMtu({ mtu: 0, ends: 0n })

const forgetEndpoint = (maps: Maps, edge: number): void => {
  for (let lane = 0; lane < records.LANES_MAX; lane++) {
    maps.endpoints.update(records.endpointKey(edge, lane), records.noEndpoint())
    maps.endpoints6.update(records.endpointKey(edge, lane), records.noEndpoint6(), updateFlag.LOCK)
  }
}

/** What the programs know of an edge must not pass to the next that gets its index: a flow's entry lets replies in. */
const forgetEdges = (maps: Maps, edges: ReadonlySet<number>): void => {
  if (edges.size === 0) return
  for (const key of maps.flows.keys()) if (edges.has(records.decodeFlowKey(key).edge)) maps.flows.delete(key)
  // Its policies are gone: no program makes a flow of it now.
  for (const edge of edges) {
    maps.flow_counts.update(records.edgeKey(edge), records.encodeFlowCount(0))
    maps.path_mtus.update(records.edgeKey(edge), NO_PATH_MTU)
    forgetEndpoint(maps, edge)
  }
}

const applyEdges = (maps: Maps, associations: Associations, desired: EdgeState): void => {
  const present = readEdges(maps)
  const plan = reconcile(present, desired)
  for (const key of plan.removePolicies) maps[records.policyMap(key)].delete(records.encodePolicyKey(key))
  for (const edge of plan.purge) associations.revoke(edge)
  forgetEdges(maps, new Set(plan.purge))
  for (const edge of plan.removeEdges) {
    maps.edges.delete(records.edgeKey(edge))
    maps.edge_ids.delete(records.edgeKey(edge))
  }
  for (const edge of plan.putEdges) {
    // The id last: an edge with a new peer and an old id would be taken for unchanged.
    maps.edges.update(records.edgeKey(edge.index), records.encodeEdge(edge))
    maps.edge_ids.update(records.edgeKey(edge.index), edge.id)
    // A new address in the document is news, and stronger than where the peer was last seen; what it sends is newer still.
    const before = present.edges.find(({ index }) => index === edge.index)
    if (!records.sameAddress(before?.peerWire, edge.peerWire) || before?.peerPort !== edge.peerPort)
      forgetEndpoint(maps, edge.index)
  }
  for (const policy of plan.putPolicies)
    maps[records.policyMap(policy)].update(records.encodePolicyKey(policy), records.encodePolicy(policy))
}

const writeConfig = (maps: Maps, config: PlaneConfig, wireIfindex: number, innerIfindex: number): void => {
  for (const name of ["busPort", "espPort"] as const)
    if (config[name] === 0) throw new KernelError("configure", name, "INVALID", "is 0")
  for (const name of ["innerAddress", "wireAddress", "busAddress"] as const)
    if ((config[name] ?? 0) === 0 && config[`${name}6`] === undefined)
      throw new KernelError("configure", name, "INVALID", "is 0")
  const before = maps.config.lookup(KEY)
  const mark = before === undefined ? 0 : records.decodeConfig(before).mark
  const record = { ...config, wireIfindex, innerIfindex, mark: mark === 0 ? newMark() : mark }
  const wanted = records.encodeConfig({ ...record, layout: records.VS_LAYOUT })
  // A loader that finds its plane as it should be must not cost a single packet.
  if (before !== undefined && Buffer.compare(before, wanted) === 0) return
  // A running program may see half of an array element that is being written: the layout, which switches the plane on,
  // is written when everything else is in place.
  maps.config.update(KEY, records.encodeConfig({ ...record, layout: 0 }))
  maps.config.update(KEY, wanted)
}

/**
 * Opens the plane that is pinned in a directory, or makes it. A plane that is there is reused as it is, traffic going on,
 * if it runs the very programs of the object file on the very devices; otherwise KernelError DIFFERENT or MISSING names
 * what isn't so. KernelError EBUSY: another loader holds it. FOREIGN_PROGRAM: a hook is taken.
 */
export const openPlane = (options: PlaneOptions): Plane => {
  const devices = { wireIfindex: ifIndex(options.wire), innerIfindex: ifIndex(options.inner) }
  const hooks = hooksOf(options.hooks)
  const pins = openPins(options.pins)
  const cleanup: Array<() => void> = [pins.unlock]
  try {
    clearStaging(pins, devices, hooks)
    const made = !hasPlane(pins)
    if (made) {
      makePlane(pins, options.object, devices, hooks)
      cleanup.push(() => removeLive(pins, devices, hooks))
    }
    const renewed = !made && options.upgrade === true && !hasOurLayout(pins)
    if (renewed) renewPlane(pins, options.object, devices, hooks)
    const tombstones = openTombstones(pins)
    cleanup.push(() => tombstones.map.close())
    const maps = openMaps(pins, tombstones.map)
    cleanup.push(() => {
      for (const map of Object.values(maps)) if (map !== tombstones.map) map.close()
    })
    const object = measureObject(options.object)
    let measurement = checkAttached(pins, devices, hooks, maps)
    if (options.upgrade !== true) expectSame(measurement, object, options.object)
    const watched = (): Integrity =>
      new Integrity({ pins, devices, names: { wire: options.wire, inner: options.inner }, hooks, maps })
    let integrity = watched()
    cleanup.push(() => integrity.close())
    const upgrade = (): void => {
      integrity.close()
      try {
        replacePrograms(pins, options.object, devices, hooks, maps)
        measurement = checkAttached(pins, devices, hooks, maps)
      } finally {
        integrity = watched()
      }
      expectSame(measurement, object, options.object)
    }
    const restore = (): ReadonlyArray<Finding> => {
      const amiss = integrity.restore()
      if (amiss.length > 0) return amiss
      const now = measureAttached(devices)
      if (Buffer.compare(now.digest, measurement.digest) !== 0)
        return [{ subject: "programs", found: "another measurement", wanted: "the one that was attested" }]
      integrity.admit()
      return []
    }
    const grace = createGrace()
    cleanup.push(grace.close)
    const associations = new Associations(maps, grace, made)
    const swept = associations.sweep()
    const drops = new DropReader(maps.drops)
    if (made) cleanup.splice(1, 1)
    const close = (): void => {
      for (const step of cleanup.splice(0).reverse()) step()
    }
    return {
      fresh: made || renewed,
      forgotten: tombstones.fresh,
      get measurement() {
        return measurement
      },
      get waiting() {
        return Buffer.compare(measurement.digest, object.digest) === 0 ? undefined : object
      },
      upgrade,
      swept,
      configured: () => {
        const value = maps.config.lookup(KEY)
        return value !== undefined && records.decodeConfig(value).layout === records.VS_LAYOUT
      },
      configure: (config) => {
        writeConfig(maps, config, devices.wireIfindex, devices.innerIfindex)
        integrity.configured()
      },
      moveTo: ({ wireAddress, wireAddress6 }) => {
        const value = maps.config.lookup(KEY)
        const present = value === undefined ? undefined : records.decodeConfig(value)
        if (present?.layout !== records.VS_LAYOUT) return
        const moved = { ...present, wireAddress, wireAddress6 }
        writeConfig(maps, moved, devices.wireIfindex, devices.innerIfindex)
        integrity.configured()
      },
      setEdges: (desired) => applyEdges(maps, associations, desired),
      edges: () => readEdges(maps),
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
      keepAlive: () => sendKeepalives(maps),
      inspect: () => integrity.inspect(),
      cutOff: () => {
        try {
          associations.revokeAll()
        } finally {
          integrity.cutOff()
        }
      },
      restore: () => orFinding(restore),
      drops: () => drops.read(),
      close,
      teardown: () => {
        removePlane(pins, devices, hooks)
        close()
      },
    }
  } catch (error) {
    for (const step of cleanup.reverse()) step()
    throw error
  }
}

/** What the kernel refuses is what is amiss. */
const orFinding = (act: () => ReadonlyArray<Finding>): ReadonlyArray<Finding> => {
  try {
    return act()
  } catch (error) {
    if (!(error instanceof KernelError)) throw error
    return [{ subject: error.subject, found: error.message, wanted: "what was measured" }]
  }
}

const indexIfThere = (name: string): number | undefined => {
  try {
    return ifIndex(name)
  } catch (error) {
    if (error instanceof KernelError && error.code === "ENODEV") return undefined
    throw error
  }
}

/** Removes a plane that can't be opened any more, e.g. one of other programs. Refuses while a loader holds it. */
export const removePinnedPlane = (options: Omit<PlaneOptions, "object">): void => {
  const pins = openPins(options.pins)
  try {
    const devices = { wireIfindex: indexIfThere(options.wire), innerIfindex: indexIfThere(options.inner) }
    removePlane(pins, devices, hooksOf(options.hooks))
  } finally {
    pins.unlock()
  }
}

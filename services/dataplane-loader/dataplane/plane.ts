import { bootNow } from "../../common/kernel/clock.ts"
import { KernelError } from "../../common/kernel/errors.ts"
import { createGrace } from "../../common/kernel/grace.ts"
import { type HookKind, hooksOf } from "../../common/kernel/links.ts"
import { type Measurement, measureAttached, measureObject } from "../../common/kernel/measure.ts"
import { ifIndex } from "../../common/kernel/netdev.ts"
import {
  checkAttached,
  clearUnfinished,
  expectSame,
  makePlane,
  openMaps,
  openTombstones,
  removeLive,
  removePlane,
} from "./assemble.ts"
import { type Association, Associations, type NewAssociation, type UsedEpoch } from "./associations.ts"
import { type PlaneConfig, readConfig, writeConfig } from "./configure.ts"
import { type Counters, readCounters } from "./counters.ts"
import { type Drop, DropReader } from "./drops.ts"
import { applyEdges, readEdges } from "./edges.ts"
import { asFinding, type Finding, Integrity } from "./integrity.ts"
import { Keepalives } from "./keepalive.ts"
import type { AssociationKey } from "./notes.ts"
import { hasPlane, openPins } from "./pins.ts"
import type { EdgeState } from "./reconcile.ts"
import { settleUpgrade } from "./settle.ts"
import { hasOurLayout, renewPlane, replacePrograms } from "./upgrade.ts"

export type { Association, NewAssociation, UsedEpoch } from "./associations.ts"
export type { PlaneConfig } from "./configure.ts"
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
  /** Puts the object's programs in place of those that run; maps, keys and traffic stay. An error: nothing is changed, or all is cut off. */
  readonly upgrade: () => void
  /** How many leftovers of an interrupted install were removed. */
  readonly swept: number
  /** Whether the programs have a configuration; until then they drop everything. */
  readonly configured: () => boolean
  /** Writes the configuration unless it is there already; for the moment of writing everything is dropped. */
  readonly configure: (config: PlaneConfig) => void
  /** Writes what is named into the configuration that is there; the inner addresses stay. KernelError DIFFERENT when it isn't ours. */
  readonly moveTo: (place: Partial<Omit<PlaneConfig, "innerAddress" | "innerAddress6">>) => void
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
  /**
   * Sends a NAT keepalive on every lane with keys on which nothing was sent for `idleNs`, or nobody knows for how long; gives
   * how many. From within the wire's namespace.
   */
  readonly keepAlive: (idleNs: bigint) => number
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
    clearUnfinished(pins, devices, hooks)
    const made = !hasPlane(pins)
    if (made) {
      makePlane(pins, options.object, devices, hooks)
      cleanup.push(() => removeLive(pins, devices, hooks))
    } else settleUpgrade(pins, devices, hooks)
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
    const grace = createGrace()
    cleanup.push(grace.close)
    const associations = new Associations(maps, grace, { empty: made, forgotten: tombstones.fresh })
    const cutOff = (): void => {
      try {
        associations.revokeAll()
      } finally {
        integrity.cutOff()
      }
    }
    /** Whether an upgrade ended between its first hook and its last check: nothing is whole until it is measured again. */
    let torn = false
    /** What changes hooks and pins, with nobody watching them meanwhile. */
    const unwatched = (change: () => void): void => {
      integrity.close()
      try {
        change()
      } finally {
        integrity = watched()
      }
    }
    const replace = (): void => {
      const touching = (): void => {
        torn = true
      }
      replacePrograms(pins, options.object, devices, hooks, maps, object, touching)
      const attached = checkAttached(pins, devices, hooks, maps)
      expectSame(attached, object, options.object)
      measurement = attached
    }
    const upgrade = (): void => {
      try {
        unwatched(replace)
        torn = false
      } catch (error) {
        if (torn) cutOff()
        throw error
      }
    }
    const inspect = (): ReadonlyArray<Finding> => {
      const findings = integrity.inspect()
      if (!torn) return findings
      return [
        { subject: "programs", found: "an upgrade that failed", wanted: "what was measured" },
        ...findings,
      ]
    }
    const isOf = (one: Measurement, other: Measurement): boolean =>
      Buffer.compare(one.digest, other.digest) === 0
    const restore = (): ReadonlyArray<Finding> => {
      if (torn)
        unwatched(() => {
          settleUpgrade(pins, devices, hooks)
        })
      const amiss = integrity.restore()
      if (amiss.length > 0) return amiss
      const now = measureAttached(devices)
      // An upgrade that was finished only now was asked for all the same.
      if (!isOf(now, measurement) && !(torn && isOf(now, object)))
        return [{ subject: "programs", found: "another measurement", wanted: "the one that was attested" }]
      measurement = now
      torn = false
      integrity.admit()
      return []
    }
    const swept = associations.sweep()
    const drops = new DropReader(maps.drops)
    const keepalives = new Keepalives(maps)
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
        return isOf(measurement, object) ? undefined : object
      },
      upgrade,
      swept,
      configured: () => readConfig(maps) !== undefined,
      configure: (config) => {
        writeConfig(maps, config, devices)
        integrity.configured()
      },
      moveTo: (place) => {
        const present = readConfig(maps)
        if (present === undefined) return
        integrity.expectConfig()
        const { innerAddress, innerAddress6 } = present
        writeConfig(maps, { ...present, ...place, innerAddress, innerAddress6 }, devices)
        integrity.configured()
      },
      setEdges: (desired) => applyEdges(maps, associations, desired, grace),
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
      keepAlive: (idleNs) => keepalives.send(bootNow(), idleNs),
      inspect,
      cutOff,
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

/** What keeps us from putting it right is what is amiss. */
const orFinding = (act: () => ReadonlyArray<Finding>): ReadonlyArray<Finding> => {
  try {
    return act()
  } catch (error) {
    return [asFinding(error, "plane", "what was measured")]
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

import { invalid, KernelError } from "../../common/kernel/errors.ts"
import type { Grace } from "../../common/kernel/grace.ts"
import { type BpfMap, updateFlag } from "../../common/kernel/maps.ts"
import * as records from "../../common/kernel/records.ts"
import * as notes from "./notes.ts"

/** What the functions below work on; all maps of one plane. */
export type Maps = Readonly<Record<records.MapName | keyof typeof notes.noteShapes, BpfMap>>

/** A security association with its key. `key` and `salt` are overwritten with zeros, also when the install fails. */
export interface NewAssociation extends records.SaSecret {
  readonly edge: number
  readonly lane: number
  readonly spi: number
  readonly epoch: notes.Epoch
  /** CLOCK_BOOTTIME nanoseconds. */
  readonly deadline: bigint
}

/** By an edge's id, the highest epoch that was ever installed, in whatever direction and lane. */
export interface UsedEpoch {
  readonly id: Uint8Array
  readonly epoch: notes.Epoch
}

export interface Association extends notes.AssociationKey, notes.AssociationNote {
  readonly deadline: bigint
  /** Outbound: whether the lane seals with it now. Inbound: always true. */
  readonly active: boolean
}

const NO_PACKET_YET = records.emptyWindow()

const op = (direction: notes.SaDirection): string => `install ${direction}bound`
const leaseMap = (maps: Maps, direction: notes.SaDirection): BpfMap =>
  direction === "in" ? maps.lease_in : maps.lease_out
const saMap = (maps: Maps, direction: notes.SaDirection): BpfMap =>
  direction === "in" ? maps.sa_in : maps.sa_out
const saKey = (key: notes.AssociationKey): Uint8Array =>
  key.direction === "in" ? records.inSaKey(key.spi) : records.outSaKey(key.edge, key.spi)

/**
 * Refuses an epoch that was installed before, then remembers it: before anything that a program reads is there, so that a
 * crash between it and the insertion burns an epoch and can't let one be used twice. A second outbound SA of an epoch would begin again with
 * sequence number 1, a second inbound one with an empty replay window.
 */
const raiseTombstone = (
  maps: Maps,
  direction: notes.SaDirection,
  sa: NewAssociation,
  id: Uint8Array,
): void => {
  const key = notes.tombstoneKey(id, direction, sa.lane)
  const seen = maps.tombstones.lookup(key)
  if (seen !== undefined && notes.compareEpochs(sa.epoch, notes.decodeTombstone(seen)) <= 0)
    throw new KernelError(
      op(direction),
      `edge ${sa.edge} lane ${sa.lane}`,
      "EPOCH_USED",
      `epoch ${notes.formatEpoch(sa.epoch)} is not above ${notes.formatEpoch(notes.decodeTombstone(seen))}`,
    )
  maps.tombstones.update(key, notes.encodeTombstone(sa.epoch))
}

/** What an association needs to know of its edge. */
interface Place {
  readonly id: Uint8Array
  readonly lanes: number
}

const placeOf = (maps: Maps, index: number): Place | undefined => {
  const edge = maps.edges.lookup(records.edgeKey(index))
  const id = maps.edge_ids.lookup(records.edgeKey(index))
  return edge === undefined || id === undefined ? undefined : { id, lanes: records.decodeEdge(edge).lanes }
}

/** What is known of the maps from having made them, so that nobody need look. */
export interface Made {
  /** All but the tombstones are empty. */
  readonly empty?: boolean
  /** And so are the tombstones. */
  readonly forgotten?: boolean
}

export class Associations {
  readonly #maps: Maps
  readonly #grace: Grace
  #deleted: boolean
  /** Nothing was ever installed in these maps; and no epoch was ever burnt. */
  #empty: boolean
  #unburnt: boolean
  /** By index. Edges change through `edgesChange` only. */
  readonly #places = new Map<number, Place>()

  /** @param made the maps, just now; otherwise nothing is known of what went before this object was */
  constructor(maps: Maps, grace: Grace, { empty = false, forgotten = false }: Made = {}) {
    this.#maps = maps
    this.#grace = grace
    this.#deleted = !empty
    this.#empty = empty
    this.#unburnt = empty && forgotten
  }

  /** To be called before each change of the edges' maps. */
  edgesChange(): void {
    this.#places.clear()
  }

  /** KernelError EPOCH_USED, EEXIST (the SPI is in use), E2BIG (full), INVALID. Nothing is left of a failed install. */
  install(direction: notes.SaDirection, sa: NewAssociation): void {
    try {
      const id = this.#checkPlace(direction, sa)
      const value = direction === "in" ? records.encodeSaIn(sa.edge, sa.lane, sa) : records.encodeSaOut(sa)
      try {
        this.#insert({ direction, edge: sa.edge, spi: sa.spi }, sa, value, id)
      } finally {
        value.fill(0)
      }
    } finally {
      sa.key.fill(0)
      sa.salt.fill(0)
    }
  }

  #checkPlace(direction: notes.SaDirection, { edge, lane }: NewAssociation): Uint8Array {
    const place = this.#places.get(edge) ?? placeOf(this.#maps, edge)
    if (place === undefined) throw invalid(op(direction), `edge ${edge}`, "does not exist")
    this.#places.set(edge, place)
    const { id, lanes } = place
    if (!Number.isInteger(lane) || lane < 0 || lane >= lanes)
      throw invalid(op(direction), `edge ${edge}`, `has ${lanes} lanes, not a lane ${lane}`)
    return id
  }

  #insert(key: notes.AssociationKey, sa: NewAssociation, value: Uint8Array, id: Uint8Array): void {
    const { direction } = key
    const encoded = saKey(key)
    const note = notes.encodeAssociationKey(key)
    const deadline = records.encodeDeadline(sa.deadline)
    this.#empty = false
    // A note alone is nothing that a program reads, and what a loader that dies here leaves is swept away.
    if (!this.#maps.associations.insert(note, notes.encodeAssociation(sa)))
      throw new KernelError(op(direction), `spi of edge ${sa.edge}`, "EEXIST")
    const undo: Array<() => void> = [() => void this.#maps.associations.delete(note)]
    const put = (map: BpfMap, at: Uint8Array, what: Uint8Array): void => {
      if (!map.insert(at, what)) throw new KernelError(op(direction), map.name, "EEXIST")
      undo.push(() => void map.delete(at))
    }
    try {
      this.#unburnt = false
      raiseTombstone(this.#maps, direction, sa, id)
      if (this.#deleted) this.#grace.wait()
      this.#deleted = false
      if (direction === "in") put(this.#maps.windows, encoded, NO_PACKET_YET)
      put(leaseMap(this.#maps, direction), encoded, deadline)
      put(saMap(this.#maps, direction), encoded, value)
    } catch (error) {
      for (const step of undo.reverse()) step()
      this.#deleted = true
      throw error
    }
  }

  /**
   * Moves a deadline forward. A deadline that is not later than the present one changes nothing and gives false: a grant
   * that was held back must not cut short a newer one. KernelError ENOENT when there is no such association.
   */
  setLease(key: notes.AssociationKey, deadline: bigint): boolean {
    const map = leaseMap(this.#maps, key.direction)
    const encoded = saKey(key)
    const now = map.lookup(encoded)
    if (now === undefined || !this.#maps.associations.has(notes.encodeAssociationKey(key)))
      throw new KernelError("set lease", `${key.direction}bound of edge ${key.edge}`, "ENOENT")
    if (deadline <= records.decodeDeadline(now)) return false
    map.update(encoded, records.encodeDeadline(deadline), updateFlag.EXIST)
    return true
  }

  /** Makes a lane seal with an installed outbound SA. KernelError ENOENT; EPOCH_USED when that would go back. */
  activate(edge: number, lane: number, spi: number): void {
    const subject = `edge ${edge} lane ${lane}`
    const next = this.#note({ direction: "out", edge, spi })
    if (next === undefined || next.lane !== lane)
      throw new KernelError("activate", subject, "ENOENT", "no such outbound SA")
    const current = this.#maps.outbound.lookup(records.laneKey(edge, lane))
    if (current !== undefined) {
      const present = this.#note({ direction: "out", edge, spi: records.decodeOutbound(current) })
      if (present !== undefined && notes.compareEpochs(next.epoch, present.epoch) < 0)
        throw new KernelError(
          "activate",
          subject,
          "EPOCH_USED",
          `a later epoch ${notes.formatEpoch(present.epoch)} is active`,
        )
    }
    this.#maps.outbound.update(records.laneKey(edge, lane), records.encodeOutbound(spi))
  }

  /** Removes one association; absent is fine and gives false. A lane that used it has no key from then on. */
  retire(key: notes.AssociationKey): boolean {
    const note = this.#note(key)
    // The lease first: from here on no packet passes, whatever happens to the next steps.
    leaseMap(this.#maps, key.direction).delete(saKey(key))
    if (key.direction === "out" && note !== undefined) this.#dropLane(key, note.lane)
    const removed = saMap(this.#maps, key.direction).delete(saKey(key))
    if (key.direction === "in") this.#maps.windows.delete(saKey(key))
    this.#maps.associations.delete(notes.encodeAssociationKey(key))
    this.#deleted = true
    return removed
  }

  #dropLane(key: notes.AssociationKey, lane: number): void {
    const at = records.laneKey(key.edge, lane)
    const active = this.#maps.outbound.lookup(at)
    if (active !== undefined && records.decodeOutbound(active) === key.spi) this.#maps.outbound.delete(at)
  }

  /** Removes every key of one edge, both directions. */
  revoke(edge: number): void {
    for (const key of this.#maps.lease_out.keys())
      if (records.decodeOutSaKey(key).edge === edge) this.#maps.lease_out.delete(key)
    for (const key of this.#maps.outbound.keys())
      if (records.decodeLaneKey(key).edge === edge) this.#maps.outbound.delete(key)
    for (const key of this.#maps.sa_out.keys())
      if (records.decodeOutSaKey(key).edge === edge) this.#maps.sa_out.delete(key)
    for (const key of this.#noteKeys()) if (key.edge === edge) this.retire(key)
    this.sweep()
    this.#deleted = true
  }

  /** Removes every key. Goes on when a step fails, and then throws the first failure. */
  revokeAll(): void {
    let failure: unknown
    const { lease_out, lease_in, outbound, sa_out, sa_in, windows, associations } = this.#maps
    for (const map of [lease_out, lease_in, outbound, sa_out, sa_in, windows, associations])
      try {
        for (const key of map.keys()) map.delete(key)
      } catch (error) {
        failure ??= error
      }
    this.#deleted = true
    if (failure !== undefined) throw failure
  }

  /** What is installed. Reads no map that holds keys, other than which entries it has. */
  list(): ReadonlyArray<Association> {
    if (this.#empty) return []
    const found: Array<Association> = []
    for (const key of this.#noteKeys()) {
      const note = this.#note(key)
      const lease = leaseMap(this.#maps, key.direction).lookup(saKey(key))
      if (note === undefined || lease === undefined) continue
      const lane =
        key.direction === "out" ? this.#maps.outbound.lookup(records.laneKey(key.edge, note.lane)) : undefined
      const active =
        key.direction === "in" || (lane !== undefined && records.decodeOutbound(lane) === key.spi)
      found.push({ ...key, ...note, deadline: records.decodeDeadline(lease), active })
    }
    return found
  }

  /** What the tombstones remember: also of edges that are gone. */
  used(): ReadonlyArray<UsedEpoch> {
    if (this.#unburnt) return []
    const highest = new Map<string, UsedEpoch>()
    for (const key of this.#maps.tombstones.keys()) {
      const value = this.#maps.tombstones.lookup(key)
      if (value === undefined) continue
      const [id, epoch] = [notes.edgeIdOf(key), notes.decodeTombstone(value)]
      const name = Buffer.from(id).toString("hex")
      const known = highest.get(name)
      if (known === undefined || notes.compareEpochs(epoch, known.epoch) > 0) highest.set(name, { id, epoch })
    }
    return [...highest.values()]
  }

  /**
   * Removes what a loader that died in the middle of an install left: notes without an SA, and SAs, leases and windows
   * without a note. Gives how many entries went.
   */
  sweep(): number {
    const complete = new Set<string>()
    const hex = (direction: notes.SaDirection, key: Uint8Array) =>
      direction + Buffer.from(key).toString("hex")
    const held = new Set<string>()
    for (const key of this.#maps.sa_in.keys()) held.add(hex("in", key))
    for (const key of this.#maps.sa_out.keys()) held.add(hex("out", key))
    let removed = 0
    for (const key of this.#noteKeys()) {
      const name = hex(key.direction, saKey(key))
      if (held.has(name)) complete.add(name)
      else if (this.#maps.associations.delete(notes.encodeAssociationKey(key))) removed++
    }
    const { lease_out, lease_in, sa_out, sa_in, windows } = this.#maps
    const rows = [
      ["out", lease_out],
      ["in", lease_in],
      ["out", sa_out],
      ["in", sa_in],
      ["in", windows],
    ] as const
    for (const [direction, map] of rows)
      for (const key of map.keys()) if (!complete.has(hex(direction, key)) && map.delete(key)) removed++
    if (removed > 0) this.#deleted = true
    return removed
  }

  #noteKeys(): ReadonlyArray<notes.AssociationKey> {
    return this.#maps.associations.keys().map(notes.decodeAssociationKey)
  }

  #note(key: notes.AssociationKey): notes.AssociationNote | undefined {
    const value = this.#maps.associations.lookup(notes.encodeAssociationKey(key))
    return value === undefined ? undefined : notes.decodeAssociation(value)
  }
}

import { invalid } from "../../common/kernel/errors.ts"
import { type MapShape, mapType } from "../../common/kernel/maps.ts"
import { reading, record } from "../../common/kernel/records.ts"
import { EDGE_ID_SIZE } from "./reconcile.ts"

/**
 * Records that only this side reads and no program knows: pinned beside the programs' maps so that they live exactly as
 * long as what they speak of, and hold nothing secret.
 */
export const noteShapes = {
  /** index -> edge id: which edge an index means. */
  edge_ids: { type: mapType.HASH, keySize: 4, valueSize: EDGE_ID_SIZE, maxEntries: 1024 },
  /** (edge, direction, SPI) -> (lane, epoch): what was installed. */
  associations: { type: mapType.HASH, keySize: 12, valueSize: 24, maxEntries: 8192 },
  /** (edge id, direction, lane) -> the highest epoch that was ever installed. Never shrinks. */
  tombstones: { type: mapType.HASH, keySize: 16, valueSize: 16, maxEntries: 65536 },
} as const satisfies Record<string, MapShape>

export type SaDirection = "in" | "out"

/** (term, n): ordered by term, then n. */
export interface Epoch {
  readonly term: bigint
  readonly n: bigint
}

const EPOCH_MAX = 0xffffffffffffffffn

export const compareEpochs = (a: Epoch, b: Epoch): number => {
  if (a.term !== b.term) return a.term < b.term ? -1 : 1
  return a.n === b.n ? 0 : a.n < b.n ? -1 : 1
}

export const formatEpoch = (epoch: Epoch): string => `${epoch.term}.${epoch.n}`

const directionNumber = { in: 0, out: 1 } as const

const setEpoch = (view: DataView, offset: number, epoch: Epoch): void => {
  for (const part of [epoch.term, epoch.n])
    if (part < 0n || part > EPOCH_MAX) throw invalid("encode", "epoch", "is not two unsigned 64-bit integers")
  view.setBigUint64(offset, epoch.term, true)
  view.setBigUint64(offset + 8, epoch.n, true)
}

const epochAt = (view: DataView, offset: number): Epoch => ({
  term: view.getBigUint64(offset, true),
  n: view.getBigUint64(offset + 8, true),
})

export interface AssociationKey {
  readonly direction: SaDirection
  readonly edge: number
  readonly spi: number
}

export const encodeAssociationKey = (key: AssociationKey): Uint8Array =>
  record(noteShapes.associations.keySize, (view) => {
    view.setUint32(0, key.edge, true)
    view.setUint32(4, directionNumber[key.direction], true)
    view.setUint32(8, key.spi)
  })

export const decodeAssociationKey = (bytes: Uint8Array): AssociationKey => {
  const view = reading(bytes, noteShapes.associations.keySize, "association key")
  const direction = view.getUint32(4, true)
  if (direction > 1) throw invalid("decode", "association key", `has direction ${direction}`)
  return { edge: view.getUint32(0, true), direction: direction === 0 ? "in" : "out", spi: view.getUint32(8) }
}

export interface AssociationNote {
  readonly lane: number
  readonly epoch: Epoch
}

export const encodeAssociation = (note: AssociationNote): Uint8Array =>
  record(noteShapes.associations.valueSize, (view) => {
    view.setUint32(0, note.lane, true)
    setEpoch(view, 8, note.epoch)
  })

export const decodeAssociation = (bytes: Uint8Array): AssociationNote => {
  const view = reading(bytes, noteShapes.associations.valueSize, "association")
  return { lane: view.getUint32(0, true), epoch: epochAt(view, 8) }
}

export const tombstoneKey = (edgeId: Uint8Array, direction: SaDirection, lane: number): Uint8Array => {
  if (edgeId.length !== EDGE_ID_SIZE) throw invalid("encode", "edge id", `has not ${EDGE_ID_SIZE} bytes`)
  return record(noteShapes.tombstones.keySize, (view, bytes) => {
    bytes.set(edgeId)
    view.setUint32(8, directionNumber[direction], true)
    view.setUint32(12, lane, true)
  })
}

/** The edge that a tombstone's key speaks of. */
export const edgeIdOf = (key: Uint8Array): Uint8Array => {
  reading(key, noteShapes.tombstones.keySize, "tombstone key")
  return key.slice(0, EDGE_ID_SIZE)
}

export const encodeTombstone = (epoch: Epoch): Uint8Array =>
  record(noteShapes.tombstones.valueSize, (view) => setEpoch(view, 0, epoch))

export const decodeTombstone = (bytes: Uint8Array): Epoch =>
  epochAt(reading(bytes, noteShapes.tombstones.valueSize, "tombstone"), 0)

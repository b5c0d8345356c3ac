/** Bytes of records: where they are drafted and read, and numbers that are checked before they get there. */
import { invalid } from "./errors.ts"
import { EDGES_MAX, LANES_MAX } from "./record-shapes.ts"

export const u8 = (value: number, what: string): number => bounded(value, 0xff, what)
export const u16 = (value: number, what: string): number => bounded(value, 0xffff, what)
export const u32 = (value: number, what: string): number => bounded(value, 0xffffffff, what)

export const bounded = (value: number, max: number, what: string): number => {
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw invalid("encode", what, `is not an integer from 0 to ${max}`)
  return value
}

export const u64 = (value: bigint, what: string): bigint => {
  if (value < 0n || value > 0xffffffffffffffffn)
    throw invalid("encode", what, "is not an unsigned 64-bit integer")
  return value
}

export const sized = (bytes: Uint8Array, size: number, what: string): Uint8Array => {
  if (bytes.length !== size) throw invalid("encode", what, `has ${bytes.length} bytes, expected ${size}`)
  return bytes
}

/** Only tables that one looks at now and then are larger. */
const DRAFT_SIZE = 512

interface Place {
  readonly view: DataView
  readonly bytes: Uint8Array
}

/** One place for records of all sizes: whoever is given it for one size can't reach past that. */
const newPlaces = (): ((size: number) => Place) => {
  const memory = new ArrayBuffer(DRAFT_SIZE)
  const places = new Map<number, Place>()
  return (size) => {
    const known = places.get(size)
    if (known !== undefined) return known
    const made = { view: new DataView(memory, 0, size), bytes: new Uint8Array(memory, 0, size) }
    places.set(size, made)
    return made
  }
}

const draftOf = newPlaces()
const readerOf = newPlaces()

/**
 * A record of `size` bytes, zero but for what `write` sets. It is drafted in one place and copied: a view of small bytes of
 * their own costs far more. Nothing stays in the draft, which may be a key.
 * @throws RangeError when `write` goes past the end
 */
export const record = (size: number, write: (view: DataView, bytes: Uint8Array) => void): Uint8Array => {
  const { view, bytes } = draftOf(size)
  try {
    write(view, bytes)
    return bytes.slice()
  } finally {
    bytes.fill(0)
  }
}

const checkSize = (bytes: Uint8Array, size: number, what: string): void => {
  if (bytes.length !== size) throw invalid("decode", what, `has ${bytes.length} bytes, expected ${size}`)
}

/** A view of a record that is no secret, until the next call. */
export const reading = (bytes: Uint8Array, size: number, what: string): DataView => {
  checkSize(bytes, size, what)
  if (size > DRAFT_SIZE) return new DataView(bytes.buffer, bytes.byteOffset, size)
  const { view, bytes: copy } = readerOf(size)
  copy.set(bytes)
  return view
}

/** A view of a record that holds a key: of its own bytes, so that none is left elsewhere. */
export const readingSecret = (bytes: Uint8Array, size: number, what: string): DataView => {
  checkSize(bytes, size, what)
  return new DataView(bytes.buffer, bytes.byteOffset, size)
}

export const IPV6_SIZE = 16

/** No address is one of zeros. */
export const optional6 = (bytes: Uint8Array, at: number): Uint8Array | undefined => {
  const address = bytes.slice(at, at + IPV6_SIZE)
  return address.some((byte) => byte !== 0) ? address : undefined
}

export const set6 = (bytes: Uint8Array, at: number, address: Uint8Array | undefined, what: string): void => {
  if (address !== undefined) bytes.set(sized(address, IPV6_SIZE, what), at)
}

/** A map key that is one little-endian u32: an index or an edge. */
export const indexKey = (index: number): Uint8Array =>
  record(4, (v) => v.setUint32(0, u32(index, "index"), true))
export const decodeIndexKey = (bytes: Uint8Array): number => reading(bytes, 4, "index").getUint32(0, true)

export const edgeIndex = (edge: number): number => bounded(edge, EDGES_MAX - 1, "edge")
export const laneIndex = (lane: number): number => bounded(lane, LANES_MAX - 1, "lane")

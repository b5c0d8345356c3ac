/** Where an edge's peer is: as the document says, as its packets show, and how large they may be on the way. */
import { invalid } from "./errors.ts"
import type { Address } from "./record-address.ts"
import {
  bounded,
  edgeIndex,
  indexKey,
  laneIndex,
  optional6,
  reading,
  record,
  set6,
  u16,
  u32,
  u64,
} from "./record-bytes.ts"
import { LANES_MAX, shapes } from "./record-shapes.ts"

/** `struct vs_edge`: where the peer is. */
export interface EdgeRecord {
  /** The peer's workflow addresses: one at least. */
  readonly peerInner?: number | undefined
  readonly peerInner6?: Uint8Array | undefined
  /** Where the peer is on the wire, in a family in which we have an address there. */
  readonly peerWire: Address
  readonly peerPort: number
  readonly lanes: number
  /** Path MTU of the wire, in bytes of outer IP packet. */
  readonly mtu: number
}

export const edgeKey = (edge: number): Uint8Array => indexKey(edgeIndex(edge))

export const encodeEdge = (edge: EdgeRecord): Uint8Array =>
  record(shapes.edges.valueSize, (v, bytes) => {
    if (edge.lanes < 1) throw invalid("encode", "lanes", "is below 1")
    v.setUint32(0, u32(edge.peerInner ?? 0, "peerInner"))
    if (typeof edge.peerWire === "number") v.setUint32(4, u32(edge.peerWire, "peerWire"))
    else set6(bytes, 32, edge.peerWire, "peerWire")
    set6(bytes, 16, edge.peerInner6, "peerInner6")
    v.setUint16(8, u16(edge.peerPort, "peerPort"))
    v.setUint16(10, bounded(edge.lanes, LANES_MAX, "lanes"), true)
    v.setUint32(12, u32(edge.mtu, "mtu"), true)
  })

export const decodeEdge = (bytes: Uint8Array): EdgeRecord => {
  const v = reading(bytes, shapes.edges.valueSize, "edge")
  return {
    peerInner: v.getUint32(0),
    peerInner6: optional6(bytes, 16),
    // Zero over IPv4 too: nothing was written.
    peerWire: v.getUint32(4) || (optional6(bytes, 32) ?? 0),
    peerPort: v.getUint16(8),
    lanes: v.getUint16(10, true),
    mtu: v.getUint32(12, true),
  }
}

/** Key of `endpoints`, `endpoints6` and `edge_stats`. */
export const endpointKey = (edge: number, lane: number): Uint8Array =>
  indexKey(edgeIndex(edge) * LANES_MAX + laneIndex(lane))

/** Value of `endpoints`: where a peer's packets come from. */
export interface EndpointRecord {
  readonly address: Address
  readonly port: number
}

/** Undefined: nothing was learnt. */
export const decodeEndpoint = (bytes: Uint8Array): EndpointRecord | undefined => {
  const v = reading(bytes, shapes.endpoints.valueSize, "endpoint")
  const [address, port] = [v.getUint32(0), v.getUint16(4)]
  return address === 0 && port === 0 ? undefined : { address, port }
}

/** What makes the programs go by the document's address again. */
export const noEndpoint = (): Uint8Array => new Uint8Array(shapes.endpoints.valueSize)

/** Value of `endpoints6`. Undefined: nothing was learnt. */
export const decodeEndpoint6 = (bytes: Uint8Array): EndpointRecord | undefined => {
  const port = reading(bytes, shapes.endpoints6.valueSize, "endpoint").getUint16(4)
  return port === 0 ? undefined : { address: bytes.slice(8, 24), port }
}

export const noEndpoint6 = (): Uint8Array => new Uint8Array(shapes.endpoints6.valueSize)

/** Value of `path_mtus`: an MTU that the network reported, and when it ends, in units of 2^30 ns of the boot clock. */
export interface PathMtu {
  readonly mtu: number
  readonly ends: bigint
}

export const decodePathMtu = (bytes: Uint8Array): PathMtu => {
  const word = reading(bytes, 8, "path MTU").getBigUint64(0, true)
  return { mtu: Number(word & 0xffffn), ends: word >> 16n }
}

export const encodePathMtu = ({ mtu, ends }: PathMtu): Uint8Array =>
  record(8, (v) => v.setBigUint64(0, u64((ends << 16n) | BigInt(u16(mtu, "mtu")), "path MTU"), true))

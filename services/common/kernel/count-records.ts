/** What the programs counted, and the packets that they dropped last. */
import { VERDICTS_MAX } from "../../../schemas/verdicts.ts"
import type { Address } from "./record-address.ts"
import { IPV6_SIZE, reading } from "./record-bytes.ts"
import { shapes } from "./record-shapes.ts"

/** `struct vs_drop`: one packet that was dropped. */
export interface DropRecord {
  /** Counts from 1 on each CPU. */
  readonly number: bigint
  readonly verdict: number
  /** Undefined: not known when it was dropped; so are the others. */
  readonly edge: number | undefined
  readonly spi: number | undefined
  readonly packet:
    | {
        readonly inner: boolean
        readonly source: Address
        readonly target: Address
        readonly sourcePort: number
        readonly targetPort: number
        readonly protocol: number
      }
    | undefined
}

const DROP_SIZE = 80
const UNKNOWN_EDGE = 0xffffffff

const decodeDrop = (v: DataView, at: number): DropRecord | undefined => {
  const number = v.getBigUint64(at, true)
  // Not there yet, or being written while it was read.
  if (number === 0n || v.getBigUint64(at + 72, true) !== number) return undefined
  const [edge, spi] = [v.getUint32(at + 20, true), v.getUint32(at + 24)]
  const version = v.getUint8(at + 66)
  const address = (from: number): Address =>
    version === 6
      ? new Uint8Array(v.buffer.slice(v.byteOffset + from, v.byteOffset + from + IPV6_SIZE))
      : v.getUint32(from)
  return {
    number,
    verdict: v.getUint32(at + 16, true),
    edge: edge === UNKNOWN_EDGE ? undefined : edge,
    spi: spi === 0 ? undefined : spi,
    packet:
      version === 0
        ? undefined
        : {
            inner: v.getUint8(at + 65) === 1,
            source: address(at + 32),
            target: address(at + 48),
            sourcePort: v.getUint16(at + 28),
            targetPort: v.getUint16(at + 30),
            protocol: v.getUint8(at + 64),
          },
  }
}

/** `struct vs_drops`, one CPU's: what was dropped last, the oldest first. */
export const decodeDrops = (bytes: Uint8Array): ReadonlyArray<DropRecord> => {
  const v = reading(bytes, shapes.drops.valueSize, "drops")
  const found: Array<DropRecord> = []
  for (let at = 8; at < bytes.length; at += DROP_SIZE) {
    const drop = decodeDrop(v, at)
    if (drop !== undefined) found.push(drop)
  }
  return found.sort((a, b) => Number(a.number - b.number))
}

/** One CPU's share of the statistics of an edge's lane. */
export interface EdgeStats {
  readonly sealedPackets: bigint
  /** Bytes of inner IP packets, as in `openedBytes`. */
  readonly sealedBytes: bigint
  readonly openedPackets: bigint
  readonly openedBytes: bigint
}

export const decodeEdgeStats = (bytes: Uint8Array): EdgeStats => {
  const v = reading(bytes, shapes.edge_stats.valueSize, "edge statistics")
  return {
    sealedPackets: v.getBigUint64(0, true),
    sealedBytes: v.getBigUint64(8, true),
    openedPackets: v.getBigUint64(16, true),
    openedBytes: v.getBigUint64(24, true),
  }
}

/** Adds one CPU's `struct vs_edge_drops` to what was counted, by verdict. Most are zero, and looked at without making numbers of them. */
export const addEdgeDrops = (bytes: Uint8Array, sums: Map<number, bigint>): void => {
  const v = reading(bytes, shapes.edge_drops.valueSize, "edge drops")
  for (let verdict = 0; verdict < VERDICTS_MAX; verdict++)
    if (v.getUint32(8 * verdict, true) !== 0 || v.getUint32(8 * verdict + 4, true) !== 0)
      sums.set(verdict, (sums.get(verdict) ?? 0n) + v.getBigUint64(8 * verdict, true))
}

/** One CPU's count of a verdict. */
export const decodeCount = (bytes: Uint8Array): bigint => reading(bytes, 8, "count").getBigUint64(0, true)

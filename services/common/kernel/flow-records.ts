/** Flows that stateful policies remember. */
import { bounded, edgeIndex, indexKey, reading, record, u8, u16, u32, u64 } from "./record-bytes.ts"
import { shapes } from "./record-shapes.ts"

/** `struct vs_flow_key`. */
export interface FlowKey {
  readonly edge: number
  readonly ownPort: number
  readonly peerPort: number
  readonly protocol: number
  readonly role: number
  /** Between the IPv6 addresses. */
  readonly v6?: boolean
}

export const encodeFlowKey = (key: FlowKey): Uint8Array =>
  record(shapes.flows.keySize, (v) => {
    v.setUint32(0, edgeIndex(key.edge), true)
    v.setUint16(4, u16(key.ownPort, "ownPort"))
    v.setUint16(6, u16(key.peerPort, "peerPort"))
    v.setUint8(8, u8(key.protocol, "protocol"))
    v.setUint8(9, bounded(key.role, 1, "role"))
    v.setUint8(10, key.v6 === true ? 1 : 0)
  })

export const decodeFlowKey = (bytes: Uint8Array): FlowKey => {
  const v = reading(bytes, shapes.flows.keySize, "flow key")
  return {
    edge: v.getUint32(0, true),
    ownPort: v.getUint16(4),
    peerPort: v.getUint16(6),
    protocol: v.getUint8(8),
    role: v.getUint8(9),
    v6: v.getUint8(10) === 1,
  }
}

/** `struct vs_flow`. */
export interface FlowRecord {
  /** When it was last seen, CLOCK_BOOTTIME nanoseconds. */
  readonly seenNs: bigint
  /** Tells it from an earlier flow with the same key. */
  readonly ticket: number
  /** `flowState` bits. */
  readonly state: number
}

export const flowState = { answered: 1, openerDone: 2, answererDone: 4, reset: 8 } as const

export const decodeFlow = (bytes: Uint8Array): FlowRecord => {
  const v = reading(bytes, shapes.flows.valueSize, "flow")
  return { seenNs: v.getBigUint64(0, true), ticket: v.getUint32(8, true), state: v.getUint32(12, true) }
}

export const encodeFlow = (flow: FlowRecord): Uint8Array =>
  record(shapes.flows.valueSize, (v) => {
    v.setBigUint64(0, u64(flow.seenNs, "seenNs"), true)
    v.setUint32(8, u32(flow.ticket, "ticket"), true)
    v.setUint32(12, u32(flow.state, "state"), true)
  })

/** Value of `flow_counts`: how many flows an edge has. */
export const decodeFlowCount = (bytes: Uint8Array): number =>
  reading(bytes, 4, "flow count").getInt32(0, true)
export const encodeFlowCount = (count: number): Uint8Array => indexKey(count)

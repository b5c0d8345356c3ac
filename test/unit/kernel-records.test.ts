import { describe, expect, it } from "vitest"
import * as records from "../../services/common/kernel/records.ts"

const secret = { key: new Uint8Array(32).fill(0xaa), salt: new Uint8Array(4).fill(0xbb), esn: true }
const edge = { peerInner: 1, peerWire: 2, peerPort: 4_500, lanes: 1, mtu: 1_500 }

describe("records are drafted in one place", () => {
  it("and hold nothing of the one before", () => {
    const clean = records.encodeEdge(edge)
    records.encodeSaIn(1, 0, secret)
    expect(records.encodeEdge(edge)).toEqual(clean)
    expect(clean.subarray(16)).toEqual(new Uint8Array(32))
  })

  it("nor of one that could not be made", () => {
    expect(() => records.encodeSaIn(1, 0, { ...secret, salt: new Uint8Array(3) })).toThrow("salt")
    expect(records.encodeEdge(edge).subarray(16)).toEqual(new Uint8Array(32))
  })

  it("each is its own", () => {
    const [first, second] = [records.indexKey(7), records.indexKey(8)]
    expect(first).toEqual(Uint8Array.of(7, 0, 0, 0))
    expect(second).toEqual(Uint8Array.of(8, 0, 0, 0))
    expect(records.decodeIndexKey(first)).toBe(7)
  })
})

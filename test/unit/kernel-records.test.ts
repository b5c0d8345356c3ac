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

  it("and none is larger than it says", () => {
    expect(() => records.record(8, (view) => view.setBigUint64(1, 1n))).toThrow(RangeError)
    expect(() => records.record(8, (_, bytes) => bytes.set([1, 1], 7))).toThrow(RangeError)
    expect(() => records.record(8, (view) => view.setUint8(8, 1))).toThrow(RangeError)
    expect(records.record(512, () => {})).toEqual(new Uint8Array(512))
  })

  it("and of a key nothing is left in either place", () => {
    const encoded = records.encodeSaIn(1, 0, secret)
    expect(records.decodeSaIn(encoded)).toEqual({ edge: 1, lane: 0, ...secret })
    expect(records.decodeSaOut(records.encodeSaOut(secret))).toEqual({ sequence: 0n, ...secret })
    let draft: Uint8Array = new Uint8Array(0)
    records.record(8, (view) => {
      draft = new Uint8Array(view.buffer)
    })
    const reader = new Uint8Array(records.reading(new Uint8Array(8), 8, "it").buffer)
    expect([draft.length, reader.length]).toEqual([512, 512])
    for (const place of [draft, reader]) {
      expect(place.includes(0xaa)).toBe(false)
      expect(place.includes(0xbb)).toBe(false)
    }
  })

  it("each is its own", () => {
    const [first, second] = [records.indexKey(7), records.indexKey(8)]
    expect(first).toEqual(Uint8Array.of(7, 0, 0, 0))
    expect(second).toEqual(Uint8Array.of(8, 0, 0, 0))
    expect(records.decodeIndexKey(first)).toBe(7)
  })
})

import { describe, expect, test } from "vitest"
import { KernelError } from "../../services/common/kernel/errors.ts"
import * as records from "../../services/common/kernel/records.ts"
import * as notes from "../../services/dataplane-loader/dataplane/notes.ts"
import {
  checkState,
  type Edge,
  type EdgeState,
  type Policy,
  reconcile,
} from "../../services/dataplane-loader/dataplane/reconcile.ts"

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

const noConfig = {
  layout: 0,
  busPort: 0,
  espPort: 0,
  wireIfindex: 0,
  innerIfindex: 0,
  mark: 0,
  innerMac: new Uint8Array(6),
}

describe("records", () => {
  test("addresses, ports and SPIs are big endian, the rest little endian", () => {
    const config = {
      layout: 1,
      innerAddress: records.parseIpv4("10.1.2.3"),
      wireAddress: records.parseIpv4("192.0.2.1"),
      busAddress: records.parseIpv4("192.0.2.250"),
      busPort: 4222,
      espPort: 4500,
      wireIfindex: 7,
      innerIfindex: 9,
      mark: 0x11223344,
      innerMac: Uint8Array.of(2, 0, 0, 0, 0, 5),
    }
    const bytes = records.encodeConfig(config)
    const start = `01000000${"0a010203"}c0000201${"c00002fa"}${"107e"}${"1194"}0700000009000000${"44332211"}0200000000050000`
    expect(hex(bytes)).toBe(start + "00".repeat(48))
    expect(records.decodeConfig(bytes)).toEqual(config)
    const six = (last: number): Uint8Array =>
      Uint8Array.from({ length: 16 }, (_, i) => (i === 15 ? last : 0xfd))
    const both = { ...config, innerAddress6: six(1), wireAddress6: six(2), busAddress6: six(3) }
    expect(hex(records.encodeConfig(both))).toBe(start + hex(six(1)) + hex(six(2)) + hex(six(3)))
    expect(records.decodeConfig(records.encodeConfig(both))).toEqual(both)
    expect(hex(records.outSaKey(3, 0x01020304))).toBe("0300000001020304")
    expect(hex(records.inSaKey(0x01020304))).toBe("01020304")
    expect(hex(records.encodeOutbound(0x01020304))).toBe("0102030400000000")
    expect(hex(records.encodeDeadline(0x0102030405060708n))).toBe("0807060504030201")
  })

  test("what is encoded comes back", () => {
    const policyKey = { peer: 0x0a000001, port: 443, protocol: 6, role: 1 } as const
    expect(records.decodePolicyKey(records.encodePolicyKey(policyKey))).toEqual(policyKey)
    const policy = { edge: 1023, flags: 0 }
    expect(records.decodePolicy(records.encodePolicy(policy))).toEqual(policy)
    const edge = { peerInner: 0xfffefdfc, peerWire: 1, peerPort: 4500, lanes: 16, mtu: 1500 }
    expect(records.decodeEdge(records.encodeEdge(edge))).toEqual(edge)
    const [one, two] = [new Uint8Array(16).fill(1), new Uint8Array(16).fill(2)]
    const edge6 = { ...edge, peerInner6: one, peerWire: two }
    expect(records.decodeEdge(records.encodeEdge(edge6))).toEqual(edge6)
    const policyKey6 = { peer: one, port: 443, protocol: 132, role: 0 } as const
    expect(records.decodePolicyKey(records.encodePolicyKey(policyKey6))).toEqual(policyKey6)
    expect([policyKey, policyKey6].map(records.policyMap)).toEqual(["policies", "policies6"])
    expect(records.decodeLaneKey(records.laneKey(5, 15))).toEqual({ edge: 5, lane: 15 })
    expect(records.decodeOutSaKey(records.outSaKey(5, 0xffffffff))).toEqual({ edge: 5, spi: 0xffffffff })
    const flow = { edge: 2, ownPort: 1, peerPort: 65535, protocol: 17, role: 0, v6: true }
    expect(records.decodeFlowKey(records.encodeFlowKey(flow))).toEqual(flow)
    const secret = { key: new Uint8Array(32).fill(7), salt: Uint8Array.of(1, 2, 3, 4), esn: true }
    expect(records.decodeSaIn(records.encodeSaIn(3, 2, secret))).toEqual({ ...secret, edge: 3, lane: 2 })
    expect(records.decodeSaOut(records.encodeSaOut(secret))).toEqual({ ...secret, sequence: 0n })
  })

  test.each<readonly [string, () => unknown]>([
    ["a reserved SPI", () => records.inSaKey(255)],
    ["an SPI of 33 bits", () => records.inSaKey(2 ** 32)],
    ["an edge beyond the table", () => records.edgeKey(1024)],
    ["a lane beyond the limit", () => records.laneKey(0, 16)],
    ["a fraction", () => records.edgeKey(1.5)],
    ["no number", () => records.edgeKey(Number.NaN)],
    [
      "a short key",
      () => records.encodeSaOut({ key: new Uint8Array(31), salt: new Uint8Array(4), esn: true }),
    ],
    [
      "a long salt",
      () => records.encodeSaOut({ key: new Uint8Array(32), salt: new Uint8Array(5), esn: true }),
    ],
    ["no lanes", () => records.encodeEdge({ peerInner: 1, peerWire: 1, peerPort: 1, lanes: 0, mtu: 1500 })],
    ["a negative deadline", () => records.encodeDeadline(-1n)],
    ["a deadline of 65 bits", () => records.encodeDeadline(1n << 64n)],
    ["a record that is too short", () => records.decodeConfig(new Uint8Array(39))],
    ["a role of 2", () => records.decodePolicyKey(Uint8Array.of(1, 2, 3, 4, 0, 0, 6, 2))],
    [
      "an IPv6 address of 15 bytes",
      () => records.encodeConfig({ ...noConfig, wireAddress6: new Uint8Array(15) }),
    ],
    [
      "a policy of 5 bytes of peer",
      () => records.encodePolicyKey({ peer: new Uint8Array(5), port: 0, protocol: 0, role: 0 }),
    ],
    ["an octet of 256", () => records.parseIpv4("10.0.0.256")],
    ["a leading zero", () => records.parseIpv4("10.0.0.01")],
    ["three octets", () => records.parseIpv4("10.0.0")],
  ])("%s is refused", (_name, act) => {
    expect(act).toThrow(KernelError)
  })

  test("addresses read as they are written", () => {
    for (const text of ["0.0.0.0", "255.255.255.255", "10.20.30.40"])
      expect(records.formatIpv4(records.parseIpv4(text))).toBe(text)
  })

  test("an encoding error never shows the key", () => {
    const key = new Uint8Array(33).fill(0xab)
    expect(() => records.encodeSaOut({ key, salt: new Uint8Array(4), esn: true })).toThrow(
      /^((?!abab|171).)*$/,
    )
  })
})

describe("notes", () => {
  test("come back as they went, and epochs are ordered by term, then number", () => {
    const key = { direction: "out", edge: 5, spi: 0xfffffff0 } as const
    expect(notes.decodeAssociationKey(notes.encodeAssociationKey(key))).toEqual(key)
    const note = { lane: 3, epoch: { term: 1n << 40n, n: 9n } }
    expect(notes.decodeAssociation(notes.encodeAssociation(note))).toEqual(note)
    expect(notes.decodeTombstone(notes.encodeTombstone(note.epoch))).toEqual(note.epoch)
    expect(notes.compareEpochs({ term: 1n, n: 9n }, { term: 2n, n: 0n })).toBe(-1)
    expect(notes.compareEpochs({ term: 2n, n: 1n }, { term: 2n, n: 0n })).toBe(1)
    expect(notes.compareEpochs({ term: 2n, n: 1n }, { term: 2n, n: 1n })).toBe(0)
    expect(() => notes.encodeTombstone({ term: -1n, n: 0n })).toThrow(KernelError)
    expect(() => notes.tombstoneKey(new Uint8Array(7), "in", 0)).toThrow(KernelError)
  })
})

describe("reconcile", () => {
  const edge = (index: number, change: Partial<Edge> = {}): Edge => ({
    index,
    id: new Uint8Array(8).fill(index + 1),
    peerInner: 0x0a000000 + index,
    peerWire: 0xc0000200 + index,
    peerPort: 4500,
    lanes: 2,
    mtu: 1500,
    ...change,
  })
  const policy = (peer: number, edgeIndex: number, change: Partial<Policy> = {}): Policy => ({
    peer,
    port: 80,
    protocol: 6,
    role: 0,
    edge: edgeIndex,
    flags: 0,
    ...change,
  })
  const empty: EdgeState = { edges: [], policies: [] }
  const two: EdgeState = { edges: [edge(0), edge(1)], policies: [policy(1, 0), policy(2, 1)] }
  const nothing = { removePolicies: [], purge: [], removeEdges: [], putEdges: [], putPolicies: [] }

  test("from nothing everything is put, and then nothing is left to do", () => {
    expect(reconcile(empty, two)).toEqual({ ...nothing, putEdges: two.edges, putPolicies: two.policies })
    expect(
      reconcile(two, { edges: [...two.edges].reverse(), policies: [...two.policies].reverse() }),
    ).toEqual(nothing)
  })

  test("what vanished is removed, with the keys of its edge", () => {
    const plan = reconcile(two, { edges: [edge(1)], policies: [policy(2, 1)] })
    expect(plan).toEqual({ ...nothing, removePolicies: [policy(1, 0)], purge: [0], removeEdges: [0] })
    expect(reconcile(two, empty)).toMatchObject({ purge: [0, 1], removeEdges: [0, 1], putEdges: [] })
  })

  test("a new place of the peer on the wire keeps the keys", () => {
    const moved = edge(0, { peerWire: 99, peerPort: 4501, mtu: 1400, lanes: 1 })
    expect(reconcile(two, { ...two, edges: [moved, edge(1)] })).toEqual({ ...nothing, putEdges: [moved] })
  })

  test.each([
    ["another peer", { peerInner: 99 }],
    ["another edge under the same index", { id: new Uint8Array(8).fill(77) }],
  ])("%s loses the keys, and its policies are away meanwhile", (_name, change) => {
    const other = edge(0, change)
    expect(reconcile(two, { ...two, edges: [other, edge(1)] })).toEqual({
      removePolicies: [policy(1, 0)],
      purge: [0],
      removeEdges: [],
      putEdges: [other],
      putPolicies: [policy(1, 0)],
    })
  })

  test("a policy that moves to another edge is replaced in place", () => {
    const plan = reconcile(two, { ...two, policies: [policy(1, 1), policy(2, 1)] })
    expect(plan).toEqual({ ...nothing, putPolicies: [policy(1, 1)] })
  })

  test.each<readonly [string, EdgeState, RegExp]>([
    ["an index twice", { edges: [edge(0), edge(0, { id: new Uint8Array(8) })], policies: [] }, /edge index/],
    ["an id twice", { edges: [edge(0), edge(1, { id: edge(0).id })], policies: [] }, /edge id/],
    ["a short id", { edges: [edge(0, { id: new Uint8Array(7) })], policies: [] }, /edge id/],
    ["an index out of range", { edges: [edge(1024)], policies: [] }, /edge index/],
    ["a policy of no edge", { edges: [edge(0)], policies: [policy(1, 1)] }, /names edge 1/],
    [
      "two policies of one key",
      { edges: [edge(0), edge(1)], policies: [policy(1, 0), policy(1, 1)] },
      /same key/,
    ],
    [
      "too many policies",
      { edges: [edge(0)], policies: Array.from({ length: 4097 }, (_, i) => policy(i, 0)) },
      /more than 4096/,
    ],
  ])("%s is refused", (_name, state, message) => {
    expect(() => checkState(state)).toThrow(message)
    expect(() => reconcile(empty, state)).toThrow(KernelError)
  })
})

/** Where sealed packets go: to the document's address until the peer, and nobody else, was heard from another. */
import { afterEach, describe, expect, test } from "vitest"
import { parseIpv4 } from "../../services/common/kernel/records.ts"
import { ETHERNET, esp, frame, type Outer, outerPacket, udpPacket } from "./packets.ts"
import {
  type EdgeKeys,
  ESP_PORT,
  edge1,
  edge2,
  fromPeer,
  LANES,
  type Outcome,
  own,
  ownWire,
  PEER_PORT,
  type Plane,
  peer,
  peerWire,
  readyPlane,
} from "./plane.ts"
import { bytes, incoming, request } from "./traffic.ts"

const planes: Array<Plane> = []
afterEach(() => {
  for (const plane of planes.splice(0)) plane.close()
})
const ready = (): Plane => {
  const plane = readyPlane()
  planes.push(plane)
  return plane
}
const elsewhere = parseIpv4("198.51.100.7")
const target = (out: Outcome): readonly [number, number, number] => {
  expect(out.verdict).toBe("SEALED")
  const view = new DataView(out.packet.buffer)
  return [
    view.getUint32(ETHERNET + 16),
    view.getUint16(ETHERNET + 22),
    view.getUint16(ETHERNET + 20) - ESP_PORT,
  ]
}
const arrive = (plane: Plane, sequence: bigint, from: Partial<Outer>, by: EdgeKeys = edge2): string =>
  plane.run("vs_open", frame(outerPacket({ ...fromPeer(), ...from }, esp(by.in, sequence, incoming()))))
    .verdict

test("the peer is where it says, as long as it says so", () => {
  const plane = ready()
  expect(arrive(plane, 1n, {})).toBe("OPENED")
  expect(plane.learnt(2)).toBeUndefined()
  expect(arrive(plane, 2n, { source: elsewhere, from: 1234 })).toBe("OPENED")
  expect(plane.learnt(2)).toEqual({ address: elsewhere, port: 1234 })
  expect(arrive(plane, 3n, {})).toBe("OPENED")
  expect(plane.learnt(2)).toEqual({ address: peerWire, port: ESP_PORT })
})

test("the sealer sends where the peer was heard last, on every lane; other edges are not moved", () => {
  const plane = ready()
  const answer = udpPacket({ source: peer, target: own, from: PEER_PORT, to: 40_000 }, bytes(8))
  expect(target(plane.run("vs_seal", frame(request()))).slice(0, 2)).toEqual([peerWire, ESP_PORT])
  const heard = frame(
    outerPacket({ ...fromPeer(), source: elsewhere, from: 1234 }, esp(edge1.in, 1n, answer)),
  )
  expect(plane.run("vs_open", heard).verdict).toBe("OPENED")
  const lanes = new Set<number>()
  for (let port = 40_000; port < 40_050; port++) {
    const [address, to, lane] = target(plane.run("vs_seal", frame(request(bytes(4), port))))
    expect([address, to]).toEqual([elsewhere, 1234])
    lanes.add(lane)
  }
  expect(lanes.size).toBe(LANES)
  expect(plane.learnt(2)).toBeUndefined()
})

describe("a spoofed source moves nothing", () => {
  const spoofed = { source: elsewhere, from: 1234 }
  const begin = (): Plane => {
    const plane = ready()
    expect(arrive(plane, 100n, {})).toBe("OPENED")
    return plane
  }
  test("on a forgery", () => {
    const plane = begin()
    const packet = frame(outerPacket({ ...fromPeer(), ...spoofed }, esp(edge2.in, 101n, incoming())))
    packet[packet.length - 1] = (packet[packet.length - 1] ?? 0) ^ 1
    expect(plane.run("vs_open", packet).verdict).toBe("BAD_TAG")
    expect(plane.learnt(2)).toBeUndefined()
  })
  test("on a replay", () => {
    const plane = begin()
    expect(arrive(plane, 100n, spoofed)).toBe("REPLAYED")
    expect(plane.learnt(2)).toBeUndefined()
  })
  test("on an authentic packet that was held back", () => {
    const plane = begin()
    expect(arrive(plane, 99n, spoofed)).toBe("OPENED")
    expect(plane.learnt(2)).toBeUndefined()
  })
  test("on an unknown SPI", () => {
    const plane = begin()
    expect(arrive(plane, 101n, spoofed, { ...edge2, in: { ...edge2.in, spi: 0x9999 } })).toBe("UNKNOWN_SPI")
    expect(plane.learnt(2)).toBeUndefined()
  })
  test.each(["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1"])(
    "to %s, which is no peer's, even on the newest",
    (source) => {
      const plane = begin()
      expect(parseIpv4("192.0.2.1")).toBe(ownWire)
      expect(arrive(plane, 101n, { source: parseIpv4(source) })).toBe("OPENED")
      expect(arrive(plane, 102n, { from: 0 })).toBe("OPENED")
      expect(plane.learnt(2)).toBeUndefined()
    },
  )
})

test("a NAT's ports: each lane's own, known by its packets", () => {
  const plane = ready()
  const other = { ...edge2, in: { ...edge2.in, spi: 0x2502 }, out: { ...edge2.out, spi: 0x1502 } }
  plane.keys(other, 0n, 3)
  expect(arrive(plane, 1n, { source: elsewhere, from: 30_000 })).toBe("OPENED")
  expect(plane.learnt(2, 3), "the only way that is known").toEqual({ address: elsewhere, port: 30_000 })
  expect(arrive(plane, 1n, { source: elsewhere, from: 30_003 }, other)).toBe("OPENED")
  expect(plane.learnt(2, 3)).toEqual({ address: elsewhere, port: 30_003 })
  expect(plane.learnt(2, 0)).toEqual({ address: elsewhere, port: 30_000 })
  expect(arrive(plane, 2n, { source: elsewhere, from: ESP_PORT + 3 }, other)).toBe("OPENED")
  expect(plane.learnt(2, 3), "no NAT: the port that the document names").toEqual({
    address: elsewhere,
    port: ESP_PORT,
  })
  expect(arrive(plane, 3n, { source: elsewhere, from: 30_003, to: ESP_PORT + 3 }, other)).toBe("OPENED")
})

test("both directions of a flow use one lane", () => {
  const plane = ready().allow({ peer: own, port: 40_000, protocol: 17, role: 0 }, 1)
  for (let port = 1; port < 60; port++) {
    const [, , there] = target(plane.run("vs_seal", frame(request(bytes(4), port))))
    plane.configure({ innerAddress: peer }).endpoint(1, { peerInner: own })
    plane.allow({ peer: own, port, protocol: 17, role: 0 }, 1)
    const back = udpPacket({ source: peer, target: own, from: PEER_PORT, to: port }, bytes(4))
    expect(target(plane.run("vs_seal", frame(back)))[2]).toBe(there)
    plane.configure().endpoint(1)
  }
})

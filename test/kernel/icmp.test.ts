/** ICMP errors inside the tunnel: beside flows that live, in both directions, and never else. */
import { afterEach, describe, expect, test } from "vitest"
import { bootNow } from "../../services/common/kernel/clock.ts"
import {
  checksum,
  concat,
  ETHERNET,
  frame,
  hex,
  ICMP,
  icmpPacket,
  ipv4,
  tcpPacket,
  UDP,
  udpPacket,
} from "./packets.ts"
import {
  DROP,
  edge1,
  edge2,
  edge3,
  OWN_PORT,
  own,
  PEER_PORT,
  type Plane,
  peer,
  readyPlane,
  stranger,
} from "./plane.ts"
import { answer, bytes, incoming, reply, request, sealedBy } from "./traffic.ts"

const planes: Array<Plane> = []
afterEach(() => {
  for (const plane of planes.splice(0)) plane.close()
})
const ready = (): Plane => {
  const plane = readyPlane()
  planes.push(plane)
  return plane
}
const seal = "vs_seal"
const open = "vs_open"

/** An error from `source` about a packet; it quotes the header and `keep` bytes in all. */
const errorAbout = (
  packet: Uint8Array,
  { type = 3, code = 3, keep = 28, source = own, target = peer, mtu = 0 } = {},
): Uint8Array => {
  const head = Uint8Array.of(type, code)
  const rest = concat(hex("0000"), Uint8Array.of(mtu >> 8, mtu & 255), packet.slice(0, keep))
  const sum = checksum(head, Uint8Array.of(0, 0), rest)
  return ipv4({ source, target, protocol: ICMP }, concat(head, Uint8Array.of(sum >> 8, sum & 255), rest))
}
const there = { source: own, target: peer }

describe("from the application", () => {
  test("about what the peer asked: after it asked", () => {
    const plane = ready()
    const asked = incoming()
    const error = frame(errorAbout(asked))
    expect(plane.run(seal, error)).toMatchObject({ verdict: "STRAY_ICMP", retval: DROP })
    expect(plane.run(open, sealedBy(edge2, 1n, asked)).verdict).toBe("OPENED")
    const out = plane.run(seal, error)
    expect(out.verdict).toBe("SEALED")
    expect(new DataView(out.packet.buffer).getUint32(ETHERNET + 28), "on the edge of the flow").toBe(
      edge2.out.spi,
    )
  })

  test("about the peer's answer to what we asked", () => {
    const plane = ready()
    expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
    expect(plane.run(seal, frame(errorAbout(answer()))).verdict).toBe("SEALED")
  })
})

describe("from the peer", () => {
  const about = (packet: Uint8Array, more = {}): Uint8Array =>
    errorAbout(packet, { source: peer, target: own, ...more })

  test.each([
    ["UDP", request(), 28],
    ["TCP", tcpPacket({ ...there, from: 40_000, to: PEER_PORT }, bytes(100)), 28],
    ["an echo", icmpPacket(there, 8, 77, bytes(56)), 28],
    ["all of it", request(bytes(400)), 428],
  ])("about what we sent: %s", (_, packet, keep) => {
    const plane = ready()
    expect(plane.run(seal, frame(packet)).verdict).toBe("SEALED")
    const error = about(packet, { code: 4, mtu: 1300, keep })
    const out = plane.run(open, sealedBy(edge1, 1n, error))
    expect(out.verdict).toBe("OPENED")
    expect(out.packet.subarray(ETHERNET)).toEqual(error)
  })

  test.each([
    [3, 15, "OPENED"],
    [3, 16, "NO_POLICY"],
    [11, 0, "OPENED"],
    [11, 2, "NO_POLICY"],
    [12, 2, "OPENED"],
    [12, 3, "NO_POLICY"],
    [4, 0, "NO_POLICY"],
    [5, 1, "NO_POLICY"],
    [9, 0, "NO_POLICY"],
    [13, 0, "NO_POLICY"],
  ])("type %i, code %i: %s", (type, code, verdict) => {
    const plane = ready()
    expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
    expect(plane.run(open, sealedBy(edge1, 1n, about(request(), { type, code }))).verdict).toBe(verdict)
  })

  test.each([
    ["another of our ports", udpPacket({ ...there, from: 40_001, to: PEER_PORT }, bytes(8))],
    ["another port of the peer's", udpPacket({ ...there, from: 40_000, to: PEER_PORT + 1 }, bytes(8))],
    ["another protocol", tcpPacket({ ...there, from: 40_000, to: PEER_PORT }, bytes(8))],
    ["the packet turned round", answer()],
    [
      "a packet to somebody else",
      udpPacket({ source: own, target: stranger, from: 40_000, to: PEER_PORT }, bytes(8)),
    ],
    [
      "a packet from somebody else",
      udpPacket({ source: stranger, target: peer, from: 40_000, to: PEER_PORT }, bytes(8)),
    ],
    ["a later fragment", udpPacket({ ...there, from: 40_000, to: PEER_PORT }, bytes(8), { fragment: 100 })],
    ["options", udpPacket({ ...there, from: 40_000, to: PEER_PORT }, bytes(8), { versionIhl: 0x46 })],
    ["an error", errorAbout(request())],
    ["a protocol without ports", ipv4({ ...there, protocol: 50 }, bytes(40))],
    ["seven bytes", request().slice(0, 27)],
  ])("that quotes %s", (_, quoted) => {
    const plane = ready()
    expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
    expect(plane.run(open, sealedBy(edge1, 1n, about(quoted)))).toMatchObject({
      verdict: "STRAY_ICMP",
      retval: DROP,
    })
  })

  test("over another edge's key", () => {
    const plane = ready()
    expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
    for (const edge of [edge2, edge3])
      expect(plane.run(open, sealedBy(edge, 1n, about(request()))).verdict).toBe("STRAY_ICMP")
  })

  test("it opens no flow, and keeps none alive", () => {
    const plane = ready()
    const key = { edge: 1, ownPort: 40_000, peerPort: PEER_PORT, protocol: UDP, role: 0 }
    expect(plane.run(open, sealedBy(edge1, 1n, about(request()))).verdict).toBe("STRAY_ICMP")
    expect(plane.run(seal, frame(errorAbout(answer()))).verdict).toBe("STRAY_ICMP")
    expect(plane.map("flows").keys()).toEqual([])
    const seen = BigInt.asUintN(64, bootNow() - 100_000_000_000n)
    plane.setFlow(key, seen)
    expect(plane.run(open, sealedBy(edge1, 2n, about(request()))).verdict).toBe("OPENED")
    expect(plane.flow(key)).toBe(seen)
    plane.setFlow(key, BigInt.asUintN(64, bootNow() - 180_000_000_000n))
    expect(plane.run(open, sealedBy(edge1, 3n, about(request()))).verdict).toBe("STRAY_ICMP")
  })

  test("an edge that the peer opens is no way in for errors about nothing", () => {
    const plane = ready()
    for (const quoted of [reply(), udpPacket({ ...there, from: OWN_PORT, to: 50_000 }, bytes(8))])
      expect(plane.run(open, sealedBy(edge2, BigInt(quoted.length), about(quoted))).verdict).toBe(
        "STRAY_ICMP",
      )
  })
})

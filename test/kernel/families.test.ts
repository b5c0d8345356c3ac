/** IPv4 and IPv6, inside and on the wire, in all four combinations: bytes, fields, lengths, neighbours' frames. */
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import {
  checksum6,
  ETHERNET,
  esp,
  frame,
  frame6,
  icmpPacket,
  icmpPacket6,
  ipv4,
  ipv6,
  outerPacket,
  outerPacket6,
  SCTP,
  sctpSegment,
  tcpPacket6,
  UDP,
  udpPacket,
  udpPacket6,
} from "./packets.ts"
import {
  DROP,
  defaultConfig,
  ESP_PORT,
  edge1,
  edge2,
  LANES,
  MARK,
  OWN_PORT,
  own,
  ownWire,
  PEER_PORT,
  type Plane,
  peer,
  peerWire,
  REDIRECT,
} from "./plane.ts"
import {
  type Family,
  families,
  here,
  own6,
  ownWire6,
  peer6,
  peerWire6,
  readyPlane6,
  request6,
  sender,
  there,
} from "./plane6.ts"
import { bytes } from "./traffic.ts"

const planes = new Map<Family, Plane>()
const sends = { 4: sender(4, edge2), 6: sender(6, edge2) }
beforeAll(() => {
  for (const family of families) planes.set(family, readyPlane6(family))
})
afterAll(() => {
  for (const plane of planes.values()) plane.close()
})
const over = (family: Family): Plane => {
  const plane = planes.get(family)
  if (plane === undefined) throw new Error("no plane")
  return plane
}

const outgoing = (inner: Family, payload: Uint8Array, tos = 0): Uint8Array =>
  inner === 4
    ? udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, payload, { tos })
    : udpPacket6(there, payload, { trafficClass: tos })
const arrivingPacket = (inner: Family, payload: Uint8Array, tos = 0): Uint8Array =>
  inner === 4
    ? udpPacket({ source: peer, target: own, from: 50_000, to: OWN_PORT }, payload, { tos })
    : udpPacket6(here, payload, { trafficClass: tos })
const wrap = (inner: Family, packet: Uint8Array): Uint8Array => (inner === 4 ? frame(packet) : frame6(packet))

/** Takes a sealed frame apart: what its outer header says, and the ESP packet. */
const outerOf = (outer: Family, packet: Uint8Array) => {
  const ip = packet.subarray(ETHERNET)
  const head = outer === 4 ? 20 : 40
  const view = new DataView(ip.buffer, ip.byteOffset)
  return {
    from: view.getUint16(head),
    tos: outer === 4 ? (ip[1] ?? 0) : (view.getUint16(0) >> 4) & 0xff,
    label: outer === 4 ? 0 : view.getUint32(0) & 0xfffff,
    sequence: BigInt(view.getUint32(head + 12)),
    ip,
    type: new DataView(packet.buffer, packet.byteOffset).getUint16(12),
  }
}

const pairs = families.flatMap((inner) => families.map((outer) => [inner, outer] as const))
const lengths = [0, 1, 2, 3, 4, 12, 63, 64, 65, 500, 1370]

describe.each(pairs)("IPv%i inside, IPv%i on the wire", (inner, outer) => {
  test.each(lengths)("%i bytes: sealed as another implementation would", (length) => {
    const packet = outgoing(inner, bytes(length))
    const out = over(outer).run("vs_seal", wrap(inner, packet))
    expect(out).toMatchObject({ verdict: "SEALED", retval: REDIRECT, mark: MARK })
    const { from, label, sequence, ip, type } = outerOf(outer, out.packet)
    expect(from - ESP_PORT).toBeLessThan(LANES)
    expect(type).toBe(outer === 4 ? 0x0800 : 0x86dd)
    const sealed = esp(edge1.out, sequence, packet)
    const expected =
      outer === 4
        ? outerPacket({ source: ownWire, target: peerWire, from, to: ESP_PORT }, sealed)
        : outerPacket6({ source: ownWire6, target: peerWire6, from, to: ESP_PORT, label }, sealed)
    expect(ip).toEqual(expected)
    expect(over(outer).run("vs_guard", out.packet, { mark: MARK }).verdict).toBe("SEALED_OUT")
  })

  test.each(lengths)("%i bytes: opened", (length) => {
    const packet = arrivingPacket(inner, bytes(length))
    const out = over(outer).run("vs_open", sends[outer](packet))
    expect(out).toMatchObject({ verdict: "OPENED", retval: REDIRECT, mark: MARK })
    expect(out.packet.subarray(ETHERNET)).toEqual(packet)
    expect(out.packet.subarray(0, 6)).toEqual(defaultConfig.innerMac)
    expect(new DataView(out.packet.buffer).getUint16(12)).toBe(inner === 4 ? 0x0800 : 0x86dd)
  })

  test("DSCP and ECN go out as they are, and the peer's own DSCP stays", () => {
    for (let tos = 0; tos < 256; tos += 3) {
      const out = over(outer).run("vs_seal", wrap(inner, outgoing(inner, bytes(8), tos)))
      expect([out.verdict, outerOf(outer, out.packet).tos]).toEqual(["SEALED", tos])
    }
  })

  /** RFC 6040 figure 4: rows the inner field, columns the outer; Not-ECT, ECT(1), ECT(0), CE; -1 is a drop. */
  const table = [
    [0, 0, 0, -1],
    [1, 1, 1, 3],
    [2, 1, 2, 3],
    [3, 3, 3, 3],
  ]
  test("ECN is combined on arrival", () => {
    for (const [own, row] of table.entries())
      for (const [met, expected] of row.entries()) {
        const [dscp, payload] = [46 << 2, bytes(16)]
        const packet = arrivingPacket(inner, payload, dscp | own)
        const out = over(outer).run("vs_open", sends[outer](packet, (8 << 2) | met))
        if (expected < 0) {
          expect(out).toMatchObject({ verdict: "CONGESTED", retval: DROP })
          continue
        }
        expect(out.verdict).toBe("OPENED")
        expect(out.packet.subarray(ETHERNET)).toEqual(arrivingPacket(inner, payload, dscp | expected))
      }
  })

  test("the wire of 1,500 bytes carries what fits and not a byte more", () => {
    const most = outer === 4 ? 1438 : 1418
    const head = inner === 4 ? 28 : 48
    const fits = over(outer).run("vs_seal", wrap(inner, outgoing(inner, bytes(most - head))))
    expect(fits.verdict).toBe("SEALED")
    expect(fits.packet.length - ETHERNET).toBe(1500)
    expect(over(outer).run("vs_seal", wrap(inner, outgoing(inner, bytes(most - head + 1)))).verdict).toBe(
      "TOO_LONG",
    )
  })
})

describe("the outer IPv6 header", () => {
  test("has one flow label for each lane, and another for another lane", () => {
    const labels = new Map<number, Set<number>>()
    for (let port = 0; port < 64; port++) {
      const packet = udpPacket6({ ...there, from: 20_000 + port }, bytes(port))
      const { from, label } = outerOf(6, over(6).run("vs_seal", frame6(packet)).packet)
      labels.set(from, (labels.get(from) ?? new Set()).add(label))
    }
    expect(labels.size).toBe(LANES)
    expect([...labels.values()].every((of) => of.size === 1)).toBe(true)
    expect(new Set([...labels.values()].flatMap((of) => [...of])).size).toBe(LANES)
    expect([...labels.values()].some((of) => of.has(0))).toBe(false)
  })

  test("has a UDP checksum that is right for every length, and never zero", () => {
    for (let length = 0; length < 1370; length += 7) {
      const { ip } = outerOf(6, over(6).run("vs_seal", frame6(request6(bytes(length)))).packet)
      const pair = { source: ip.subarray(8, 24), target: ip.subarray(24, 40) }
      expect(checksum6(pair, UDP, ip.subarray(40))).toBe(0)
      expect(new DataView(ip.buffer, ip.byteOffset).getUint16(46)).not.toBe(0)
    }
  })

  test("a packet of several sums over a wire that takes it", () => {
    const plane = over(6).endpoint(1, { peerInner6: peer6, peerWire: peerWire6, mtu: 9000 })
    const out = plane.run("vs_seal", frame6(request6(bytes(3300))))
    expect(out.verdict).toBe("SEALED")
    const ip = out.packet.subarray(ETHERNET)
    expect(checksum6({ source: ownWire6, target: peerWire6 }, UDP, ip.subarray(40))).toBe(0)
    plane.endpoint(1, { peerInner6: peer6, peerWire: peerWire6 })
  })
})

describe("both directions of a flow keep to one lane", () => {
  test.each(families)("IPv%i inside", (inner) => {
    const plane = over(6)
    for (let port = 0; port < 32; port++) {
      const from = 30_000 + port
      const asked =
        inner === 4
          ? udpPacket({ source: own, target: peer, from, to: PEER_PORT }, bytes(4))
          : udpPacket6({ ...there, from }, bytes(4))
      const back =
        inner === 4
          ? udpPacket({ source: own, target: peer, from: PEER_PORT, to: from }, bytes(4))
          : udpPacket6({ source: own6, target: peer6, from: PEER_PORT, to: from }, bytes(4))
      plane.allow({ peer: inner === 4 ? peer : peer6, port: from, protocol: UDP, role: 0 }, 1)
      const lane = (packet: Uint8Array): number =>
        outerOf(6, plane.run("vs_seal", wrap(inner, packet)).packet).from
      expect(lane(asked)).toBe(lane(back))
    }
  })
})

describe.each(families)("over IPv%i, every kind of inner packet", (outer) => {
  const echo6 = (type: number, id: number, pair: { source: Uint8Array; target: Uint8Array }) =>
    icmpPacket6(pair, type, Uint8Array.of(id >> 8, id & 255, 0, 1, 1, 2, 3, 4))
  test("TCP, SCTP and echo over IPv6, asked and answered", () => {
    const plane = over(outer)
    const send = sender(outer, edge1)
    const back = { source: peer6, target: own6, from: PEER_PORT, to: 40_000 }
    for (const [asked, answered] of [
      [tcpPacket6(there, bytes(0), { flags: 2 }), tcpPacket6(back, bytes(0), { flags: 0x12 })],
      [
        ipv6({ ...there, next: SCTP }, sctpSegment(40_000, PEER_PORT, 1)),
        ipv6({ ...back, next: SCTP }, sctpSegment(PEER_PORT, 40_000, 2)),
      ],
      [echo6(128, 7, there), echo6(129, 7, back)],
    ] as const) {
      const before = plane.run("vs_open", send(answered))
      expect(before).toMatchObject({ verdict: "NO_POLICY", retval: DROP })
      expect(plane.run("vs_seal", frame6(asked)).verdict).toBe("SEALED")
      const out = plane.run("vs_open", send(answered))
      expect(out.verdict).toBe("OPENED")
      expect(out.packet.subarray(ETHERNET)).toEqual(answered)
    }
  })

  test("a flow of one family lets nothing in of the other", () => {
    const plane = over(outer).forget()
    const send = sender(outer, edge1)
    expect(
      plane.run(
        "vs_seal",
        frame(udpPacket({ source: own, target: peer, from: 41_000, to: PEER_PORT }, bytes(4))),
      ).verdict,
    ).toBe("SEALED")
    const back6 = udpPacket6({ source: peer6, target: own6, from: PEER_PORT, to: 41_000 }, bytes(4))
    const back4 = udpPacket({ source: peer, target: own, from: PEER_PORT, to: 41_000 }, bytes(4))
    expect(plane.run("vs_open", send(back6)).verdict).toBe("NO_POLICY")
    expect(plane.run("vs_open", send(back4)).verdict).toBe("OPENED")
    expect(
      plane.flow({ edge: 1, ownPort: 41_000, peerPort: PEER_PORT, protocol: UDP, role: 0 }),
    ).toBeDefined()
    expect(
      plane.flow({ edge: 1, ownPort: 41_000, peerPort: PEER_PORT, protocol: UDP, role: 0, v6: true }),
    ).toBeUndefined()
    expect(
      plane.run("vs_seal", frame(icmpPacket({ source: own, target: peer }, 8, 9, bytes(8)))).verdict,
    ).toBe("SEALED")
    expect(plane.run("vs_open", send(echo6(129, 9, { source: peer6, target: own6 }))).verdict).toBe(
      "NO_POLICY",
    )
  })
})

test("IPv4 SCTP is judged by its ports", () => {
  const plane = over(4)
  const packet = (to: number) =>
    frame(ipv4({ source: own, target: peer, protocol: SCTP }, sctpSegment(40_000, to, 1)))
  expect(plane.run("vs_seal", packet(PEER_PORT)).verdict).toBe("SEALED")
  expect(plane.run("vs_seal", packet(PEER_PORT + 1)).verdict).toBe("NO_POLICY")
})

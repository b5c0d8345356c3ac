/** What the sealer and the opener take of IPv6: headers, policies, ICMPv6 errors, lengths that the application is told. */
import { afterAll, beforeEach, describe, expect, test } from "vitest"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { DropReader } from "../../services/dataplane-loader/dataplane/drops.ts"
import {
  checksum6,
  concat,
  ETHERNET,
  frame,
  frame6,
  hex,
  ICMP,
  ICMPV6,
  icmpPacket,
  icmpPacket6,
  ipv4,
  ipv6,
  SCTP,
  sctpSegment,
  TCP,
  tcpPacket6,
  UDP,
  udpPacket6,
} from "./packets.ts"
import { DROP, defaultConfig, edge1, edge2, MARK, OWN_PORT, own, PEER_PORT, peer, REDIRECT } from "./plane.ts"
import {
  arriving,
  config6,
  incoming6,
  own6,
  peer6,
  peerWire6,
  readyPlane6,
  request6,
  sender,
  stranger6,
  there,
} from "./plane6.ts"
import { bytes, request } from "./traffic.ts"

const plane = readyPlane6(6)
afterAll(() => plane.close())
beforeEach(() => {
  plane.forget()
  for (const keys of [edge1, edge2]) send[keys.edge as 1 | 2] = sender(6, keys)
  // Other tests' numbers are forgotten with the windows.
})
const send: Record<1 | 2, (inner: Uint8Array, tos?: number) => Uint8Array> = {
  1: sender(6, edge1),
  2: sender(6, edge2),
}
const seal = (packet: Uint8Array): string => plane.run("vs_seal", frame6(packet)).verdict
const open = (packet: Uint8Array, by: 1 | 2 = 2): string => plane.run("vs_open", send[by](packet)).verdict
const udp = request6().subarray(40)
/** A packet whose UDP datagram comes after an extension header of eight bytes. */
const extended = (next: number, source = own6, target = peer6): Uint8Array =>
  ipv6({ source, target, next }, concat(Uint8Array.of(UDP, 0, 1, 4, 0, 0, 0, 0), udp))

describe("headers", () => {
  test.each([
    [0, "hop-by-hop options"],
    [43, "a routing header"],
    [60, "destination options"],
    [135, "mobility"],
    [139, "host identity"],
    [140, "shim6"],
    [59, "nothing behind it"],
  ])("next header %i, %s: dropped, either way, also where any protocol is allowed", (next) => {
    expect(seal(extended(next))).toBe("EXTENSION")
    expect(open(extended(next, peer6, own6))).toBe("EXTENSION")
    plane
      .allow({ peer: peer6, port: 0, protocol: 0, role: 0 }, 1)
      .allow({ peer: peer6, port: 0, protocol: 0, role: 1 }, 2)
    expect(seal(extended(next))).toBe("EXTENSION")
    expect(open(extended(next, peer6, own6))).toBe("EXTENSION")
    disallowAny()
  })

  test.each([
    ["a first fragment", hex("1100 0001 00000001")],
    ["a later fragment", hex("1100 0100 00000001")],
    ["an atomic fragment", hex("1100 0000 00000001")],
  ])("%s is dropped, either way", (_, header) => {
    for (const [source, target, run] of [
      [own6, peer6, seal],
      [peer6, own6, open],
    ] as const)
      expect(run(ipv6({ source, target, next: 44 }, concat(header, udp)))).toBe("FRAGMENT")
  })

  const whole = request6()
  test.each<readonly [string, Uint8Array]>([
    ["version 4 in an IPv6 frame", ipv6({ ...there, next: UDP, version: 4 }, udp)],
    ["version 7", ipv6({ ...there, next: UDP, version: 7 }, udp)],
    ["a payload longer than the frame", ipv6({ ...there, next: UDP, payloadLength: udp.length + 1 }, udp)],
    ["a jumbogram's length of zero", ipv6({ ...there, next: UDP, payloadLength: 0 }, udp)],
    [
      "a UDP length that is short",
      ipv6({ ...there, next: UDP }, concat(udp.subarray(0, 4), hex("0007"), udp.subarray(6))),
    ],
    ["no room for UDP", ipv6({ ...there, next: UDP }, udp.subarray(0, 7))],
    ["no room for TCP", ipv6({ ...there, next: TCP }, new Uint8Array(19))],
    [
      "a TCP header longer than the packet",
      ipv6({ ...there, next: TCP }, concat(new Uint8Array(12), hex("60"), new Uint8Array(7))),
    ],
    [
      "a TCP header of four words",
      ipv6({ ...there, next: TCP }, concat(new Uint8Array(12), hex("40"), new Uint8Array(7))),
    ],
    ["no room for a chunk of SCTP", ipv6({ ...there, next: SCTP }, new Uint8Array(15))],
    ["no room for ICMPv6", ipv6({ ...there, next: ICMPV6 }, new Uint8Array(7))],
  ])("%s is malformed", (_, packet) => {
    expect(seal(packet)).toBe("BAD_IPV6")
  })

  test("half a header, authentic", () => {
    expect(open(whole.slice(0, 39))).toBe("BAD_IPV6")
    expect(open(whole.slice(0, 24))).toBe("BAD_IPV6")
  })

  test("bytes after the packet's end go nowhere", () => {
    const out = plane.run("vs_seal", frame6(concat(whole, bytes(6))))
    expect(out.verdict).toBe("SEALED")
    expect(out.packet.length).toBe(plane.run("vs_seal", frame6(whole)).packet.length)
  })

  test("an authentic packet of the wrong addresses", () => {
    for (const packet of [
      udpPacket6({ source: stranger6, target: own6, from: 50_000, to: OWN_PORT }, bytes(8)),
      udpPacket6({ source: peer6, target: stranger6, from: 50_000, to: OWN_PORT }, bytes(8)),
      udpPacket6({ source: peer6, target: peer6, from: 50_000, to: OWN_PORT }, bytes(8)),
    ])
      expect(open(packet)).toBe("WRONG_INNER")
    expect(seal(udpPacket6({ ...there, source: stranger6 }, bytes(8)))).toBe("WRONG_SOURCE")
    expect(seal(udpPacket6({ ...there, target: stranger6 }, bytes(8)))).toBe("NO_POLICY")
    expect(seal(udpPacket6({ ...there, target: hexAddress("ff02::1") }, bytes(8)))).toBe("NO_POLICY")
  })

  test("the trailer's next header and the packet's version are the same", () => {
    const wrong = plane.run("vs_open", arriving(6, edge2.in, 50n, request().fill(0x60, 0, 1)))
    expect(wrong.verdict).not.toBe("OPENED")
  })

  test("a node, or a peer, without IPv6 inside: addresses of zeros are nobody's", () => {
    const none = new Uint8Array(16)
    plane.configure({ ...config6, innerAddress6: undefined })
    expect(seal(request6())).toBe("WRONG_SOURCE")
    expect(seal(udpPacket6({ ...there, source: none }, bytes(8)))).toBe("WRONG_SOURCE")
    expect(open(udpPacket6({ source: peer6, target: none, from: 50_000, to: OWN_PORT }, bytes(8)))).toBe(
      "WRONG_INNER",
    )
    plane.configure(config6).endpoint(2, { peerWire: peerWire6 })
    plane.allow({ peer: none, port: OWN_PORT, protocol: UDP, role: 1 }, 2)
    expect(open(udpPacket6({ source: none, target: own6, from: 50_000, to: OWN_PORT }, bytes(8)))).toBe(
      "WRONG_INNER",
    )
    plane.configure({ ...config6, innerAddress: 0 })
    const from0 = ipv4({ source: 0, target: peer, protocol: UDP }, udp)
    expect(plane.run("vs_seal", frame(from0)).verdict).toBe("WRONG_SOURCE")
    plane.configure(config6).endpoint(2, { peerInner6: peer6, peerWire: peerWire6 })
  })
})

const hexAddress = (text: string): Uint8Array => {
  const bytes = new Uint8Array(16)
  bytes.set(hex(text.startsWith("ff02") ? "ff02" : "fe80"))
  bytes[15] = 1
  return bytes
}

const disallowAny = (): void => {
  for (const map of ["policies", "policies6"] as const)
    for (const key of plane.map(map).keys()) if (key[key.length - 2] === 0) plane.map(map).delete(key)
}

describe("policies", () => {
  const both = [peer, peer6] as const
  const packet = (to: typeof peer | Uint8Array, protocol: number, payload: Uint8Array): Uint8Array =>
    typeof to === "number"
      ? frame(ipv4({ source: own, target: to, protocol }, payload))
      : frame6(ipv6({ source: own6, target: to, next: protocol }, payload))

  test.each(both)("the exact port, then any port, then any protocol", (to) => {
    const edgeOf = (protocol: number, port: number): string => {
      plane.forget()
      const payload =
        protocol === UDP
          ? concat(hex("9c40"), Uint8Array.of(port >> 8, port & 255), hex("000c 0000 00000000"))
          : sctpSegment(40_000, port, 1)
      const out = plane.run("vs_seal", packet(to, protocol, payload))
      return out.verdict === "SEALED"
        ? `edge ${[1, 2, 3].filter((edge) => plane.flowCount(edge) === 1).join()}`
        : out.verdict
    }
    expect([UDP, SCTP].map((protocol) => edgeOf(protocol, 9))).toEqual(["NO_POLICY", "NO_POLICY"])
    plane.allow({ peer: to, port: 0, protocol: 0, role: 0 }, 3)
    expect([UDP, SCTP].map((protocol) => edgeOf(protocol, 9))).toEqual(["edge 3", "edge 3"])
    expect([UDP, SCTP].map((protocol) => edgeOf(protocol, PEER_PORT))).toEqual(["edge 1", "edge 1"])
    plane.allow({ peer: to, port: 0, protocol: UDP, role: 0 }, 2)
    expect([UDP, SCTP].map((protocol) => edgeOf(protocol, 9))).toEqual(["edge 2", "edge 3"])
    expect([UDP, SCTP].map((protocol) => edgeOf(protocol, PEER_PORT))).toEqual(["edge 1", "edge 1"])
    for (const map of ["policies", "policies6"] as const)
      for (const key of plane.map(map).keys())
        if (new DataView(key.buffer).getUint16(key.length - 4) === 0 && key[key.length - 2] === UDP)
          plane.map(map).delete(key)
    disallowAny()
  })

  test.each(both)(
    "any protocol: only where an edge says so, as one flow of a protocol, answered only while it lives",
    (to) => {
      for (const protocol of [47, 50, 51, 89, 115]) {
        const payload = bytes(24)
        expect(plane.run("vs_seal", packet(to, protocol, payload)).verdict).toBe("NO_POLICY")
        const back = (): Uint8Array =>
          typeof to === "number"
            ? ipv4({ source: peer, target: own, protocol }, payload)
            : ipv6({ source: peer6, target: own6, next: protocol }, payload)
        plane.allow({ peer: to, port: 0, protocol: 0, role: 0 }, 1)
        expect(open(back(), 1)).toBe("NO_POLICY")
        expect(plane.run("vs_seal", packet(to, protocol, payload)).verdict).toBe("SEALED")
        expect(open(back(), 1)).toBe("OPENED")
        const key = { edge: 1, ownPort: 0, peerPort: 0, protocol, role: 0, v6: typeof to !== "number" }
        expect(plane.flow(key)).toBeDefined()
        plane.setFlow(key, bootNow() - 181_000_000_000n)
        expect(open(back(), 1)).toBe("NO_POLICY")
        disallowAny()
      }
    },
  )

  test("a packet without payload of a protocol without ports", () => {
    plane.allow({ peer: peer6, port: 0, protocol: 0, role: 1 }, 2)
    const empty = ipv6({ source: peer6, target: own6, next: 47 }, new Uint8Array(0))
    const out = plane.run("vs_open", send[2](empty))
    expect(out.verdict).toBe("OPENED")
    expect(out.packet.subarray(ETHERNET)).toEqual(empty)
    disallowAny()
  })

  test("ICMP of the other family is nobody's, not even where any protocol is allowed", () => {
    for (const to of both) plane.allow({ peer: to, port: 0, protocol: 0, role: 0 }, 1)
    const ask4 = icmpPacket({ source: own, target: peer }, 8, 7, bytes(8)).subarray(20)
    const ask6 = icmpPacket6({ source: own6, target: peer6 }, 128, bytes(8)).subarray(40)
    expect(plane.run("vs_seal", packet(peer, ICMPV6, ask6)).verdict).toBe("NO_POLICY")
    expect(plane.run("vs_seal", packet(peer6, ICMP, ask4)).verdict).toBe("NO_POLICY")
    expect(plane.run("vs_seal", packet(peer, ICMP, ask4)).verdict).toBe("SEALED")
    expect(plane.run("vs_seal", packet(peer6, ICMPV6, ask6)).verdict).toBe("SEALED")
    disallowAny()
  })

  test.each([130, 131, 132, 133, 134, 135, 136, 137, 143, 5])("ICMPv6 type %i doesn't cross", (type) => {
    for (const role of [0, 1] as const)
      plane.allow({ peer: peer6, port: 0, protocol: 0, role }, role === 0 ? 1 : 2)
    expect(seal(icmpPacket6(there, type, new Uint8Array(60), { hopLimit: 255 }))).toBe("NO_POLICY")
    expect(
      open(icmpPacket6({ source: peer6, target: own6 }, type, new Uint8Array(60), { hopLimit: 255 })),
    ).toBe("NO_POLICY")
    disallowAny()
  })

  test("what SCTP says of its end is followed", () => {
    const flow = { edge: 1, ownPort: 40_000, peerPort: PEER_PORT, protocol: SCTP, role: 0, v6: true }
    const to = (chunk: number): Uint8Array =>
      ipv6({ ...there, next: SCTP }, sctpSegment(40_000, PEER_PORT, chunk))
    const back = (chunk: number): Uint8Array =>
      ipv6({ source: peer6, target: own6, next: SCTP }, sctpSegment(PEER_PORT, 40_000, chunk))
    const ago = (seconds: number): bigint => bootNow() - BigInt(seconds) * 1_000_000_000n
    expect(seal(to(1))).toBe("SEALED")
    plane.setFlow(flow, ago(61), 0)
    expect(open(back(2), 1), "unanswered for a minute").toBe("NO_POLICY")
    expect(seal(to(1))).toBe("SEALED")
    expect(open(back(2), 1)).toBe("OPENED")
    plane.setFlow(flow, ago(299))
    expect(open(back(4), 1), "ten heartbeats").toBe("OPENED")
    plane.setFlow(flow, ago(301))
    expect(open(back(4), 1)).toBe("NO_POLICY")
    for (const last of [6, 14]) {
      expect(seal(to(1))).toBe("SEALED")
      expect(open(back(2), 1)).toBe("OPENED")
      expect(open(back(last), 1)).toBe("OPENED")
      plane.setFlow(flow, ago(11), plane.flowRecord(flow)?.state)
      expect(open(back(3), 1), "aborted, or shut down").toBe("NO_POLICY")
    }
  })
})

describe("ICMPv6 errors inside", () => {
  const about = (
    packet: Uint8Array,
    { type = 1, code = 4, keep = 48, source = own6, target = peer6 } = {},
  ): Uint8Array =>
    icmpPacket6({ source, target }, type, concat(hex("00000000"), packet.slice(0, keep)), { code })

  test.each([
    [1, 4],
    [2, 0],
    [3, 0],
    [4, 1],
  ])("type %i code %i: beside the flow of the packet that it quotes, either way", (type, code) => {
    const asked = incoming6()
    expect(seal(about(asked, { type, code }))).toBe("STRAY_ICMP")
    expect(open(asked)).toBe("OPENED")
    expect(seal(about(asked, { type, code }))).toBe("SEALED")
    const request = request6()
    const inside = { type, code, source: peer6, target: own6 }
    expect(open(about(request, inside), 1)).toBe("STRAY_ICMP")
    expect(seal(request)).toBe("SEALED")
    expect(open(about(request, inside), 1)).toBe("OPENED")
    expect(open(about(request, inside), 2), "another edge's key").toBe("STRAY_ICMP")
  })

  test("of each protocol", () => {
    const inside = { source: peer6, target: own6 }
    plane.allow({ peer: peer6, port: 0, protocol: 0, role: 0 }, 1)
    for (const packet of [
      tcpPacket6(there, bytes(4), { flags: 2 }),
      ipv6({ ...there, next: SCTP }, sctpSegment(40_000, PEER_PORT, 1)),
      icmpPacket6(there, 128, hex("0007 0001 00000000")),
      ipv6({ ...there, next: 47 }, bytes(8)),
    ]) {
      expect(open(about(packet, inside), 1)).toBe("STRAY_ICMP")
      expect(seal(packet)).toBe("SEALED")
      expect(open(about(packet, inside), 1)).toBe("OPENED")
    }
    disallowAny()
  })

  test("a quote that is none", () => {
    const request = request6()
    expect(seal(request)).toBe("SEALED")
    const inside = { source: peer6, target: own6 }
    const changed = (at: number, value: number): Uint8Array => {
      const copy = request.slice()
      copy[at] = value
      return copy
    }
    expect(open(about(request, inside), 1)).toBe("OPENED")
    for (const [what, packet] of [
      ["short", about(request, { ...inside, keep: 47 })],
      ["another source", about(changed(23, 9), inside)],
      ["another target", about(changed(39, 9), inside)],
      ["another port", about(changed(41, 9), inside)],
      ["another version", about(changed(0, 0x40), inside)],
      ["a fragment", about(changed(6, 44), inside)],
      ["an extension header", about(changed(6, 60), inside)],
      ["ICMP of IPv4", about(changed(6, 1), inside)],
      ["an error", about(about(request), inside)],
    ] as const)
      expect([what, open(packet, 1)]).toEqual([what, "STRAY_ICMP"])
    for (const [type, code] of [
      [1, 9],
      [2, 1],
      [3, 2],
      [4, 4],
      [100, 0],
      [127, 0],
    ] as const)
      expect(open(about(request, { ...inside, type, code }), 1)).toBe("NO_POLICY")
  })
})

describe("packets that are too long", () => {
  test.each([
    [1500, 1418],
    [1499, 1414],
    [1400, 1318],
    [1364, 1282],
    // Less than IPv6 may be told: the sender hears 1,280.
    [1363, 1280],
    [1280, 1280],
  ])("on a wire of %i bytes the application is told %i, and of nothing longer than that", (mtu, told) => {
    plane.endpoint(1, { peerInner6: peer6, peerWire: peerWire6, mtu })
    const long = request6(bytes(1420))
    const out = plane.run("vs_seal", frame6(long))
    expect(out).toMatchObject({ verdict: "TOO_LONG", retval: REDIRECT, mark: ~MARK >>> 0 })
    const message = out.packet.subarray(ETHERNET)
    const view = new DataView(message.buffer, message.byteOffset)
    expect(out.packet.subarray(0, 6)).toEqual(defaultConfig.innerMac)
    expect(message.length).toBe(1280)
    expect([message[0], message[6], message[7], view.getUint16(4)]).toEqual([0x6c, 58, 64, 1240])
    expect(message.subarray(8, 24)).toEqual(peer6)
    expect(message.subarray(24, 40)).toEqual(own6)
    expect(checksum6({ source: peer6, target: own6 }, ICMPV6, message.subarray(40))).toBe(0)
    expect([message[40], message[41], view.getUint32(44)]).toEqual([2, 0, told])
    expect(message.subarray(48)).toEqual(long.subarray(0, 1232))
    expect(plane.run("vs_inner", out.packet, { mark: out.mark }).verdict).toBe("NOTIFIED")
    const most = plane.run("vs_seal", frame6(request6(bytes(told - 48))))
    const carried = mtu >= 1364
    expect(most).toMatchObject(carried ? { verdict: "SEALED" } : { verdict: "TOO_LONG", retval: DROP })
    if (carried) expect(most.packet.length - ETHERNET).toBeLessThanOrEqual(mtu)
    plane.endpoint(1, { peerInner6: peer6, peerWire: peerWire6 })
  })

  test("over IPv4 an MTU of 1,344 is what IPv6 needs", () => {
    plane.endpoint(1, { peerInner6: peer6, mtu: 1344 })
    expect(seal(request6(bytes(1232)))).toBe("SEALED")
    plane.endpoint(1, { peerInner6: peer6, mtu: 1343 })
    expect(plane.run("vs_seal", frame6(request6(bytes(1232))))).toMatchObject({
      verdict: "TOO_LONG",
      retval: DROP,
    })
    plane.endpoint(1, { peerInner6: peer6, peerWire: peerWire6 })
  })

  test("an error is not answered with an error", () => {
    expect(open(incoming6())).toBe("OPENED")
    const error = icmpPacket6(there, 1, concat(hex("00000000"), incoming6(), bytes(1400)), { code: 4 })
    expect(plane.run("vs_seal", frame6(error))).toMatchObject({ verdict: "TOO_LONG", retval: DROP })
  })
})

describe("samples of drops", () => {
  const told = (run: () => void) => {
    const reader = new DropReader(plane.map("drops"))
    // At most four of a verdict in a second: another test may have had them.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1050)
    run()
    return reader.read()
  }
  test("have the addresses of IPv6", () => {
    expect(told(() => seal(udpPacket6({ ...there, target: stranger6 }, bytes(8))))).toEqual([
      { verdict: "NO_POLICY", edge: undefined, text: "udp [fd77::1]:40000 > [fd77::3]:5432 inside" },
    ])
    const spi = `spi 0x${edge2.in.spi.toString(16).padStart(8, "0")}`
    expect(
      told(() => open(udpPacket6({ source: stranger6, target: own6, from: 1, to: 2 }, bytes(8)))),
    ).toEqual([{ verdict: "WRONG_INNER", edge: 2, text: `udp [fd77::3]:1 > [fd77::1]:2 inside ${spi}` }])
    const forged = arriving(6, { ...edge2.in, key: new Uint8Array(32) }, 9n, incoming6())
    expect(told(() => plane.run("vs_open", forged))).toEqual([
      { verdict: "BAD_TAG", edge: 2, text: `udp [2001:db8::2]:4500 > [2001:db8::1]:4500 ${spi}` },
    ])
    expect(told(() => seal(icmpPacket6(there, 135, new Uint8Array(20))))).toEqual([
      { verdict: "NO_POLICY", edge: undefined, text: "icmp6 fd77::1 > fd77::2 inside" },
    ])
  })
})

/** The wire over IPv6: what the guards let through, what the network may report, where a peer is. */
import { afterAll, beforeEach, describe, expect, test } from "vitest"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { edgeKey, encodePathMtu } from "../../services/common/kernel/records.ts"
import {
  concat,
  ETHERNET,
  esp,
  frame,
  frame6,
  hex,
  icmpPacket6,
  ipv6,
  outerPacket,
  outerPacket6,
  TCP,
  tcpPacket6,
  UDP,
  udpPacket6,
} from "./packets.ts"
import {
  BUS_PORT,
  bus,
  defaultEdge,
  ESP_PORT,
  edge1,
  edge2,
  fromPeer,
  LANES,
  MARK,
  type Outcome,
  ownWire,
  PASS,
} from "./plane.ts"
import {
  answer6,
  arriving,
  bus6,
  config6,
  fromPeer6,
  incoming6,
  own6,
  ownWire6,
  peer6,
  peerWire6,
  readyPlane6,
  request6,
  stranger6,
  there,
  v6,
} from "./plane6.ts"
import { bytes } from "./traffic.ts"

const plane = readyPlane6(6)
afterAll(() => plane.close())
const reached = { peerInner6: peer6, peerWire: peerWire6 }
beforeEach(() => {
  plane.forget().configure(config6)
  for (const edge of [1, 2]) {
    plane.endpoint(edge, reached)
    plane.map("path_mtus").update(edgeKey(edge), encodePathMtu({ mtu: 0, ends: 0n }))
  }
})
const linkLocal = v6("fe80::2")
const ownLocal = v6("fe80::1")
const allNodes = v6("ff02::1")
const solicited = v6("ff02::1:ff00:1")
const none = v6("::")
const mac = (kind: number): Uint8Array => concat(Uint8Array.of(kind, 1), hex("020000000001"))

interface Nd {
  readonly source?: Uint8Array
  readonly target?: Uint8Array
  readonly type?: number
  readonly about?: Uint8Array
  readonly options?: Uint8Array
  readonly hopLimit?: number
  readonly code?: number
  readonly behind?: Uint8Array
}
const nd = ({
  source = linkLocal,
  target = ownWire6,
  type = 135,
  about = ownWire6,
  options = mac(1),
  behind = new Uint8Array(0),
  ...more
}: Nd = {}): Uint8Array =>
  frame6(
    concat(
      icmpPacket6({ source, target }, type, concat(hex("00000000"), about, options), {
        hopLimit: 255,
        ...more,
      }),
      behind,
    ),
  )
const out = { source: ownWire6, target: peerWire6, about: peerWire6 }

describe("neighbour discovery", () => {
  test.each<readonly [string, Nd]>([
    ["a solicitation to our address", {}],
    ["one to our group", { target: solicited }],
    ["one to our address on the link", { target: ownLocal }],
    [
      "one from no address, with a nonce",
      { source: none, target: solicited, options: concat(hex("0e01"), bytes(6)) },
    ],
    ["an advertisement", { type: 136, options: mac(2) }],
    ["an advertisement to all nodes", { type: 136, target: allNodes, options: mac(2) }],
    ["one without options", { type: 136, options: new Uint8Array(0) }],
    ["two options", { options: concat(mac(1), hex("0e01"), bytes(6)) }],
  ])("%s arrives", (_, message) => {
    expect(plane.run("vs_open", nd(message))).toMatchObject({ verdict: "NEIGHBOUR", retval: PASS })
  })

  test.each<readonly [string, Nd]>([
    ["a router solicitation", { type: 133 }],
    ["a router advertisement", { type: 134, target: allNodes }],
    ["a redirect", { type: 137 }],
    ["an echo request", { type: 128 }],
    ["a report of listeners", { type: 143, target: v6("ff02::16") }],
    ["a hop limit below 255", { hopLimit: 254 }],
    ["a code", { code: 1 }],
    ["another destination", { target: peerWire6 }],
    ["another multicast group", { target: v6("ff02::2") }],
    ["a group of a wider scope", { target: v6("ff05::1") }],
    ["a target that is a group", { about: allNodes }],
    ["a target that is nothing", { about: none }],
    ["an option of two units", { options: concat(Uint8Array.of(1, 2), bytes(14)) }],
    ["an option of none", { options: concat(Uint8Array.of(1, 0), bytes(6)) }],
    ["an option of a prefix", { options: concat(Uint8Array.of(3, 1), bytes(6)) }],
    ["a second option that is none", { options: concat(mac(1), Uint8Array.of(24, 1), bytes(6)) }],
    ["three options", { options: concat(mac(1), mac(2), mac(1)) }],
    ["half an option", { options: Uint8Array.of(1, 1, 2, 0) }],
    ["something behind it", { behind: bytes(4) }],
  ])("%s doesn't, nor leaves", (_, message) => {
    expect(plane.run("vs_open", nd(message)).verdict).toBe("FOREIGN_IN")
    expect(
      plane.run("vs_guard", nd({ ...out, ...message, target: peerWire6, source: message.target ?? ownWire6 }))
        .verdict,
    ).toBe("FOREIGN_OUT")
  })

  test.each<readonly [string, Nd]>([
    ["a solicitation from our address", out],
    ["to the peer's group", { ...out, target: v6("ff02::1:ff00:2") }],
    ["from our address on the link", { ...out, source: ownLocal }],
    ["for an address that nobody has yet", { source: none, target: solicited, options: new Uint8Array(0) }],
    ["an advertisement", { ...out, type: 136, options: mac(2) }],
  ])("%s leaves", (_, message) => {
    expect(plane.run("vs_guard", nd(message))).toMatchObject({ verdict: "NEIGHBOUR", retval: PASS })
  })

  test.each<readonly [string, Nd]>([
    ["from another address", { ...out, source: stranger6 }],
    ["from the workflow address", { ...out, source: own6 }],
    ["an advertisement from no address", { ...out, source: none, type: 136 }],
  ])("%s doesn't leave", (_, message) => {
    expect(plane.run("vs_guard", nd(message)).verdict).toBe("FOREIGN_OUT")
  })

  test("none at all on a wire without IPv6", () => {
    plane.configure({ ...config6, wireAddress6: undefined })
    expect(plane.run("vs_open", nd()).verdict).toBe("FOREIGN_IN")
    expect(plane.run("vs_open", nd({ target: ownLocal })).verdict).toBe("FOREIGN_IN")
    expect(plane.run("vs_guard", nd(out)).verdict).toBe("FOREIGN_OUT")
    expect(plane.run("vs_guard", nd({ ...out, source: ownLocal })).verdict).toBe("FOREIGN_OUT")
    expect(plane.run("vs_guard", nd({ source: none, target: solicited })).verdict).toBe("FOREIGN_OUT")
  })
})

/** A hop-by-hop header with a router alert for MLD (RFC 2711), and the message behind it, as Linux sends it and a querier does. */
const listening = (source: Uint8Array, target: Uint8Array, type: number, body: Uint8Array): Uint8Array => {
  const message = icmpPacket6({ source, target }, type, body).subarray(40)
  return frame6(ipv6({ source, target, next: 0, hopLimit: 1 }, concat(hex("3a00 0502 0000 0100"), message)))
}
const groupOf = (group: Uint8Array): Uint8Array => concat(hex("00000001 04000000"), group)

describe("multicast listener discovery (RFC 3810) has no part in it", () => {
  test("the node's own reports don't leave, not even about the groups by which its neighbours look for it", () => {
    for (const source of [ownLocal, none, ownWire6])
      for (const group of [solicited, v6("ff02::1:ff00:2"), allNodes])
        expect(plane.run("vs_guard", listening(source, v6("ff02::16"), 143, groupOf(group))).verdict).toBe(
          "FOREIGN_OUT",
        )
    const version1 = listening(ownLocal, solicited, 131, concat(bytes(4), solicited))
    expect(plane.run("vs_guard", version1).verdict).toBe("FOREIGN_OUT")
  })

  test("nor do queries arrive", () => {
    for (const group of [none, solicited]) {
      const query = concat(hex("27100000"), group, hex("027d0000"))
      expect(plane.run("vs_open", listening(linkLocal, allNodes, 130, query)).verdict).toBe("FOREIGN_IN")
    }
  })
})

const keepalive6 = (payload: Uint8Array = Uint8Array.of(0xff), change = {}): Uint8Array =>
  frame6(
    udpPacket6({ source: ownWire6, target: peerWire6, from: ESP_PORT + 2, to: ESP_PORT, ...change }, payload),
  )

test("a keepalive leaves by its own mark, and nothing else does by it", () => {
  const mark = ~MARK >>> 0
  expect(plane.run("vs_guard", keepalive6(), { mark })).toMatchObject({ verdict: "KEEPALIVE_OUT", mark: 0 })
  const refused: ReadonlyArray<readonly [Uint8Array, number]> = [
    [keepalive6(), 0],
    [keepalive6(), MARK],
    [keepalive6(Uint8Array.of(0)), mark],
    [keepalive6(Uint8Array.of(0xff, 0xff)), mark],
    [keepalive6(new Uint8Array(0)), mark],
    [concat(keepalive6(), Uint8Array.of(0xff)), mark],
    [keepalive6(undefined, { from: ESP_PORT + 16 }), mark],
    [keepalive6(undefined, { source: own6 }), mark],
    [plane.run("vs_seal", frame6(request6())).packet, mark],
    [keepalive6(bytes(55)), MARK],
  ]
  for (const [packet, by] of refused)
    expect(plane.run("vs_guard", packet, { mark: by }).verdict).toBe("FOREIGN_OUT")
})

const fromBus = { source: bus6, target: ownWire6, from: BUS_PORT, to: 40_000 }
const toBus = { source: ownWire6, target: bus6, from: 40_000, to: BUS_PORT }

describe("the bus", () => {
  test("by address, protocol and port, both ways", () => {
    expect(plane.run("vs_open", frame6(tcpPacket6(fromBus, bytes(4))))).toMatchObject({
      verdict: "CONTROL",
      retval: PASS,
    })
    expect(plane.run("vs_guard", frame6(tcpPacket6(toBus, bytes(4))))).toMatchObject({
      verdict: "CONTROL",
      retval: PASS,
    })
  })

  test("opens no connection itself", () => {
    const verdict = (flags: number) =>
      plane.run("vs_open", frame6(tcpPacket6(fromBus, bytes(4), { flags }))).verdict
    expect([0x02, 0xc2, 0x12, 0x10, 0x04].map(verdict)).toEqual([
      "FOREIGN_IN",
      "FOREIGN_IN",
      "CONTROL",
      "CONTROL",
      "CONTROL",
    ])
  })

  test.each<readonly [string, Uint8Array, Uint8Array]>([
    [
      "another port",
      tcpPacket6({ ...fromBus, from: 1 }, bytes(4)),
      tcpPacket6({ ...toBus, to: 1 }, bytes(4)),
    ],
    [
      "another address",
      tcpPacket6({ ...fromBus, source: peerWire6 }, bytes(4)),
      tcpPacket6({ ...toBus, target: peerWire6 }, bytes(4)),
    ],
    [
      "another address of ours",
      tcpPacket6({ ...fromBus, target: ownLocal }, bytes(4)),
      tcpPacket6({ ...toBus, source: ownLocal }, bytes(4)),
    ],
    ["UDP", udpPacket6(fromBus, bytes(4)), udpPacket6(toBus, bytes(4))],
    [
      "an extension header",
      ipv6({ ...fromBus, next: 60 }, concat(hex("0600 0104 00000000"), bytes(20))),
      ipv6({ ...toBus, next: 0 }, concat(hex("0600 0104 00000000"), bytes(20))),
    ],
    [
      "DHCP",
      udpPacket6({ source: peerWire6, target: ownWire6, from: 547, to: 546 }, bytes(40)),
      udpPacket6({ source: ownLocal, target: v6("ff02::1:2"), from: 546, to: 547 }, bytes(40)),
    ],
    [
      "DNS",
      udpPacket6({ source: bus6, target: ownWire6, from: 53, to: 40_000 }, bytes(40)),
      udpPacket6({ source: ownWire6, target: bus6, from: 40_000, to: 53 }, bytes(40)),
    ],
    ["the workflow's own packets", request6(), request6()],
    [
      "bare ESP",
      ipv6({ source: peerWire6, target: ownWire6, next: 50 }, bytes(60)),
      ipv6({ source: ownWire6, target: peerWire6, next: 50 }, bytes(60)),
    ],
    [
      "IPv4 in IPv6",
      ipv6({ source: peerWire6, target: ownWire6, next: 4 }, bytes(60)),
      ipv6({ source: ownWire6, target: peerWire6, next: 4 }, bytes(60)),
    ],
  ])("%s: no", (_, arrives, leaves) => {
    expect(plane.run("vs_open", frame6(arrives)).verdict).toBe("FOREIGN_IN")
    expect(plane.run("vs_guard", frame6(leaves), { mark: MARK }).verdict).toBe("FOREIGN_OUT")
  })

  test("of the family in which it has no address: no, not from zeros either", () => {
    plane.configure({ ...config6, busAddress6: undefined })
    expect(plane.run("vs_open", frame6(tcpPacket6(fromBus, bytes(4)))).verdict).toBe("FOREIGN_IN")
    expect(plane.run("vs_open", frame6(tcpPacket6({ ...fromBus, source: none }, bytes(4)))).verdict).toBe(
      "FOREIGN_IN",
    )
    expect(plane.run("vs_guard", frame6(tcpPacket6({ ...toBus, target: none }, bytes(4)))).verdict).toBe(
      "FOREIGN_OUT",
    )
    plane.configure({ ...config6, busAddress: 0 })
    const tcp = tcpPacket6(fromBus, bytes(4)).subarray(40)
    for (const source of [0, bus]) {
      const packet = outerPacket({ source, target: ownWire, from: BUS_PORT, to: 1 }, tcp).slice()
      packet[9] = TCP
      expect(plane.run("vs_open", frame(packet)).verdict).toBe("FOREIGN_IN")
    }
  })

  test("our mark doesn't make a sealed packet of anything", () => {
    const sealed = plane.run("vs_seal", frame6(request6()))
    expect(plane.run("vs_guard", sealed.packet, { mark: MARK }).verdict).toBe("SEALED_OUT")
    expect(plane.run("vs_guard", sealed.packet).verdict).toBe("FOREIGN_OUT")
    const moved = sealed.packet.slice()
    moved[ETHERNET + 8 + 15] = 9
    expect(plane.run("vs_guard", moved, { mark: MARK }).verdict).toBe("FOREIGN_OUT")
  })
})

describe("sealed packets that arrive over IPv6", () => {
  const sealed = (sequence: bigint): Uint8Array => esp(edge2.in, sequence, incoming6())
  const run = (packet: Uint8Array): string => plane.run("vs_open", frame6(packet)).verdict
  test("to any of our lanes' ports, whatever the UDP checksum: the ICV protects what matters", () => {
    expect(run(outerPacket6({ ...fromPeer6(), to: ESP_PORT + 3 }, sealed(1n)))).toBe("OPENED")
    const unsummed = outerPacket6(fromPeer6(), sealed(2n)).fill(0, 46, 48)
    expect(run(unsummed)).toBe("OPENED")
    expect(run(outerPacket6({ ...fromPeer6(), to: ESP_PORT + 16 }, sealed(3n)))).toBe("FOREIGN_IN")
    expect(run(outerPacket6({ ...fromPeer6(), target: peerWire6 }, sealed(3n)))).toBe("FOREIGN_IN")
  })

  test("replays, forgeries, keepalives, markers, lengths", () => {
    expect(run(outerPacket6(fromPeer6(), sealed(1n)))).toBe("OPENED")
    expect(run(outerPacket6(fromPeer6(), sealed(1n)))).toBe("REPLAYED")
    const forged = outerPacket6(fromPeer6(), sealed(2n))
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1
    expect(run(forged)).toBe("BAD_TAG")
    expect(run(outerPacket6(fromPeer6(), Uint8Array.of(0xff)))).toBe("KEEPALIVE")
    expect(run(outerPacket6(fromPeer6(), Uint8Array.of(0xfe)))).toBe("BAD_ESP")
    expect(run(outerPacket6(fromPeer6(), new Uint8Array(80)))).toBe("BAD_ESP")
    expect(run(outerPacket6(fromPeer6(), bytes(55)))).toBe("BAD_ESP")
    const long = outerPacket6(fromPeer6(), sealed(3n)).slice()
    long[45] = (long[45] ?? 0) + 4
    expect(run(long)).toBe("BAD_ESP")
    const header = ipv6({ ...fromPeer6(), next: UDP, payloadLength: 400 }, sealed(3n))
    expect(run(header)).toBe("BAD_IPV6")
  })

  test.each([hex("1100 0001 00000001"), hex("1100 0000 00000001")])(
    "a fragment is refused, both ways",
    (header) => {
      const payload = concat(header, outerPacket6(fromPeer6(), sealed(1n)).subarray(40))
      expect(run(ipv6({ ...fromPeer6(), next: 44 }, payload))).toBe("OUTER_FRAGMENT")
      const leaving = ipv6({ source: ownWire6, target: peerWire6, next: 44 }, payload)
      expect(plane.run("vs_guard", frame6(leaving), { mark: MARK }).verdict).toBe("OUTER_FRAGMENT")
    },
  )

  test("behind an extension header they are none", () => {
    for (const next of [0, 43, 60])
      expect(
        run(
          ipv6(
            { ...fromPeer6(), next },
            concat(hex("1100 0104 00000000"), outerPacket6(fromPeer6(), sealed(1n)).subarray(40)),
          ),
        ),
      ).toBe("FOREIGN_IN")
  })
})

describe("Packet Too Big from the wire", () => {
  /** A packet that the sealer has just sealed, as the network would quote it. */
  const sealed = (): Uint8Array => {
    const made = plane.run("vs_seal", frame6(request6(bytes(1300))))
    expect(made.verdict).toBe("SEALED")
    return made.packet.slice(ETHERNET)
  }
  interface Report {
    readonly mtu?: number
    readonly keep?: number
    readonly source?: Uint8Array
    readonly target?: Uint8Array
    readonly type?: number
    readonly code?: number
  }
  const router = v6("2001:db8:f::1")
  const report = (
    quoted: Uint8Array,
    { mtu = 1400, keep = 1184, source = router, target = ownWire6, type = 2, code = 0 }: Report = {},
  ) =>
    frame6(
      icmpPacket6(
        { source, target },
        type,
        concat(Uint8Array.of(mtu >>> 24, mtu >>> 16, mtu >>> 8, mtu), quoted.slice(0, keep)),
        { code },
      ),
    )
  test("that quotes a packet of ours is believed, down to 1,280, and only lowers", () => {
    const quoted = sealed()
    expect(plane.run("vs_open", report(quoted)).verdict).toBe("PATH_MTU")
    expect(plane.reportedMtu(1)).toMatchObject({ mtu: 1400 })
    expect(plane.run("vs_seal", frame6(request6(bytes(1300)))).verdict).toBe("TOO_LONG")
    expect(plane.run("vs_seal", frame6(request6(bytes(1318 - 48)))).verdict).toBe("SEALED")
    expect(plane.run("vs_open", report(quoted, { mtu: 1410 })).verdict).toBe("PATH_MTU")
    expect(plane.reportedMtu(1).mtu).toBe(1400)
    expect(plane.run("vs_open", report(quoted, { mtu: 1280 })).verdict).toBe("PATH_MTU")
    expect(plane.reportedMtu(1).mtu).toBe(1280)
    expect(plane.reportedMtu(2).mtu).toBe(0)
    const ends = plane.reportedMtu(1).ends << 30n
    expect(ends - bootNow() > 590_000_000_000n && ends - bootNow() < 610_000_000_000n).toBe(true)
    plane.map("path_mtus").update(edgeKey(1), encodePathMtu({ mtu: 1280, ends: bootNow() >> 30n }))
    expect(plane.run("vs_seal", frame6(request6(bytes(1300)))).verdict, "forgotten").toBe("SEALED")
  })

  test.each([56, 57, 1231])("a quote of %i bytes is enough", (keep) => {
    expect(plane.run("vs_open", report(sealed(), { keep })).verdict).toBe("PATH_MTU")
  })

  const changed = (at: number, value: number) => (packet: Uint8Array) => {
    const copy = packet.slice()
    copy[at] = value
    return copy
  }
  const forged: ReadonlyArray<readonly [string, (quoted: Uint8Array) => Uint8Array, Report?]> = [
    ["a quote that is too short", (q) => q, { keep: 55 }],
    ["a message that is too long", (q) => q, { keep: 1233 }],
    ["less than IPv6 carries", (q) => q, { mtu: 1279 }],
    ["an MTU of zero", (q) => q, { mtu: 0 }],
    ["an MTU that the packet keeps to", (q) => q, { mtu: 1432 }],
    ["an MTU above all", (q) => q, { mtu: 0xffffffff }],
    ["another source", changed(23, 9)],
    ["another peer", changed(39, 9)],
    ["another source port", changed(40, 0)],
    ["another SPI", changed(51, 0xff)],
    ["a sequence number of long ago", changed(53, 0xf0)],
    ["another protocol", changed(6, 6)],
    ["a fragment", changed(6, 44)],
    ["another version", changed(0, 0x40)],
  ]
  test.each(forged.map((one) => [one[0], one] as const))("%s: forged", (_, [, change, options]) => {
    expect(plane.run("vs_open", report(change(sealed()), options)).verdict).toBe("FORGED_ICMP")
    expect(plane.reportedMtu(1).mtu).toBe(0)
  })

  test("a wrong checksum, another destination, a lease that is over", () => {
    const quoted = sealed()
    const wrong = report(quoted)
    wrong[ETHERNET + 42] = (wrong[ETHERNET + 42] ?? 0) ^ 1
    expect(plane.run("vs_open", wrong).verdict).toBe("FORGED_ICMP")
    expect(plane.run("vs_open", report(quoted, { target: v6("2001:db8::77") })).verdict).toBe("FOREIGN_IN")
    plane.lease(edge1, bootNow() - 1n)
    expect(plane.run("vs_open", report(quoted)).verdict).toBe("FORGED_ICMP")
    plane.lease(edge1)
    expect(plane.run("vs_open", report(quoted)).verdict).toBe("PATH_MTU")
  })

  test("other errors are not let in", () => {
    for (const type of [1, 3, 4])
      expect(plane.run("vs_open", report(sealed(), { type })).verdict).toBe("FOREIGN_IN")
  })
})

describe("where a peer is", () => {
  const elsewhere = v6("2001:db8:77::7")
  const target = (made: Outcome): readonly [Uint8Array, number] => {
    expect(made.verdict).toBe("SEALED")
    const ip = made.packet.subarray(ETHERNET)
    return [ip.slice(24, 40), new DataView(ip.buffer, ip.byteOffset).getUint16(42)]
  }
  const arrive = (sequence: bigint, from: { source?: Uint8Array; from?: number }, by = edge1): string =>
    plane.run(
      "vs_open",
      frame6(
        outerPacket6(
          { ...fromPeer6(), ...from },
          esp(by.in, sequence, by === edge1 ? answer6() : incoming6()),
        ),
      ),
    ).verdict
  const asked = () => plane.run("vs_seal", frame6(request6()))

  test("the newest authentic packet says, on every lane; nothing else does", () => {
    expect(target(asked())).toEqual([peerWire6, ESP_PORT])
    expect(arrive(5n, {})).toBe("OPENED")
    expect(plane.learnt6(1)).toBeUndefined()
    expect(arrive(6n, { source: elsewhere, from: 1234 })).toBe("OPENED")
    for (let lane = 0; lane < LANES; lane++)
      expect(plane.learnt6(1, lane)).toEqual({ address: elsewhere, port: 1234 })
    expect(plane.learnt6(2)).toBeUndefined()
    for (let port = 0; port < 16; port++)
      expect(
        target(plane.run("vs_seal", frame6(udpPacket6({ ...there, from: 100 + port }, bytes(4))))),
      ).toEqual([elsewhere, 1234])
    // A straggler, a replay and a forgery from yet another address.
    const other = { source: v6("2001:db8:88::8"), from: 99 }
    expect(arrive(4n, other)).toBe("OPENED")
    expect(arrive(6n, other)).toBe("REPLAYED")
    const forged = frame6(
      outerPacket6({ ...fromPeer6(), ...other }, esp({ ...edge1.in, key: bytes(32) }, 9n, answer6())),
    )
    expect(plane.run("vs_open", forged).verdict).toBe("BAD_TAG")
    expect(target(asked())).toEqual([elsewhere, 1234])
    expect(arrive(10n, {})).toBe("OPENED")
    expect(target(asked())).toEqual([peerWire6, ESP_PORT])
  })

  test("another address means another path: its MTU is to be found anew, and reports about it count", () => {
    plane.map("path_mtus").update(edgeKey(1), encodePathMtu({ mtu: 1300, ends: (bootNow() >> 30n) + 500n }))
    asked()
    expect(arrive(1n, { source: elsewhere, from: 4500 })).toBe("OPENED")
    expect(plane.reportedMtu(1).mtu).toBe(0)
    const quoted = plane.run("vs_seal", frame6(request6(bytes(1300)))).packet.slice(ETHERNET)
    const big = icmpPacket6(
      { source: elsewhere, target: ownWire6 },
      2,
      concat(hex("00000578"), quoted.slice(0, 80)),
    )
    expect(plane.run("vs_open", frame6(big)).verdict).toBe("PATH_MTU")
  })

  test.each(["ff02::1", "::", "::1", "::ffff:192.0.2.7", "fe80::9", "2001:db8::1"])("never %s", (source) => {
    asked()
    expect(arrive(1n, { source: v6(source), from: 77 })).toBe("OPENED")
    expect(plane.learnt6(1)).toBeUndefined()
    expect(target(asked())).toEqual([peerWire6, ESP_PORT])
  })

  test("nor port zero", () => {
    asked()
    expect(arrive(1n, { source: elsewhere, from: 0 })).toBe("OPENED")
    expect(plane.learnt6(1)).toBeUndefined()
  })

  test("a lane's own port that nobody translates is not the port to answer to", () => {
    asked()
    expect(arrive(1n, { source: elsewhere, from: ESP_PORT })).toBe("OPENED")
    expect(plane.learnt6(1)).toEqual({ address: elsewhere, port: ESP_PORT })
  })

  test("a packet over the other family than the document's is opened and moves nothing", () => {
    asked()
    expect(plane.run("vs_open", arriving(4, edge1.in, 1n, answer6())).verdict).toBe("OPENED")
    expect([plane.learnt(1), plane.learnt6(1)]).toEqual([undefined, undefined])
    plane.endpoint(1, { peerInner6: peer6 })
    asked()
    expect(arrive(2n, { source: elsewhere, from: 1 })).toBe("OPENED")
    expect([plane.learnt(1), plane.learnt6(1)]).toEqual([undefined, undefined])
    const packet = frame(outerPacket({ ...fromPeer(), from: 7 }, esp(edge1.in, 3n, answer6())))
    expect(plane.run("vs_open", packet).verdict).toBe("OPENED")
    expect(plane.learnt(1)).toEqual({ address: defaultEdge.peerWire, port: 7 })
  })

  test("a peer without any address on the wire", () => {
    plane.endpoint(1, { peerInner6: peer6, peerWire: 0 })
    expect(asked().verdict).toBe("NO_ENDPOINT")
  })
})

/**
 * Nobody but the sealer reaches the wire. Judged by a capture at the wire's far end, which opens what it sees: there is ARP,
 * there are packets that open under the node's keys, and there is nothing else.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { ifIndex, macOf } from "../../services/common/kernel/netdev.ts"
import { parseIpv4 } from "../../services/common/kernel/records.ts"
import {
  concat,
  esp,
  hex,
  icmpPacket,
  ipv4,
  outerPacket,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
} from "../kernel/packets.ts"
import { type Script, toHex } from "./python.ts"
import { BUS, connect, ESP_PORT, ip, WIRE_MTU, wireAddress, workflowAddress } from "./space.ts"
import { MARKER, macText, makePair, makeWorld, newAssociation, type Pair, type Report } from "./world.ts"

const own = parseIpv4(workflowAddress(1))
const peerInner = parseIpv4(workflowAddress(2))
const ownWire = parseIpv4(wireAddress(1))
const peerWire = parseIpv4(wireAddress(2))
const busAddress = parseIpv4(BUS.address)
const everybody = "ff:ff:ff:ff:ff:ff"
const marker = Uint8Array.from(Buffer.from(MARKER))
const nobodys = newAssociation(0x66_6666)

type Answer = { readonly ok?: true; readonly error?: string; readonly [field: string]: unknown }

const ethernet = (to: string, from: string, type: number, payload: Uint8Array): Uint8Array =>
  concat(hex(`${to}${from}`.replaceAll(":", "")), Uint8Array.of(type >> 8, type & 0xff), payload)
const vlan = (frame: Uint8Array, type = 0x8100): Uint8Array =>
  concat(frame.subarray(0, 12), Uint8Array.of(type >> 8, type & 0xff, 0, 5), frame.subarray(12))
const ipv6 = (next: number, payload: Uint8Array): Uint8Array =>
  concat(
    hex("60000000"),
    Uint8Array.of(payload.length >> 8, payload.length & 0xff, next, 255),
    hex("fe80 0000 0000 0000 0000 0000 0000 0001 ff02 0000 0000 0000 0000 0000 0000 0001"),
    payload,
  )
const arp = (operation: number, more: Uint8Array = new Uint8Array(0)): Uint8Array =>
  concat(hex(`0001 0800 06 04 000${operation} 020000000001 c0000201 000000000000 c0000202`), more)

/** A frame, what it is, and what a guard must say of it in each direction. */
interface Foreign {
  readonly name: string
  readonly frame: Uint8Array
  /** FOREIGN_OUT or FOREIGN_IN unless given. */
  readonly verdict?: string
}

/** What may not cross a wire; `from` and `to` are its two ends as the frames' direction has them. */
const foreign = (fromMac: string, toMac: string, from: number, to: number): ReadonlyArray<Foreign> => {
  const sealedLike = outerPacket(
    { source: from, target: to, from: ESP_PORT, to: ESP_PORT },
    esp(nobodys, 1n, marker),
  )
  const plain = udpPacket({ source: from, target: to, from: 5000, to: 5001 }, marker)
  const frame = (type: number, payload: Uint8Array, mac = toMac): Uint8Array =>
    ethernet(mac, fromMac, type, payload)
  return [
    { name: "UDP", frame: frame(0x0800, plain) },
    {
      name: "TCP",
      frame: frame(0x0800, tcpPacket({ source: from, target: to, from: 5000, to: 22 }, marker)),
    },
    { name: "ICMP", frame: frame(0x0800, icmpPacket({ source: from, target: to }, 8, 1, marker)) },
    { name: "SCTP", frame: frame(0x0800, ipv4({ source: from, target: to, protocol: 132 }, marker)) },
    {
      name: "ESP without UDP",
      frame: frame(0x0800, ipv4({ source: from, target: to, protocol: 50 }, marker)),
    },
    { name: "IP in IP", frame: frame(0x0800, ipv4({ source: from, target: to, protocol: 4 }, plain)) },
    {
      name: "a workflow packet as the application sends it",
      frame: frame(0x0800, udpPacket({ source: own, target: peerInner, from: 5000, to: 7005 }, marker)),
    },
    {
      name: "UDP from the bus's port to the bus's port",
      frame: frame(0x0800, udpPacket({ source: from, target: to, from: BUS.port, to: BUS.port }, marker)),
    },
    { name: "IPv6 neighbour discovery", frame: frame(0x86dd, ipv6(58, concat(hex("87000000"), marker))) },
    { name: "IPv6 UDP", frame: frame(0x86dd, ipv6(17, concat(hex("11941194 00300000"), marker))) },
    { name: "a VLAN tag before UDP", frame: vlan(frame(0x0800, plain)) },
    { name: "a VLAN tag before what looks sealed", frame: vlan(frame(0x0800, sealedLike)) },
    { name: "a VLAN tag before ARP", frame: vlan(frame(0x0806, concat(arp(1), marker))) },
    { name: "a service tag", frame: vlan(frame(0x0800, plain), 0x88a8) },
    { name: "two tags", frame: vlan(vlan(frame(0x0800, plain)), 0x88a8) },
    { name: "an ethertype of one's own", frame: frame(0x88b5, marker) },
    { name: "the same to everybody", frame: frame(0x88b5, marker, everybody) },
    { name: "LLDP", frame: frame(0x88cc, marker, "01:80:c2:00:00:0e") },
    { name: "spanning tree (802.3 length)", frame: frame(marker.length, marker, "01:80:c2:00:00:00") },
    { name: "MPLS", frame: frame(0x8847, marker) },
    { name: "PPPoE", frame: frame(0x8864, marker) },
    { name: "RARP", frame: frame(0x8035, concat(arp(3), marker)) },
    { name: "ARP with an operation of its own", frame: frame(0x0806, concat(arp(8), marker)) },
    { name: "a runt", frame: frame(0x88b5, marker.subarray(0, 4)) },
    {
      name: "IPv4 with options",
      frame: frame(0x0800, ipv4({ source: from, target: to, protocol: TCP, versionIhl: 0x46 }, marker)),
      verdict: "BAD_IPV4",
    },
    {
      name: "a fragment",
      frame: frame(0x0800, ipv4({ source: from, target: to, protocol: UDP, fragment: 100 }, marker)),
      verdict: "OUTER_FRAGMENT",
    },
  ]
}

/** What may arrive, for it tells nothing to anybody but us, and may not leave. */
const foreignOut: typeof foreign = (fromMac, toMac, from, to) => [
  ...foreign(fromMac, toMac, from, to),
  {
    name: "ARP with a message behind it",
    frame: ethernet(toMac, fromMac, 0x0806, concat(arp(1), marker)),
  },
]

const tally = (all: ReadonlyArray<Foreign>, otherwise: string): Record<string, number> => {
  const counted: Record<string, number> = {}
  for (const { verdict = otherwise } of all) counted[verdict] = (counted[verdict] ?? 0) + 1
  return counted
}

const toPeer = newAssociation(0x10_0002)
const toNode = newAssociation(0x20_0002)

/** A node whose only edge allows UDP port 7005 at the peer, and what watches its wire. */
const setUp = async (world: ReturnType<typeof makeWorld>): Promise<Pair> => {
  const pair = await makePair(world, toPeer, toNode)
  connect(pair.node, 2, { out: toPeer, in: toNode }, [{ port: 7005, protocol: UDP, role: 0 }])
  return pair
}
const report = async (pair: Pair): Promise<Report> => (await pair.peer.ask({ do: "report" })) as Report
const sealedIn = ({ all }: Report): number => all.filter((one) => one.kind === "sealed").length
/** Neither plaintext nor anything that the capture can't open; gives how many sealed packets there were. */
const onlySealed = async (pair: Pair): Promise<number> => {
  const seen = await report(pair)
  expect({ other: seen.other, marked: seen.marked, lost: seen.lost }).toEqual({
    other: [],
    marked: 0,
    lost: 0,
  })
  for (const one of seen.all) if (one.kind === "sealed") expect(one.total).toBeLessThanOrEqual(WIRE_MTU)
  return sealedIn(seen)
}
const asker =
  (actor: Script) =>
  async (question: object): Promise<Answer> =>
    (await actor.ask(question)) as Answer

describe("from the applications' namespace", () => {
  const world = makeWorld()
  let pair: Pair
  let app: (question: object) => Promise<Answer>
  let wire: (question: object) => Promise<Answer>
  let m0 = ""
  let m1 = ""
  const sentByM0 = async (): Promise<number> => Number((await app({ do: "sent", device: "m0" })).packets)

  beforeAll(async () => {
    pair = await setUp(world)
    app = asker(world.script(pair.node.app, "actor.py"))
    wire = asker(world.script(pair.node.wire, "actor.py"))
    m0 = macText(pair.node.app.inside(() => macOf("m0")))
    m1 = macText(pair.node.wire.inside(() => macOf("m1")))
  })
  afterAll(() => world.end())

  /** Runs attempts; none may put anything on the wire that isn't sealed, and the sealer accounts for all that left m0. */
  const attempt = async (act: () => Promise<void>): Promise<Readonly<Record<string, number>>> => {
    const before = pair.node.counts()
    const sentBefore = await sentByM0()
    await act()
    const sealed = await onlySealed(pair)
    const { NEIGHBOUR: _, NOTIFIED: _told, SEALED_OUT = 0, ...bySealer } = pair.node.since(before)
    expect([SEALED_OUT, bySealer.SEALED ?? 0]).toEqual([sealed, sealed])
    expect(Object.values(bySealer).reduce((sum, rise) => sum + rise, 0)).toBe((await sentByM0()) - sentBefore)
    return bySealer
  }

  const run = (...argv: ReadonlyArray<string>): Promise<Answer> => app({ do: "run", argv })
  const must = async (...commands: ReadonlyArray<ReadonlyArray<string>>): Promise<void> => {
    for (const argv of commands) expect([argv, await run(...argv)]).toMatchObject([argv, { ok: true }])
  }
  const stacked: ReadonlyArray<ReadonlyArray<string>> = [
    ["link", "m0", "name", "stacked0", "type", "macvlan", "mode", "bridge"],
    ["link", "m0", "name", "stacked0", "type", "ipvlan"],
    ["link", "m0", "name", "stacked0", "type", "vlan", "id", "5"],
    ["name", "stacked0", "type", "ipip", "local", workflowAddress(1), "remote", workflowAddress(2)],
    ["name", "stacked0", "type", "gre", "local", workflowAddress(1), "remote", workflowAddress(2)],
    [
      "name",
      "stacked0",
      "type",
      "vxlan",
      "id",
      "5",
      "dev",
      "m0",
      "dstport",
      String(ESP_PORT),
      "remote",
      workflowAddress(2),
    ],
  ]

  test("the devices there are m0 and loopback", async () => {
    expect(await app({ do: "devices" })).toEqual({ ok: true, names: ["lo", "m0"] })
  })

  test("packet sockets on every device, past the queueing discipline or not, with the node's own mark or not", async () => {
    const frames = [m1, pair.peerMac, pair.nodeMac, everybody]
      .flatMap((to) => [
        ...foreignOut(m0, to, ownWire, peerWire),
        ...foreign(pair.nodeMac, to, ownWire, busAddress),
      ])
      .map((one) => toHex(one.frame))
    const perDevice = frames.length
    const counted = await attempt(async () => {
      for (const device of ["lo", "m0"])
        for (const bypass of [false, true])
          for (const mark of [{}, { mark: pair.node.mark() }]) {
            const answer = await app({ do: "frames", device, bypass, frames, ...mark })
            expect([device, answer.sent, answer.errors]).toEqual([device, perDevice, []])
          }
    })
    // What the edge allows is sealed also from a packet socket, to whichever address the frame goes.
    expect(counted.SEALED).toBe(4 * 4 * 2)
    expect(Object.keys(counted).sort()).toEqual(
      ["BAD_IPV4", "BAD_IPV6", "FRAGMENT", "NO_POLICY", "NOT_IPV4", "SEALED", "WRONG_SOURCE"].sort(),
    )
    expect(Object.values(counted).reduce((sum, rise) => sum + rise, 0)).toBe(4 * perDevice)
  })

  test("raw IP sockets and sockets bound to a device of the wire", async () => {
    const to = wireAddress(2)
    const packet = toHex(
      udpPacket({ source: ownWire, target: peerWire, from: ESP_PORT, to: ESP_PORT }, marker),
    )
    const payload = toHex(marker)
    await attempt(async () => {
      for (const device of ["wire0", "m1", "far0"]) {
        for (const act of [
          { do: "packet", to, packet },
          { do: "udp", to, port: ESP_PORT, payload },
          { do: "tcp", to, port: 80 },
          { do: "ping", to, id: 1, payload },
        ])
          expect(await app({ ...act, device })).toEqual({ error: "ENODEV" })
        expect(await app({ do: "frames", device, frames: [] })).toEqual({ error: "ENODEV" })
      }
      // Without a route the kernel of the applications' namespace doesn't know what these addresses are.
      for (const target of [to, wireAddress(1), BUS.address, "255.255.255.255", "224.0.0.1"])
        expect(await app({ do: "packet", to: target, packet, broadcast: true })).toEqual({
          error: "ENETUNREACH",
        })
      expect(await app({ do: "udp", to, port: ESP_PORT, payload, source: wireAddress(1) })).toEqual({
        error: "EADDRNOTAVAIL",
      })
    })
  })

  test("second routes, the wire's own address, pings, broadcasts: all end in the sealer", async () => {
    const payload = toHex(marker)
    const counted = await attempt(async () => {
      await must(
        ["ip", "route", "add", "default", "dev", "m0"],
        ["ip", "route", "add", "192.0.2.0/24", "dev", "m0"],
        ["ip", "route", "add", "default", "via", wireAddress(2), "dev", "m0", "onlink", "metric", "7"],
        ["ip", "addr", "add", `${wireAddress(1)}/32`, "dev", "m0"],
      )
      for (const to of [wireAddress(2), BUS.address, "203.0.113.9", "224.0.0.1"])
        for (const source of [workflowAddress(1), wireAddress(1)]) {
          expect(await app({ do: "ping", to, id: 9, payload, source, wait: 0.05 })).toEqual({
            error: "timeout",
          })
          for (const port of [ESP_PORT, 7000, 53])
            expect(await app({ do: "udp", to, port, payload, source })).toEqual({ ok: true })
          const packet = toHex(
            udpPacket(
              { source: parseIpv4(source), target: parseIpv4(to), from: ESP_PORT, to: ESP_PORT },
              marker,
            ),
          )
          expect(await app({ do: "packet", to, packet })).toEqual({ ok: true })
        }
      expect(
        await app({ do: "tcp", to: BUS.address, port: BUS.port, source: wireAddress(1), wait: 0.1 }),
      ).toEqual({
        error: "timeout",
      })
      expect(
        await app({ do: "udp", to: "255.255.255.255", port: 7000, payload, broadcast: true, device: "m0" }),
      ).toEqual({ ok: true })
      // The peer's workflow address, on ports and protocols that no edge names.
      expect(await app({ do: "udp", to: workflowAddress(2), port: 7001, payload })).toEqual({ ok: true })
      expect(await app({ do: "tcp", to: workflowAddress(2), port: 7000, wait: 0.1 })).toEqual({
        error: "timeout",
      })
      expect(await app({ do: "ping", to: workflowAddress(2), id: 9, payload, wait: 0.05 })).toEqual({
        error: "timeout",
      })
    })
    expect(Object.keys(counted).sort()).toEqual(["NO_POLICY", "WRONG_SOURCE"])
    // The application's own kernel answers for an address that it has given itself; the node's wire stays silent.
    expect(await app({ do: "ping", to: wireAddress(1), id: 9, payload })).toMatchObject({ ok: true })
    await must(
      ["ip", "addr", "del", `${wireAddress(1)}/32`, "dev", "m0"],
      ["ip", "route", "flush", "192.0.2.0/24"],
    )
    expect(await app({ do: "ping", to: wireAddress(1), id: 9, payload, wait: 0.05 })).toEqual({
      error: "timeout",
    })
  })

  test("a device that is turned inside out: stacked devices, IPv6, ARP, other addresses, offloads, jumbo frames", async () => {
    const counted = await attempt(async () => {
      await must(
        ["ip", "link", "set", "m0", "address", pair.nodeMac, "arp", "on", "mtu", "9000"],
        ["ethtool", "-K", "m0", "tx", "on", "sg", "on", "tso", "on", "gso", "on"],
        ["ethtool", "-K", "m0", "tx-udp-segmentation", "on"],
        ["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/m0/disable_ipv6"],
        ["ip", "neigh", "replace", workflowAddress(2), "lladdr", m1, "dev", "m0"],
      )
      const absent = []
      for (const [i, kind] of stacked.entries()) {
        const made = await run("ip", "link", "add", ...kind)
        if (made.ok !== true) {
          // A kernel without this kind of device has one way less to try.
          expect(made.said).toMatch(/Unknown device type/)
          absent.push(kind.at(kind.indexOf("type") + 1))
          continue
        }
        await must(
          ["ip", "link", "set", "stacked0", "up"],
          ["ip", "addr", "add", `198.51.100.${16 * i + 1}/28`, "dev", "stacked0"],
        )
        const frames = foreign(m0, pair.peerMac, ownWire, peerWire).map((one) => toHex(one.frame))
        await app({ do: "udp", to: `198.51.100.${16 * i + 2}`, port: 7005, payload: toHex(marker) })
        await app({ do: "frames", device: "stacked0", bypass: true, frames })
        await new Promise((resolve) => setTimeout(resolve, 50))
        await must(["ip", "link", "del", "stacked0"])
      }
      if (absent.length > 0)
        console.log(`not tried, for this kernel has no such device: ${absent.join(", ")}`)
      expect(absent.length).toBeLessThan(stacked.length)
      await app({ do: "udp", to: "ff02::1%m0", port: 7005, payload: toHex(marker) })
      // Beyond the wire's MTU, to a port that is allowed: by 1 to 4 bytes, which a veth would forgive, and by more. The kernel
      // itself drops what doesn't fit m1.
      const long = { do: "udp", to: workflowAddress(2), port: 7005, payload: "61".repeat(1460) }
      for (const length of [1411, 1412, 1413, 1414, 1460])
        expect(await app({ ...long, payload: "61".repeat(length) })).toEqual({ ok: true })
      expect(await app({ ...long, segment: 365 })).toEqual({ ok: true })
      const jumbo = "61".repeat(4000)
      expect(await app({ do: "udp", to: workflowAddress(2), port: 7005, payload: jumbo })).toEqual({
        ok: true,
      })
      await new Promise((resolve) => setTimeout(resolve, 300))
      await must(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/m0/disable_ipv6"])
    })
    expect(counted).toMatchObject({ TOO_LONG: 5, SUPER_PACKET: 1 })
    expect(counted.NOT_IPV4).toBeGreaterThan(0)
  })

  test("a device stacked on the wire through netlink, by root with CAP_NET_ADMIN: the guard stands behind it", async () => {
    const index = pair.node.wire.inside(() => ifIndex("wire0"))
    const argv = [
      "ip",
      "link",
      "add",
      "link",
      `if${index}`,
      "name",
      "stacked",
      "link-netnsid",
      "0",
      "type",
      "macvlan",
    ]
    const without = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    expect(await run(...without, ...argv)).toMatchObject({
      said: expect.stringMatching(/not permitted/),
    })
    const before = pair.node.counts()
    expect(await app({ do: "run", argv })).toMatchObject({ ok: true })
    expect(await app({ do: "run", argv: ["ip", "link", "set", "stacked", "up"] })).toMatchObject({ ok: true })
    const mac = macText(pair.node.app.inside(() => macOf("stacked")))
    const all = foreignOut(mac, pair.peerMac, ownWire, peerWire)
    const frames = all.map((one) => toHex(one.frame))
    for (const bypass of [false, true])
      expect(await app({ do: "frames", device: "stacked", bypass, frames })).toMatchObject({ ok: true })
    await must(["ip", "link", "del", "stacked"])
    expect(await onlySealed(pair)).toBe(0)
    const { NEIGHBOUR: _, ...counted } = pair.node.since(before)
    expect(counted).toEqual(tally([...all, ...all], "FOREIGN_OUT"))
  })

  test("the capture sees what it should: the same frames from the wire's own namespace, past the guard", async () => {
    const all = foreignOut(pair.nodeMac, pair.peerMac, ownWire, peerWire)
    const frames = all.map((one) => toHex(one.frame))
    expect(await wire({ do: "frames", device: "wire0", bypass: true, frames })).toMatchObject({
      sent: all.length,
    })
    const seen = await report(pair)
    expect(seen.other).toHaveLength(all.length)
    // The runt is too short to hold it, and one looks sealed because it is, under a key that nobody has.
    expect(seen.marked).toBe(all.length - 2)
  })
})

describe("the wire's guard", () => {
  const world = makeWorld()
  let pair: Pair
  let wire: (question: object) => Promise<Answer>
  let app: (question: object) => Promise<Answer>

  beforeAll(async () => {
    pair = await setUp(world)
    wire = asker(world.script(pair.node.wire, "actor.py"))
    app = asker(world.script(pair.node.app, "actor.py"))
  })
  afterAll(() => world.end())

  /** What rose but ARP, which the wire's own stack speaks when it likes. */
  const since = (before: ReturnType<Pair["node"]["counts"]>): Readonly<Record<string, number>> => {
    const { NEIGHBOUR: _, ...counted } = pair.node.since(before)
    return counted
  }

  test("frames that are sent through the stack are dropped, each with one verdict", async () => {
    const all = foreignOut(pair.nodeMac, pair.peerMac, ownWire, peerWire)
    for (const mark of [{}, { mark: (pair.node.mark() ^ 1) >>> 0 }]) {
      const before = pair.node.counts()
      expect(
        await wire({ do: "frames", device: "wire0", frames: all.map((one) => toHex(one.frame)), ...mark }),
      ).toMatchObject({ errors: all.map(() => "ENOBUFS") })
      expect(await onlySealed(pair)).toBe(0)
      expect(since(before)).toEqual(tally(all, "FOREIGN_OUT"))
    }
  })

  test("what looks sealed but has no mark, or the mark and another shape", async () => {
    const packet = (source: number, from: number): string =>
      toHex(
        ethernet(
          pair.peerMac,
          pair.nodeMac,
          0x0800,
          outerPacket(
            { source, target: peerWire, from, to: ESP_PORT },
            concat(esp(nobodys, 1n, marker), marker),
          ),
        ),
      )
    const before = pair.node.counts()
    await wire({ do: "frames", device: "wire0", frames: [packet(ownWire, ESP_PORT)] })
    const marked = [packet(own, ESP_PORT), packet(ownWire, ESP_PORT - 1), packet(ownWire, ESP_PORT + 16)]
    await wire({ do: "frames", device: "wire0", mark: pair.node.mark(), frames: marked })
    expect(await onlySealed(pair)).toBe(0)
    expect(since(before)).toEqual({ FOREIGN_OUT: 4 })
  })

  test("sockets of the wire's own namespace: UDP, TCP, ICMP, raw, IPv6", async () => {
    const to = wireAddress(2)
    const payload = toHex(marker)
    const drops = async (act: () => Promise<unknown>): Promise<Readonly<Record<string, number>>> => {
      const before = pair.node.counts()
      await act()
      expect(await onlySealed(pair)).toBe(0)
      return since(before)
    }
    const once = { FOREIGN_OUT: 1 }
    expect(await drops(() => wire({ do: "udp", to, port: 53, payload }))).toEqual(once)
    expect(await drops(() => wire({ do: "udp", to, port: ESP_PORT, sport: ESP_PORT, payload }))).toEqual(once)
    // The kernel gives a broadcast to itself too, at the device's other hook and without an Ethernet header.
    expect(
      await drops(() => wire({ do: "udp", to: "192.0.2.255", port: 53, payload, broadcast: true })),
    ).toEqual({ FOREIGN_OUT: 1, BAD_IPV4: 1 })
    expect(await drops(() => wire({ do: "tcp", to, port: 80, wait: 0.2 }))).toEqual(once)
    expect(await drops(() => wire({ do: "tcp", to, port: BUS.port, wait: 0.2 }))).toEqual(once)
    expect(await drops(() => wire({ do: "ping", to, id: 5, payload, answer: false }))).toEqual(once)
    const packet = toHex(ipv4({ source: ownWire, target: peerWire, protocol: 50 }, marker))
    expect(await drops(() => wire({ do: "packet", to, packet }))).toEqual(once)
    const ipv6 = (off: 0 | 1) =>
      wire({ do: "run", argv: ["sh", "-c", `echo ${off} >/proc/sys/net/ipv6/conf/wire0/disable_ipv6`] })
    const counted = await drops(async () => {
      await ipv6(0)
      await new Promise((resolve) => setTimeout(resolve, 200))
      await wire({ do: "udp", to: "ff02::1%wire0", port: 7005, payload })
      await ipv6(1)
    })
    expect(counted.FOREIGN_OUT).toBeGreaterThan(0)
  })

  test("a packet for the application that didn't come from the opener, from whichever socket", async () => {
    const run = (...argv: ReadonlyArray<string>) => wire({ do: "run", argv })
    expect(await app({ do: "listen", port: 7006 })).toEqual({ ok: true })
    const m1 = macText(pair.node.wire.inside(() => macOf("m1")))
    const m0 = macText(pair.node.app.inside(() => macOf("m0")))
    const forged = udpPacket({ source: peerInner, target: own, from: 7005, to: 7006 }, marker)
    const frames = [toHex(ethernet(m0, m1, 0x0800, forged))]
    const before = pair.node.counts()
    const mark = (pair.node.mark() ^ 1) >>> 0
    expect(await wire({ do: "frames", device: "m1", frames })).toMatchObject({ errors: ["ENOBUFS"] })
    expect(await wire({ do: "frames", device: "m1", frames, mark })).toMatchObject({ errors: ["ENOBUFS"] })
    expect(await run("ip", "route", "add", `${workflowAddress(1)}/32`, "dev", "m1")).toMatchObject({
      ok: true,
    })
    const neighbour = ["neigh", "replace", workflowAddress(1), "lladdr", m0, "dev", "m1"]
    expect(await run("ip", ...neighbour)).toMatchObject({ ok: true })
    await wire({ do: "udp", to: workflowAddress(1), port: 7006, payload: toHex(marker) })
    expect(since(before)).toEqual({ NOT_OPENED: 3 })
    expect(await app({ do: "heard" })).toEqual({ ok: true, datagrams: [] })
  })

  test("frames that arrive are dropped, each with one verdict; neither the node nor its applications answer", async () => {
    ip("-n", pair.node.wire.name, "addr", "add", "198.51.100.1/24", "dev", "wire0")
    expect(await wire({ do: "listen", port: 5001 })).toEqual({ ok: true })
    expect(await app({ do: "listen", port: 7005 })).toEqual({ ok: true })
    const all = [
      ...foreign(pair.peerMac, pair.nodeMac, peerWire, ownWire),
      ...foreign(pair.peerMac, everybody, busAddress, ownWire),
      ...foreign(pair.peerMac, pair.nodeMac, peerInner, own),
      ...foreign(pair.peerMac, pair.nodeMac, peerWire, parseIpv4("198.51.100.1")),
      {
        name: "to a workflow address at the node's own",
        frame: ethernet(
          pair.nodeMac,
          pair.peerMac,
          0x0800,
          udpPacket({ source: peerInner, target: own, from: 7005, to: 7005 }, marker),
        ),
      },
    ]
    const before = pair.node.counts()
    await pair.peer.ask({ do: "raw", frames: all.map((one) => toHex(one.frame)) })
    const seen = await report(pair)
    expect([seen.other, sealedIn(seen)]).toEqual([[], 0])
    expect(since(before)).toEqual(tally(all, "FOREIGN_IN"))
    for (const ask of [wire, app]) expect(await ask({ do: "heard" })).toEqual({ ok: true, datagrams: [] })
  })
})

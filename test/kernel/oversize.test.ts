/** Packets that are too long for the path: what the application is told, and what the wire may tell us. */
import { afterEach, describe, expect, test } from "vitest"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { possibleCpus } from "../../services/common/kernel/maps.ts"
import { edgeKey, encodePathMtu, outSaKey } from "../../services/common/kernel/records.ts"
import { checksum, concat, ETHERNET, frame, hex, ICMP, ipv4, TCP, tcpPacket, udpPacket } from "./packets.ts"
import {
  DROP,
  defaultConfig,
  edge1,
  MARK,
  type Outcome,
  own,
  ownWire,
  PEER_PORT,
  type Plane,
  peer,
  peerWire,
  REDIRECT,
  readyPlane,
  stranger,
} from "./plane.ts"
import { bytes, request } from "./traffic.ts"

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
const u16At = (packet: Uint8Array, at: number): number =>
  new DataView(packet.buffer, packet.byteOffset).getUint16(at)

/** What a Fragmentation Needed says, after its own form was checked. */
const noticed = (out: Outcome, original: Uint8Array): number => {
  expect(out).toMatchObject({ verdict: "TOO_LONG", retval: REDIRECT, mark: ~MARK >>> 0 })
  const packet = out.packet.subarray(ETHERNET)
  expect(out.packet.subarray(0, 6)).toEqual(defaultConfig.innerMac)
  expect(packet.length).toBe(20 + 8 + 28)
  expect(u16At(packet, 2)).toBe(packet.length)
  expect(packet[9]).toBe(ICMP)
  expect(checksum(packet.subarray(0, 20))).toBe(0)
  expect(checksum(packet.subarray(20))).toBe(0)
  expect(packet.subarray(12, 16)).toEqual(original.subarray(16, 20))
  expect(packet.subarray(16, 20)).toEqual(original.subarray(12, 16))
  expect(packet.subarray(20, 22)).toEqual(hex("03 04"))
  expect(packet.subarray(24, 26)).toEqual(hex("0000"))
  expect(packet.subarray(28)).toEqual(original.subarray(0, 28))
  return u16At(packet, 26)
}

describe("the application is told", () => {
  test.each([1500, 1499, 1498, 1497, 1496, 1400, 576, 3000, 1280])(
    "of a wire with %i: an MTU that is taken, while one byte more is not",
    (mtu) => {
      const plane = ready().endpoint(1, { mtu })
      const long = request(bytes(3200))
      const inner = noticed(plane.run(seal, frame(long)), long)
      const fits = plane.run(seal, frame(request(bytes(inner - 28))))
      expect(fits.verdict).toBe("SEALED")
      expect(fits.packet.length - ETHERNET).toBeLessThanOrEqual(mtu)
      const over = request(bytes(inner - 27))
      expect(noticed(plane.run(seal, frame(over)), over)).toBe(inner)
    },
  )

  test.each([
    ["UDP without DF", request(bytes(1500)).fill(0, 6, 8)],
    ["TCP", tcpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, bytes(1460))],
  ])("%s", (_, packet) => {
    const fixed = packet.slice()
    fixed.fill(0, 10, 12)
    new DataView(fixed.buffer).setUint16(10, checksum(fixed.subarray(0, 20)))
    expect(noticed(ready().run(seal, frame(fixed)), fixed)).toBe(1438)
  })

  test("no number, no flow, no byte on the wire is spent on it", () => {
    const plane = ready()
    plane.run(seal, frame(request(bytes(1500))))
    expect(plane.map("flows").keys()).toEqual([])
    expect(plane.stats(1).sealedPackets).toBe(0n)
    const out = plane.run(seal, frame(request()))
    expect(out.packet.subarray(ETHERNET + 36, ETHERNET + 44)).toEqual(hex("00000000 00000001"))
  })

  test("nobody is told about what no edge allows, or without a key", () => {
    const plane = ready()
    const elsewhere = udpPacket({ source: own, target: stranger, from: 1, to: 1 }, bytes(1500))
    expect(plane.run(seal, frame(elsewhere))).toMatchObject({ verdict: "NO_POLICY", retval: DROP })
    plane.lease(edge1, bootNow() - 1n)
    expect(plane.run(seal, frame(request(bytes(1500))))).toMatchObject({
      verdict: "LEASE_OVER",
      retval: DROP,
    })
  })

  test("a hundred times a second on each CPU, not more", () => {
    const plane = ready()
    const told = Array.from({ length: 150 }, () => plane.run(seal, frame(request(bytes(1500)))))
    expect(told.every((out) => out.verdict === "TOO_LONG")).toBe(true)
    expect(told.slice(0, 100).every((out) => out.retval === REDIRECT)).toBe(true)
    const most = 100 * possibleCpus()
    const rest = Array.from({ length: most }, () => plane.run(seal, frame(request(bytes(1500)))))
    expect([...told, ...rest].filter((out) => out.retval === REDIRECT).length).toBeLessThanOrEqual(most)
    expect(rest.at(-1)).toMatchObject({ retval: DROP, mark: 0 })
  })
})

describe("the wire tells us", () => {
  interface Report {
    readonly mtu: number
    readonly type?: number
    readonly code?: number
    /** Changes the quoted packet. */
    readonly quote?: (quoted: Uint8Array) => Uint8Array
    readonly corrupt?: boolean
    readonly keep?: number
  }
  /** A plane that has sealed one packet, and that packet, of 1,500 bytes, as it was on the wire. */
  const sealed = (): { plane: Plane; outer: Uint8Array } => {
    const plane = ready()
    const out = plane.run(seal, frame(request(bytes(1410))))
    expect(out.verdict).toBe("SEALED")
    return { plane, outer: out.packet.slice(ETHERNET) }
  }
  const report = (
    outer: Uint8Array,
    { mtu, type = 3, code = 4, quote, corrupt, keep }: Report,
  ): Uint8Array => {
    const quoted = (quote?.(outer.slice()) ?? outer).slice(0, keep ?? 548)
    const rest = concat(hex("0000"), Uint8Array.of(mtu >> 8, mtu & 255), quoted)
    const head = Uint8Array.of(type, code)
    const sum = checksum(head, Uint8Array.of(0, 0), rest) ^ (corrupt ? 1 : 0)
    const message = concat(head, Uint8Array.of(sum >> 8, sum & 255), rest)
    // A router anywhere on the way: its address is nobody's business.
    return frame(ipv4({ source: 0xcb007101, target: ownWire, protocol: ICMP, fragment: 0 }, message))
  }
  const put =
    (at: number, ...values: ReadonlyArray<number>) =>
    (packet: Uint8Array): Uint8Array => {
      packet.set(values, at)
      return packet
    }

  test("a smaller MTU: the sealer keeps to it and tells the application", () => {
    const { plane, outer } = sealed()
    expect(plane.run(open, report(outer, { mtu: 1400 }))).toMatchObject({ verdict: "PATH_MTU", retval: DROP })
    expect(plane.reportedMtu(1).mtu).toBe(1400)
    const long = request(bytes(1410))
    expect(noticed(plane.run(seal, frame(long)), long)).toBe(1338)
    expect(plane.run(seal, frame(request(bytes(1310)))).verdict).toBe("SEALED")
  })

  test("only ever less, never below 576, and for ten minutes", () => {
    const { plane, outer } = sealed()
    const told = (mtu: number): number => {
      expect(plane.run(open, report(outer, { mtu })).verdict).toBe("PATH_MTU")
      return plane.reportedMtu(1).mtu
    }
    expect(told(1300)).toBe(1300)
    expect(told(1400)).toBe(1300)
    expect(told(1499)).toBe(1300)
    expect(told(68)).toBe(576)
    const now = bootNow() >> 30n
    const { ends } = plane.reportedMtu(1)
    expect(Number(((ends - now) << 30n) / 1_000_000_000n)).toBeGreaterThan(590)
    expect(Number(((ends - now) << 30n) / 1_000_000_000n)).toBeLessThan(610)
    plane.map("path_mtus").update(edgeKey(1), encodePathMtu({ mtu: 576, ends: now }))
    expect(plane.run(seal, frame(request(bytes(1410)))).verdict).toBe("SEALED")
    expect(told(1400)).toBe(1400)
  })

  test.each<readonly [string, Report]>([
    ["another SPI", { mtu: 1400, quote: put(28, 0x77) }],
    ["another of our SPIs, to a peer that has none such", { mtu: 1400, quote: put(28, 0, 0, 0x10, 0x02) }],
    ["another source", { mtu: 1400, quote: put(12, 10, 1, 1, 1) }],
    ["another destination", { mtu: 1400, quote: put(16, 10, 1, 1, 1) }],
    ["another protocol", { mtu: 1400, quote: put(9, TCP) }],
    ["another source port", { mtu: 1400, quote: put(20, 0x12, 0x34) }],
    ["a later fragment", { mtu: 1400, quote: put(6, 0, 100) }],
    ["options", { mtu: 1400, quote: put(0, 0x46) }],
    ["a sequence number that was not sent yet", { mtu: 1400, quote: put(32, 0, 0, 0, 9) }],
    ["a packet that would have fitted", { mtu: 1500 }],
    ["no MTU", { mtu: 0 }],
    ["an MTU of 67", { mtu: 67 }],
    ["a wrong checksum", { mtu: 1400, corrupt: true }],
    ["too short a quote", { mtu: 1400, keep: 35 }],
    ["more than a router quotes", { mtu: 1400, keep: 549 }],
  ])("forged: %s", (_, forged) => {
    const { plane, outer } = sealed()
    expect(plane.run(open, report(outer, forged))).toMatchObject({ verdict: "FORGED_ICMP", retval: DROP })
    expect(plane.reportedMtu(1)).toEqual({ mtu: 0, ends: 0n })
  })

  test("of the shortest quote that can be judged, 36 bytes, with an odd number of them", () => {
    const { plane, outer } = sealed()
    expect(plane.run(open, report(outer, { mtu: 1400, keep: 37 })).verdict).toBe("PATH_MTU")
    expect(plane.run(open, report(outer, { mtu: 1300, keep: 36 })).verdict).toBe("PATH_MTU")
  })

  test("a packet long ago, a key that went, a lease that is over", () => {
    const { plane, outer } = sealed()
    const record = plane.map("sa_out").lookup(outSaKey(1, edge1.out.spi)) ?? new Uint8Array(0)
    new DataView(record.buffer).setBigUint64(0, 65_537n, true)
    plane.map("sa_out").update(outSaKey(1, edge1.out.spi), record)
    expect(plane.run(open, report(outer, { mtu: 1400 })).verdict).toBe("FORGED_ICMP")
    new DataView(record.buffer).setBigUint64(0, 65_536n, true)
    plane.map("sa_out").update(outSaKey(1, edge1.out.spi), record)
    plane.lease(edge1, bootNow() - 1n)
    expect(plane.run(open, report(outer, { mtu: 1400 })).verdict).toBe("FORGED_ICMP")
    plane.lease(edge1)
    expect(plane.run(open, report(outer, { mtu: 1400 })).verdict).toBe("PATH_MTU")
    plane.map("sa_out").delete(outSaKey(1, edge1.out.spi))
    expect(plane.run(open, report(outer, { mtu: 1300 })).verdict).toBe("FORGED_ICMP")
  })

  test.each([
    ["host unreachable", 3, 1],
    ["port unreachable", 3, 3],
    ["redirect", 5, 1],
    ["time exceeded", 11, 0],
    ["echo request", 8, 0],
  ])("nothing else in ICMP: %s", (_, type, code) => {
    const { plane, outer } = sealed()
    expect(plane.run(open, report(outer, { mtu: 1400, type, code }))).toMatchObject({
      verdict: "FOREIGN_IN",
      retval: DROP,
    })
  })

  test("what was sent to another address is remembered by that address", () => {
    const { plane } = sealed()
    plane.endpoint(1, { peerWire: peerWire + 1 })
    plane.map("sa_out").delete(outSaKey(1, edge1.out.spi))
    plane.keys({ ...edge1, out: { ...edge1.out, spi: 0x1401 }, in: { ...edge1.in, spi: 0x2401 } })
    const out = plane.run(seal, frame(request(bytes(1410))))
    expect(plane.run(open, report(out.packet.slice(ETHERNET), { mtu: 1400 })).verdict).toBe("PATH_MTU")
  })
})

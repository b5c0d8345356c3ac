/**
 * What was dropped: the counts of each edge, and samples: what they tell, and that a flood of one kind hides neither another kind
 * nor a count.
 */
import { afterEach, expect, test } from "vitest"
import { verdicts } from "../../schemas/verdicts.ts"
import { testRun } from "../../services/common/kernel/libbpf.ts"
import { possibleCpus } from "../../services/common/kernel/maps.ts"
import { decodeDrops, indexKey } from "../../services/common/kernel/records.ts"
import { DropReader } from "../../services/dataplane-loader/dataplane/drops.ts"
import { arpFrame, esp, frame, outerPacket, tcpPacket, udpPacket } from "./packets.ts"
import {
  bus,
  edge2,
  fromPeer,
  OWN_PORT,
  own,
  ownWire,
  type Plane,
  peer,
  readyPlane,
  stranger,
} from "./plane.ts"
import { bytes, incoming, request, sealedBy } from "./traffic.ts"

const planes: Array<Plane> = []
afterEach(() => {
  for (const plane of planes.splice(0)) plane.close()
})
const ready = (): { plane: Plane; reader: DropReader } => {
  const plane = readyPlane()
  planes.push(plane)
  return { plane, reader: new DropReader(plane.map("drops")) }
}
const forged = (sequence = 1n): Uint8Array => {
  const packet = sealedBy(edge2, sequence, incoming())
  packet[packet.length - 1] = (packet[packet.length - 1] ?? 0) ^ 1
  return packet
}

test("what is told of a drop: verdict, edge, key, and the packet as far as it was known", () => {
  const { plane, reader } = ready()
  const said = (...args: Parameters<Plane["run"]>) => {
    plane.run(...args)
    return reader.read()
  }
  expect(
    said("vs_seal", frame(udpPacket({ source: own, target: stranger, from: 1, to: 2 }, bytes(8)))),
  ).toEqual([{ verdict: "NO_POLICY", edge: undefined, text: "udp 10.77.0.1:1 > 10.77.0.3:2 inside" }])
  expect(said("vs_seal", frame(request(bytes(1500))))).toEqual([
    { verdict: "TOO_LONG", edge: 1, text: "udp 10.77.0.1:40000 > 10.77.0.2:5432 inside spi 0x00001001" },
  ])
  expect(said("vs_seal", arpFrame())).toEqual([{ verdict: "NOT_IPV4", edge: undefined, text: "no IP" }])
  expect(said("vs_open", forged())).toEqual([
    { verdict: "BAD_TAG", edge: 2, text: "udp 192.0.2.2:4500 > 192.0.2.1:4500 spi 0x00002002" },
  ])
  const unknown = esp({ ...edge2.in, spi: 0x9999 }, 1n, incoming())
  expect(said("vs_open", frame(outerPacket(fromPeer(), unknown)))).toEqual([
    { verdict: "UNKNOWN_SPI", edge: undefined, text: "udp 192.0.2.2:4500 > 192.0.2.1:4500 spi 0x00009999" },
  ])
  const notAllowed = tcpPacket({ source: peer, target: own, from: 9, to: OWN_PORT + 1 }, bytes(8))
  expect(said("vs_open", sealedBy(edge2, 2n, notAllowed))).toEqual([
    { verdict: "NO_POLICY", edge: 2, text: "tcp 10.77.0.2:9 > 10.77.0.1:8081 inside spi 0x00002002" },
  ])
  expect(
    said("vs_guard", frame(udpPacket({ source: ownWire, target: bus, from: 68, to: 67 }, bytes(8)))),
  ).toEqual([{ verdict: "FOREIGN_OUT", edge: undefined, text: "udp 192.0.2.1:68 > 192.0.2.250:67" }])
  expect(said("vs_inner", frame(incoming()))).toEqual([
    { verdict: "NOT_OPENED", edge: undefined, text: "udp 10.77.0.2:50000 > 10.77.0.1:8080" },
  ])
  expect(reader.read()).toEqual([])
})

test("each edge counts what was dropped of it, by verdict; nobody's packet counts for anybody", () => {
  const { plane } = ready()
  const none = { 1: {}, 2: {}, 3: {} }
  const counted = () => ({ 1: plane.edgeDrops(1), 2: plane.edgeDrops(2), 3: plane.edgeDrops(3) })
  // What passes, what is nobody's, and what another program drops after a packet of an edge.
  plane.run("vs_seal", frame(request()))
  plane.run("vs_open", sealedBy(edge2, 1n, incoming()))
  plane.run("vs_guard", frame(request()))
  plane.run("vs_inner", frame(incoming()))
  plane.run("vs_seal", frame(udpPacket({ source: own, target: stranger, from: 1, to: 2 }, bytes(8))))
  plane.run("vs_open", frame(outerPacket(fromPeer(), esp({ ...edge2.in, spi: 0x9999 }, 1n, incoming()))))
  plane.run("vs_open", arpFrame().subarray(0, 41))
  plane.run("vs_open", frame(outerPacket(fromPeer(), Uint8Array.of(0xff))))
  expect(counted()).toEqual(none)
  expect(plane.run("vs_open", sealedBy(edge2, 1n, incoming())).verdict).toBe("REPLAYED")
  expect(plane.run("vs_open", sealedBy(edge2, 5000n, incoming())).verdict).toBe("OPENED")
  expect(plane.run("vs_open", sealedBy(edge2, 5000n, incoming())).verdict).toBe("REPLAYED")
  expect(plane.run("vs_open", forged(9000n)).verdict).toBe("BAD_TAG")
  expect(plane.run("vs_seal", frame(request(bytes(1500)))).verdict).toBe("TOO_LONG")
  plane.lease(edge2, 1n)
  expect(plane.run("vs_open", sealedBy(edge2, 9001n, incoming())).verdict).toBe("LEASE_OVER")
  const notAllowed = tcpPacket({ source: peer, target: own, from: 9, to: OWN_PORT + 1 }, bytes(8))
  plane.lease(edge2)
  expect(plane.run("vs_open", sealedBy(edge2, 9002n, notAllowed)).verdict).toBe("NO_POLICY")
  expect(counted()).toEqual({
    1: { TOO_LONG: 1n },
    2: { REPLAYED: 2n, BAD_TAG: 1n, LEASE_OVER: 1n, NO_POLICY: 1n },
    3: {},
  })
  // Drops are counted beyond what is sampled.
  for (let i = 0; i < 20; i++) plane.run("vs_open", forged(9100n))
  expect(plane.edgeDrops(2).BAD_TAG).toBe(21n)
  const total = (name: string) => plane.counts()[verdicts.find((one) => one.name === name)?.number ?? -1]
  expect([total("REPLAYED"), total("BAD_TAG")]).toEqual([2n, 21n])
})

test("what passes and what is routine leaves none; nor does what was dropped before somebody looked", () => {
  const { plane, reader } = ready()
  plane.run("vs_seal", frame(request()))
  plane.run("vs_open", sealedBy(edge2, 1n, incoming()))
  plane.run("vs_open", frame(outerPacket(fromPeer(), Uint8Array.of(0xff))))
  expect(reader.read()).toEqual([])
  plane.run("vs_open", forged(9n))
  expect(new DropReader(plane.map("drops")).read()).toEqual([])
  expect(reader.read()).toHaveLength(1)
})

test("a flood of one kind: every packet counted, four a second sampled, two at a time told; another kind still shows", () => {
  const { plane, reader } = ready()
  const badTag = verdicts.find((verdict) => verdict.name === "BAD_TAG")?.number ?? -1
  const before = plane.counts()[badTag] ?? 0n
  const fd = plane.object.programFd("vs_open")
  const flood = forged(7n)
  const start = Date.now()
  for (let i = 0; i < 5000; i++) testRun(fd, flood)
  const seconds = Math.ceil((Date.now() - start) / 1000) + 1
  expect((plane.counts()[badTag] ?? 0n) - before).toBe(5000n)
  const rings = (plane.map("drops").lookupPerCpu(indexKey(0)) ?? []).map(decodeDrops)
  expect(rings.length).toBe(possibleCpus())
  for (const ring of rings) {
    expect(ring.length).toBeLessThanOrEqual(Math.min(32, 4 * seconds))
    expect(ring.every((drop) => drop.verdict === badTag)).toBe(true)
  }
  plane.run("vs_seal", frame(udpPacket({ source: stranger, target: peer, from: 1, to: 2 }, bytes(8))))
  expect(reader.read().map(({ verdict }) => verdict)).toEqual(
    expect.arrayContaining(["BAD_TAG", "BAD_TAG", "WRONG_SOURCE"]),
  )
  expect(reader.read()).toEqual([])
})

test("a ring that has been overwritten, and one that is written while it is read", () => {
  const { plane } = ready()
  const [ring] = plane.map("drops").lookupPerCpu(indexKey(0)) ?? []
  if (ring === undefined) throw new Error("no CPU")
  const view = new DataView(ring.buffer, ring.byteOffset)
  const put = (number: bigint, check = number): void => {
    const at = 8 + Number(number % 32n) * 80
    view.setBigUint64(at, number, true)
    view.setBigUint64(at + 72, check, true)
  }
  for (let number = 1n; number <= 40n; number++) put(number)
  put(41n, 0n)
  put(42n, 10n)
  expect(decodeDrops(ring).map((drop) => Number(drop.number))).toEqual(
    Array.from({ length: 30 }, (_, i) => i + 11),
  )
})

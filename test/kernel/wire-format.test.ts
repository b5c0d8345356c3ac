import { describe, expect, test } from "vitest"
import { loadObject } from "../../services/common/kernel/libbpf.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import { indexKey } from "../../services/common/kernel/records.ts"
import { closeAfterEach, keep, ready } from "./fresh-planes.ts"
import {
  concat,
  ETHERNET,
  esp,
  frame,
  hex,
  OUTER,
  outerPacket,
  runWithDriverChecksum,
  UDP,
  udpPacket,
} from "./packets.ts"
import {
  defaultConfig,
  ESP_PORT,
  edge1,
  edge2,
  fromPeer,
  MARK,
  MTU,
  type Outcome,
  own,
  ownWire,
  PEER_PORT,
  Plane,
  peer,
  peerWire,
} from "./plane.ts"
import { answer, bytes, incoming, request, sealedBy } from "./traffic.ts"
import { guard, inner, open, seal } from "./verdict-case.ts"

closeAfterEach()

describe("the wire format", () => {
  const flowLane = (out: Outcome): number =>
    new DataView(out.packet.buffer, out.packet.byteOffset).getUint16(ETHERNET + 20) - ESP_PORT

  test("every byte after Ethernet is what another implementation makes, at every length", () => {
    const plane = ready()
    let sequence = 0n
    for (let length = 0; length <= 1438 - 28; length += length < 70 ? 1 : 67) {
      const packet = request(bytes(length))
      const out = plane.run(seal, frame(packet))
      expect(out.verdict).toBe("SEALED")
      sequence += 1n
      const lane = flowLane(out)
      const expected = outerPacket(
        { source: ownWire, target: peerWire, from: ESP_PORT + lane, to: ESP_PORT },
        esp(edge1.out, sequence, packet),
      )
      expect(Buffer.from(out.packet.subarray(ETHERNET)).toString("hex")).toBe(
        Buffer.from(expected).toString("hex"),
      )
      expect((out.packet[0] ?? 1) & 1, "a unicast destination").toBe(0)
    }
  })

  test("the longest inner packet of a 1500-byte wire fills it exactly", () => {
    const out = ready().run(seal, frame(request(bytes(1438 - 28))))
    expect(out.verdict).toBe("SEALED")
    expect(out.packet.length).toBe(ETHERNET + MTU)
  })

  test("without ESN the tag covers 32 bits of sequence number", () => {
    const plane = keep(new Plane()).configure()
    const narrow = { edge: 1, out: { ...edge1.out, esn: false }, in: { ...edge1.in, esn: false } }
    plane.allow({ peer, port: PEER_PORT, protocol: UDP, role: 0 }, 1).endpoint(1, { lanes: 1 }).keys(narrow)
    const packet = request()
    const out = plane.run(seal, frame(packet))
    expect(out.packet.subarray(ETHERNET)).toEqual(
      outerPacket(
        { source: ownWire, target: peerWire, from: ESP_PORT, to: ESP_PORT },
        esp(narrow.out, 1n, packet),
      ),
    )
    const back = plane.run(
      open,
      frame(outerPacket(fromPeer(), esp(narrow.in, 1n, answer(), { iv: bytes(8) }))),
    )
    expect(back.verdict).toBe("OPENED")
    expect(plane.run(open, frame(outerPacket(fromPeer(), esp(edge1.in, 2n, answer())))).verdict).toBe(
      "BAD_TAG",
    )
  })

  test("the inner type of service is copied, the mark set for the guard", () => {
    const packet = udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, bytes(9), {
      tos: 0xb9,
    })
    const out = ready().run(seal, frame(packet))
    expect(out.packet[ETHERNET + 1]).toBe(0xb9)
    expect(out.mark).toBe(MARK)
  })

  test("the peer's port and each lane's own source port", () => {
    const plane = ready().endpoint(1, { peerPort: 14_500 })
    const lanes = new Set<number>()
    for (let from = 40_000; from < 40_064; from++) {
      const out = plane.run(seal, frame(request(bytes(4), from)))
      expect(flowLane(plane.run(seal, frame(request(bytes(4), from)))), "one flow, one lane").toBe(
        flowLane(out),
      )
      expect(new DataView(out.packet.buffer).getUint16(ETHERNET + 22)).toBe(14_500)
      lanes.add(flowLane(out))
    }
    expect([...lanes].sort()).toEqual([0, 1, 2, 3])
  })

  test("Ethernet padding after an application's packet is not sealed with it", () => {
    const packet = request(bytes(3))
    const out = ready().run(seal, concat(frame(packet), bytes(21)))
    expect(out.packet.length).toBe(ETHERNET + OUTER + packet.length + 3 + 2 + 16)
    expect(out.packet.subarray(ETHERNET + 28)).toEqual(esp(edge1.out, 1n, packet))
  })

  test("opening gives the inner packet and the device's address, byte for byte, at every length", () => {
    const plane = ready()
    let sequence = 1n
    for (let length = 0; length <= 1438 - 28; length += length < 70 ? 1 : 67) {
      const packet = incoming(bytes(length))
      const out = plane.run(open, sealedBy(edge2, sequence, packet, { iv: bytes(8) }))
      sequence += 1n
      expect(out.verdict).toBe("OPENED")
      expect(out.packet.subarray(0, 6)).toEqual(defaultConfig.innerMac)
      expect(out.packet.subarray(12, 14)).toEqual(hex("0800"))
      expect(Buffer.from(out.packet.subarray(ETHERNET)).equals(packet), `length ${length}`).toBe(true)
      expect(out.mark).toBe(MARK)
    }
  })

  test("a driver's checksum ends where both programs begin to change a packet", () => {
    const object = loadObject("bpf/build/aead-test.bpf.o")
    try {
      const sums = new BpfMap(object.mapFd("sums"))
      for (const program of ["test_grow", "test_cut"]) {
        runWithDriverChecksum(object.programFd(program), frame(request()))
        const value = new DataView((sums.lookup(indexKey(0)) ?? new Uint8Array(16)).buffer)
        expect(value.getBigInt64(0, true) >= 0n, "summed up by the driver before").toBe(true)
        expect(value.getBigInt64(8, true) < 0n, "by nobody after").toBe(true)
      }
    } finally {
      object.close()
    }
  })

  test("the guards take their mark off", () => {
    const plane = ready()
    const sealed = plane.run(seal, frame(request()))
    expect(plane.run(guard, sealed.packet, { mark: sealed.mark })).toMatchObject({
      verdict: "SEALED_OUT",
      mark: 0,
    })
    expect(plane.run(inner, frame(incoming()), { mark: MARK })).toMatchObject({
      verdict: "DELIVERED",
      mark: 0,
    })
  })

  test("what is refused leaves as it came: nothing of it was decrypted", () => {
    const plane = ready()
    const packet = sealedBy(edge2, 1n, incoming())
    packet[packet.length - 1] = (packet[packet.length - 1] ?? 0) ^ 1
    expect(plane.run(open, packet).packet).toEqual(packet)
    const other = sealedBy(edge1, 1n, incoming())
    expect(plane.run(open, other)).toMatchObject({ verdict: "NO_POLICY", packet: other })
  })
})

describe("accounting", () => {
  test("each edge counts its packets and the bytes of their inner packets", () => {
    const plane = ready()
    plane.run(seal, frame(request(bytes(100))))
    plane.run(seal, frame(request(bytes(50))))
    plane.run(open, sealedBy(edge1, 1n, answer(bytes(10))))
    plane.run(open, sealedBy(edge1, 1n, answer(bytes(10))))
    expect(plane.stats(1)).toEqual({
      sealedPackets: 2n,
      sealedBytes: 206n,
      openedPackets: 1n,
      openedBytes: 38n,
    })
    expect(plane.stats(2).sealedPackets).toBe(0n)
  })
})

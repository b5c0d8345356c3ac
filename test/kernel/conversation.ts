/** What the node of plane6.ts, its peer and others send each other in the test of mutated frames, by chance but the same in each run. */
import { Chance } from "./mutate.ts"
import { readPacket } from "./oracle.ts"
import {
  arpFrame,
  concat,
  frame,
  frame6,
  hex,
  ICMPV6,
  icmpPacket,
  icmpPacket6,
  ipv4,
  ipv6,
  outerPacket,
  outerPacket6,
  SCTP,
  sctpSegment,
  tcpPacket,
  tcpPacket6,
  trailerFor,
  udpPacket,
  udpPacket6,
} from "./packets.ts"
import { BUS_PORT, bus, fromPeer, OWN_PORT, own, ownWire, PEER_PORT, peer } from "./plane.ts"
import { bus6, fromPeer6, own6, ownWire6, peer6, peerWire6 } from "./plane6.ts"

export const chance = new Chance(20_261_123)

export const payload = (): Uint8Array => chance.bytes(chance.one([0, 1, 5, 16, 31, 64, 120]))

/** Packets between the workflow's addresses that an edge lets through: to PEER_PORT if we send them, to OWN_PORT if the peer does. */
export const opening = (direction: "out" | "in"): Uint8Array => {
  const [port, other] = [direction === "out" ? PEER_PORT : OWN_PORT, 40_000 + chance.upTo(64)]
  const four = direction === "out" ? { source: own, target: peer } : { source: peer, target: own }
  const six = direction === "out" ? { source: own6, target: peer6 } : { source: peer6, target: own6 }
  const tos = chance.upTo(4) + 4 * chance.upTo(64)
  const ports = { from: other, to: port }
  switch (chance.upTo(8)) {
    case 0:
      return udpPacket({ ...four, ...ports }, payload(), { tos })
    case 1:
      return udpPacket6({ ...six, ...ports }, payload(), { trafficClass: tos })
    case 2:
      return tcpPacket({ ...four, ...ports }, payload(), { tos })
    case 3:
      return tcpPacket6({ ...six, ...ports }, payload(), { trafficClass: tos })
    case 4:
      return icmpPacket(four, 8, other, payload())
    case 5:
      return icmpPacket6(six, 128, concat(Uint8Array.of(other >> 8, other & 255, 0, 1), payload()))
    case 6:
      return ipv6({ ...six, next: SCTP, trafficClass: tos }, sctpSegment(other, port, 1))
    default:
      return ipv4({ ...four, protocol: SCTP, tos }, sctpSegment(other, port, 0))
  }
}

/** The answer to a packet of `opening`, or an error about it. */
export const answerTo = (packet: Uint8Array): Uint8Array => {
  const six = (packet[0] ?? 0) >> 4 === 6
  const [source, target] = six
    ? [packet.slice(8, 24), packet.slice(24, 40)]
    : [packet.slice(12, 16), packet.slice(16, 20)]
  if (chance.upTo(3) === 0) {
    const number = (bytes: Uint8Array): number => Buffer.from(bytes).readUInt32BE(0)
    const quote = concat(new Uint8Array(4), packet.subarray(0, six ? 48 : 28))
    if (six) return icmpPacket6({ source: target, target: source }, 1 + chance.upTo(4), quote)
    const pair = { source: number(target), target: number(source), protocol: 1 }
    return ipv4(pair, concat(Uint8Array.of(chance.one([3, 11, 12]), 0, 0, 0), quote))
  }
  const back = packet.slice()
  const [addresses, ports] = six ? [8, 40] : [12, 20]
  back.set(target, addresses)
  back.set(source, addresses + target.length)
  const protocol = packet[six ? 6 : 9]
  if (protocol === 1) back[ports] = 0
  else if (protocol === ICMPV6) back[ports] = 129
  else {
    back.set(packet.subarray(ports + 2, ports + 4), ports)
    back.set(packet.subarray(ports, ports + 2), ports + 2)
  }
  return back
}

export const outer = (payload: Uint8Array): Uint8Array => {
  const tos = chance.upTo(4)
  return chance.upTo(2) === 0
    ? frame(outerPacket({ ...fromPeer(chance.upTo(4)), tos }, payload))
    : frame6(outerPacket6({ ...fromPeer6(chance.upTo(4)), tos }, payload))
}

/** Arriving frames that aren't sealed packets. */
export const others: ReadonlyArray<Uint8Array> = [
  arpFrame(1),
  arpFrame(2),
  frame(tcpPacket({ source: bus, target: ownWire, from: BUS_PORT, to: 40_000 }, hex("00"))),
  frame6(tcpPacket6({ source: bus6, target: ownWire6, from: BUS_PORT, to: 40_000 }, hex("00"))),
  ...[135, 136].map((type) =>
    frame6(
      icmpPacket6(
        { source: peerWire6, target: ownWire6 },
        type,
        concat(new Uint8Array(4), ownWire6, hex("0101020000000001")),
        { hopLimit: 255 },
      ),
    ),
  ),
  frame(outerPacket(fromPeer(), Uint8Array.of(255))),
  frame(outerPacket(fromPeer(), new Uint8Array(64))),
  frame(
    ipv4(
      { source: bus, target: ownWire, protocol: 1 },
      concat(hex("03040000 00000240"), outerPacket({ ...fromPeer(), source: ownWire }, new Uint8Array(700))),
    ),
  ),
]

/** What a text carries (RFC 4303 section 2.4 and 2.6): the inner packet, or undefined if its trailer or its length is wrong. */
export const readText = (text: Uint8Array): Uint8Array | undefined => {
  const [pad = 0, next] = text.subarray(-2)
  const length = text.length - 2 - pad
  if ((next !== 4 && next !== 41) || length < 1) return undefined
  if (!text.subarray(length, -2).every((byte, i) => byte === i + 1)) return undefined
  const inner = text.slice(0, length)
  const packet = readPacket(inner, 0, next === 4 ? 4 : 6)
  return packet !== undefined && packet.end === length ? inner : undefined
}

/** Test runs of newer kernels take no frame that says that it is IP and has no room for its header. */
export const isTooShort = (packet: Uint8Array): boolean => {
  const type = (packet[12] ?? 0) * 256 + (packet[13] ?? 0)
  return packet.length < (type === 0x0800 ? 34 : type === 0x86dd ? 54 : 14)
}

export const frameOf = (packet: Uint8Array): Uint8Array =>
  ((packet[0] ?? 0) >> 4 === 6 ? frame6 : frame)(packet)
export const withTrailer = (inner: Uint8Array): Uint8Array =>
  concat(inner, trailerFor(inner.length, (inner[0] ?? 0) >> 4 === 6 ? 41 : 4))
export const ecnOf = (packet: Uint8Array): number =>
  (packet[0] ?? 0) >> 4 === 6 ? ((packet[1] ?? 0) >> 4) & 3 : (packet[1] ?? 0) & 3

/** The inner packet behind an Ethernet header, but for the congestion mark (RFC 6040 section 4.2) and the checksum over it. */
export const sameInner = (out: Uint8Array, inner: Uint8Array, outerEcn: number): boolean => {
  const got = out.slice(14)
  const before = ecnOf(inner)
  const after = outerEcn === 3 ? 3 : outerEcn === 1 && before === 2 ? 1 : before
  if (got.length !== inner.length || ecnOf(got) !== after) return false
  const six = (inner[0] ?? 0) >> 4 === 6
  got[1] = ((got[1] ?? 0) & (six ? 0xcf : 0xfc)) | (before << (six ? 4 : 0))
  if (!six && after !== before) got.set(inner.subarray(10, 12), 10)
  return Buffer.compare(got, inner) === 0
}

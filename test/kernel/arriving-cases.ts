import {
  arpFrame,
  concat,
  ETHERNET,
  esp,
  frame,
  hex,
  ipv4,
  outerPacket,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
} from "./packets.ts"
import { BUS_PORT, bus, ESP_PORT, edge2, fromPeer, ownWire, peerWire } from "./plane.ts"
import { bytes, incoming, sealedBy } from "./traffic.ts"
import { type Case, open } from "./verdict-case.ts"

const fromBus = (flags: number): Uint8Array =>
  frame(tcpPacket({ source: bus, target: ownWire, from: BUS_PORT, to: 33_000 }, bytes(10), { flags }))

export const arrivingCases: ReadonlyArray<Case> = [
  { name: "ARP request", program: open, packet: () => arpFrame(1), verdict: "NEIGHBOUR" },
  { name: "ARP reply", program: open, packet: () => arpFrame(2), verdict: "NEIGHBOUR" },
  {
    name: "from the bus",
    program: open,
    packet: () => frame(tcpPacket({ source: bus, target: ownWire, from: BUS_PORT, to: 33_000 }, bytes(10))),
    verdict: "CONTROL",
  },
  {
    name: "the bus's side of an opening connection",
    program: open,
    packet: () => fromBus(0x12),
    verdict: "CONTROL",
  },
  {
    name: "a connection that the bus opens",
    program: open,
    packet: () => fromBus(0x02),
    verdict: "FOREIGN_IN",
  },
  {
    name: "a connection that the bus opens, with ECN",
    program: open,
    packet: () => fromBus(0xc2),
    verdict: "FOREIGN_IN",
  },
  {
    name: "TCP from the bus that ends before its flags",
    program: open,
    packet: () =>
      frame(ipv4({ source: bus, target: ownWire, protocol: TCP }, fromBus(0x10).subarray(34, 47))),
    verdict: "FOREIGN_IN",
  },
  { name: "RARP", program: open, packet: () => arpFrame(3), verdict: "FOREIGN_IN" },
  {
    name: "ARP for other hardware",
    program: open,
    packet: () => frame(concat(hex("0006 0800 06 04 0001"), new Uint8Array(20)), 0x0806),
    verdict: "FOREIGN_IN",
  },
  {
    name: "IPv6 on the wire",
    program: open,
    packet: () => frame(concat(hex("60000000 0000 3b 40"), new Uint8Array(40)), 0x86dd),
    verdict: "FOREIGN_IN",
  },
  {
    name: "a plain workflow packet on the wire",
    program: open,
    packet: () => frame(incoming()),
    verdict: "FOREIGN_IN",
  },
  {
    name: "TCP from another host",
    program: open,
    packet: () =>
      frame(tcpPacket({ source: peerWire, target: ownWire, from: BUS_PORT, to: 33_000 }, bytes(1))),
    verdict: "FOREIGN_IN",
  },
  {
    name: "TCP from another port of the bus's host",
    program: open,
    packet: () => frame(tcpPacket({ source: bus, target: ownWire, from: 22, to: 33_000 }, bytes(1))),
    verdict: "FOREIGN_IN",
  },
  {
    name: "the bus to somebody else",
    program: open,
    packet: () => frame(tcpPacket({ source: bus, target: peerWire, from: BUS_PORT, to: 33_000 }, bytes(1))),
    verdict: "FOREIGN_IN",
  },
  {
    name: "UDP from the bus's address and port",
    program: open,
    packet: () => frame(udpPacket({ source: bus, target: ownWire, from: BUS_PORT, to: 33_000 }, bytes(20))),
    verdict: "FOREIGN_IN",
  },
  {
    name: "sealed, for somebody else",
    program: open,
    packet: () => frame(outerPacket({ ...fromPeer(), target: bus }, esp(edge2.in, 1n, incoming()))),
    verdict: "FOREIGN_IN",
  },
  {
    name: "sealed, to another port",
    program: open,
    packet: () => frame(outerPacket({ ...fromPeer(), to: ESP_PORT + 16 }, esp(edge2.in, 1n, incoming()))),
    verdict: "FOREIGN_IN",
  },
  {
    name: "a runt",
    program: open,
    packet: () => frame(arpFrame().slice(14, 34), 0x0806),
    verdict: "FOREIGN_IN",
  },
  {
    name: "outer options",
    program: open,
    packet: () =>
      frame(ipv4({ source: peerWire, target: ownWire, protocol: UDP, versionIhl: 0x46 }, bytes(80))),
    verdict: "BAD_IPV4",
  },
  {
    name: "an outer length beyond the frame",
    program: open,
    packet: () =>
      frame(ipv4({ source: peerWire, target: ownWire, protocol: UDP, totalLength: 900 }, bytes(80))),
    verdict: "BAD_IPV4",
  },
  {
    name: "an outer fragment",
    program: open,
    packet: () =>
      frame(ipv4({ source: peerWire, target: ownWire, protocol: UDP, fragment: 0x2000 }, bytes(80))),
    verdict: "OUTER_FRAGMENT",
  },
  {
    name: "the bus in fragments",
    program: open,
    packet: () => frame(ipv4({ source: bus, target: ownWire, protocol: TCP, fragment: 0x2000 }, bytes(80))),
    verdict: "OUTER_FRAGMENT",
  },
  {
    name: "a NAT keepalive",
    program: open,
    packet: () => concat(frame(outerPacket(fromPeer(), Uint8Array.of(0xff))), new Uint8Array(17)),
    verdict: "KEEPALIVE",
  },
  {
    name: "one byte that is no keepalive",
    program: open,
    packet: () => frame(outerPacket(fromPeer(), Uint8Array.of(0xfe))),
    verdict: "BAD_ESP",
  },
  {
    name: "the non-ESP marker",
    program: open,
    packet: () => frame(outerPacket(fromPeer(), concat(new Uint8Array(4), bytes(80)))),
    verdict: "BAD_ESP",
  },
  {
    name: "too short for an inner header",
    program: open,
    packet: () => frame(outerPacket(fromPeer(), esp(edge2.in, 1n, bytes(16)).slice(0, 55))),
    verdict: "BAD_ESP",
  },
  {
    name: "not a multiple of four",
    program: open,
    packet: () => frame(outerPacket(fromPeer(), concat(esp(edge2.in, 1n, incoming()), bytes(1)))),
    verdict: "BAD_ESP",
  },
  {
    name: "an outer UDP length that disagrees",
    program: open,
    packet: () => {
      const sealed = sealedBy(edge2, 1n, incoming())
      sealed[ETHERNET + 25] = (sealed[ETHERNET + 25] ?? 0) - 4
      return sealed
    },
    verdict: "BAD_ESP",
  },
  {
    name: "sealed packets merged by receive offload",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming()),
    gsoSegs: 2,
    gsoSize: 100,
    verdict: "BAD_ESP",
  },
]

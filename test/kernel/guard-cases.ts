import {
  arpFrame,
  concat,
  ETHERNET,
  esp,
  frame,
  hex,
  icmpPacket,
  outerPacket,
  tcpPacket,
  udpPacket,
} from "./packets.ts"
import { BUS_PORT, bus, ESP_PORT, edge1, MARK, own, ownWire, peer, peerWire } from "./plane.ts"
import { bytes, incoming, request } from "./traffic.ts"
import { type Case, guard, inner } from "./verdict-case.ts"

/** What user space sends beside the sealer, on lane 3. */
const keepalive = (
  payload: Uint8Array = Uint8Array.of(0xff),
  from = ESP_PORT + 3,
  source = ownWire,
): Uint8Array => outerPacket({ source, target: peerWire, from, to: ESP_PORT }, payload)
/** With another length in the UDP header. */
const claiming = (packet: Uint8Array, length: number): Uint8Array => {
  packet[ETHERNET + 25] = length
  return packet
}

export const guardCases: ReadonlyArray<Case> = [
  { name: "ARP going out", program: guard, packet: () => arpFrame(), verdict: "NEIGHBOUR" },
  {
    name: "to the bus",
    program: guard,
    packet: () => frame(tcpPacket({ source: ownWire, target: bus, from: 33_000, to: BUS_PORT }, bytes(4))),
    verdict: "CONTROL",
  },
  {
    name: "the sealer's frame",
    program: guard,
    mark: MARK,
    packet: () =>
      frame(
        outerPacket(
          { source: ownWire, target: peerWire, from: ESP_PORT + 3, to: ESP_PORT },
          esp(edge1.out, 1n, request()),
        ),
      ),
    verdict: "SEALED_OUT",
  },
  {
    name: "the same without the sealer's mark",
    program: guard,
    packet: () =>
      frame(
        outerPacket(
          { source: ownWire, target: peerWire, from: ESP_PORT, to: ESP_PORT },
          esp(edge1.out, 1n, request()),
        ),
      ),
    verdict: "FOREIGN_OUT",
  },
  {
    name: "the sealer's mark on a plain workflow packet",
    program: guard,
    mark: MARK,
    packet: () => frame(request()),
    verdict: "FOREIGN_OUT",
  },
  {
    name: "the sealer's mark on UDP from another port",
    program: guard,
    mark: MARK,
    packet: () => frame(udpPacket({ source: ownWire, target: peerWire, from: 53, to: ESP_PORT }, bytes(40))),
    verdict: "FOREIGN_OUT",
  },
  {
    name: "a keepalive",
    program: guard,
    mark: ~MARK >>> 0,
    packet: () => frame(keepalive()),
    verdict: "KEEPALIVE_OUT",
  },
  ...(
    [
      ["a keepalive without a mark", 0, () => frame(keepalive())],
      ["a keepalive with the sealer's mark", MARK, () => frame(keepalive())],
      ["a keepalive with another mark", MARK + 1, () => frame(keepalive())],
      ["a byte that is no keepalive", ~MARK >>> 0, () => frame(keepalive(Uint8Array.of(0xfe)))],
      ["nothing in place of a keepalive", ~MARK >>> 0, () => frame(keepalive(new Uint8Array(0)))],
      ["more than a keepalive", ~MARK >>> 0, () => frame(keepalive(Uint8Array.of(0xff, 0xff)))],
      ["a byte behind a keepalive", ~MARK >>> 0, () => concat(frame(keepalive()), Uint8Array.of(0xff))],
      ["a keepalive whose length disagrees", ~MARK >>> 0, () => claiming(frame(keepalive()), 10)],
      ["a keepalive from another port", ~MARK >>> 0, () => frame(keepalive(undefined, ESP_PORT + 16))],
      ["a keepalive from another address", ~MARK >>> 0, () => frame(keepalive(undefined, ESP_PORT, own))],
      [
        "a sealed frame with a keepalive's mark",
        ~MARK >>> 0,
        () => frame(keepalive(esp(edge1.out, 1n, request()))),
      ],
      ["less than a sealed frame with the sealer's mark", MARK, () => frame(keepalive(bytes(55)))],
    ] as const
  ).map(([name, mark, packet]): Case => ({ name, program: guard, mark, packet, verdict: "FOREIGN_OUT" })),
  {
    name: "the shortest sealed frame",
    program: guard,
    mark: MARK,
    packet: () => frame(keepalive(bytes(56))),
    verdict: "SEALED_OUT",
  },
  {
    name: "TCP to another port of the bus's host",
    program: guard,
    packet: () => frame(tcpPacket({ source: ownWire, target: bus, from: 33_000, to: 22 }, bytes(4))),
    verdict: "FOREIGN_OUT",
  },
  {
    name: "TCP to another host",
    program: guard,
    packet: () =>
      frame(tcpPacket({ source: ownWire, target: peerWire, from: 33_000, to: BUS_PORT }, bytes(4))),
    verdict: "FOREIGN_OUT",
  },
  {
    name: "to the bus from a workflow address",
    program: guard,
    packet: () => frame(tcpPacket({ source: own, target: bus, from: 33_000, to: BUS_PORT }, bytes(4))),
    verdict: "FOREIGN_OUT",
  },
  {
    name: "IPv6 neighbour discovery",
    program: guard,
    packet: () => frame(concat(hex("60000000 0000 3a ff"), new Uint8Array(56)), 0x86dd),
    verdict: "FOREIGN_OUT",
  },
  {
    name: "what the opener let through",
    program: inner,
    mark: MARK,
    packet: () => frame(incoming()),
    verdict: "DELIVERED",
  },
  {
    name: "a message of the sealer's",
    program: inner,
    mark: ~MARK >>> 0,
    packet: () => frame(icmpPacket({ source: peer, target: own }, 3, 0, bytes(32), 4)),
    verdict: "NOTIFIED",
  },
  { name: "what it didn't", program: inner, packet: () => frame(incoming()), verdict: "NOT_OPENED" },
  {
    name: "another mark",
    program: inner,
    mark: MARK + 1,
    packet: () => frame(incoming()),
    verdict: "NOT_OPENED",
  },
]

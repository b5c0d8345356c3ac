import { expect } from "vitest"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { inSaKey } from "../../services/common/kernel/records.ts"
import { concat, esp, frame, hex, icmpPacket, ipv4, outerPacket, UDP, udpPacket } from "./packets.ts"
import { edge1, edge2, edge3, fromPeer, OWN_PORT, own, peer, stranger } from "./plane.ts"
import { answer, bytes, incoming, sealedBy } from "./traffic.ts"
import { type Case, open } from "./verdict-case.ts"

/** Edge 2 once more, with sequence numbers of 32 bits. */
const short = {
  edge: 2,
  out: { ...edge2.out, spi: 0x1201, esn: false },
  in: { ...edge2.in, spi: 0x2201, esn: false },
}

export const openCases: ReadonlyArray<Case> = [
  {
    name: "from the peer to our port",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming()),
    verdict: "OPENED",
  },
  {
    name: "an IV that is not the sequence number",
    program: open,
    packet: () => sealedBy(edge2, 5n, incoming(), { iv: bytes(8) }),
    verdict: "OPENED",
  },
  {
    name: "more padding than needed",
    program: open,
    packet: () => {
      const pad = Uint8Array.from({ length: 254 }, (_, i) => i + 1)
      return sealedBy(edge2, 1n, incoming(bytes(32)), { trailer: concat(pad, Uint8Array.of(254, 4)) })
    },
    verdict: "OPENED",
  },
  {
    name: "Ethernet padding after the packet",
    program: open,
    packet: () => concat(sealedBy(edge2, 1n, incoming()), bytes(9)),
    verdict: "OPENED",
  },
  {
    name: "an echo request from the peer",
    program: open,
    packet: () => sealedBy(edge2, 1n, icmpPacket({ source: peer, target: own }, 8, 5, bytes(56))),
    verdict: "OPENED",
  },
  {
    name: "an SPI that nobody gave",
    program: open,
    packet: () => frame(outerPacket(fromPeer(), esp({ ...edge2.in, spi: 0x9999 }, 1n, incoming()))),
    verdict: "UNKNOWN_SPI",
  },
  {
    name: "a reserved SPI",
    program: open,
    packet: () => frame(outerPacket(fromPeer(), esp({ ...edge2.in, spi: 255 }, 1n, incoming()))),
    verdict: "UNKNOWN_SPI",
  },
  {
    name: "an SA without a window",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming()),
    given: (plane) => plane.map("windows").delete(inSaKey(edge2.in.spi)),
    verdict: "UNKNOWN_SPI",
  },
  {
    name: "the lease of the opener is over",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming()),
    given: (plane) => plane.lease(edge2, bootNow() - 1n),
    verdict: "LEASE_OVER",
  },
  {
    name: "the opener has no lease at all",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming()),
    given: (plane) => plane.map("lease_in").delete(inSaKey(edge2.in.spi)),
    verdict: "LEASE_OVER",
  },
  {
    name: "the same packet again",
    program: open,
    packet: () => sealedBy(edge2, 9n, incoming()),
    given: (plane) => {
      expect(plane.run(open, sealedBy(edge2, 9n, incoming())).verdict).toBe("OPENED")
    },
    verdict: "REPLAYED",
  },
  {
    name: "older than the window, without ESN",
    program: open,
    packet: () => frame(outerPacket(fromPeer(), esp(short.in, 16n, incoming()))),
    given: (plane) => {
      plane.keys(short)
      const newer = frame(outerPacket(fromPeer(), esp(short.in, 2000n, incoming())))
      expect(plane.run(open, newer).verdict).toBe("OPENED")
    },
    verdict: "REPLAYED",
  },
  {
    // With ESN such a number can only mean the one 2^32 later, for which the tag is wrong.
    name: "older than the window, with ESN",
    program: open,
    packet: () => sealedBy(edge2, 16n, incoming()),
    given: (plane) => {
      expect(plane.run(open, sealedBy(edge2, 2000n, incoming())).verdict).toBe("OPENED")
    },
    verdict: "BAD_TAG",
  },
  {
    name: "sequence number zero",
    program: open,
    packet: () => sealedBy(edge2, 0n, incoming()),
    verdict: "REPLAYED",
  },
  {
    name: "a wrong tag",
    program: open,
    packet: () => {
      const sealed = sealedBy(edge2, 1n, incoming())
      sealed[sealed.length - 1] = (sealed[sealed.length - 1] ?? 0) ^ 0x80
      return sealed
    },
    verdict: "BAD_TAG",
  },
  {
    name: "another SA's key",
    program: open,
    packet: () => frame(outerPacket(fromPeer(), esp({ ...edge1.in, spi: edge2.in.spi }, 1n, incoming()))),
    verdict: "BAD_TAG",
  },
  {
    name: "our own packet turned back",
    program: open,
    packet: () => frame(outerPacket(fromPeer(), esp({ ...edge2.out, spi: edge2.in.spi }, 1n, incoming()))),
    verdict: "BAD_TAG",
  },
  {
    name: "the high half of the sequence number taken from the IV",
    program: open,
    packet: () => sealedBy(edge2, (7n << 32n) + 1n, incoming()),
    verdict: "BAD_TAG",
  },
  {
    name: "padding that doesn't count",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming(bytes(32)), { trailer: hex("01 03 02 04") }),
    verdict: "BAD_PADDING",
  },
  {
    name: "a pad length beyond the packet",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming(bytes(34)), { trailer: hex("ff 04") }),
    verdict: "BAD_PADDING",
  },
  {
    name: "next header IPv6, and an IPv4 packet",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming(bytes(34)), { trailer: hex("00 29") }),
    verdict: "BAD_IPV6",
  },
  {
    name: "a dummy packet (next header 59)",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming(bytes(34)), { trailer: hex("00 3b") }),
    verdict: "BAD_PADDING",
  },
  {
    name: "an inner length that disagrees with the payload",
    program: open,
    packet: () => sealedBy(edge2, 1n, concat(incoming(bytes(32)), new Uint8Array(4))),
    verdict: "BAD_IPV4",
  },
  {
    name: "an inner fragment",
    program: open,
    packet: () =>
      sealedBy(edge2, 1n, ipv4({ source: peer, target: own, protocol: UDP, fragment: 0x2000 }, bytes(32))),
    verdict: "FRAGMENT",
  },
  {
    name: "an inner source that isn't the edge's",
    program: open,
    packet: () =>
      sealedBy(edge2, 1n, udpPacket({ source: stranger, target: own, from: 1, to: OWN_PORT }, bytes(8))),
    verdict: "WRONG_INNER",
  },
  {
    name: "an inner destination that isn't ours",
    program: open,
    packet: () =>
      sealedBy(edge2, 1n, udpPacket({ source: peer, target: stranger, from: 1, to: OWN_PORT }, bytes(8))),
    verdict: "WRONG_INNER",
  },
  {
    name: "an opened packet for an edge without endpoint",
    program: open,
    packet: () => sealedBy(edge2, 1n, incoming()),
    given: (plane) => plane.map("edges").delete(Uint8Array.of(2, 0, 0, 0)),
    verdict: "NO_ENDPOINT",
  },
  {
    name: "the peer on a port that it may not open",
    program: open,
    packet: () =>
      sealedBy(edge2, 1n, udpPacket({ source: peer, target: own, from: 50_000, to: OWN_PORT + 1 }, bytes(8))),
    verdict: "NO_POLICY",
  },
  {
    name: "an allowed packet over another edge's SA",
    program: open,
    packet: () => sealedBy(edge1, 1n, incoming()),
    verdict: "NO_POLICY",
  },
  {
    name: "an allowed packet over an SA whose edge no policy names",
    program: open,
    packet: () => sealedBy(edge3, 1n, incoming()),
    verdict: "NO_POLICY",
  },
  {
    name: "an answer from the right port to a question that nobody put",
    program: open,
    packet: () => sealedBy(edge1, 1n, answer()),
    verdict: "NO_POLICY",
  },
]

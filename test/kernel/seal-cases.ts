import { bootNow } from "../../services/common/kernel/clock.ts"
import { laneKey, outSaKey } from "../../services/common/kernel/records.ts"
import { arpFrame, concat, frame, hex, icmpPacket, ipv4, TCP, tcpPacket, UDP, udpPacket } from "./packets.ts"
import { edge1, LANES, own, PEER_PORT, peer, stranger } from "./plane.ts"
import { bytes, reply, request } from "./traffic.ts"
import { type Case, seal } from "./verdict-case.ts"

export const sealCases: ReadonlyArray<Case> = [
  { name: "UDP to the peer's port", program: seal, packet: () => frame(request()), verdict: "SEALED" },
  {
    name: "TCP to the peer's port",
    program: seal,
    packet: () => frame(tcpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, bytes(1))),
    verdict: "SEALED",
  },
  {
    name: "echo request to the peer",
    program: seal,
    packet: () => frame(icmpPacket({ source: own, target: peer }, 8, 77, bytes(56))),
    verdict: "SEALED",
  },
  { name: "ARP from the application", program: seal, packet: () => arpFrame(), verdict: "NOT_IPV4" },
  {
    name: "IPv6 from the application with a header that says that nothing follows",
    program: seal,
    packet: () => frame(concat(hex("60000000 0000 3b 40"), new Uint8Array(40)), 0x86dd),
    verdict: "EXTENSION",
  },
  {
    name: "IPv6 from the application of another version",
    program: seal,
    packet: () => frame(concat(hex("50000000 0000 11 40"), new Uint8Array(40)), 0x86dd),
    verdict: "BAD_IPV6",
  },
  {
    name: "a VLAN tag",
    program: seal,
    packet: () => frame(concat(hex("0001 0800"), request()), 0x8100),
    verdict: "NOT_IPV4",
  },
  {
    name: "IPv4 options",
    program: seal,
    packet: () => frame(ipv4({ source: own, target: peer, protocol: UDP, versionIhl: 0x46 }, bytes(32))),
    verdict: "BAD_IPV4",
  },
  {
    name: "IP version 5",
    program: seal,
    packet: () => frame(ipv4({ source: own, target: peer, protocol: UDP, versionIhl: 0x55 }, bytes(32))),
    verdict: "BAD_IPV4",
  },
  {
    name: "a total length beyond the frame",
    program: seal,
    packet: () => frame(ipv4({ source: own, target: peer, protocol: UDP, totalLength: 200 }, bytes(32))),
    verdict: "BAD_IPV4",
  },
  {
    name: "a total length below the header",
    program: seal,
    packet: () => frame(ipv4({ source: own, target: peer, protocol: UDP, totalLength: 19 }, bytes(32))),
    verdict: "BAD_IPV4",
  },
  {
    name: "a UDP length that disagrees",
    program: seal,
    packet: () =>
      frame(ipv4({ source: own, target: peer, protocol: UDP }, concat(hex("9c40 1538 0009 0000"), bytes(8)))),
    verdict: "BAD_IPV4",
  },
  {
    name: "a cut-off TCP header",
    program: seal,
    packet: () => frame(ipv4({ source: own, target: peer, protocol: TCP }, bytes(19))),
    verdict: "BAD_IPV4",
  },
  {
    name: "a TCP data offset beyond the packet",
    program: seal,
    packet: () =>
      frame(
        ipv4(
          { source: own, target: peer, protocol: TCP },
          concat(hex("9c40 1538"), new Uint8Array(8), hex("f0 10"), new Uint8Array(6)),
        ),
      ),
    verdict: "BAD_IPV4",
  },
  {
    name: "a first fragment",
    program: seal,
    packet: () =>
      frame(
        udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, bytes(8), { fragment: 0x2000 }),
      ),
    verdict: "FRAGMENT",
  },
  {
    name: "a later fragment",
    program: seal,
    packet: () => frame(ipv4({ source: own, target: peer, protocol: UDP, fragment: 100 }, bytes(32))),
    verdict: "FRAGMENT",
  },
  {
    name: "several segments in one",
    program: seal,
    packet: () => frame(request()),
    gsoSegs: 2,
    gsoSize: 1000,
    verdict: "SUPER_PACKET",
  },
  {
    name: "a segment size alone, as an untrusted source gives it",
    program: seal,
    packet: () => frame(request()),
    gsoSize: 1000,
    verdict: "SUPER_PACKET",
  },
  {
    name: "another peer",
    program: seal,
    packet: () => frame(udpPacket({ source: own, target: stranger, from: 40_000, to: PEER_PORT }, bytes(8))),
    verdict: "NO_POLICY",
  },
  {
    name: "another port",
    program: seal,
    packet: () => frame(udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT + 1 }, bytes(8))),
    verdict: "NO_POLICY",
  },
  {
    name: "another protocol (SCTP)",
    program: seal,
    packet: () => frame(ipv4({ source: own, target: peer, protocol: 132 }, bytes(32))),
    verdict: "NO_POLICY",
  },
  {
    name: "an ICMP error that quotes nothing known",
    program: seal,
    packet: () => frame(icmpPacket({ source: own, target: peer }, 3, 0, bytes(32), 3)),
    verdict: "STRAY_ICMP",
  },
  {
    name: "an echo reply that nobody asked for",
    program: seal,
    packet: () => frame(icmpPacket({ source: own, target: peer }, 0, 77, bytes(8))),
    verdict: "NO_POLICY",
  },
  {
    name: "an echo request with a code",
    program: seal,
    packet: () => frame(icmpPacket({ source: own, target: peer }, 8, 77, bytes(8), 1)),
    verdict: "NO_POLICY",
  },
  {
    name: "from our service to a port that never asked",
    program: seal,
    packet: () => frame(reply()),
    verdict: "NO_POLICY",
  },
  {
    name: "a borrowed source address",
    program: seal,
    packet: () => frame(udpPacket({ source: stranger, target: peer, from: 1, to: PEER_PORT }, bytes(8))),
    verdict: "WRONG_SOURCE",
  },
  {
    name: "no SA for the lane",
    program: seal,
    packet: () => frame(request()),
    given: (plane) => {
      for (let lane = 0; lane < LANES; lane++) plane.map("outbound").delete(laneKey(1, lane))
    },
    verdict: "NO_KEY",
  },
  {
    name: "the SA has gone",
    program: seal,
    packet: () => frame(request()),
    given: (plane) => plane.map("sa_out").delete(outSaKey(1, edge1.out.spi)),
    verdict: "NO_KEY",
  },
  {
    name: "an SPI below 256",
    program: seal,
    packet: () => frame(request()),
    given: (plane) => {
      for (let lane = 0; lane < LANES; lane++)
        plane.map("outbound").update(laneKey(1, lane), hex("000000ff 00000000"))
    },
    verdict: "NO_KEY",
  },
  {
    name: "the lease of the sealer is over",
    program: seal,
    packet: () => frame(request()),
    given: (plane) => plane.lease(edge1, bootNow() - 1n),
    verdict: "LEASE_OVER",
  },
  {
    name: "the sealer has no lease at all",
    program: seal,
    packet: () => frame(request()),
    given: (plane) => plane.map("lease_out").delete(outSaKey(1, edge1.out.spi)),
    verdict: "LEASE_OVER",
  },
  {
    name: "no endpoint",
    program: seal,
    packet: () => frame(request()),
    given: (plane) => plane.map("edges").delete(Uint8Array.of(1, 0, 0, 0)),
    verdict: "NO_ENDPOINT",
  },
  {
    name: "an endpoint without an address",
    program: seal,
    packet: () => frame(request()),
    given: (plane) => plane.endpoint(1, { peerWire: 0 }),
    verdict: "NO_ENDPOINT",
  },
  {
    name: "an endpoint of another peer",
    program: seal,
    packet: () => frame(request()),
    given: (plane) => plane.endpoint(1, { peerInner: stranger }),
    verdict: "NO_ENDPOINT",
  },
  {
    name: "an inner packet of MTU - 62 + 1",
    program: seal,
    packet: () => frame(request(bytes(1439 - 28))),
    verdict: "TOO_LONG",
  },
  {
    name: "more than the programs have room for",
    program: seal,
    packet: () => frame(request(bytes(2000))),
    given: (plane) => plane.endpoint(1, { mtu: 1999 }),
    verdict: "TOO_LONG",
  },
]

/** What the node of plane.ts and its peer say to each other in tests. */
import { byteSource, type EspOptions, esp, frame, outerPacket, udpPacket } from "./packets.ts"
import { type EdgeKeys, fromPeer, OWN_PORT, own, PEER_PORT, peer } from "./plane.ts"

/** Random bytes, the same in each run. */
export const bytes = byteSource(1)

/** To the peer's service, which edge 1 allows, and its answer. */
export const request = (payload = bytes(32), from = 40_000): Uint8Array =>
  udpPacket({ source: own, target: peer, from, to: PEER_PORT }, payload)
export const answer = (payload = bytes(32), to = 40_000): Uint8Array =>
  udpPacket({ source: peer, target: own, from: PEER_PORT, to }, payload)
/** To our own service, which edge 2 allows the peer, and our answer. */
export const incoming = (payload = bytes(32), from = 50_000): Uint8Array =>
  udpPacket({ source: peer, target: own, from, to: OWN_PORT }, payload)
export const reply = (payload = bytes(32), to = 50_000): Uint8Array =>
  udpPacket({ source: own, target: peer, from: OWN_PORT, to }, payload)

export const sealedBy = (
  by: EdgeKeys,
  sequence: bigint,
  inner: Uint8Array,
  options: EspOptions = {},
): Uint8Array => frame(outerPacket(fromPeer(), esp(by.in, sequence, inner, options)))

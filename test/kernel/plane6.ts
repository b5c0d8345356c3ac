/**
 * The node of plane.ts with addresses of both families inside, on the wire and for the bus. Its peer is reached over the family that
 * a test names; edge 1 is the one on which the node is the initiator, edge 2 that on which the peer is, for IPv4 and IPv6 alike.
 */
import { readIpv6 } from "../../schemas/address.ts"
import type { ConfigRecord } from "../../services/common/kernel/records.ts"
import {
  type Association,
  esp,
  type Flow6,
  frame,
  frame6,
  ICMP,
  outerPacket,
  outerPacket6,
  SCTP,
  TCP,
  UDP,
  udpPacket6,
} from "./packets.ts"
import {
  type EdgeKeys,
  ESP_PORT,
  edge1,
  edge2,
  edge3,
  fromPeer,
  OWN_PORT,
  PEER_PORT,
  Plane,
  peer,
  peerWire,
} from "./plane.ts"

export const v6 = (text: string): Uint8Array => {
  const address = readIpv6(text)
  if (address === undefined) throw new Error(`no address: ${text}`)
  return address
}

export const own6 = v6("fd77::1")
export const peer6 = v6("fd77::2")
export const stranger6 = v6("fd77::3")
export const ownWire6 = v6("2001:db8::1")
export const peerWire6 = v6("2001:db8::2")
export const bus6 = v6("2001:db8::fa")

export type Family = 4 | 6
export const families: ReadonlyArray<Family> = [4, 6]

export const config6: Partial<ConfigRecord> = {
  innerAddress6: own6,
  wireAddress6: ownWire6,
  busAddress6: bus6,
}

/** A node whose peer is on the wire by IPv4 or IPv6. */
export const readyPlane6 = (underlay: Family, changes: Partial<ConfigRecord> = {}): Plane => {
  const plane = new Plane().configure({ ...config6, ...changes })
  for (const address of [peer, peer6]) {
    for (const protocol of [TCP, UDP, SCTP]) {
      plane.allow({ peer: address, port: PEER_PORT, protocol, role: 0 }, 1)
      plane.allow({ peer: address, port: OWN_PORT, protocol, role: 1 }, 2)
    }
    plane.allow({ peer: address, port: 0, protocol: ICMP, role: 0 }, 1)
    plane.allow({ peer: address, port: 0, protocol: ICMP, role: 1 }, 2)
  }
  for (const keys of [edge1, edge2, edge3])
    plane
      .endpoint(keys.edge, { peerInner6: peer6, peerWire: underlay === 4 ? peerWire : peerWire6 })
      .keys(keys)
  return plane
}

export const there: Flow6 = { source: own6, target: peer6, from: 40_000, to: PEER_PORT }
export const here: Flow6 = { source: peer6, target: own6, from: 50_000, to: OWN_PORT }

export const request6 = (payload: Uint8Array = new Uint8Array(32)): Uint8Array => udpPacket6(there, payload)
export const answer6 = (payload: Uint8Array = new Uint8Array(32)): Uint8Array =>
  udpPacket6({ source: peer6, target: own6, from: PEER_PORT, to: 40_000 }, payload)
export const incoming6 = (payload: Uint8Array = new Uint8Array(32)): Uint8Array => udpPacket6(here, payload)

export const fromPeer6 = (lane = 0) => ({
  source: peerWire6,
  target: ownWire6,
  from: ESP_PORT + lane,
  to: ESP_PORT,
})

/** A frame from the peer: its outer packet of one family with a packet of any inside. */
export const arriving = (
  underlay: Family,
  sa: Association,
  sequence: bigint,
  inner: Uint8Array,
  tos = 0,
): Uint8Array =>
  underlay === 4
    ? frame(outerPacket({ ...fromPeer(), tos }, esp(sa, sequence, inner)))
    : frame6(outerPacket6({ ...fromPeer6(), tos }, esp(sa, sequence, inner)))

/** Gives frames of an edge with rising sequence numbers. */
export const sender = (underlay: Family, by: EdgeKeys) => {
  let sequence = 0n
  return (inner: Uint8Array, tos = 0): Uint8Array => {
    sequence += 1n
    return arriving(underlay, by.in, sequence, inner, tos)
  }
}

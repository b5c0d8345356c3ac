/**
 * What the node of plane6.ts may let through, said once more, from the RFCs and the workflow and not from the programs: a judge of
 * frames that shares no code with them. A frame is whole, from its Ethernet header on.
 */
import { BUS_PORT, bus, ESP_PORT, OWN_PORT, own, ownWire, PEER_PORT, peer } from "./plane.ts"
import { bus6, own6, ownWire6, peer6 } from "./plane6.ts"

const at = (frame: Uint8Array, index: number): number => frame[index] ?? 0
const u16 = (frame: Uint8Array, index: number): number => at(frame, index) * 256 + at(frame, index + 1)
const u32 = (frame: Uint8Array, index: number): number => u16(frame, index) * 65_536 + u16(frame, index + 2)
const has = (frame: Uint8Array, index: number, bytes: Uint8Array): boolean =>
  bytes.every((byte, i) => frame[index + i] === byte)

const IPV4 = 0x0800
const IPV6 = 0x86dd
const ARP = 0x0806
/** Extension headers of IPv6 (IANA), without ESP and AH, which are judged as protocols. */
const EXTENSIONS: ReadonlySet<number> = new Set([0, 43, 44, 59, 60, 135, 139, 140])

/** An IP packet in a buffer: where it and what it carries begin and end. */
export interface Packet {
  readonly version: 4 | 6
  readonly start: number
  readonly payload: number
  readonly end: number
  readonly protocol: number
}

/** An IP packet that begins at `start` of `bytes` and may be followed by other bytes; undefined if it isn't whole or isn't plain. */
export const readPacket = (bytes: Uint8Array, start: number, version: 4 | 6): Packet | undefined => {
  const room = bytes.length - start
  if (version === 4) {
    if (room < 20 || at(bytes, start) !== 0x45) return undefined
    const total = u16(bytes, start + 2)
    if (total < 20 || total > room || (u16(bytes, start + 6) & 0x3fff) !== 0) return undefined
    return { version, start, payload: start + 20, end: start + total, protocol: at(bytes, start + 9) }
  }
  if (room < 40 || at(bytes, start) >> 4 !== 6) return undefined
  const total = 40 + u16(bytes, start + 4)
  if (total > room || EXTENSIONS.has(at(bytes, start + 6))) return undefined
  return { version, start, payload: start + 40, end: start + total, protocol: at(bytes, start + 6) }
}

const outerOf = (frame: Uint8Array): Packet | undefined => {
  const type = u16(frame, 12)
  if (type === IPV4) return readPacket(frame, 14, 4)
  return type === IPV6 ? readPacket(frame, 14, 6) : undefined
}

const isTo = (frame: Uint8Array, ip: Packet, four: number, six: Uint8Array): boolean =>
  ip.version === 4 ? u32(frame, ip.start + 16) === four : has(frame, ip.start + 24, six)
const isFrom = (frame: Uint8Array, ip: Packet, four: number, six: Uint8Array): boolean =>
  ip.version === 4 ? u32(frame, ip.start + 12) === four : has(frame, ip.start + 8, six)

/** Where ESP lies in a frame that is UDP to one of our ports; undefined for any other. */
export const espIn = (
  frame: Uint8Array,
): { readonly from: number; readonly to: number; readonly ecn: number } | undefined => {
  const ip = outerOf(frame)
  if (ip === undefined || ip.protocol !== 17 || !isTo(frame, ip, ownWire, ownWire6)) return undefined
  const port = u16(frame, ip.payload + 2)
  if (ip.end - ip.payload < 8 || u16(frame, ip.payload + 4) !== ip.end - ip.payload) return undefined
  if (port < ESP_PORT || port >= ESP_PORT + 16) return undefined
  const ecn = ip.version === 4 ? at(frame, 15) & 3 : (at(frame, 15) >> 4) & 3
  return { from: ip.payload + 8, to: ip.end, ecn }
}

/** Whether an arriving frame is one that the node's own stack may see: neighbours, and the bus, which opens no connection. */
export const isForStack = (frame: Uint8Array): boolean => {
  if (u16(frame, 12) === ARP)
    return (
      frame.length >= 42 &&
      u16(frame, 14) === 1 &&
      u16(frame, 16) === IPV4 &&
      u16(frame, 18) === 0x0604 &&
      (u16(frame, 20) === 1 || u16(frame, 20) === 2)
    )
  const ip = outerOf(frame)
  // Nothing that is looked at has less than the first eight bytes of its payload in the frame.
  if (ip === undefined || frame.length < ip.payload + 8) return false
  if (ip.protocol === 6)
    return (
      isTo(frame, ip, ownWire, ownWire6) &&
      isFrom(frame, ip, bus, bus6) &&
      u16(frame, ip.payload) === BUS_PORT &&
      frame.length > ip.payload + 13 &&
      (at(frame, ip.payload + 13) & 0x12) !== 2
    )
  return ip.version === 6 && ip.protocol === 58 && isNeighbourDiscovery(frame, ip)
}

/** RFC 4861 sections 4.3, 4.4, 7.1: solicitations and advertisements, with no other options than link-layer addresses and a nonce. */
const isNeighbourDiscovery = (frame: Uint8Array, ip: Packet): boolean => {
  const length = ip.end - ip.payload
  const type = u16(frame, ip.payload)
  if ((type !== 0x8700 && type !== 0x8800) || at(frame, ip.start + 7) !== 255) return false
  if (![24, 32, 40].includes(length) || frame.length !== ip.end) return false
  const linkLocal = at(frame, ip.start + 24) === 0xfe && at(frame, ip.start + 25) >> 6 === 2
  const groupStart = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  const allNodes = Uint8Array.of(...groupStart, 0, 0, 0, 0, 1)
  const group =
    has(frame, ip.start + 24, allNodes) || has(frame, ip.start + 24, Uint8Array.of(...groupStart, 1, 0xff))
  if (!group && !linkLocal && !isTo(frame, ip, ownWire, ownWire6)) return false
  const target = ip.payload + 8
  if (at(frame, target) === 0xff || frame.subarray(target, target + 8).every((byte) => byte === 0))
    return false
  for (let option = ip.payload + 24; option < ip.end; option += 8)
    if (at(frame, option + 1) !== 1 || ![1, 2, 14].includes(at(frame, option))) return false
  return true
}

/** Which way an inner packet goes, and so who is who. */
export type Direction = "out" | "in"

/**
 * `opens`: the edge of this direction allows it. `answers`: it passes only if it belongs to a flow of the other edge; `error`: only
 * if it speaks of a flow, either's. Edge 1 is ours to open, edge 2 the peer's.
 */
export interface Allowed {
  readonly as: "opens" | "answers" | "error"
  /** Names the flow, whichever way its packets go. */
  readonly flow: string
}

const ICMP_OF = {
  4: { protocol: 1, asks: 8, answers: 0 },
  6: { protocol: 58, asks: 128, answers: 129 },
} as const
const HAS_PORTS: ReadonlySet<number> = new Set([6, 17, 132])

const headerIsWhole = (bytes: Uint8Array, ip: Packet): boolean => {
  const length = ip.end - ip.payload
  if (ip.protocol === 6) {
    const header = (at(bytes, ip.payload + 12) >> 4) * 4
    return length >= 20 && header >= 20 && header <= length
  }
  if (ip.protocol === 17) return length >= 8 && u16(bytes, ip.payload + 4) === length
  return ip.protocol === 132 && length >= 16
}

/** What an inner packet may be, or undefined: nothing. */
export const judgeInner = (bytes: Uint8Array, ip: Packet, direction: Direction): Allowed | undefined => {
  const [mine, theirs] = direction === "out" ? [isFrom, isTo] : [isTo, isFrom]
  if (!mine(bytes, ip, own, own6) || !theirs(bytes, ip, peer, peer6)) return undefined
  const icmp = ICMP_OF[ip.version]
  if (ip.protocol === icmp.protocol) return judgeIcmp(bytes, ip, direction)
  if (!headerIsWhole(bytes, ip)) return undefined
  const [source, target] = [u16(bytes, ip.payload), u16(bytes, ip.payload + 2)]
  const [ours, peers] = direction === "out" ? [source, target] : [target, source]
  const flow = `${ip.version} ${ip.protocol} ${ours} ${peers}`
  if (target === (direction === "out" ? PEER_PORT : OWN_PORT)) return { as: "opens", flow }
  return source === (direction === "out" ? OWN_PORT : PEER_PORT) ? { as: "answers", flow } : undefined
}

const judgeIcmp = (bytes: Uint8Array, ip: Packet, direction: Direction): Allowed | undefined => {
  const icmp = ICMP_OF[ip.version]
  if (ip.end - ip.payload < 8) return undefined
  const [type, code, id] = [at(bytes, ip.payload), at(bytes, ip.payload + 1), u16(bytes, ip.payload + 4)]
  if (type === icmp.asks || type === icmp.answers)
    return code === 0
      ? { as: type === icmp.asks ? "opens" : "answers", flow: `${ip.version} echo ${id}` }
      : undefined
  const isError = ip.version === 4 ? type === 3 || type === 11 || type === 12 : type >= 1 && type <= 4
  const quote = ip.payload + 8
  const headers = ip.version === 4 ? 20 : 40
  if (!isError || ip.end < quote + headers + 8) return undefined
  // The quoted packet went the other way, and only its beginning is here.
  const quoted: Packet = {
    version: ip.version,
    start: quote,
    payload: quote + headers,
    end: ip.end,
    protocol: at(bytes, quote + (ip.version === 4 ? 9 : 6)),
  }
  const [mine, theirs] = direction === "out" ? [isTo, isFrom] : [isFrom, isTo]
  if (!mine(bytes, quoted, own, own6) || !theirs(bytes, quoted, peer, peer6)) return undefined
  const [source, target] = [u16(bytes, quoted.payload), u16(bytes, quoted.payload + 2)]
  if (HAS_PORTS.has(quoted.protocol)) {
    const [ours, peers] = direction === "out" ? [target, source] : [source, target]
    return { as: "error", flow: `${ip.version} ${quoted.protocol} ${ours} ${peers}` }
  }
  if (quoted.protocol !== icmp.protocol) return undefined
  return { as: "error", flow: `${ip.version} echo ${u16(bytes, quoted.payload + 4)}` }
}

/** A frame of the application's; undefined if it is no plain IP packet. */
export const innerOf = outerOf

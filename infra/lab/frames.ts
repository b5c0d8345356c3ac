/** What a frame on the wire is, as somebody sees it who knows no keys. Pure: bytes in, a class out. */

import { payloadChecksum } from "./checksum.ts"

export interface WireView {
  /** The bus's address on the wire, as it is in a header: its family is the wire's, and no other belongs there. */
  readonly bus: Uint8Array
  readonly busPort: number
  readonly espPort: number
  /** UDP source ports of sealed traffic are espPort .. espPort + lanesMax - 1. */
  readonly lanesMax: number
  readonly mtu: number
}

export type FrameClass = "esp" | "control" | "neighbour" | "keepalive" | "unexpected"

const ETHERNET = 14
const IPV4 = 20
const IPV6 = 40
const [TCP, UDP, ICMPV6] = [6, 17, 58]

const isArp = (frame: Buffer): boolean =>
  frame.length >= ETHERNET + 28 &&
  frame.readUInt16BE(14) === 1 &&
  frame.readUInt16BE(16) === 0x0800 &&
  frame.readUInt16BE(18) === 0x0604

/** An IP packet that is whole and has no options, extension headers or fragments. */
interface Packet {
  readonly protocol: number
  readonly hops: number
  readonly source: Buffer
  readonly target: Buffer
  readonly payload: Buffer
}

const parseIpv4 = (frame: Buffer, mtu: number): Packet | undefined => {
  if (frame.length < ETHERNET + IPV4) return undefined
  const length = frame.readUInt16BE(16)
  const fragment = frame.readUInt16BE(20) & 0x3fff
  if (frame[14] !== 0x45 || fragment !== 0 || length < IPV4 || length > mtu) return undefined
  if (length > frame.length - ETHERNET) return undefined
  return {
    protocol: frame[23] ?? 0,
    hops: frame[22] ?? 0,
    source: frame.subarray(26, 30),
    target: frame.subarray(30, 34),
    payload: frame.subarray(ETHERNET + IPV4, ETHERNET + length),
  }
}

const parseIpv6 = (frame: Buffer, mtu: number): Packet | undefined => {
  if (frame.length < ETHERNET + IPV6 || (frame[14] ?? 0) >> 4 !== 6) return undefined
  const length = IPV6 + frame.readUInt16BE(18)
  if (length > mtu || length > frame.length - ETHERNET) return undefined
  return {
    // An extension header shows as a protocol that is none of ours.
    protocol: frame[20] ?? 0,
    hops: frame[21] ?? 0,
    source: frame.subarray(22, 38),
    target: frame.subarray(38, 54),
    payload: frame.subarray(ETHERNET + IPV6, ETHERNET + length),
  }
}

const sumIsRight = ({ source, target, protocol, payload }: Packet): boolean =>
  payloadChecksum(Buffer.concat([source, target]), protocol, payload) === 0

/** A UDP datagram from a lane's port to the ESP port. */
const isOnLane = (packet: Packet, view: WireView): boolean => {
  const { protocol, payload } = packet
  if (protocol !== UDP || payload.length < 8) return false
  const from = payload.readUInt16BE(0)
  return (
    from >= view.espPort &&
    from < view.espPort + view.lanesMax &&
    payload.readUInt16BE(2) === view.espPort &&
    payload.readUInt16BE(4) === payload.length &&
    // Over IPv6 a tunnel may leave it out too (RFC 6935), but who sends one must send a right one.
    (payload.readUInt16BE(6) === 0 || sumIsRight(packet))
  )
}

/** Holding at least SPI, sequence, IV, one block of padding and the tag. */
const isEsp = (packet: Packet, view: WireView): boolean =>
  packet.payload.length >= 8 + 8 + 8 + 4 + 16 &&
  isOnLane(packet, view) &&
  packet.payload.readUInt32BE(8) >= 256

/** RFC 3948, section 2.3: one byte 0xff, which says nothing. */
const isKeepalive = (packet: Packet, view: WireView): boolean =>
  packet.payload.length === 9 && packet.payload[8] === 0xff && isOnLane(packet, view)

const isControl = ({ protocol, payload, source, target }: Packet, view: WireView): boolean => {
  if (protocol !== TCP || payload.length < 20) return false
  const fromBus = source.equals(view.bus) && payload.readUInt16BE(0) === view.busPort
  const toBus = target.equals(view.bus) && payload.readUInt16BE(2) === view.busPort
  return fromBus !== toBus
}

const [SOLICITATION, ADVERTISEMENT] = [135, 136]
/** ICMPv6 header, flags, and the address that is asked for. */
const ND_FIXED = 24

/** The multicast group of all whose address ends in the same 24 bits (RFC 4291, section 2.7.1). */
const solicitedNode = (address: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from("ff0200000000000000000001ff", "hex"), address.subarray(13)])

/**
 * A neighbour solicitation or advertisement as RFC 4861, section 7.1 wants it, never forwarded, with at most the sender's
 * link-layer address in it. Duplicate address detection, routers and redirects have no business on this wire.
 */
const isNeighbour6 = (packet: Packet): boolean => {
  const { protocol, hops, payload, source, target } = packet
  if (protocol !== ICMPV6 || hops !== 255) return false
  if (payload.length !== ND_FIXED && payload.length !== ND_FIXED + 8) return false
  const [type, code, option, units] = [payload[0], payload[1], payload[ND_FIXED], payload[ND_FIXED + 1]]
  const about = payload.subarray(8, ND_FIXED)
  if (code !== 0 || about[0] === 0xff || source[0] === 0xff || source.every((byte) => byte === 0))
    return false
  const isMulticast = target[0] === 0xff
  const addressed =
    type === SOLICITATION
      ? target.equals(about) || target.equals(solicitedNode(about))
      : type === ADVERTISEMENT && !isMulticast
  const optionType = type === SOLICITATION ? 1 : 2
  if (!addressed || (option !== undefined && (option !== optionType || units !== 1))) return false
  return sumIsRight(packet)
}

/** `frame`: from the destination MAC on. What isn't plainly one of the permitted kinds is `unexpected`. */
export const classify = (frame: Buffer, view: WireView): FrameClass => {
  if (frame.length < ETHERNET) return "unexpected"
  const type = frame.readUInt16BE(12)
  const six = view.bus.length === 16
  if (type === 0x0806) return !six && isArp(frame) ? "neighbour" : "unexpected"
  if (type !== (six ? 0x86dd : 0x0800)) return "unexpected"
  const packet = six ? parseIpv6(frame, view.mtu) : parseIpv4(frame, view.mtu)
  if (packet === undefined) return "unexpected"
  if (isEsp(packet, view)) return "esp"
  if (isControl(packet, view)) return "control"
  if (isKeepalive(packet, view)) return "keepalive"
  return six && isNeighbour6(packet) ? "neighbour" : "unexpected"
}

/** What a capture counted. Every frame is in exactly one of the six kinds. */
export interface WireCounts {
  readonly frames: number
  readonly esp_frames: number
  readonly control_frames: number
  readonly neighbour_frames: number
  readonly keepalive_frames: number
  /** Frames with the tag that the lab's intruder puts into its own: sent on purpose, to be dropped by every node. */
  readonly intruder_frames: number
  readonly unexpected_frames: number
  /** Frames in which a marker of the pipeline's data was found in the clear. */
  readonly marker_hits: number
  readonly bytes: number
  /** Frames that the kernel had no room for: if there are any, the capture proves nothing. */
  readonly lost_frames: number
  /** The first few unexpected frames or marker hits, as hex. */
  readonly samples: ReadonlyArray<string>
  /** When the first sealed frame was seen: milliseconds of the Unix clock, or null. */
  readonly first_esp_at: number | null
}

const SAMPLES = 4

/** Counts frames as they come. `markers` and `tag` are searched in every frame, whatever its class. */
export const createTally = (view: WireView, markers: ReadonlyArray<Buffer>, tag: Buffer) => {
  const kinds = { esp: 0, control: 0, neighbour: 0, keepalive: 0, unexpected: 0, intruder: 0 }
  const samples: string[] = []
  let frames = 0
  let bytes = 0
  let hits = 0
  let firstEsp: number | null = null
  const sample = (why: string, frame: Buffer): void => {
    if (samples.length < SAMPLES) samples.push(`${why} ${frame.subarray(0, 96).toString("hex")}`)
  }
  return {
    frame: (frame: Buffer): void => {
      frames += 1
      bytes += frame.length
      for (const marker of markers) {
        if (frame.indexOf(marker) < 0) continue
        hits += 1
        sample("marker", frame)
        break
      }
      const kind = frame.indexOf(tag) >= 0 ? "intruder" : classify(frame, view)
      kinds[kind] += 1
      if (kind === "unexpected") sample("unexpected", frame)
      if (kind === "esp" && firstEsp === null) firstEsp = Date.now()
    },
    counts: (lost: number): WireCounts => ({
      frames,
      esp_frames: kinds.esp,
      control_frames: kinds.control,
      neighbour_frames: kinds.neighbour,
      keepalive_frames: kinds.keepalive,
      intruder_frames: kinds.intruder,
      unexpected_frames: kinds.unexpected,
      marker_hits: hits,
      bytes,
      lost_frames: lost,
      samples: [...samples],
      first_esp_at: firstEsp,
    }),
  }
}

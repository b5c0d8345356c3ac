/** Packets for tests of the data plane, built here and nowhere near the code that they judge. */
import { chacha20poly1305 } from "@noble/ciphers/chacha.js"
import { Attr, command, tryBpf } from "../../services/common/kernel/bpf.ts"

export const ETHERNET = 14
export const OUTER = 44
export const ICMP = 1
export const TCP = 6
export const UDP = 17
export const ICMPV6 = 58
export const SCTP = 132

export const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array =>
  Uint8Array.from(Buffer.concat(parts))
export const hex = (text: string): Uint8Array =>
  Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"))

/** A repeatable source of bytes: xorshift32, so that a failure can be run again. */
export const byteSource = (seed: number): ((length: number) => Uint8Array) => {
  let state = seed >>> 0 || 1
  return (length) =>
    Uint8Array.from({ length }, () => {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      return (state >>> 0) & 0xff
    })
}

const u16 = (value: number): Uint8Array => Uint8Array.of((value >>> 8) & 0xff, value & 0xff)
const u32 = (value: number): Uint8Array => concat(u16(value >>> 16), u16(value))

/** RFC 1071, over any number of bytes. */
export const checksum = (...parts: ReadonlyArray<Uint8Array>): number => {
  const bytes = concat(...parts)
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000)
  return ~sum & 0xffff
}

export interface Ipv4Fields {
  readonly source: number
  readonly target: number
  readonly protocol: number
  readonly tos?: number
  readonly fragment?: number
  readonly ttl?: number
  /** What the header claims; by default what is true. */
  readonly totalLength?: number
  readonly versionIhl?: number
  readonly id?: number
}

export const ipv4 = (fields: Ipv4Fields, payload: Uint8Array): Uint8Array => {
  const before = concat(
    Uint8Array.of(fields.versionIhl ?? 0x45, fields.tos ?? 0),
    u16(fields.totalLength ?? 20 + payload.length),
    u16(fields.id ?? 0),
    u16(fields.fragment ?? 0x4000),
    Uint8Array.of(fields.ttl ?? 64, fields.protocol),
  )
  const after = concat(u32(fields.source), u32(fields.target))
  return concat(before, u16(checksum(before, after)), after, payload)
}

const pseudo = (ip: { source: number; target: number; protocol: number }, length: number): Uint8Array =>
  concat(u32(ip.source), u32(ip.target), Uint8Array.of(0, ip.protocol), u16(length))

export interface Flow {
  readonly source: number
  readonly target: number
  readonly from: number
  readonly to: number
}

export const udpPacket = (flow: Flow, payload: Uint8Array, more: Partial<Ipv4Fields> = {}): Uint8Array => {
  const ip = { source: flow.source, target: flow.target, protocol: UDP, ...more }
  const head = concat(u16(flow.from), u16(flow.to), u16(8 + payload.length))
  const sum = checksum(pseudo(ip, 8 + payload.length), head, Uint8Array.of(0, 0), payload)
  return ipv4(ip, concat(head, u16(sum), payload))
}

export const tcpPacket = (
  flow: Flow,
  payload: Uint8Array,
  more: Partial<Ipv4Fields> & { readonly flags?: number } = {},
): Uint8Array => {
  const ip = { source: flow.source, target: flow.target, protocol: TCP, ...more }
  const flags = more.flags ?? 0x18
  const head = concat(u16(flow.from), u16(flow.to), u32(1), u32(0), Uint8Array.of(0x50, flags), u16(512))
  const sum = checksum(pseudo(ip, 20 + payload.length), head, Uint8Array.of(0, 0, 0, 0), payload)
  return ipv4(ip, concat(head, u16(sum), u16(0), payload))
}

export interface Ipv6Fields {
  readonly source: Uint8Array
  readonly target: Uint8Array
  readonly next: number
  readonly trafficClass?: number
  readonly label?: number
  readonly hopLimit?: number
  readonly version?: number
  /** What the header claims; by default what is true. */
  readonly payloadLength?: number
}

export const ipv6 = (fields: Ipv6Fields, payload: Uint8Array): Uint8Array =>
  concat(
    u32((((fields.version ?? 6) << 28) | ((fields.trafficClass ?? 0) << 20) | (fields.label ?? 0)) >>> 0),
    u16(fields.payloadLength ?? payload.length),
    Uint8Array.of(fields.next, fields.hopLimit ?? 64),
    fields.source,
    fields.target,
    payload,
  )

/** A checksum with the pseudo-header of RFC 8200, section 8.1; `parts` have zeros where it goes. */
export const checksum6 = (
  pair: { readonly source: Uint8Array; readonly target: Uint8Array },
  next: number,
  ...parts: ReadonlyArray<Uint8Array>
): number => {
  const all = concat(...parts)
  return checksum(pair.source, pair.target, u32(all.length), u32(next), all)
}

export interface Flow6 {
  readonly source: Uint8Array
  readonly target: Uint8Array
  readonly from: number
  readonly to: number
}

export const udpPacket6 = (flow: Flow6, payload: Uint8Array, more: Partial<Ipv6Fields> = {}): Uint8Array => {
  const head = concat(u16(flow.from), u16(flow.to), u16(8 + payload.length))
  const sum = checksum6(flow, UDP, head, Uint8Array.of(0, 0), payload)
  return ipv6({ ...flow, next: UDP, ...more }, concat(head, u16(sum || 0xffff), payload))
}

export const tcpPacket6 = (
  flow: Flow6,
  payload: Uint8Array,
  more: Partial<Ipv6Fields> & { readonly flags?: number } = {},
): Uint8Array => {
  const head = concat(
    u16(flow.from),
    u16(flow.to),
    u32(1),
    u32(0),
    Uint8Array.of(0x50, more.flags ?? 0x18),
    u16(512),
  )
  const sum = checksum6(flow, TCP, head, Uint8Array.of(0, 0, 0, 0), payload)
  return ipv6({ ...flow, next: TCP, ...more }, concat(head, u16(sum), u16(0), payload))
}

/** An ICMPv6 message; `rest` is what follows the checksum. */
export const icmpPacket6 = (
  pair: { readonly source: Uint8Array; readonly target: Uint8Array },
  type: number,
  rest: Uint8Array,
  more: Partial<Ipv6Fields> & { readonly code?: number } = {},
): Uint8Array => {
  const head = Uint8Array.of(type, more.code ?? 0)
  const sum = checksum6(pair, ICMPV6, head, Uint8Array.of(0, 0), rest)
  return ipv6({ ...pair, next: ICMPV6, ...more }, concat(head, u16(sum), rest))
}

/** An SCTP packet of one chunk (RFC 9260), without a right CRC: nobody on the way looks at it. */
export const sctpSegment = (from: number, to: number, chunk: number, value = new Uint8Array(4)): Uint8Array =>
  concat(u16(from), u16(to), u32(0x01020304), u32(0), Uint8Array.of(chunk, 0), u16(4 + value.length), value)

export const frame6 = (packet: Uint8Array): Uint8Array => frame(packet, 0x86dd)

/** ICMP echo: type 8 asks, 0 answers. */
export const icmpPacket = (
  pair: { readonly source: number; readonly target: number },
  type: number,
  id: number,
  payload: Uint8Array,
  code = 0,
): Uint8Array => {
  const head = Uint8Array.of(type, code)
  const rest = concat(u16(id), u16(1), payload)
  return ipv4({ ...pair, protocol: ICMP }, concat(head, u16(checksum(head, Uint8Array.of(0, 0), rest)), rest))
}

export const frame = (packet: Uint8Array, type = 0x0800): Uint8Array =>
  concat(hex("02000000000a 02000000000b"), u16(type), packet)

export const arpFrame = (operation = 1): Uint8Array =>
  frame(concat(hex("0001 0800 06 04"), u16(operation), new Uint8Array(20)), 0x0806)

/** What both ends of an SA hold. */
export interface Association {
  readonly spi: number
  readonly key: Uint8Array
  readonly salt: Uint8Array
  readonly esn: boolean
}

export interface EspOptions {
  /** The 8 bytes on the wire; by default the sequence number, as our sealer has it. */
  readonly iv?: Uint8Array
  /** Replaces padding, pad length and next header. */
  readonly trailer?: Uint8Array
}

const u64 = (value: bigint): Uint8Array =>
  concat(u32(Number((value >> 32n) & 0xffffffffn)), u32(Number(value & 0xffffffffn)))

/** The trailer of RFC 4303 section 2.4 for an inner packet of this length: to a multiple of four, next header IPv4. */
export const trailerFor = (length: number, next = 4): Uint8Array => {
  const pad = (4 - ((length + 2) % 4)) % 4
  return concat(
    Uint8Array.from({ length: pad }, (_, i) => i + 1),
    Uint8Array.of(pad, next),
  )
}

/** ESP header, IV, ciphertext and ICV (RFC 4303, RFC 7634), by another implementation of the cipher. */
export const esp = (
  sa: Association,
  sequence: bigint,
  inner: Uint8Array,
  options: EspOptions = {},
): Uint8Array => {
  const next = (inner[0] ?? 0) >> 4 === 6 ? 41 : 4
  const text = concat(inner, options.trailer ?? trailerFor(inner.length, next))
  return sealText(sa, sequence, text, options.iv)
}

/** The same for a text that has its trailer already, whatever is in it. */
export const sealText = (
  sa: Association,
  sequence: bigint,
  text: Uint8Array,
  iv: Uint8Array = u64(sequence),
): Uint8Array => {
  const low = u64(sequence).subarray(4)
  const associated = concat(u32(sa.spi), sa.esn ? u64(sequence) : low)
  const sealed = chacha20poly1305(sa.key, concat(sa.salt, iv), associated).encrypt(text)
  return concat(u32(sa.spi), low, iv, sealed)
}

export interface Outer {
  readonly source: number
  readonly target: number
  readonly from: number
  readonly to: number
  readonly tos?: number
}

/** The IPv4 packet that carries an ESP packet: id 0, DF, TTL 64, UDP without checksum. */
export const outerPacket = (outer: Outer, payload: Uint8Array): Uint8Array =>
  ipv4(
    { source: outer.source, target: outer.target, protocol: UDP, tos: outer.tos ?? 0 },
    concat(u16(outer.from), u16(outer.to), u16(8 + payload.length), u16(0), payload),
  )

export interface Outer6 extends Flow6 {
  readonly tos?: number
  readonly label?: number
}

/** The IPv6 packet that carries an ESP packet: hop limit 64, UDP with a checksum (RFC 8200, section 8.1). */
export const outerPacket6 = (outer: Outer6, payload: Uint8Array): Uint8Array =>
  udpPacket6(outer, payload, { trafficClass: outer.tos ?? 0, label: outer.label ?? 0 })

/** A request to the programs of bpf/aead-test.bpf.c: `struct vs_request`, then text and room for, or, the tag. */
export const REQUEST = 72
export const aeadRequest = (
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
  text: Uint8Array,
  tag: Uint8Array = new Uint8Array(16),
): Uint8Array => {
  const request = new Uint8Array(REQUEST)
  const view = new DataView(request.buffer)
  request.set(key, 0)
  request.set(nonce.subarray(4), 32)
  request.set(associated, 40)
  request.set(nonce.subarray(0, 4), 56)
  view.setUint32(60, associated.length, true)
  view.setUint32(64, text.length, true)
  view.setUint32(68, 0xffffffff, true)
  return concat(new Uint8Array(ETHERNET), request, text, tag)
}

export interface AeadAnswer {
  /** 0, or 1 when the tag was wrong. */
  readonly status: number
  readonly text: Uint8Array
  readonly tag: Uint8Array
}

export const aeadAnswer = (packet: Uint8Array): AeadAnswer => ({
  status: new DataView(packet.buffer, packet.byteOffset).getUint32(ETHERNET + 68, true),
  text: packet.slice(ETHERNET + REQUEST, packet.length - 16),
  tag: packet.slice(packet.length - 16),
})

/** BPF_F_TEST_SKB_CHECKSUM_COMPLETE, Linux 6.15: the packet comes with a driver's sum over all of it. */
const TEST_CHECKSUM_COMPLETE = 4
const EBADMSG = 74

/** Runs a program on a packet whose checksum a driver has summed up (CHECKSUM_COMPLETE). Gives false if a stale sum was left. */
export const runWithDriverChecksum = (programFd: number, packet: Uint8Array): boolean => {
  const out = new Uint8Array(1 << 16)
  const attr = new Attr(80)
    .u32(0, programFd)
    .u32(8, packet.length)
    .u32(12, out.length)
    .pointer(16, packet)
    .pointer(24, out)
    .u32(32, 1)
    .u32(64, TEST_CHECKSUM_COMPLETE)
  const result = tryBpf(command.PROG_TEST_RUN, attr)
  if (result < 0 && result !== -EBADMSG) throw new Error(`test run with a driver's checksum: ${result}`)
  return result === 0
}

import { formatIpv6 } from "../../../schemas/address.ts"
import { VERDICTS_MAX } from "../../../schemas/verdicts.ts"
import { invalid } from "./errors.ts"
import { type MapShape, mapType } from "./maps.ts"

/**
 * The records that the programs and this side share. Integers are little endian; addresses, ports and SPIs are stored as
 * on the wire, so in TypeScript they are plain numbers (10.0.0.1 is 0x0a000001) written big endian. Offsets are explicit:
 * the C structs have no hidden padding, and a plane is opened only if the kernel reports these very sizes.
 */
export const VS_LAYOUT = 7
export const EDGES_MAX = 1024
export const LANES_MAX = 16
/** RFC 4303 section 2.1: SPIs 0 to 255 are reserved. */
export const SPI_MIN = 256
export const KEY_SIZE = 32
export const SALT_SIZE = 4
export const FLAG_ESN = 1

/** An IP address of either family: IPv4 as a number (10.0.0.1 is 0x0a000001), IPv6 as its 16 bytes. */
export type Address = number | Uint8Array

export const sameAddress = (a: Address | undefined, b: Address | undefined): boolean =>
  a instanceof Uint8Array && b instanceof Uint8Array ? Buffer.compare(a, b) === 0 : a === b

const { HASH, ARRAY, PERCPU_ARRAY } = mapType
const [LRU_HASH, QUEUE] = [9, 22]
const shape = (type: number, keySize: number, valueSize: number, maxEntries: number): MapShape => ({
  type,
  keySize,
  valueSize,
  maxEntries,
})

/** Every map that the programs share with this side, as the kernel must report it. */
export const shapes = {
  config: shape(ARRAY, 4, 88, 1),
  policies: shape(HASH, 8, 8, 4096),
  policies6: shape(HASH, 20, 8, 4096),
  edges: shape(HASH, 4, 48, EDGES_MAX),
  outbound: shape(HASH, 8, 8, 16384),
  sa_out: shape(HASH, 8, 48, 4096),
  sa_in: shape(HASH, 4, 48, 4096),
  lease_out: shape(HASH, 8, 8, 4096),
  lease_in: shape(HASH, 4, 8, 4096),
  windows: shape(HASH, 4, 272, 4096),
  flows: shape(HASH, 12, 16, 65536),
  flow_counts: shape(ARRAY, 4, 4, EDGES_MAX),
  flow_queue: shape(QUEUE, 0, 16, 131072),
  endpoints: shape(ARRAY, 4, 8, EDGES_MAX * LANES_MAX),
  endpoints6: shape(ARRAY, 4, 24, EDGES_MAX * LANES_MAX),
  path_mtus: shape(ARRAY, 4, 8, EDGES_MAX),
  paths: shape(LRU_HASH, 8, 4, 16384),
  paths6: shape(LRU_HASH, 20, 4, 16384),
  rates: shape(PERCPU_ARRAY, 4, 16, VERDICTS_MAX + 1),
  drops: shape(PERCPU_ARRAY, 4, 8 + 80 * 32, 1),
  edge_stats: shape(PERCPU_ARRAY, 4, 32, EDGES_MAX * LANES_MAX),
  edge_drops: shape(PERCPU_ARRAY, 4, 8 * VERDICTS_MAX, EDGES_MAX),
  verdicts: shape(PERCPU_ARRAY, 4, 8, VERDICTS_MAX),
} as const satisfies Record<string, MapShape>
export type MapName = keyof typeof shapes

const u8 = (value: number, what: string): number => bounded(value, 0xff, what)
const u16 = (value: number, what: string): number => bounded(value, 0xffff, what)
const u32 = (value: number, what: string): number => bounded(value, 0xffffffff, what)

const bounded = (value: number, max: number, what: string): number => {
  if (!Number.isInteger(value) || value < 0 || value > max)
    throw invalid("encode", what, `is not an integer from 0 to ${max}`)
  return value
}

const u64 = (value: bigint, what: string): bigint => {
  if (value < 0n || value > 0xffffffffffffffffn)
    throw invalid("encode", what, "is not an unsigned 64-bit integer")
  return value
}

const sized = (bytes: Uint8Array, size: number, what: string): Uint8Array => {
  if (bytes.length !== size) throw invalid("encode", what, `has ${bytes.length} bytes, expected ${size}`)
  return bytes
}

/** Only tables that one looks at now and then are larger. */
const DRAFT_SIZE = 512

interface Place {
  readonly view: DataView
  readonly bytes: Uint8Array
}

/** One place for records of all sizes: whoever is given it for one size can't reach past that. */
const newPlaces = (): ((size: number) => Place) => {
  const memory = new ArrayBuffer(DRAFT_SIZE)
  const places = new Map<number, Place>()
  return (size) => {
    const known = places.get(size)
    if (known !== undefined) return known
    const made = { view: new DataView(memory, 0, size), bytes: new Uint8Array(memory, 0, size) }
    places.set(size, made)
    return made
  }
}

const draftOf = newPlaces()
const readerOf = newPlaces()

/**
 * A record of `size` bytes, zero but for what `write` sets. It is drafted in one place and copied: a view of small bytes of
 * their own costs far more. Nothing stays in the draft, which may be a key.
 * @throws RangeError when `write` goes past the end
 */
export const record = (size: number, write: (view: DataView, bytes: Uint8Array) => void): Uint8Array => {
  const { view, bytes } = draftOf(size)
  try {
    write(view, bytes)
    return bytes.slice()
  } finally {
    bytes.fill(0)
  }
}

const checkSize = (bytes: Uint8Array, size: number, what: string): void => {
  if (bytes.length !== size) throw invalid("decode", what, `has ${bytes.length} bytes, expected ${size}`)
}

/** A view of a record that is no secret, until the next call. */
export const reading = (bytes: Uint8Array, size: number, what: string): DataView => {
  checkSize(bytes, size, what)
  if (size > DRAFT_SIZE) return new DataView(bytes.buffer, bytes.byteOffset, size)
  const { view, bytes: copy } = readerOf(size)
  copy.set(bytes)
  return view
}

/** A view of a record that holds a key: of its own bytes, so that none is left elsewhere. */
const readingSecret = (bytes: Uint8Array, size: number, what: string): DataView => {
  checkSize(bytes, size, what)
  return new DataView(bytes.buffer, bytes.byteOffset, size)
}

const IPV6_SIZE = 16

/** No address is one of zeros. */
const optional6 = (bytes: Uint8Array, at: number): Uint8Array | undefined => {
  const address = bytes.slice(at, at + IPV6_SIZE)
  return address.some((byte) => byte !== 0) ? address : undefined
}

const set6 = (bytes: Uint8Array, at: number, address: Uint8Array | undefined, what: string): void => {
  if (address !== undefined) bytes.set(sized(address, IPV6_SIZE, what), at)
}

/** A map key that is one little-endian u32: an index or an edge. */
export const indexKey = (index: number): Uint8Array =>
  record(4, (v) => v.setUint32(0, u32(index, "index"), true))
export const decodeIndexKey = (bytes: Uint8Array): number => reading(bytes, 4, "index").getUint32(0, true)

/** `struct vs_config`. */
export interface ConfigRecord {
  /** VS_LAYOUT when the plane is configured; anything else drops everything. */
  readonly layout: number
  /** Addresses of each family that the node has; none is 0, or undefined. The bus has one of the wire's families. */
  readonly innerAddress?: number | undefined
  readonly innerAddress6?: Uint8Array | undefined
  readonly wireAddress?: number | undefined
  readonly wireAddress6?: Uint8Array | undefined
  readonly busAddress?: number | undefined
  readonly busAddress6?: Uint8Array | undefined
  readonly busPort: number
  readonly espPort: number
  readonly wireIfindex: number
  readonly innerIfindex: number
  /** The skb mark by which the programs recognise each other's packets; never 0 when configured. */
  readonly mark: number
  /** The near end's Ethernet address, 6 bytes. */
  readonly innerMac: Uint8Array
}

export const encodeConfig = (config: ConfigRecord): Uint8Array =>
  record(shapes.config.valueSize, (v, bytes) => {
    v.setUint32(0, u32(config.layout, "layout"), true)
    v.setUint32(4, u32(config.innerAddress ?? 0, "innerAddress"))
    v.setUint32(8, u32(config.wireAddress ?? 0, "wireAddress"))
    v.setUint32(12, u32(config.busAddress ?? 0, "busAddress"))
    v.setUint16(16, u16(config.busPort, "busPort"))
    v.setUint16(18, u16(config.espPort, "espPort"))
    v.setUint32(20, u32(config.wireIfindex, "wireIfindex"), true)
    v.setUint32(24, u32(config.innerIfindex, "innerIfindex"), true)
    v.setUint32(28, u32(config.mark, "mark"), true)
    bytes.set(sized(config.innerMac, 6, "innerMac"), 32)
    set6(bytes, 40, config.innerAddress6, "innerAddress6")
    set6(bytes, 56, config.wireAddress6, "wireAddress6")
    set6(bytes, 72, config.busAddress6, "busAddress6")
  })

export const decodeConfig = (bytes: Uint8Array): ConfigRecord => {
  const v = reading(bytes, shapes.config.valueSize, "config")
  return {
    layout: v.getUint32(0, true),
    innerAddress: v.getUint32(4),
    wireAddress: v.getUint32(8),
    busAddress: v.getUint32(12),
    busPort: v.getUint16(16),
    espPort: v.getUint16(18),
    wireIfindex: v.getUint32(20, true),
    innerIfindex: v.getUint32(24, true),
    mark: v.getUint32(28, true),
    innerMac: bytes.slice(32, 38),
    innerAddress6: optional6(bytes, 40),
    wireAddress6: optional6(bytes, 56),
    busAddress6: optional6(bytes, 72),
  }
}

/** `struct vs_policy_key`. */
export interface PolicyKey {
  /** The peer's workflow address; an edge whose peer has two has a policy for each. */
  readonly peer: Address
  /** 0: any port. */
  readonly port: number
  /** IP protocol number; 1 is ICMP of the peer's family, 0 any protocol (with port 0). */
  readonly protocol: number
  /** 0: we initiate to peer:port; 1: the peer initiates to our port. */
  readonly role: 0 | 1
}

/** The map that has the policies of a peer's address. */
export const policyMap = ({ peer }: PolicyKey): "policies" | "policies6" =>
  typeof peer === "number" ? "policies" : "policies6"

/** `struct vs_policy_key` or `struct vs_policy6_key`, as `policyMap` says. */
export const encodePolicyKey = (key: PolicyKey): Uint8Array => {
  const { peer } = key
  const size = typeof peer === "number" ? 4 : IPV6_SIZE
  return record(size + 4, (v, bytes) => {
    if (typeof peer === "number") v.setUint32(0, u32(peer, "peer"))
    else set6(bytes, 0, peer, "peer")
    v.setUint16(size, u16(key.port, "port"))
    v.setUint8(size + 2, u8(key.protocol, "protocol"))
    v.setUint8(size + 3, bounded(key.role, 1, "role"))
  })
}

export const decodePolicyKey = (bytes: Uint8Array): PolicyKey => {
  const six = bytes.length === shapes.policies6.keySize
  const v = reading(bytes, six ? bytes.length : shapes.policies.keySize, "policy key")
  const at = bytes.length - 4
  const role = v.getUint8(at + 3)
  if (role !== 0 && role !== 1) throw invalid("decode", "role", `is ${role}`)
  const peer = six ? bytes.slice(0, IPV6_SIZE) : v.getUint32(0)
  return { peer, port: v.getUint16(at), protocol: v.getUint8(at + 2), role }
}

/** `struct vs_policy`. */
export interface PolicyRecord {
  readonly edge: number
  readonly flags: number
}

export const encodePolicy = (policy: PolicyRecord): Uint8Array =>
  record(shapes.policies.valueSize, (v) => {
    v.setUint32(0, edgeIndex(policy.edge), true)
    v.setUint32(4, u32(policy.flags, "flags"), true)
  })

export const decodePolicy = (bytes: Uint8Array): PolicyRecord => {
  const v = reading(bytes, shapes.policies.valueSize, "policy")
  return { edge: v.getUint32(0, true), flags: v.getUint32(4, true) }
}

/** `struct vs_edge`: where the peer is. */
export interface EdgeRecord {
  /** The peer's workflow addresses: one at least. */
  readonly peerInner?: number | undefined
  readonly peerInner6?: Uint8Array | undefined
  /** Where the peer is on the wire, in a family in which we have an address there. */
  readonly peerWire: Address
  readonly peerPort: number
  readonly lanes: number
  /** Path MTU of the wire, in bytes of outer IP packet. */
  readonly mtu: number
}

const edgeIndex = (edge: number): number => bounded(edge, EDGES_MAX - 1, "edge")
const laneIndex = (lane: number): number => bounded(lane, LANES_MAX - 1, "lane")

const spiValue = (spi: number): number => {
  if (u32(spi, "spi") < SPI_MIN) throw invalid("encode", "spi", `is below ${SPI_MIN}`)
  return spi
}

export const edgeKey = (edge: number): Uint8Array => indexKey(edgeIndex(edge))

export const encodeEdge = (edge: EdgeRecord): Uint8Array =>
  record(shapes.edges.valueSize, (v, bytes) => {
    if (edge.lanes < 1) throw invalid("encode", "lanes", "is below 1")
    v.setUint32(0, u32(edge.peerInner ?? 0, "peerInner"))
    if (typeof edge.peerWire === "number") v.setUint32(4, u32(edge.peerWire, "peerWire"))
    else set6(bytes, 32, edge.peerWire, "peerWire")
    set6(bytes, 16, edge.peerInner6, "peerInner6")
    v.setUint16(8, u16(edge.peerPort, "peerPort"))
    v.setUint16(10, bounded(edge.lanes, LANES_MAX, "lanes"), true)
    v.setUint32(12, u32(edge.mtu, "mtu"), true)
  })

export const decodeEdge = (bytes: Uint8Array): EdgeRecord => {
  const v = reading(bytes, shapes.edges.valueSize, "edge")
  return {
    peerInner: v.getUint32(0),
    peerInner6: optional6(bytes, 16),
    // Zero over IPv4 too: nothing was written.
    peerWire: v.getUint32(4) || (optional6(bytes, 32) ?? 0),
    peerPort: v.getUint16(8),
    lanes: v.getUint16(10, true),
    mtu: v.getUint32(12, true),
  }
}

/** Key of `outbound`. */
export const laneKey = (edge: number, lane: number): Uint8Array =>
  record(shapes.outbound.keySize, (v) => {
    v.setUint32(0, edgeIndex(edge), true)
    v.setUint32(4, laneIndex(lane), true)
  })

export const decodeLaneKey = (bytes: Uint8Array): { readonly edge: number; readonly lane: number } => {
  const v = reading(bytes, shapes.outbound.keySize, "lane key")
  return { edge: v.getUint32(0, true), lane: v.getUint32(4, true) }
}

/** Value of `outbound`: the SPI that a lane uses. */
export const encodeOutbound = (spi: number): Uint8Array =>
  record(shapes.outbound.valueSize, (v) => v.setUint32(0, spiValue(spi)))

export const decodeOutbound = (bytes: Uint8Array): number =>
  reading(bytes, shapes.outbound.valueSize, "outbound").getUint32(0)

/** Key of `sa_out` and `lease_out`. */
export const outSaKey = (edge: number, spi: number): Uint8Array =>
  record(shapes.sa_out.keySize, (v) => {
    v.setUint32(0, edgeIndex(edge), true)
    v.setUint32(4, spiValue(spi))
  })

export const decodeOutSaKey = (bytes: Uint8Array): { readonly edge: number; readonly spi: number } => {
  const v = reading(bytes, shapes.sa_out.keySize, "outbound SA key")
  return { edge: v.getUint32(0, true), spi: v.getUint32(4) }
}

/** Key of `sa_in`, `lease_in` and `windows`. */
export const inSaKey = (spi: number): Uint8Array =>
  record(shapes.sa_in.keySize, (v) => v.setUint32(0, spiValue(spi)))

/** What both directions' SA records hold in secret. */
export interface SaSecret {
  /** ChaCha20-Poly1305 key, 32 bytes. */
  readonly key: Uint8Array
  /** RFC 7634 salt, 4 bytes. */
  readonly salt: Uint8Array
  readonly esn: boolean
}

const setSecret = (v: DataView, bytes: Uint8Array, secret: SaSecret): void => {
  bytes.set(sized(secret.key, KEY_SIZE, "key"), 8)
  bytes.set(sized(secret.salt, SALT_SIZE, "salt"), 40)
  v.setUint32(44, secret.esn ? FLAG_ESN : 0, true)
}

/** `struct vs_sa_out` with its sequence number at 0: the kernel counts from there. Holds the key: wipe it after use. */
export const encodeSaOut = (secret: SaSecret): Uint8Array =>
  record(shapes.sa_out.valueSize, (v, bytes) => setSecret(v, bytes, secret))

/** `struct vs_sa_in`. Holds the key: wipe it after use. */
export const encodeSaIn = (edge: number, lane: number, secret: SaSecret): Uint8Array =>
  record(shapes.sa_in.valueSize, (v, bytes) => {
    v.setUint32(0, edgeIndex(edge), true)
    v.setUint32(4, laneIndex(lane), true)
    setSecret(v, bytes, secret)
  })

/** Tests read SA records back to hold them against the C layout; the product never does. */
export const decodeSaOut = (bytes: Uint8Array): SaSecret & { readonly sequence: bigint } => {
  const v = readingSecret(bytes, shapes.sa_out.valueSize, "outbound SA")
  return { sequence: v.getBigUint64(0, true), ...secretOf(v, bytes) }
}

export const decodeSaIn = (
  bytes: Uint8Array,
): SaSecret & { readonly edge: number; readonly lane: number } => {
  const v = readingSecret(bytes, shapes.sa_in.valueSize, "inbound SA")
  return { edge: v.getUint32(0, true), lane: v.getUint32(4, true), ...secretOf(v, bytes) }
}

const secretOf = (v: DataView, bytes: Uint8Array): SaSecret => ({
  key: bytes.slice(8, 8 + KEY_SIZE),
  salt: bytes.slice(40, 40 + SALT_SIZE),
  esn: (v.getUint32(44, true) & FLAG_ESN) !== 0,
})

/** A lease's deadline, CLOCK_BOOTTIME nanoseconds. */
export const encodeDeadline = (deadline: bigint): Uint8Array =>
  record(8, (v) => v.setBigUint64(0, u64(deadline, "deadline"), true))

export const decodeDeadline = (bytes: Uint8Array): bigint =>
  reading(bytes, 8, "deadline").getBigUint64(0, true)

/** `struct vs_window` before the first packet: lock, padding, top and bits all zero. */
export const emptyWindow = (): Uint8Array => new Uint8Array(shapes.windows.valueSize)

/** `top` of `struct vs_window`: the highest sequence number that was accepted. */
export const decodeWindowTop = (bytes: Uint8Array): bigint =>
  reading(bytes, shapes.windows.valueSize, "window").getBigUint64(8, true)

/** `struct vs_flow_key`. */
export interface FlowKey {
  readonly edge: number
  readonly ownPort: number
  readonly peerPort: number
  readonly protocol: number
  readonly role: number
  /** Between the IPv6 addresses. */
  readonly v6?: boolean
}

export const encodeFlowKey = (key: FlowKey): Uint8Array =>
  record(shapes.flows.keySize, (v) => {
    v.setUint32(0, edgeIndex(key.edge), true)
    v.setUint16(4, u16(key.ownPort, "ownPort"))
    v.setUint16(6, u16(key.peerPort, "peerPort"))
    v.setUint8(8, u8(key.protocol, "protocol"))
    v.setUint8(9, bounded(key.role, 1, "role"))
    v.setUint8(10, key.v6 === true ? 1 : 0)
  })

export const decodeFlowKey = (bytes: Uint8Array): FlowKey => {
  const v = reading(bytes, shapes.flows.keySize, "flow key")
  return {
    edge: v.getUint32(0, true),
    ownPort: v.getUint16(4),
    peerPort: v.getUint16(6),
    protocol: v.getUint8(8),
    role: v.getUint8(9),
    v6: v.getUint8(10) === 1,
  }
}

/** `struct vs_flow`. */
export interface FlowRecord {
  /** When it was last seen, CLOCK_BOOTTIME nanoseconds. */
  readonly seenNs: bigint
  /** Tells it from an earlier flow with the same key. */
  readonly ticket: number
  /** `flowState` bits. */
  readonly state: number
}

export const flowState = { answered: 1, openerDone: 2, answererDone: 4, reset: 8 } as const

export const decodeFlow = (bytes: Uint8Array): FlowRecord => {
  const v = reading(bytes, shapes.flows.valueSize, "flow")
  return { seenNs: v.getBigUint64(0, true), ticket: v.getUint32(8, true), state: v.getUint32(12, true) }
}

export const encodeFlow = (flow: FlowRecord): Uint8Array =>
  record(shapes.flows.valueSize, (v) => {
    v.setBigUint64(0, u64(flow.seenNs, "seenNs"), true)
    v.setUint32(8, u32(flow.ticket, "ticket"), true)
    v.setUint32(12, u32(flow.state, "state"), true)
  })

/** Value of `flow_counts`: how many flows an edge has. */
export const decodeFlowCount = (bytes: Uint8Array): number =>
  reading(bytes, 4, "flow count").getInt32(0, true)
export const encodeFlowCount = (count: number): Uint8Array => indexKey(count)

/** Key of `endpoints`, `endpoints6` and `edge_stats`. */
export const endpointKey = (edge: number, lane: number): Uint8Array =>
  indexKey(edgeIndex(edge) * LANES_MAX + laneIndex(lane))

/** Value of `endpoints`: where a peer's packets come from. */
export interface EndpointRecord {
  readonly address: Address
  readonly port: number
}

/** Undefined: nothing was learnt. */
export const decodeEndpoint = (bytes: Uint8Array): EndpointRecord | undefined => {
  const v = reading(bytes, shapes.endpoints.valueSize, "endpoint")
  const [address, port] = [v.getUint32(0), v.getUint16(4)]
  return address === 0 && port === 0 ? undefined : { address, port }
}

/** What makes the programs go by the document's address again. */
export const noEndpoint = (): Uint8Array => new Uint8Array(shapes.endpoints.valueSize)

/** Value of `endpoints6`. Undefined: nothing was learnt. */
export const decodeEndpoint6 = (bytes: Uint8Array): EndpointRecord | undefined => {
  const port = reading(bytes, shapes.endpoints6.valueSize, "endpoint").getUint16(4)
  return port === 0 ? undefined : { address: bytes.slice(8, 24), port }
}

export const noEndpoint6 = (): Uint8Array => new Uint8Array(shapes.endpoints6.valueSize)

/** Value of `path_mtus`: an MTU that the network reported, and when it ends, in units of 2^30 ns of the boot clock. */
export interface PathMtu {
  readonly mtu: number
  readonly ends: bigint
}

export const decodePathMtu = (bytes: Uint8Array): PathMtu => {
  const word = reading(bytes, 8, "path MTU").getBigUint64(0, true)
  return { mtu: Number(word & 0xffffn), ends: word >> 16n }
}

export const encodePathMtu = ({ mtu, ends }: PathMtu): Uint8Array =>
  record(8, (v) => v.setBigUint64(0, u64((ends << 16n) | BigInt(u16(mtu, "mtu")), "path MTU"), true))

/** `struct vs_drop`: one packet that was dropped. */
export interface DropRecord {
  /** Counts from 1 on each CPU. */
  readonly number: bigint
  readonly verdict: number
  /** Undefined: not known when it was dropped; so are the others. */
  readonly edge: number | undefined
  readonly spi: number | undefined
  readonly packet:
    | {
        readonly inner: boolean
        readonly source: Address
        readonly target: Address
        readonly sourcePort: number
        readonly targetPort: number
        readonly protocol: number
      }
    | undefined
}

const DROP_SIZE = 80
const UNKNOWN_EDGE = 0xffffffff

const decodeDrop = (v: DataView, at: number): DropRecord | undefined => {
  const number = v.getBigUint64(at, true)
  // Not there yet, or being written while it was read.
  if (number === 0n || v.getBigUint64(at + 72, true) !== number) return undefined
  const [edge, spi] = [v.getUint32(at + 20, true), v.getUint32(at + 24)]
  const version = v.getUint8(at + 66)
  const address = (from: number): Address =>
    version === 6
      ? new Uint8Array(v.buffer.slice(v.byteOffset + from, v.byteOffset + from + IPV6_SIZE))
      : v.getUint32(from)
  return {
    number,
    verdict: v.getUint32(at + 16, true),
    edge: edge === UNKNOWN_EDGE ? undefined : edge,
    spi: spi === 0 ? undefined : spi,
    packet:
      version === 0
        ? undefined
        : {
            inner: v.getUint8(at + 65) === 1,
            source: address(at + 32),
            target: address(at + 48),
            sourcePort: v.getUint16(at + 28),
            targetPort: v.getUint16(at + 30),
            protocol: v.getUint8(at + 64),
          },
  }
}

/** `struct vs_drops`, one CPU's: what was dropped last, the oldest first. */
export const decodeDrops = (bytes: Uint8Array): ReadonlyArray<DropRecord> => {
  const v = reading(bytes, shapes.drops.valueSize, "drops")
  const found: Array<DropRecord> = []
  for (let at = 8; at < bytes.length; at += DROP_SIZE) {
    const drop = decodeDrop(v, at)
    if (drop !== undefined) found.push(drop)
  }
  return found.sort((a, b) => Number(a.number - b.number))
}

/** One CPU's share of the statistics of an edge's lane. */
export interface EdgeStats {
  readonly sealedPackets: bigint
  /** Bytes of inner IP packets, as in `openedBytes`. */
  readonly sealedBytes: bigint
  readonly openedPackets: bigint
  readonly openedBytes: bigint
}

export const decodeEdgeStats = (bytes: Uint8Array): EdgeStats => {
  const v = reading(bytes, shapes.edge_stats.valueSize, "edge statistics")
  return {
    sealedPackets: v.getBigUint64(0, true),
    sealedBytes: v.getBigUint64(8, true),
    openedPackets: v.getBigUint64(16, true),
    openedBytes: v.getBigUint64(24, true),
  }
}

/** Adds one CPU's `struct vs_edge_drops` to what was counted, by verdict. Most are zero, and looked at without making numbers of them. */
export const addEdgeDrops = (bytes: Uint8Array, sums: Map<number, bigint>): void => {
  const v = reading(bytes, shapes.edge_drops.valueSize, "edge drops")
  for (let verdict = 0; verdict < VERDICTS_MAX; verdict++)
    if (v.getUint32(8 * verdict, true) !== 0 || v.getUint32(8 * verdict + 4, true) !== 0)
      sums.set(verdict, (sums.get(verdict) ?? 0n) + v.getBigUint64(8 * verdict, true))
}

/** One CPU's count of a verdict. */
export const decodeCount = (bytes: Uint8Array): bigint => reading(bytes, 8, "count").getBigUint64(0, true)

/** "10.1.2.3" as a number; refuses anything that isn't four decimal octets without leading zeros. */
export const parseIpv4 = (text: string): number => {
  if (!/^(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$/.test(text))
    throw invalid("parse", "address", "is not IPv4")
  return text.split(".").reduce((sum, octet) => sum * 256 + u8(Number(octet), "octet"), 0)
}

export const formatAddress = (address: Address): string =>
  typeof address === "number" ? formatIpv4(address) : formatIpv6(address)

export const formatIpv4 = (address: number): string =>
  [24, 16, 8, 0].map((shift) => (u32(address, "address") >>> shift) & 0xff).join(".")

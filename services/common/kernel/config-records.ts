/** What the programs are told of the node itself, and who may speak with whom. */
import { invalid } from "./errors.ts"
import type { Address } from "./record-address.ts"
import {
  bounded,
  edgeIndex,
  IPV6_SIZE,
  optional6,
  reading,
  record,
  set6,
  sized,
  u8,
  u16,
  u32,
} from "./record-bytes.ts"
import { shapes } from "./record-shapes.ts"

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

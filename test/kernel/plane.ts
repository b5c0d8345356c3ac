/**
 * One node's data plane, loaded from the product's object and never attached: packets go through it by BPF_PROG_TEST_RUN.
 * The node is 10.77.0.1 and has two edges with 10.77.0.2: on edge 1 it is the initiator, on edge 2 the peer is.
 */
import { VERDICTS_MAX, verdicts } from "../../schemas/verdicts.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import {
  type BpfObject,
  loadObject,
  type TestRunOptions,
  testRun,
} from "../../services/common/kernel/libbpf.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import {
  addEdgeDrops,
  type ConfigRecord,
  decodeCount,
  decodeEdgeStats,
  decodeEndpoint,
  decodeEndpoint6,
  decodeFlow,
  decodeFlowCount,
  decodePathMtu,
  type EdgeRecord,
  type EdgeStats,
  type EndpointRecord,
  edgeKey,
  emptyWindow,
  encodeConfig,
  encodeDeadline,
  encodeEdge,
  encodeFlow,
  encodeFlowCount,
  encodeFlowKey,
  encodeOutbound,
  encodePolicy,
  encodePolicyKey,
  encodeSaIn,
  encodeSaOut,
  endpointKey,
  type FlowKey,
  type FlowRecord,
  flowState,
  indexKey,
  inSaKey,
  LANES_MAX,
  laneKey,
  noEndpoint,
  noEndpoint6,
  outSaKey,
  type PathMtu,
  type PolicyKey,
  parseIpv4,
  policyMap,
  type shapes,
  VS_LAYOUT,
} from "../../services/common/kernel/records.ts"
import { type Association, byteSource, type Outer, TCP, UDP } from "./packets.ts"

export const OBJECT = "bpf/build/vouchsafe.bpf.o"
export const PASS = 0
export const DROP = 2
export const REDIRECT = 7

export const own = parseIpv4("10.77.0.1")
export const peer = parseIpv4("10.77.0.2")
export const stranger = parseIpv4("10.77.0.3")
export const ownWire = parseIpv4("192.0.2.1")
export const peerWire = parseIpv4("192.0.2.2")
export const bus = parseIpv4("192.0.2.250")
export const BUS_PORT = 4222
export const ESP_PORT = 4500
export const MARK = 0x5653
export const MTU = 1500
export const LANES = 4
/** The port of edge 1, at the peer, and of edge 2, here; both over TCP and UDP. */
export const PEER_PORT = 5432
export const OWN_PORT = 8080

const keys = byteSource(0xabcd)
const association = (spi: number): Association => ({ spi, key: keys(32), salt: keys(4), esn: true })

export interface EdgeKeys {
  readonly edge: number
  readonly out: Association
  readonly in: Association
}
export const edge1: EdgeKeys = { edge: 1, out: association(0x1001), in: association(0x2001) }
export const edge2: EdgeKeys = { edge: 2, out: association(0x1002), in: association(0x2002) }
/** Edge 3 has keys and an endpoint, but no policy names it. */
export const edge3: EdgeKeys = { edge: 3, out: association(0x1003), in: association(0x2003) }

export const defaultConfig: ConfigRecord = {
  layout: VS_LAYOUT,
  innerAddress: own,
  wireAddress: ownWire,
  busAddress: bus,
  busPort: BUS_PORT,
  espPort: ESP_PORT,
  wireIfindex: 1,
  innerIfindex: 1,
  mark: MARK,
  innerMac: Uint8Array.of(2, 0, 0, 0x11, 0x22, 0x33),
}

export const defaultEdge: EdgeRecord = {
  peerInner: peer,
  peerWire,
  peerPort: ESP_PORT,
  lanes: LANES,
  mtu: MTU,
}

export const fromPeer = (lane = 0): Outer => ({
  source: peerWire,
  target: ownWire,
  from: ESP_PORT + lane,
  to: ESP_PORT,
})

export type Program = "vs_seal" | "vs_open" | "vs_guard" | "vs_inner"
export type MapName = keyof typeof shapes

export interface Outcome {
  readonly verdict: string
  readonly retval: number
  readonly packet: Uint8Array
  readonly mark: number
  readonly durationNs: number
}

const names = new Map(verdicts.map((verdict) => [verdict.number, verdict.name]))
const HOUR = 3_600_000_000_000n

export class Plane {
  readonly object: BpfObject
  readonly #maps = new Map<MapName, BpfMap>()

  constructor(path: string = OBJECT) {
    this.object = loadObject(path)
  }

  map(name: MapName): BpfMap {
    const known = this.#maps.get(name)
    if (known !== undefined) return known
    // BpfMap would close the descriptor, which belongs to the object: it is never asked to.
    const map = new BpfMap(this.object.mapFd(name))
    this.#maps.set(name, map)
    return map
  }

  configure(changes: Partial<ConfigRecord> = {}): this {
    this.map("config").update(indexKey(0), encodeConfig({ ...defaultConfig, ...changes }))
    return this
  }

  allow(key: PolicyKey, edge: number): this {
    this.map(policyMap(key)).update(encodePolicyKey(key), encodePolicy({ edge, flags: 0 }))
    return this
  }

  endpoint(edge: number, changes: Partial<EdgeRecord> = {}): this {
    this.map("edges").update(edgeKey(edge), encodeEdge({ ...defaultEdge, ...changes }))
    return this
  }

  lease(by: EdgeKeys, deadline = bootNow() + HOUR): this {
    this.map("lease_out").update(outSaKey(by.edge, by.out.spi), encodeDeadline(deadline))
    this.map("lease_in").update(inSaKey(by.in.spi), encodeDeadline(deadline))
    return this
  }

  /**
   * Installs both directions' keys of an edge on all lanes, with a lease. `sequence` is the last one used already, `lane`
   * that of what comes in.
   */
  keys(by: EdgeKeys, sequence = 0n, lane = 0): this {
    const out = encodeSaOut(by.out)
    new DataView(out.buffer).setBigUint64(0, sequence, true)
    this.map("sa_out").insert(outSaKey(by.edge, by.out.spi), out)
    for (let each = 0; each < LANES; each++)
      this.map("outbound").update(laneKey(by.edge, each), encodeOutbound(by.out.spi))
    this.map("windows").insert(inSaKey(by.in.spi), emptyWindow())
    this.map("sa_in").insert(inSaKey(by.in.spi), encodeSaIn(by.edge, lane, by.in))
    return this.lease(by)
  }

  flowRecord(key: FlowKey): FlowRecord | undefined {
    const value = this.map("flows").lookup(encodeFlowKey(key))
    return value === undefined ? undefined : decodeFlow(value)
  }

  flow(key: FlowKey): bigint | undefined {
    return this.flowRecord(key)?.seenNs
  }

  /** Writes a flow as it would be if it had been seen then: one that is there keeps its ticket, another has no note. */
  setFlow(key: FlowKey, seenNs: bigint, state: number = flowState.answered): this {
    const ticket = this.flowRecord(key)?.ticket ?? 0
    this.map("flows").update(encodeFlowKey(key), encodeFlow({ seenNs, ticket, state }))
    return this
  }

  /** How many flows the programs count for an edge. */
  flowCount(edge: number): number {
    return decodeFlowCount(this.map("flow_counts").lookup(edgeKey(edge)) ?? new Uint8Array(0))
  }

  setFlowCount(edge: number, count: number): this {
    this.map("flow_counts").update(edgeKey(edge), encodeFlowCount(count))
    return this
  }

  stats(edge: number): EdgeStats {
    const all = Array.from({ length: LANES_MAX }, (_, lane) =>
      (this.map("edge_stats").lookupPerCpu(endpointKey(edge, lane)) ?? []).map(decodeEdgeStats),
    ).flat()
    const sum = (field: keyof EdgeStats): bigint => all.reduce((total, one) => total + one[field], 0n)
    return {
      sealedPackets: sum("sealedPackets"),
      sealedBytes: sum("sealedBytes"),
      openedPackets: sum("openedPackets"),
      openedBytes: sum("openedBytes"),
    }
  }

  /** What was dropped of an edge's packets, by verdict name. */
  edgeDrops(edge: number): Readonly<Record<string, bigint>> {
    const sums = new Map<number, bigint>()
    for (const share of this.map("edge_drops").lookupPerCpu(edgeKey(edge)) ?? []) addEdgeDrops(share, sums)
    return Object.fromEntries(
      [...sums].map(([number, count]) => [names.get(number) ?? String(number), count]),
    )
  }

  counts(): ReadonlyArray<bigint> {
    return Array.from({ length: VERDICTS_MAX }, (_, number) =>
      (this.map("verdicts").lookupPerCpu(indexKey(number)) ?? []).reduce(
        (sum, value) => sum + decodeCount(value),
        0n,
      ),
    )
  }

  /** Runs a packet; the verdict is the one counter that rose, by one. */
  run(program: Program, packet: Uint8Array, options: TestRunOptions = {}): Outcome {
    const before = this.counts()
    const { retval, packet: out, mark, durationNs } = testRun(this.object.programFd(program), packet, options)
    const risen = this.counts().flatMap((count, number) => {
      const rise = count - (before[number] ?? 0n)
      return rise === 0n ? [] : [`${names.get(number) ?? number}${rise === 1n ? "" : ` +${rise}`}`]
    })
    return { verdict: risen.join(" "), retval, packet: out, mark, durationNs }
  }

  /** Where the programs have learnt that the peer is. */
  learnt(edge: number, lane = 0): EndpointRecord | undefined {
    return decodeEndpoint(this.map("endpoints").lookup(endpointKey(edge, lane)) ?? new Uint8Array(0))
  }

  learnt6(edge: number, lane = 0): EndpointRecord | undefined {
    return decodeEndpoint6(this.map("endpoints6").lookup(endpointKey(edge, lane)) ?? new Uint8Array(0))
  }

  /** The MTU that the network reported for an edge, or 0. */
  reportedMtu(edge: number): PathMtu {
    return decodePathMtu(this.map("path_mtus").lookup(edgeKey(edge)) ?? new Uint8Array(0))
  }

  /** Forgets what packets have left behind: windows and flows. */
  forget(): this {
    for (const spi of this.map("windows").keys()) this.map("windows").update(spi, emptyWindow())
    for (const key of this.map("flows").keys()) this.map("flows").delete(key)
    for (const { edge } of [edge1, edge2, edge3]) {
      this.setFlowCount(edge, 0)
      for (let lane = 0; lane < LANES; lane++)
        for (const [map, none] of [
          ["endpoints", noEndpoint()],
          ["endpoints6", noEndpoint6()],
        ] as const)
          this.map(map).update(endpointKey(edge, lane), none)
    }
    return this
  }

  close(): void {
    this.object.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

/** A node with everything that its two edges need. */
export const readyPlane = (changes: Partial<ConfigRecord> = {}): Plane => {
  const plane = new Plane().configure(changes)
  for (const protocol of [TCP, UDP]) {
    plane.allow({ peer, port: PEER_PORT, protocol, role: 0 }, 1)
    plane.allow({ peer, port: OWN_PORT, protocol, role: 1 }, 2)
  }
  plane.allow({ peer, port: 0, protocol: 1, role: 0 }, 1).allow({ peer, port: 0, protocol: 1, role: 1 }, 2)
  for (const keys of [edge1, edge2, edge3]) plane.endpoint(keys.edge).keys(keys)
  return plane
}

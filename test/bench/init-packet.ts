/**
 * First packets of edges, through the product's programs by BPF_PROG_TEST_RUN. They are loaded once in a process and know
 * only their own maps: what a node holds for its edges is copied there, and taken out again.
 */
import { Attr, bpf } from "../../services/common/kernel/bpf.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { type BpfObject, testRun } from "../../services/common/kernel/libbpf.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import * as records from "../../services/common/kernel/records.ts"
import type { Maps } from "../../services/dataplane-loader/dataplane/associations.ts"
import type { EdgeRule } from "../../services/dataplane-loader/rules.ts"
import { concat, frame, tcpPacket } from "../kernel/packets.ts"

const TC_ACT_REDIRECT = 7
const PORT = 40_000
const TCP = 6
/** Of the end that opens a flow, and of the other. */
const ROLE = { initiator: 0, responder: 1 } as const
const MAP_UPDATE_BATCH = 26
const MAP_DELETE_BATCH = 27
/** Where the SPI is in a frame of ESP in UDP in IPv4 without options. */
const SPI_AT = 14 + 20 + 8
/** A sealed packet without payload is shorter. */
const PACKET_MAX = 2_048
/** A lease that ends sooner could be over before the programs look at it. */
const LEASE_LEFT_NS = 500_000_000n
const LEASE_ENDS = "its lease is over, or all but"

/** What the initiator of an edge sends first, as it goes onto the wire. */
export interface EdgePacket {
  readonly rule: EdgeRule
  readonly wire: Uint8Array
}

/**
 * An edge that its node's maps hold no key for just now: that of a peer which the releaser hasn't heard of for a lease is
 * taken back, and comes anew with the peer.
 */
export interface Idle {
  readonly rule: EdgeRule
  readonly why: string
}

type Lent = records.MapName & keyof Maps
const ARRAYS: ReadonlySet<Lent> = new Set(["config", "flow_counts"])

const flowsOf = (rules: ReadonlyArray<EdgeRule>, role: keyof typeof ROLE): Uint8Array =>
  concat(
    ...rules.map(({ record, edge }) => {
      const [ownPort, peerPort] = role === "initiator" ? [PORT, edge.port ?? 0] : [edge.port ?? 0, PORT]
      return records.encodeFlowKey({ edge: record.index, ownPort, peerPort, protocol: TCP, role: ROLE[role] })
    }),
  )

/** One call for many entries: `keys`, and `values` where they are written. */
const batch = (command: number, map: BpfMap, keys: Uint8Array, values: Uint8Array | undefined): void => {
  const attr = new Attr(56)
    .pointer(16, keys)
    .u32(32, keys.length / map.info.keySize)
    .u32(36, map.fd)
  if (values !== undefined) attr.pointer(24, values)
  bpf(command, attr, "batch", map.name)
}

/** The programs of a process, and the node whose records are in their maps. */
export class FirstPackets {
  readonly #object: BpfObject
  readonly #maps = new Map<Lent, BpfMap>()
  readonly #flows: BpfMap

  constructor(object: BpfObject) {
    this.#object = object
    this.#flows = new BpfMap(object.mapFd("flows"))
  }

  /**
   * The first packets of these edges, which the node initiates: of those that are in use.
   * @param own the node's inner address
   * @throws Error when one isn't let through, or what is in use lacks a record
   */
  seal(
    maps: Maps,
    rules: ReadonlyArray<EdgeRule>,
    own: number,
  ): { readonly sealed: ReadonlyArray<EdgePacket>; readonly idle: ReadonlyArray<Idle> } {
    const lending = new Lending(maps, rules)
    const [inUse, idle] = parted(rules, (rule) => {
      const why = lending.outbound(rule)
      return why === undefined ? undefined : { rule, why }
    })
    const sealed = this.#with(lending, flowsOf(inUse, "initiator"), () =>
      inUse.map((rule) => {
        const { record, edge } = rule
        const target = record.peerInner
        if (target === undefined) throw new Error("the bench's edges are of IPv4")
        const flow = { source: own, target, from: PORT, to: edge.port ?? 0 }
        const packet = frame(tcpPacket(flow, new Uint8Array(0), { flags: 0x02 }))
        return { rule, wire: this.#through("vs_seal", packet, edge.id) }
      }),
    )
    return { sealed, idle }
  }

  /**
   * @returns how many were let in, and the edges of those whose association the node has no more
   * @throws Error when the responder doesn't take one of the others, or an association lacks a record
   */
  open(
    maps: Maps,
    packets: ReadonlyArray<EdgePacket>,
  ): { readonly opened: number; readonly idle: ReadonlyArray<Idle> } {
    const lending = new Lending(
      maps,
      packets.map(({ rule }) => rule),
    )
    const [inUse, idle] = parted(packets, ({ rule, wire }) => {
      const why = lending.inbound(wire.slice(SPI_AT, SPI_AT + 4))
      return why === undefined ? undefined : { rule, why }
    })
    const rules = inUse.map(({ rule }) => rule)
    this.#with(lending, flowsOf(rules, "responder"), () => {
      for (const { rule, wire } of inUse) this.#through("vs_open", wire, rule.edge.id)
    })
    return { opened: inUse.length, idle }
  }

  #map(name: Lent): BpfMap {
    const map = this.#maps.get(name) ?? new BpfMap(this.#object.mapFd(name))
    this.#maps.set(name, map)
    return map
  }

  /** @param flows that the packets begin; perhaps none */
  #with<A>(lending: Lending, flows: Uint8Array, run: () => A): A {
    const lent: Array<() => void> = []
    try {
      for (const [name, { keys, values }] of lending.all) {
        const [all, secret] = [concat(...keys), concat(...values)]
        batch(MAP_UPDATE_BATCH, this.#map(name), all, secret)
        for (const value of [secret, ...values]) value.fill(0)
        // An array's records can't be deleted: the next node's take their place.
        if (!ARRAYS.has(name)) lent.push(() => batch(MAP_DELETE_BATCH, this.#map(name), all, undefined))
      }
      const done = run()
      if (flows.length > 0) batch(MAP_DELETE_BATCH, this.#flows, flows, undefined)
      return done
    } finally {
      for (const back of lent) back()
    }
  }

  #through(program: string, packet: Uint8Array, edge: string): Uint8Array {
    const { retval, packet: out } = testRun(this.#object.programFd(program), packet, { outMax: PACKET_MAX })
    if (retval !== TC_ACT_REDIRECT)
      throw new Error(`${program} refused the first packet of ${edge} (${retval})`)
    return out
  }
}

/** Those that `idle` says nothing of, and what it says of the others. */
const parted = <A>(
  all: ReadonlyArray<A>,
  idle: (one: A) => Idle | undefined,
): readonly [inUse: ReadonlyArray<A>, idle: ReadonlyArray<Idle>] => {
  const found = all.map((one) => [one, idle(one)] as const)
  return [
    found.flatMap(([one, said]) => (said === undefined ? [one] : [])),
    found.flatMap(([, said]) => (said === undefined ? [] : [said])),
  ]
}

/** Records of one node, by map. */
class Lending {
  readonly all = new Map<Lent, { readonly keys: Uint8Array[]; readonly values: Uint8Array[] }>()
  readonly #maps: Maps
  readonly #leaseNs = bootNow() + LEASE_LEFT_NS

  constructor(maps: Maps, rules: ReadonlyArray<EdgeRule>) {
    this.#maps = maps
    this.add("config", records.indexKey(0))
    for (const { record, policies } of rules) {
      this.add("edges", records.edgeKey(record.index))
      this.add("flow_counts", records.edgeKey(record.index))
      for (const policy of policies) this.add(records.policyMap(policy), records.encodePolicyKey(policy))
    }
  }

  /**
   * What an edge is sealed with now. The lane says which that is: where it names an association, all of that must be there.
   * @returns why the edge isn't in use; then nothing of it is lent
   */
  outbound({ record }: EdgeRule): string | undefined {
    const lane = records.laneKey(record.index, 0)
    const active = this.#maps.outbound.lookup(lane)
    if (active === undefined) return "its lane has no key"
    const key = records.outSaKey(record.index, records.decodeOutbound(active))
    const lease = this.#own("lease_out", key)
    if (this.#ends(lease)) return LEASE_ENDS
    this.#take("outbound", lane, active)
    this.#take("lease_out", key, lease)
    this.add("sa_out", key)
    return undefined
  }

  /**
   * What a packet is opened with. An association goes as a whole: what is there of it must be all.
   * @param spi as in the packet
   * @returns why it can't be; then nothing is lent
   */
  inbound(spi: Uint8Array): string | undefined {
    const { lease_in, sa_in, windows } = this.#maps
    const lease = lease_in.lookup(spi)
    if (lease === undefined && !sa_in.has(spi) && !windows.has(spi))
      return "its peer's packet is of an association that has gone"
    if (lease !== undefined && this.#ends(lease)) return LEASE_ENDS
    for (const name of ["windows", "lease_in", "sa_in"] as const) this.add(name, spi)
    return undefined
  }

  /** @throws Error when the node has no such record */
  add(name: Lent, key: Uint8Array): void {
    this.#take(name, key, this.#own(name, key))
  }

  #ends(lease: Uint8Array): boolean {
    return records.decodeDeadline(lease) <= this.#leaseNs
  }

  #own(name: Lent, key: Uint8Array): Uint8Array {
    const value = this.#maps[name].lookup(key)
    if (value === undefined) throw new Error(`${name}: the node holds no such record`)
    return value
  }

  #take(name: Lent, key: Uint8Array, value: Uint8Array): void {
    const { keys, values } = this.all.get(name) ?? { keys: [], values: [] }
    keys.push(key)
    values.push(value)
    this.all.set(name, { keys, values })
  }
}

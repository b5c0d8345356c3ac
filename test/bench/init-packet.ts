/**
 * First packets of edges, through the product's programs by BPF_PROG_TEST_RUN. They are loaded once in a process and know
 * only their own maps: what a node holds for its edges is copied there, and taken out again.
 */
import { Attr, bpf } from "../../services/common/kernel/bpf.ts"
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
   * What the initiator of each of these edges sends first, as it goes onto the wire.
   * @param own the node's inner address
   * @throws Error when one isn't let through
   */
  seal(maps: Maps, rules: ReadonlyArray<EdgeRule>, own: number): ReadonlyArray<Uint8Array> {
    const lending = new Lending(maps, rules)
    for (const { record } of rules) {
      const spi = records.decodeOutbound(lending.add("outbound", records.laneKey(record.index, 0)))
      const key = records.outSaKey(record.index, spi)
      lending.add("sa_out", key)
      lending.add("lease_out", key)
    }
    return this.#with(lending, flowsOf(rules, "initiator"), () =>
      rules.map(({ record, edge }) => {
        const target = record.peerInner
        if (target === undefined) throw new Error("the bench's edges are of IPv4")
        const flow = { source: own, target, from: PORT, to: edge.port ?? 0 }
        return this.#through("vs_seal", frame(tcpPacket(flow, new Uint8Array(0), { flags: 0x02 })), edge.id)
      }),
    )
  }

  /** @throws Error when the responder doesn't take one of them */
  open(maps: Maps, packets: ReadonlyArray<{ readonly rule: EdgeRule; readonly wire: Uint8Array }>): void {
    const rules = packets.map(({ rule }) => rule)
    const lending = new Lending(maps, rules)
    for (const { wire } of packets)
      for (const name of ["windows", "lease_in", "sa_in"] as const)
        lending.add(name, wire.slice(SPI_AT, SPI_AT + 4))
    this.#with(lending, flowsOf(rules, "responder"), () => {
      for (const { rule, wire } of packets) this.#through("vs_open", wire, rule.edge.id)
    })
  }

  #map(name: Lent): BpfMap {
    const map = this.#maps.get(name) ?? new BpfMap(this.#object.mapFd(name))
    this.#maps.set(name, map)
    return map
  }

  /** @param flows that the packets begin */
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
      batch(MAP_DELETE_BATCH, this.#flows, flows, undefined)
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

/** Records of one node, by map. */
class Lending {
  readonly all = new Map<Lent, { readonly keys: Uint8Array[]; readonly values: Uint8Array[] }>()
  readonly #maps: Maps

  constructor(maps: Maps, rules: ReadonlyArray<EdgeRule>) {
    this.#maps = maps
    this.add("config", records.indexKey(0))
    for (const { record, policies } of rules) {
      this.add("edges", records.edgeKey(record.index))
      this.add("flow_counts", records.edgeKey(record.index))
      for (const policy of policies) this.add(records.policyMap(policy), records.encodePolicyKey(policy))
    }
  }

  /** @returns the record, which is the node's own. @throws Error when it has none */
  add(name: Lent, key: Uint8Array): Uint8Array {
    const value = this.#maps[name].lookup(key)
    if (value === undefined) throw new Error(`${name}: the node holds no such record`)
    const { keys, values } = this.all.get(name) ?? { keys: [], values: [] }
    keys.push(key)
    values.push(value)
    this.all.set(name, { keys, values })
    return value
  }
}

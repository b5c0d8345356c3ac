/**
 * A first packet of an edge, through the product's programs by BPF_PROG_TEST_RUN. They are loaded once in a process and
 * know only their own maps: what a node holds for the edge is copied there, and taken out again.
 */
import { type BpfObject, testRun } from "../../services/common/kernel/libbpf.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import * as records from "../../services/common/kernel/records.ts"
import type { Maps } from "../../services/dataplane-loader/dataplane/associations.ts"
import type { EdgeRule } from "../../services/dataplane-loader/rules.ts"
import { frame, tcpPacket } from "../kernel/packets.ts"
import type { NodePlane } from "./init-plane.ts"

const TC_ACT_REDIRECT = 7
const PORT = 40_000

/** Puts a node's records of one edge into the programs' maps for as long as `run` takes. */
const borrowed = <A>(object: BpfObject, { maps, ...plane }: NodePlane, rule: EdgeRule, run: () => A): A => {
  const undo: Array<() => void> = []
  const lend = (name: records.MapName & keyof Maps, key: Uint8Array): void => {
    const value = maps[name].lookup(key)
    if (value === undefined) throw new Error(`${name}: the node holds nothing of ${rule.edge.id}`)
    const map = new BpfMap(object.mapFd(name))
    map.update(key, value)
    value.fill(0)
    // An array's records can't be deleted: the next node's take their place.
    if (name !== "config") undo.push(() => void map.delete(key))
  }
  try {
    const { index } = rule.record
    lend("config", records.indexKey(0))
    lend("edges", records.edgeKey(index))
    for (const policy of rule.policies) lend(records.policyMap(policy), records.encodePolicyKey(policy))
    lend("outbound", records.laneKey(index, 0))
    for (const { direction, edge, spi } of plane.associations()) {
      if (edge !== index) continue
      if (direction === "out") {
        lend("sa_out", records.outSaKey(edge, spi))
        lend("lease_out", records.outSaKey(edge, spi))
      } else {
        lend("windows", records.inSaKey(spi))
        lend("lease_in", records.inSaKey(spi))
        lend("sa_in", records.inSaKey(spi))
      }
    }
    return run()
  } finally {
    for (const step of undo.reverse()) step()
    const flows = new BpfMap(object.mapFd("flows"))
    for (const key of flows.keys()) flows.delete(key)
  }
}

const through = (object: BpfObject, program: string, packet: Uint8Array, edge: string): Uint8Array => {
  const { retval, packet: out } = testRun(object.programFd(program), packet)
  if (retval !== TC_ACT_REDIRECT)
    throw new Error(`${program} refused the first packet of ${edge} (${retval})`)
  return out
}

/** What the initiator sends first, as it goes onto the wire. @throws Error when it isn't let through */
export const sealFirst = (object: BpfObject, plane: NodePlane, rule: EdgeRule, own: number): Uint8Array => {
  const target = rule.record.peerInner
  if (target === undefined) throw new Error("the bench's edges are of IPv4")
  const flow = { source: own, target, from: PORT, to: rule.edge.port ?? 0 }
  const packet = frame(tcpPacket(flow, new Uint8Array(0), { flags: 0x02 }))
  return borrowed(object, plane, rule, () => through(object, "vs_seal", packet, rule.edge.id))
}

/** @throws Error when the responder doesn't take it */
export const openFirst = (object: BpfObject, plane: NodePlane, rule: EdgeRule, wire: Uint8Array): void => {
  borrowed(object, plane, rule, () => through(object, "vs_open", wire, rule.edge.id))
}

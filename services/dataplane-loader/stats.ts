/** What a node tells about itself: counters and times, no keys. */
import type { EdgeStats, Stats } from "../../schemas/messages/stats.ts"
import { compareEpochs } from "../make/epoch.ts"
import type { HeldEpoch } from "../make/held.ts"
import type { Plane } from "./dataplane/plane.ts"
import type { Rules } from "./rules.ts"

export interface StatsSource {
  readonly node: string
  readonly plane: Plane
  readonly backend: string
  readonly rules: Rules | undefined
  readonly state: Stats["state"]
  readonly held: ReadonlyArray<HeldEpoch>
  /** By edge instance, how often it switched to new keys. */
  readonly rekeys: ReadonlyMap<string, number>
  readonly nowBootNs: bigint
}

const NS_PER_MS = 1_000_000n

const numbers = (counts: Readonly<Record<string, bigint>>): Record<string, number> =>
  Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, Number(count)]))

export const statsOf = ({
  node,
  plane,
  backend,
  rules,
  state,
  held,
  rekeys,
  nowBootNs,
}: StatsSource): Stats => {
  const counters = plane.counters()
  const edges = (rules?.edges ?? []).map(({ edge, record }): EdgeStats => {
    const counted = counters.edges.get(record.index)
    const epochs = held
      .filter(({ instance }) => instance === edge.id)
      .sort((a, b) => Number(b.active) - Number(a.active) || compareEpochs(b.epoch, a.epoch))
    const [current] = epochs
    const left = current === undefined ? 0n : (current.deadlineBootNs - nowBootNs) / NS_PER_MS
    return {
      instance: edge.id,
      from: edge.initiator,
      to: edge.responder,
      peer: edge.peer,
      role: edge.role,
      state: current === undefined ? "none" : current.active ? "active" : "install",
      term: current?.epoch.term ?? 0n,
      epoch: current?.epoch.n ?? 0n,
      lease_left_ms: left > 0n ? Number(left) : 0,
      sealed_packets: Number(counted?.sealedPackets ?? 0n),
      sealed_bytes: Number(counted?.sealedBytes ?? 0n),
      opened_packets: Number(counted?.openedPackets ?? 0n),
      opened_bytes: Number(counted?.openedBytes ?? 0n),
      rekeys: rekeys.get(edge.id) ?? 0,
      drops: numbers(counted?.drops ?? {}),
    }
  })
  return {
    v: 1,
    node,
    stage: rules?.node.stage ?? "",
    state,
    backend,
    dataplane: Buffer.from(plane.measurement.digest).toString("hex"),
    edges,
    verdicts: numbers(counters.verdicts),
  }
}

import { VERDICTS_MAX, verdicts } from "../../../schemas/verdicts.ts"
import {
  addEdgeDrops,
  decodeCount,
  decodeEdge,
  decodeEdgeStats,
  decodeIndexKey,
  type EdgeStats,
  endpointKey,
  indexKey,
} from "../../common/kernel/records.ts"
import type { Maps } from "./associations.ts"

export interface EdgeCounters extends EdgeStats {
  /** Packets by verdict name that were dropped and known to be the edge's; none is 0. */
  readonly drops: Readonly<Record<string, bigint>>
}

export interface Counters {
  /** Packets by verdict name, all CPUs together; every verdict of the table is there, also at 0. */
  readonly verdicts: Readonly<Record<string, bigint>>
  /** Statistics of the edges that exist, by index. */
  readonly edges: ReadonlyMap<number, EdgeCounters>
}

const names = new Map(verdicts.map((verdict) => [verdict.number, verdict.name]))
const nameOf = (number: number): string => names.get(number) ?? `VERDICT_${number}`

const sum = (values: ReadonlyArray<bigint>): bigint => values.reduce((total, value) => total + value, 0n)

const sumStats = (shares: ReadonlyArray<EdgeStats>): EdgeStats => ({
  sealedPackets: sum(shares.map((share) => share.sealedPackets)),
  sealedBytes: sum(shares.map((share) => share.sealedBytes)),
  openedPackets: sum(shares.map((share) => share.openedPackets)),
  openedBytes: sum(shares.map((share) => share.openedBytes)),
})

/** Statistics of one lane, all CPUs together. */
export const readLane = (maps: Maps, edge: number, lane: number): EdgeStats =>
  sumStats((maps.edge_stats.lookupPerCpu(endpointKey(edge, lane)) ?? []).map(decodeEdgeStats))

const readDrops = (maps: Maps, key: Uint8Array): EdgeCounters["drops"] => {
  const sums = new Map<number, bigint>()
  for (const share of maps.edge_drops.lookupPerCpu(key) ?? []) addEdgeDrops(share, sums)
  return Object.fromEntries([...sums].map(([number, count]) => [nameOf(number), count]))
}

/**
 * Reads what the programs counted. A number without a verdict that isn't 0 shows as VERDICT_<number>: it can't be left
 * out, for the counts must add up to the packets.
 */
export const readCounters = (maps: Maps): Counters => {
  const counted: Record<string, bigint> = {}
  for (let number = 0; number < VERDICTS_MAX; number++) {
    const total = sum((maps.verdicts.lookupPerCpu(indexKey(number)) ?? []).map(decodeCount))
    if (names.has(number) || total > 0n) counted[nameOf(number)] = total
  }
  const edges = new Map<number, EdgeCounters>()
  for (const key of maps.edges.keys()) {
    const value = maps.edges.lookup(key)
    if (value === undefined) continue
    const edge = decodeIndexKey(key)
    const { lanes } = decodeEdge(value)
    const shares = Array.from({ length: lanes }, (_, lane) => readLane(maps, edge, lane))
    edges.set(edge, { ...sumStats(shares), drops: readDrops(maps, key) })
  }
  return { verdicts: counted, edges }
}

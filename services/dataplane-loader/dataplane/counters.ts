import { VERDICTS_MAX, verdicts } from "../../../schemas/verdicts.ts"
import {
  decodeCount,
  decodeEdgeStats,
  decodeIndexKey,
  type EdgeStats,
  indexKey,
} from "../../common/kernel/records.ts"
import type { Maps } from "./associations.ts"

export interface Counters {
  /** Packets by verdict name, all CPUs together; every verdict of the table is there, also at 0. */
  readonly verdicts: Readonly<Record<string, bigint>>
  /** Statistics of the edges that exist, by index. */
  readonly edges: ReadonlyMap<number, EdgeStats>
}

const names = new Map(verdicts.map((verdict) => [verdict.number, verdict.name]))

const sum = (values: ReadonlyArray<bigint>): bigint => values.reduce((total, value) => total + value, 0n)

/**
 * Reads what the programs counted. A number without a verdict that isn't 0 shows as VERDICT_<number>: it can't be left
 * out, for the counts must add up to the packets. The statistics of an index go on when another edge takes it over.
 */
export const readCounters = (maps: Maps): Counters => {
  const counted: Record<string, bigint> = {}
  for (let number = 0; number < VERDICTS_MAX; number++) {
    const total = sum((maps.verdicts.lookupPerCpu(indexKey(number)) ?? []).map(decodeCount))
    const name = names.get(number)
    if (name !== undefined) counted[name] = total
    else if (total > 0n) counted[`VERDICT_${number}`] = total
  }
  const edges = new Map<number, EdgeStats>()
  for (const key of maps.edges.keys()) {
    const shares = (maps.edge_stats.lookupPerCpu(key) ?? []).map(decodeEdgeStats)
    edges.set(decodeIndexKey(key), {
      sealedPackets: sum(shares.map((share) => share.sealedPackets)),
      sealedBytes: sum(shares.map((share) => share.sealedBytes)),
      openedPackets: sum(shares.map((share) => share.openedPackets)),
      openedBytes: sum(shares.map((share) => share.openedBytes)),
    })
  }
  return { verdicts: counted, edges }
}

/** From what was seen on the bus to the parts of the summary. Pure. */
import { verdicts } from "../../schemas/verdicts.ts"
import type { EdgeSummary, NodeSummary, Summary } from "./summary.ts"
import type { Seen, SeenEvent } from "./watch.ts"

const isDrop: ReadonlySet<string> = new Set(verdicts.filter((v) => v.outcome === "drop").map((v) => v.name))

/** Only a verifier decides; the bus lets nobody else publish under its identity. */
const decisions = (seen: Seen, node: string): ReadonlyArray<SeenEvent> =>
  seen.events.filter(
    ({ identity, event }) =>
      identity.startsWith("verifier-") &&
      event.data.node === node &&
      (event.type === "vouchsafe.attestation.accepted" || event.type === "vouchsafe.attestation.refused"),
  )

export const wasAccepted = (seen: Seen, node: string): SeenEvent | undefined =>
  decisions(seen, node).find(({ event }) => event.type === "vouchsafe.attestation.accepted")

export const wasRefused = (seen: Seen, node: string): SeenEvent | undefined =>
  decisions(seen, node).find(({ event }) => event.type === "vouchsafe.attestation.refused")

const platformOf = (event: SeenEvent["event"] | undefined): string => {
  if (event === undefined) return ""
  const { platform = "sev-snp", emulated } = event.data
  return emulated ? `${platform} (emulated)` : platform
}

/** Every node by the last word of the verifier. `stages`: what the workflow says. */
export const collectNodes = (seen: Seen, stages: ReadonlyMap<string, string>): ReadonlyArray<NodeSummary> =>
  [...stages].map(([id, stage]) => {
    const last = decisions(seen, id).at(-1)?.event
    const stats = seen.stats.get(id)
    const accepted = last?.type === "vouchsafe.attestation.accepted"
    return {
      id,
      stage: last?.data.stage ?? stage,
      verdict: last === undefined ? "none" : accepted ? "accepted" : "refused",
      platform: platformOf(last),
      dataplane: last?.data.dataplane ?? stats?.dataplane ?? "",
      backend: stats?.backend ?? "",
    }
  })

export const collectRefused = (seen: Seen, ids: Iterable<string>): Summary["refused"] =>
  [...ids].flatMap((id) => {
    const refusal = wasRefused(seen, id)?.event.data
    if (refusal === undefined) return []
    const { code = "", field = "", message = "" } = refusal
    return [{ id, code, reason: `${field}: ${message}` }]
  })

/** Edge instances that hold keys, both ends added up, in the order of `ids`. */
export const collectEdges = (seen: Seen, ids: ReadonlyArray<string>): ReadonlyArray<EdgeSummary> => {
  const found = new Map<string, EdgeSummary>()
  for (const { edges } of seen.stats.values()) {
    for (const edge of edges) {
      if (edge.epoch === 0n) continue
      const [id = "", from = "", to = ""] = edge.instance.split(":")
      const other = found.get(edge.instance)
      found.set(edge.instance, {
        id,
        from,
        to,
        term: Number(edge.term),
        epoch: Number(edge.epoch),
        sealed_packets: edge.sealed_packets + (other?.sealed_packets ?? 0),
        sealed_bytes: edge.sealed_bytes + (other?.sealed_bytes ?? 0),
        opened_packets: edge.opened_packets + (other?.opened_packets ?? 0),
        opened_bytes: edge.opened_bytes + (other?.opened_bytes ?? 0),
      })
    }
  }
  return [...found.values()].sort((a, b) => ids.indexOf(a.id) - ids.indexOf(b.id))
}

/** Drops by reason, of each node that had any. */
export const collectDropsByNode = (seen: Seen): Summary["drops_by_node"] =>
  Object.fromEntries(
    [...seen.stats]
      .map(([node, stats]) => {
        const drops = Object.entries(stats.verdicts).filter(([name, count]) => isDrop.has(name) && count > 0)
        return [node, Object.fromEntries(drops)] as const
      })
      .filter(([, drops]) => Object.keys(drops).length > 0)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )

export const addDrops = (byNode: Summary["drops_by_node"]): Summary["drops"] => {
  const total: Record<string, number> = {}
  for (const drops of Object.values(byNode)) {
    for (const [name, count] of Object.entries(drops)) total[name] = (total[name] ?? 0) + count
  }
  return total
}

/** Edges between accepted nodes whose both ends say that they are active. */
export const activeEdges = (seen: Seen): ReadonlySet<string> => {
  const ends = new Map<string, number>()
  for (const { edges } of seen.stats.values()) {
    for (const edge of edges) {
      if (edge.state === "active") ends.set(edge.instance, (ends.get(edge.instance) ?? 0) + 1)
    }
  }
  return new Set([...ends].filter(([, count]) => count >= 2).map(([instance]) => instance))
}

/** A text that changes whenever a counter does that traffic moves: two alike in a row mean that all is counted. */
export const trafficFingerprint = (seen: Seen): string =>
  [...seen.stats.values()]
    .flatMap(({ node, edges, verdicts: counts }) => [
      node,
      ...edges.map((e) => `${e.instance}${e.sealed_packets}/${e.opened_packets}`),
      ...Object.entries(counts)
        .filter(([name]) => isDrop.has(name) || name === "SEALED" || name === "OPENED")
        .map(([name, count]) => `${name}${count}`),
    ])
    .join(" ")

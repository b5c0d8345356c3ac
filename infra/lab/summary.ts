/** The lab's summary: the object that `--json` prints, and the screen that a person reads. */
import type { WireCounts } from "./frames.ts"
import type { Underlay } from "./names.ts"
import type { PipelineResult } from "./pipeline.ts"

export interface NodeSummary {
  readonly id: string
  readonly stage: string
  readonly verdict: "accepted" | "refused" | "none"
  /** What vouched for the node, e.g. `sev-snp (emulated)`. */
  readonly platform: string
  /** Hex SHA-384 of the programs as the node's attester found them in the kernel. */
  readonly dataplane: string
  /** How the programs hang on the devices. */
  readonly backend: string
}

export interface EdgeSummary {
  readonly id: string
  readonly from: string
  readonly to: string
  readonly term: number
  readonly epoch: number
  /** Both ends together: data one way, acknowledgements the other. Bytes are those of inner IP packets. */
  readonly sealed_packets: number
  readonly sealed_bytes: number
  readonly opened_packets: number
  readonly opened_bytes: number
}

export interface Timings {
  readonly setup: number
  readonly nats: number
  readonly attest: number
  readonly release: number
  readonly first_packet: number
  readonly pipeline: number
  readonly total: number
}

export interface Summary {
  readonly ok: boolean
  readonly emulated: boolean
  readonly workflow: string
  readonly kernel: string
  readonly nats_server: string
  /** By which IP the nodes are on the wire. */
  readonly underlay: Underlay
  readonly nodes: ReadonlyArray<NodeSummary>
  readonly edges: ReadonlyArray<EdgeSummary>
  readonly refused: ReadonlyArray<{ readonly id: string; readonly reason: string; readonly code: string }>
  readonly pipeline: Omit<PipelineResult, "ms">
  readonly wire: Omit<WireCounts, "first_esp_at">
  /** What the lab's intruder sent on purpose, per kind. */
  readonly intruder: { readonly sealed_looking: number; readonly plain: number }
  readonly drops: Readonly<Record<string, number>>
  readonly drops_by_node: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly timings_ms: Timings
  /** What is not as it must be; empty exactly when `ok`. */
  readonly problems: ReadonlyArray<string>
}

const count = (value: number): string => value.toLocaleString("en-US")

const size = (bytes: number): string => {
  if (bytes < 10_000) return `${count(bytes)} B`
  return bytes < 10_000_000 ? `${(bytes / 1_000).toFixed(0)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`
}

const WIDTH = 80

/** Rows of cells in aligned columns below the first row's names; numbers stand right, as their column's name does. */
const table = (rows: ReadonlyArray<ReadonlyArray<string | number>>): ReadonlyArray<string> => {
  const widths: number[] = []
  const numeric = rows.at(-1)?.map((cell) => typeof cell === "number" || /^[\d.,]+ [kM]?B$/.test(cell)) ?? []
  const text = rows.map((row) => row.map((cell) => (typeof cell === "number" ? count(cell) : cell)))
  for (const row of text)
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
  return text.map((row) =>
    row
      .map((cell, i) => (numeric[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd()
      .slice(0, WIDTH),
  )
}

const block = (title: string, lines: ReadonlyArray<string>): ReadonlyArray<string> => {
  const label = title.padEnd(10)
  return lines.map((line, i) => `${i === 0 ? label : " ".repeat(10)}${line}`.slice(0, WIDTH))
}

/** Breaks at blanks so that no line is longer than `width`. */
export const wrap = (text: string, width: number): ReadonlyArray<string> => {
  const lines: string[] = []
  let line = ""
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === "" ? word : `${line} ${word}`
  }
  lines.push(line)
  return lines.map((one) => one.slice(0, width))
}

/** Digests in a sentence, cut to what a person compares. */
export const shortDigests = (text: string): string =>
  text.replace(/\b[0-9a-f]{24,}\b/g, (digest) => `${digest.slice(0, 12)}...`)

const DROPS_SHOWN = 6

const dropLines = (drops: Summary["drops"]): ReadonlyArray<string> => {
  const rows = Object.entries(drops).sort(([, a], [, b]) => b - a)
  if (rows.length === 0) return ["none"]
  const shown = rows.slice(0, DROPS_SHOWN).map(([name, n]) => `${name} ${count(n)}`)
  const more = rows.length > DROPS_SHOWN ? [`and ${rows.length - DROPS_SHOWN} more reasons`] : []
  return wrap([...shown, ...more].join(", "), WIDTH - 10)
}

const UNDERLAY = {
  ipv4: { name: "IPv4", neighbours: "ARP" },
  ipv6: { name: "IPv6", neighbours: "ND" },
} as const

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)} s`

/** The summary as a screen of at most 80 columns; it fits 40 lines for the lab's four nodes. */
export const renderSummary = (s: Summary): string => {
  const same = s.pipeline.sha256 === s.pipeline.sha256_local && s.pipeline.sha256 !== ""
  const lines: string[] = [
    "-".repeat(WIDTH),
    ...(s.emulated
      ? [
          "EMULATED hardware: the nodes' reports are signed by a root made on this machine.",
          "They prove that the machinery works, nothing about this machine.",
          "",
        ]
      : []),
    ...table([
      ["node", "stage", "verdict", "vouched for by", "data plane", "hooks"],
      ...s.nodes.map((n) => [
        n.id,
        n.stage,
        n.verdict,
        n.platform || "-",
        n.dataplane.slice(0, 12) || "-",
        n.backend || "-",
      ]),
    ]),
    ...s.refused.flatMap(({ id, reason }) => wrap(`${id} was refused: ${shortDigests(reason)}`, WIDTH)),
    "",
    ...table([
      ["edge", "from", "to", "epoch", "packets sealed", "bytes", "packets opened"],
      ...s.edges.map((e) => [
        e.id,
        e.from,
        e.to,
        `${e.term}.${e.epoch}`,
        e.sealed_packets,
        size(e.sealed_bytes),
        e.opened_packets,
      ]),
    ]),
    ...block("drops", dropLines(s.drops)),
    "",
    ...block("pipeline", [
      `tar -> gzip -> sha256sum: ${count(s.pipeline.files)} files, ${size(s.pipeline.bytes)}, ${size(s.pipeline.compressed)} arrived`,
      `sha256 ${s.pipeline.sha256.slice(0, 32)}... ${same ? "equals the local run's" : "DIFFERS from the local run's"}`,
    ]),
    ...block("wire", [
      `${UNDERLAY[s.underlay].name}, ${count(s.wire.frames)} frames: ${count(s.wire.esp_frames)} sealed, ${count(s.wire.control_frames)} to the bus, ${count(s.wire.neighbour_frames)} ${UNDERLAY[s.underlay].neighbours},`,
      `${count(s.wire.keepalive_frames)} keepalives, ${count(s.wire.intruder_frames)} of the lab's own intruder, ${count(s.wire.unexpected_frames)} unexpected, ${count(s.wire.lost_frames)} lost`,
      `the marker in the data was seen in the clear ${count(s.wire.marker_hits)} times`,
    ]),
    "",
    ...block("times", [
      [
        `set-up ${seconds(s.timings_ms.setup)}`,
        `NATS ${seconds(s.timings_ms.nats)}`,
        `attestation ${seconds(s.timings_ms.attest)}`,
        `keys ${seconds(s.timings_ms.release)}`,
      ].join(", "),
      [
        `first packet ${seconds(s.timings_ms.first_packet)}`,
        `pipeline ${seconds(s.timings_ms.pipeline)}`,
        `all ${seconds(s.timings_ms.total)}`,
      ].join(", "),
    ]),
    "",
    ...(s.ok
      ? ["Everything is as it must be."]
      : ["NOT as it must be:", ...s.problems.slice(0, 10).flatMap((p) => wrap(`- ${p}`, WIDTH))]),
    "-".repeat(WIDTH),
  ]
  return `${lines.join("\n")}\n`
}

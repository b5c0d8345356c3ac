/** The judgement about a run: a good one passes, and each thing that can go wrong is found by its own expectation. */
import { describe, expect, it } from "vitest"
import { type Expectations, findProblems, judge } from "../../infra/lab/checks.ts"
import { renderSummary, type Summary, shortDigests, wrap } from "../../infra/lab/summary.ts"

const genuine = "ab".repeat(48)
const digest = "cd".repeat(32)

const node = (id: string, stage: string) => ({
  id,
  stage,
  verdict: "accepted" as const,
  platform: "sev-snp Milan (emulated)",
  dataplane: genuine,
  backend: "bpf/tcx",
})
const edge = (id: string, from: string, to: string, sealed_bytes: number) => ({
  id,
  from,
  to,
  term: 28_182_340,
  epoch: 1,
  sealed_packets: 28_366,
  sealed_bytes,
  opened_packets: 28_366,
  opened_bytes: sealed_bytes,
})

type Facts = Omit<Summary, "ok" | "problems">
const good: Facts = {
  emulated: true,
  workflow: "example",
  kernel: "6.18.0",
  nats_server: "2.9.10",
  underlay: "ipv4",
  nodes: [
    node("n1", "source"),
    node("n2", "transform"),
    node("n3", "sink"),
    { ...node("n4", "sink"), verdict: "refused", dataplane: "ef".repeat(48) },
  ],
  edges: [edge("raw", "n1", "n2", 37_894_374), edge("packed", "n2", "n3", 8_653_146)],
  refused: [
    { id: "n4", code: "DATAPLANE", reason: `dataplane: found ${"ef".repeat(48)}, wanted ${genuine}` },
  ],
  pipeline: { bytes: 36_413_440, compressed: 8_286_632, files: 2_944, sha256: digest, sha256_local: digest },
  wire: {
    frames: 57_900,
    esp_frames: 56_732,
    control_frames: 1_126,
    neighbour_frames: 12,
    keepalive_frames: 0,
    intruder_frames: 30,
    unexpected_frames: 0,
    marker_hits: 0,
    bytes: 49_765_232,
    lost_frames: 0,
    samples: [],
  },
  intruder: { sealed_looking: 15, plain: 15 },
  drops: { UNKNOWN_SPI: 15, FOREIGN_IN: 15, NOT_CONFIGURED: 7 },
  drops_by_node: { n1: { UNKNOWN_SPI: 15, FOREIGN_IN: 15, NOT_CONFIGURED: 7 } },
  timings_ms: {
    setup: 1_012,
    nats: 458,
    attest: 4_526,
    release: 140,
    first_packet: 41,
    pipeline: 1_134,
    total: 10_467,
  },
}
const wanted: Expectations = {
  nodes: [
    { id: "n1", stage: "source" },
    { id: "n2", stage: "transform" },
    { id: "n3", stage: "sink" },
  ],
  refused: [{ id: "n4", code: "DATAPLANE" }],
  edges: [
    { id: "raw", from: "n1", to: "n2" },
    { id: "packed", from: "n2", to: "n3" },
  ],
  dataplane: genuine,
}

const withNode = (id: string, change: Partial<Summary["nodes"][number]>): Facts => ({
  ...good,
  nodes: good.nodes.map((n) => (n.id === id ? { ...n, ...change } : n)),
})
const withEdge = (id: string, change: Partial<Summary["edges"][number]>): Facts => ({
  ...good,
  edges: good.edges.map((e) => (e.id === id ? { ...e, ...change } : e)),
})
const withWire = (change: Partial<Summary["wire"]>): Facts => ({ ...good, wire: { ...good.wire, ...change } })
const withPipeline = (change: Partial<Summary["pipeline"]>): Facts => ({
  ...good,
  pipeline: { ...good.pipeline, ...change },
})

describe("findProblems", () => {
  it("finds nothing in a run that is as it must be", () => {
    expect(findProblems(good, wanted)).toEqual([])
    expect(judge(good, wanted)).toMatchObject({ ok: true, problems: [] })
  })

  it.each<[string, Facts, RegExp]>([
    ["a missing node", { ...good, nodes: good.nodes.slice(1) }, /n1 is missing/],
    ["a node without a verdict", withNode("n2", { verdict: "none" }), /n2 was not accepted/],
    ["another stage", withNode("n2", { stage: "sink" }), /n2 has the stage sink/],
    ["no platform", withNode("n1", { platform: "" }), /n1 was vouched for by nothing/],
    ["a platform that hides its emulation", withNode("n1", { platform: "sev-snp Milan" }), /does not say/],
    ["another data plane", withNode("n3", { dataplane: "00" }), /n3 runs another data plane/],
    ["a silent backend", withNode("n3", { backend: "" }), /n3 does not say/],
    ["a tampered node that was accepted", withNode("n4", { verdict: "accepted" }), /n4 was accepted/],
    ["a tampered node without refusal", { ...good, refused: [] }, /n4 was not refused/],
    [
      "a refusal for another reason",
      { ...good, refused: [{ id: "n4", code: "NONCE", reason: "" }] },
      /n4 was refused for NONCE/,
    ],
    [
      "a refusal of a genuine node",
      { ...good, refused: [...good.refused, { id: "n1", code: "X", reason: "" }] },
      /n1 was refused/,
    ],
    ["a missing edge", { ...good, edges: good.edges.slice(1) }, /edge raw .* has no keys/],
    ["an edge too many", { ...good, edges: [...good.edges, edge("x", "n1", "n3", 1)] }, /3 edges have keys/],
    ["no epoch", withEdge("raw", { epoch: 0 }), /has no epoch/],
    ["an idle edge", withEdge("packed", { sealed_packets: 0, opened_packets: 0 }), /carried nothing/],
    ["an edge that nobody opened", withEdge("packed", { opened_packets: 0 }), /carried nothing/],
    ["more opened than sealed", withEdge("packed", { opened_packets: 30_000 }), /more than the/],
    ["data that went elsewhere", withEdge("raw", { sealed_bytes: 1_000 }), /fewer than the/],
    ["no data", withPipeline({ bytes: 0 }), /moved no data/],
    ["nothing arrived", withPipeline({ compressed: 0 }), /moved no data/],
    ["no digest", withPipeline({ sha256: "" }), /gave no digest/],
    ["another result", withPipeline({ sha256: "00".repeat(32) }), /differs from the local/],
    ["unexpected frames", withWire({ unexpected_frames: 1, frames: 57_901 }), /1 frames on the wire/],
    ["a marker on the wire", withWire({ marker_hits: 1 }), /seen in the clear in 1/],
    ["a capture with losses", withWire({ lost_frames: 3 }), /lost 3 frames/],
    ["kinds that don't add up", withWire({ frames: 1 }), /add up/],
    ["a capture that saw too little", withWire({ esp_frames: 10, frames: 1_178 }), /the nodes sealed/],
    ["a capture without the bus", withWire({ control_frames: 0, frames: 56_774 }), /whole run/],
    ["a capture blind to the intruder", withWire({ intruder_frames: 0, frames: 57_870 }), /of the 30 frames/],
    ["forged packets uncounted", { ...good, drops: { FOREIGN_IN: 15 } }, /forged packets only 0/],
    [
      "plain packets uncounted",
      { ...good, drops: { UNKNOWN_SPI: 15, FOREIGN_IN: 14 } },
      /plain packets only 14/,
    ],
    [
      "a drop that no healthy run has",
      { ...good, drops: { ...good.drops, BAD_TAG: 2 } },
      /2 packets .* BAD_TAG/,
    ],
  ])("finds %s", (_, facts, sentence) => {
    const problems = findProblems(facts, wanted)
    expect(problems.some((problem) => sentence.test(problem))).toBe(true)
    expect(judge(facts, wanted).ok).toBe(false)
  })
})

describe("renderSummary", () => {
  it("fits a screen of 80 by 40 and says that the hardware is emulated", () => {
    const lines = renderSummary(judge(good, wanted)).split("\n")
    expect(lines.length).toBeLessThanOrEqual(40)
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80)
    const text = lines.join("\n")
    expect(text).toContain("EMULATED")
    expect(text).toContain("equals the local run's")
    expect(text).toMatch(/n4 was refused: dataplane: found ef/)
    expect(text).toContain("Everything is as it must be.")
  })

  it("says by which IP the nodes are on the wire", () => {
    expect(renderSummary(judge(good, wanted))).toMatch(/^wire +IPv4, .* ARP,$/m)
    expect(renderSummary(judge({ ...good, underlay: "ipv6" }, wanted))).toMatch(/^wire +IPv6, .* ND,$/m)
  })

  it("aligns its columns", () => {
    const lines = renderSummary(judge(good, wanted)).split("\n")
    const rows = lines.filter((line) => /^(node|n[1-4]) {2}/.test(line))
    expect(rows).toHaveLength(5)
    expect(new Set(rows.map((row) => row.search(/vouched|sev-snp/))).size).toBe(1)
  })

  it("lists what is wrong, still within the screen's width", () => {
    const bad = judge({ ...withWire({ marker_hits: 4 }), drops: { BAD_TAG: 1, REPLAYED: 1 } }, wanted)
    const text = renderSummary(bad)
    expect(text).toContain("NOT as it must be")
    expect(text).toContain("- the marker was seen in the clear in 4 frames")
    expect(Math.max(...text.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80)
  })

  it("does not claim emulation where there was none", () => {
    expect(renderSummary(judge({ ...good, emulated: false }, wanted))).not.toContain("EMULATED")
  })
})

describe("text", () => {
  it("wraps at blanks and cuts what has none", () => {
    expect(wrap("one two three", 7)).toEqual(["one two", "three"])
    expect(wrap("x".repeat(30), 10)).toEqual(["x".repeat(10)])
  })
  it("shortens digests and nothing else", () => {
    expect(shortDigests(`found ${genuine}, 10.77.0.1 deadbeef`)).toBe(
      "found abababababab..., 10.77.0.1 deadbeef",
    )
  })
})

/** A small run of the init bench: what it prints is what it says it does, and every edge carries a packet. */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { describe, expect, it } from "vitest"
import type { InitResult } from "./init.ts"
import { plotOf } from "./init-plot.ts"

const count = expect.any(Number)
const processes = {
  "nats-server": count,
  attester: count,
  verifier: count,
  "key-releaser": count,
  "nodes-0": count,
  "nodes-1": count,
}
const phases = { hello: count, evidence: count, appraisal: count, release: count, install: count }

const round = {
  seconds: count,
  in_use_seconds: count,
  phases,
  releases_per_node: count,
  cpu_s: count,
  cpu_by_process: processes,
  first_packets: { edges: 3, again: count, seconds: count, cpu_s: count },
  peak_rss_mb: count,
}

const sizes = { rss_mb: processes, stored_messages: count, stored_bytes: count }
const steady = {
  seconds: count,
  renewals: count,
  control_plane_cores: count,
  cores: processes,
  bus_messages_per_s: count,
  sizes: [sizes, sizes],
}

describe("bench init", () => {
  it("draws what an edge costs in each phase and in all, for each size", () => {
    const of = (nodes: number): InitResult => ({
      nodes,
      topology: "chain",
      edges: nodes - 1,
      seconds: 1,
      in_use_seconds: 1,
      cold_seconds: 1,
      ms_per_edge: 1_000 / (nodes - 1),
      cpu_ms_per_edge: 2_000 / (nodes - 1),
      phases: { hello: 0.2, evidence: 0.2, appraisal: 0.2, release: 0.2, install: 0.2 },
      first_packets: { edges: nodes - 1, again: 0, seconds: 0, cpu_s: 0 },
      peak_rss_mb: 1,
      cpu_s: 2,
      cpu_by_process: {},
      maps: "preallocated",
      processes: "",
      rounds: [],
      machine: { kernel: "", node: "", cpu: "", cores: 2, load: [0, 0, 0] },
    })
    const svg = plotOf([of(11), of(101)])
    expect(svg).toContain("chain 11")
    expect(svg).toContain("chain 101")
    expect(svg.match(/<rect /g)).toHaveLength(1 + 7 + 2 * 7)
    expect(svg).toContain(">200<")
  })

  it("brings up a chain of four nodes and says what it cost", async () => {
    const args = [
      "test/bench/main.ts",
      "init",
      "--nodes",
      "4",
      "--topology",
      "chain",
      "--rounds",
      "1",
      "--renewals",
      "40",
      "--json",
    ]
    const { stdout } = await promisify(execFile)(process.execPath, args)
    const result = JSON.parse(stdout)
    expect(result).toEqual({
      nodes: 4,
      topology: "chain",
      edges: 3,
      seconds: count,
      in_use_seconds: count,
      cold_seconds: count,
      ms_per_edge: count,
      cpu_ms_per_edge: count,
      phases,
      first_packets: { edges: 3, again: count, seconds: count, cpu_s: count },
      peak_rss_mb: count,
      cpu_s: count,
      cpu_by_process: processes,
      maps: "preallocated",
      processes: expect.any(String),
      rounds: [{ ...round, steady }],
      machine: {
        kernel: expect.any(String),
        node: expect.any(String),
        cpu: expect.any(String),
        cores: count,
        load: [count, count, count],
      },
    })
    // The phases add up to the whole.
    const sum = Object.values<number>(result.phases).reduce((total, each) => total + each, 0)
    expect(Math.abs(sum - result.seconds)).toBeLessThan(0.01)
    expect(result.seconds).toBeGreaterThan(0)
    expect(result.seconds).toBeGreaterThanOrEqual(result.in_use_seconds)
  }, 120_000)
})

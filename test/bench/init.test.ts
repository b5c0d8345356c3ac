/** A small run of the init bench: what it prints is what it says it does, and every edge carries a packet. */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { describe, expect, it } from "vitest"

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
  phases,
  releases_per_node: count,
  cpu_s: count,
  cpu_by_process: processes,
  first_packets: { edges: 3, seconds: count },
  peak_rss_mb: count,
}

describe("bench init", () => {
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
      "--json",
    ]
    const { stdout } = await promisify(execFile)(process.execPath, args)
    const result = JSON.parse(stdout)
    expect(result).toEqual({
      nodes: 4,
      topology: "chain",
      edges: 3,
      seconds: count,
      cold_seconds: count,
      ms_per_edge: count,
      cpu_ms_per_edge: count,
      phases,
      first_packets: { edges: 3, seconds: count },
      peak_rss_mb: count,
      cpu_s: count,
      cpu_by_process: processes,
      maps: "preallocated",
      processes: expect.any(String),
      rounds: [round],
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
  }, 60_000)
})

import { describe, expect, it } from "vitest"
import { crypto } from "../../services/common/crypto/index.ts"
import { compileRules, edgeId, ipv4 } from "../../services/dataplane-loader/rules.ts"
import { MakeError } from "../../services/make/errors.ts"
import { parseWorkflow, type VerifiedWorkflow } from "../../services/make/workflow-document.ts"

const yaml = (edges: string) => `
workflow: example
domain: lab
version: 1
not_after: 2027-01-01T00:00:00Z
suite: chacha20-poly1305
lease_seconds: 30
roots: [{ vendor: amd, product: Milan, key_digest: "${"01".repeat(32)}", emulated: true }]
stages:
${["source", "transform", "sink"]
  .map(
    (name) => `  ${name}:
    assurance: emulated
    platforms: [sev-snp]
    measurements: ["${"ab".repeat(48)}"]
    dataplane: ["${"cd".repeat(48)}"]
    policy: { debug: false, migration_agent: false, vmpl_max: 0 }
`,
  )
  .join("")}nodes:
  - { id: n1, stage: source, chip: any, address: 10.77.0.1, wire: 10.99.0.11 }
  - { id: n2, stage: transform, chip: any, address: 10.77.0.2, wire: 10.99.0.12 }
  - { id: n3, stage: sink, chip: any, address: 10.77.0.3, wire: 10.99.0.13 }
edges:
${edges}`

const RAW = "  - { id: raw, from: source, to: transform, protocol: tcp, port: 5000, lanes: 2 }\n"
const PACKED = "  - { id: packed, from: transform, to: sink, protocol: udp, port: 5001, lanes: 1 }\n"
const PROBE = "  - { id: probe, from: source, to: transform, protocol: icmp, lanes: 1 }\n"

const workflow = (edges: string): VerifiedWorkflow => ({
  document: parseWorkflow(yaml(edges)),
  digest: new Uint8Array(32),
})
const none = { edges: [], policies: [] }
const rules = (
  nodeId: string,
  edges: string,
  present: Parameters<typeof compileRules>[1]["present"] = none,
) => compileRules(workflow(edges), { crypto, nodeId, wireMtu: 1500, espPort: 4500, present })

describe("rules of a node", () => {
  it("addresses are numbers as they are read", () => {
    expect(ipv4("10.77.0.1")).toBe(0x0a4d0001)
    expect(ipv4("255.255.255.255")).toBe(0xffffffff)
  })

  it("names only the peers, protocols, ports and directions of its own edges", () => {
    const seen = rules("n2", RAW + PACKED + PROBE).edges.map(({ edge, record, policy }) => ({
      id: edge.id,
      peer: record.peerInner,
      wire: record.peerWire,
      lanes: record.lanes,
      protocol: policy.protocol,
      port: policy.port,
      role: policy.role,
    }))
    expect(seen).toEqual([
      {
        id: "packed:n2:n3",
        peer: ipv4("10.77.0.3"),
        wire: ipv4("10.99.0.13"),
        lanes: 1,
        protocol: 17,
        port: 5001,
        role: 0,
      },
      {
        id: "probe:n1:n2",
        peer: ipv4("10.77.0.1"),
        wire: ipv4("10.99.0.11"),
        lanes: 1,
        protocol: 1,
        port: 0,
        role: 1,
      },
      {
        id: "raw:n1:n2",
        peer: ipv4("10.77.0.1"),
        wire: ipv4("10.99.0.11"),
        lanes: 2,
        protocol: 6,
        port: 5000,
        role: 1,
      },
    ])
    expect(rules("n3", RAW).edges).toEqual([])
  })

  it("every policy points at its own edge's index, and indexes are all different", () => {
    const { edges } = rules("n2", RAW + PACKED + PROBE)
    for (const { record, policy } of edges) expect(policy.edge).toBe(record.index)
    expect(new Set(edges.map(({ record }) => record.index)).size).toBe(3)
  })

  it("an edge that stays keeps its index when others come and go: keys and flows hang on it", () => {
    const before = rules("n2", RAW + PACKED)
    const present = { edges: before.edges.map(({ record }) => record), policies: [] }
    const raw = before.edges.find(({ edge }) => edge.edge === "raw")?.record.index
    const after = rules("n2", PROBE + RAW, present)
    expect(after.edges.find(({ edge }) => edge.edge === "raw")?.record.index).toBe(raw)
    expect(new Set(after.edges.map(({ record }) => record.index)).size).toBe(2)
  })

  it("an edge is named in the kernel by its instance", () => {
    expect(edgeId(crypto, "raw:n1:n2")).toHaveLength(8)
    expect(Buffer.from(edgeId(crypto, "raw:n1:n2")).equals(edgeId(crypto, "raw:n1:n3"))).toBe(false)
  })

  it("a node that the workflow doesn't name gets no rules", () => {
    expect(() => rules("n9", RAW)).toThrow(MakeError)
  })
})

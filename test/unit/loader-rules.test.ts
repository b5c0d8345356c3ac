import { ConfigProvider, Effect } from "effect"
import { describe, expect, it } from "vitest"
import { readIpv4, readIpv6 } from "../../schemas/address.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { busEndpoint, type HostAddresses, loaderConfig } from "../../services/dataplane-loader/config.ts"
import { compileRules, edgeId } from "../../services/dataplane-loader/rules.ts"
import { MakeError } from "../../services/make/errors.ts"
import { parseWorkflow, type VerifiedWorkflow } from "../../services/make/workflow-document.ts"

const yaml = (edges: string, nodes: string) => `
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
    sev_snp:
      measurements: ["${"ab".repeat(48)}"]
      policy: { debug: false, migration_agent: false, vmpl_max: 0 }
    dataplane: ["${"cd".repeat(48)}"]
`,
  )
  .join("")}nodes:
${nodes}edges:
${edges}`

const NODES = `
  - { id: n1, stage: source, chip: any, address: 10.77.0.1, wire: 10.99.0.11 }
  - { id: n2, stage: transform, chip: any, address: 10.77.0.2, wire: 10.99.0.12 }
  - { id: n3, stage: sink, chip: any, address: 10.77.0.3, wire: 10.99.0.13 }
`
const RAW = "  - { id: raw, from: source, to: transform, protocol: tcp, port: 5000, lanes: 2 }\n"
const PACKED = "  - { id: packed, from: transform, to: sink, protocol: udp, port: 5001, lanes: 1 }\n"
const PROBE = "  - { id: probe, from: source, to: transform, protocol: icmp, lanes: 1 }\n"

const workflow = (edges: string, nodes: string): VerifiedWorkflow => ({
  document: parseWorkflow(yaml(edges, nodes)),
  digest: new Uint8Array(32),
})
const none = { edges: [], policies: [] }
const rules = (
  nodeId: string,
  edges: string,
  present: Parameters<typeof compileRules>[1]["present"] = none,
  { nodes = NODES, wireFamilies = [4] as ReadonlyArray<4 | 6> } = {},
) =>
  compileRules(workflow(edges, nodes), {
    crypto,
    nodeId,
    wireMtu: 1500,
    wireFamilies,
    espPort: 4500,
    present,
  })

describe("rules of a node", () => {
  it("names only the peers, protocols, ports and directions of its own edges", () => {
    const seen = rules("n2", RAW + PACKED + PROBE).edges.map(({ edge, record, policies: [policy] }) => ({
      id: edge.id,
      peer: record.peerInner,
      wire: record.peerWire,
      lanes: record.lanes,
      protocol: policy?.protocol,
      port: policy?.port,
      role: policy?.role,
    }))
    expect(seen).toEqual([
      {
        id: "packed:n2:n3",
        peer: readIpv4("10.77.0.3"),
        wire: readIpv4("10.99.0.13"),
        lanes: 1,
        protocol: 17,
        port: 5001,
        role: 0,
      },
      {
        id: "probe:n1:n2",
        peer: readIpv4("10.77.0.1"),
        wire: readIpv4("10.99.0.11"),
        lanes: 1,
        protocol: 1,
        port: 0,
        role: 1,
      },
      {
        id: "raw:n1:n2",
        peer: readIpv4("10.77.0.1"),
        wire: readIpv4("10.99.0.11"),
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
    for (const { record, policies } of edges) expect(policies.map(({ edge }) => edge)).toEqual([record.index])
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

  describe("with addresses of both families", () => {
    const nodes = `
  - { id: n1, stage: source, chip: any, address: 10.77.0.1, address6: "fd77::1", wire: "2001:db8::11" }
  - { id: n2, stage: transform, chip: any, address: 10.77.0.2, address6: "fd77::2", wire: "2001:db8::12" }
  - { id: n3, stage: sink, chip: any, address6: "fd77::3", wire: "2001:db8::13" }
`
    const both = (edges: string, nodeId = "n2", wireFamilies: ReadonlyArray<4 | 6> = [6]) =>
      rules(nodeId, edges, none, { nodes, wireFamilies }).edges
    const six = (text: string): Uint8Array => readIpv6(text) ?? new Uint8Array()

    it("allows a peer by each of its addresses that this node shares, and finds it on an IPv6 wire", () => {
      const [packed, raw] = both(RAW + PACKED)
      expect(raw?.record).toMatchObject({
        peerInner: readIpv4("10.77.0.1"),
        peerInner6: six("fd77::1"),
        peerWire: six("2001:db8::11"),
      })
      expect(raw?.policies.map(({ peer, edge }) => [peer, edge])).toEqual([
        [readIpv4("10.77.0.1"), raw?.record.index],
        [six("fd77::1"), raw?.record.index],
      ])
      expect(packed?.record.peerInner).toBeUndefined()
      expect(packed?.policies.map(({ peer }) => peer)).toEqual([six("fd77::3")])
      // The node that has IPv6 alone doesn't learn the other's IPv4 address: it could answer nothing from there.
      expect(both(PACKED, "n3")[0]?.record.peerInner).toBeUndefined()
    })

    it("has one word for both ICMPs, one for SCTP, and 0 for any", () => {
      const SIGNAL = "  - { id: signal, from: source, to: transform, protocol: sctp, port: 2905, lanes: 1 }\n"
      const REST = "  - { id: rest, from: source, to: transform, protocol: any, lanes: 1 }\n"
      const words = both(PROBE + SIGNAL + REST).map(({ edge, policies }) => [
        edge.edge,
        ...policies.map(({ protocol, port }) => `${protocol}/${port}`),
      ])
      expect(words).toEqual([
        ["probe", "1/0", "1/0"],
        ["rest", "0/0", "0/0"],
        ["signal", "132/2905", "132/2905"],
      ])
    })

    it("refuses a workflow whose wire is of a family that this node's isn't", () => {
      expect(() => both(RAW, "n2", [4])).toThrow(
        /nodes\.n1\.wire: is an IPv6 address, and this node has none on its wire/,
      )
      expect(both(RAW, "n2", [4, 6])).toHaveLength(1)
    })
  })
})

describe("the loader's addresses", () => {
  const read = async (env: Record<string, string>) => {
    const provider = ConfigProvider.fromEnv({
      env: {
        VOUCHSAFE_INSTANCE: "n1",
        VOUCHSAFE_RUN_DIR: "/run/x",
        VOUCHSAFE_ANCHORS: "/etc/x",
        VOUCHSAFE_OBJECT: "/o",
        VOUCHSAFE_PINS: "/sys/fs/bpf/x",
        VOUCHSAFE_INNER_MAC: "02:00:00:00:00:01",
        ...env,
      },
    })
    return Effect.runPromise(Effect.flip(Effect.flip(loaderConfig.parse(provider))))
  }
  const wire = (text: string) => read({ VOUCHSAFE_WIRE_ADDRESS: text }).then((config) => config.wire)

  it("are one of either family, or one of each", async () => {
    expect(await wire("10.99.0.11")).toEqual({ ipv4: readIpv4("10.99.0.11"), ipv6: undefined })
    expect(await wire("2001:db8::11")).toEqual({ ipv4: undefined, ipv6: readIpv6("2001:db8::11") })
    expect(await wire("2001:db8::11,10.99.0.11")).toEqual({
      ipv4: readIpv4("10.99.0.11"),
      ipv6: readIpv6("2001:db8::11"),
    })
  })

  it.each([
    ["fe80::1", /VOUCHSAFE_WIRE_ADDRESS: "fe80::1" is a link-local address/],
    ["10.99.0.11,10.99.0.12", /two addresses of one family/],
    ["10.99.0.11,", /is no IPv4 or IPv6 address/],
    ["wire0", /is no IPv4 or IPv6 address/],
  ])("are not %s", async (text, why) => {
    await expect(wire(text)).rejects.toThrow(why)
  })

  const here = { ipv4: 1, ipv6: undefined }
  const both = { ipv4: 1, ipv6: new Uint8Array(16) }
  const server = (url: string, at: HostAddresses = both) => Effect.runPromise(busEndpoint(url, at))

  it("name one server, by an address in a family of the wire", async () => {
    expect(await server("nats://10.99.0.1:4222")).toEqual({
      ipv4: readIpv4("10.99.0.1"),
      ipv6: undefined,
      port: 4222,
    })
    expect(await server("tls://[2001:DB8::1]:4222")).toEqual({
      ipv4: undefined,
      ipv6: readIpv6("2001:db8::1"),
      port: 4222,
    })
  })

  it.each([
    "nats://bus:4222",
    "nats://10.99.0.1",
    "nats://10.99.0.1:0",
    "nats://10.99.0.1:65536",
    "nats://10.99.0.256:4222",
    "nats://2001:db8::1:4222",
    "nats://[2001:db8::1]",
    "nats://[2001:db8::1%eth0]:4222",
    "nats://[10.99.0.1]:4222",
    "nats://10.99.0.1:4222,nats://10.99.0.2:4222",
    "ws://10.99.0.1:4222",
  ])("refuse %s", async (url) => {
    await expect(server(url)).rejects.toThrow(/a loader needs one server by address and port/)
  })

  it("refuse a bus that the wire can't reach", async () => {
    await expect(server("nats://[2001:db8::1]:4222", here)).rejects.toThrow(/reached by IPv6/)
  })
})

import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { compileNode, compileWorkflow, unreachablePairs, type Workflow } from "../../services/make/edges.ts"
import { MakeError, type MakeErrorCode } from "../../services/make/errors.ts"
import { defaultSuite } from "../../services/make/suites.ts"

const node = (id: string, stage: string, host: number) => ({
  id,
  stage,
  address: `10.64.0.${host}`,
  wire: `192.0.2.${host}`,
})

const workflow: Workflow = {
  domain: "hospital",
  digest: new Uint8Array(32).fill(1),
  version: 1,
  suite: defaultSuite,
  stages: [{ id: "source" }, { id: "transform" }, { id: "sink" }],
  nodes: [
    node("s1", "source", 1),
    node("t2", "transform", 3),
    node("t1", "transform", 2),
    node("k1", "sink", 4),
  ],
  edges: [
    { id: "out", from: "transform", to: "sink", protocol: "tcp", port: 9_000, lanes: 2 },
    { id: "in", from: "source", to: "transform", protocol: "tcp", port: 8_000, lanes: 1 },
    { id: "probe", from: "source", to: "transform", protocol: "icmp", lanes: 1 },
  ],
}

const refusal = (change: Partial<Workflow>): MakeErrorCode | "compiled" => {
  try {
    compileWorkflow({ ...workflow, ...change })
    return "compiled"
  } catch (error) {
    if (error instanceof MakeError) return error.code
    throw error
  }
}

const edge = { id: "e", from: "source", to: "sink", protocol: "udp", port: 1, lanes: 1 } as const

describe("compileWorkflow", () => {
  it("makes one instance per edge and pair of nodes, in one order", () => {
    expect(compileWorkflow(workflow).map(({ id }) => id)).toEqual([
      "in:s1:t1",
      "in:s1:t2",
      "out:t1:k1",
      "out:t2:k1",
      "probe:s1:t1",
      "probe:s1:t2",
    ])
  })

  it("doesn't depend on the order of the document", () => {
    const turned = {
      ...workflow,
      nodes: [...workflow.nodes].reverse(),
      edges: [...workflow.edges].reverse(),
      stages: [...workflow.stages].reverse(),
    }
    expect(compileWorkflow(turned)).toEqual(compileWorkflow(workflow))
  })

  it("joins the nodes of one stage with each other, never a node with itself", () => {
    const mesh = { ...workflow, edges: [{ ...edge, from: "transform", to: "transform" }] }
    expect(compileWorkflow(mesh).map(({ id }) => id)).toEqual(["e:t1:t2", "e:t2:t1"])
  })

  it("joins only the pairs that an edge names, in the order that it names their ends", () => {
    const named = (from: string, to: string, pairs: ReadonlyArray<readonly [string, string]>) =>
      ({ edges: [{ ...edge, from, to, pairs }] }) as const
    const ids = (change: Partial<Workflow>) => compileWorkflow({ ...workflow, ...change }).map(({ id }) => id)
    expect(ids(named("source", "transform", [["s1", "t2"]]))).toEqual(["e:s1:t2"])
    expect(ids(named("transform", "transform", [["t2", "t1"]]))).toEqual(["e:t2:t1"])
    expect(refusal(named("source", "transform", [["t1", "s1"]]))).toBe("MALFORMED")
    expect(refusal(named("source", "transform", [["s1", "k1"]]))).toBe("MALFORMED")
    expect(refusal(named("source", "transform", [["s1", "nobody"]]))).toBe("MALFORMED")
    expect(refusal(named("transform", "transform", [["t1", "t1"]]))).toBe("MALFORMED")
    const twice = [
      ["s1", "t1"],
      ["s1", "t1"],
    ] as const
    expect(refusal(named("source", "transform", twice))).toBe("MALFORMED")
    const many = new Array<readonly [string, string]>(limits.edgePairs + 1).fill(["s1", "t1"])
    expect(refusal(named("source", "transform", many))).toBe("LIMIT")
  })

  it("refuses what a workflow can't say", () => {
    expect(refusal({})).toBe("compiled")
    expect(refusal({ domain: "a.b" })).toBe("MALFORMED")
    expect(refusal({ digest: new Uint8Array(31) })).toBe("MALFORMED")
    expect(refusal({ nodes: [...workflow.nodes, node("s1", "source", 9)] })).toBe("MALFORMED")
    expect(refusal({ nodes: [...workflow.nodes, node("s2", "source", 1)] })).toBe("MALFORMED")
    expect(refusal({ nodes: [...workflow.nodes, node("a:b", "source", 9)] })).toBe("MALFORMED")
    expect(refusal({ nodes: [...workflow.nodes, node("s2", "nowhere", 9)] })).toBe("MALFORMED")
    for (const id of ["", "a b", "a\n", "a.>", "é", "x".repeat(65)])
      expect(refusal({ edges: [{ ...edge, id }] }), id).toBe("MALFORMED")
    expect(refusal({ edges: [{ ...edge, from: "nowhere" }] })).toBe("MALFORMED")
    expect(refusal({ edges: [{ ...edge, to: "nowhere" }] })).toBe("MALFORMED")
    expect(refusal({ edges: [{ ...edge, protocol: "icmp" }] })).toBe("MALFORMED")
    for (const port of [0, -1, 65_536, 1.5]) expect(refusal({ edges: [{ ...edge, port }] })).toBe("MALFORMED")
    for (const lanes of [0, 1.5, limits.lanes + 1])
      expect(refusal({ edges: [{ ...edge, lanes }] })).toBe("LIMIT")
    expect(refusal({ suite: "null" })).toBe("MALFORMED")
    expect(refusal({ suite: "constructor" })).toBe("MALFORMED")
    expect(refusal({ edges: [edge, { ...edge }] })).toBe("MALFORMED")
    expect(refusal({ edges: [edge, { ...edge, id: "twin" }] })).toBe("MALFORMED")
    expect(refusal({ edges: [edge, { ...edge, id: "other", port: 2 }] })).toBe("compiled")
  })

  it("refuses more associations than a node can hold", () => {
    const many = (count: number) => Array.from({ length: count }, (_, i) => node(`t${i}`, "transform", i))
    const hub = node("hub", "source", 9_000)
    const wide = { ...edge, to: "transform", lanes: 16 }
    expect(refusal({ nodes: [hub, ...many(255)], edges: [{ ...wide, lanes: 5 }] })).toBe("compiled")
    expect(refusal({ nodes: [hub, ...many(255)], edges: [wide] })).toBe("LIMIT")
    expect(refusal({ nodes: [hub, ...many(limits.nodes - 1)], edges: [] })).toBe("compiled")
    expect(refusal({ nodes: [hub, ...many(limits.nodes)], edges: [] })).toBe("LIMIT")
  })
})

describe("overlapping edges", () => {
  const between = { from: "source", to: "sink", lanes: 1 } as const
  it("may be more or less specific, but not the same", () => {
    const edges = [
      { ...between, id: "bulk", protocol: "tcp", port: 5_000 },
      { ...between, id: "web", protocol: "tcp" },
      { ...between, id: "signal", protocol: "sctp", port: 5_000 },
      { ...between, id: "rest", protocol: "any" },
    ] as const
    expect(compileWorkflow({ ...workflow, edges }).map(({ id }) => id)).toHaveLength(4)
    expect(refusal({ edges: [...edges, { ...between, id: "more", protocol: "any" }] })).toBe("MALFORMED")
    expect(refusal({ edges: [...edges, { ...between, id: "more", protocol: "sctp", port: 5_000 }] })).toBe(
      "MALFORMED",
    )
  })
  it("have ports only where packets name them", () => {
    for (const protocol of ["any", "icmp"] as const)
      expect(refusal({ edges: [{ ...between, id: "e", protocol, port: 5_000 }] }), protocol).toBe("MALFORMED")
  })
})

describe("address families", () => {
  const [four, six] = [{ address: "10.64.0.1" }, { address6: "fd64::1" }]
  const at = (id: string, stage: string, own: object, wire: string) => ({ id, stage, wire, ...own })
  const pair = (a: object, b: object, wires: readonly [string, string] = ["192.0.2.1", "192.0.2.2"]) => ({
    ...workflow,
    nodes: [at("s1", "source", a, wires[0]), at("k1", "sink", b, wires[1])],
    edges: [edge],
  })
  const other = { address: "10.64.0.2", address6: "fd64::2" }
  const says = (one: Workflow): string => {
    try {
      compileWorkflow(one)
      return "compiled"
    } catch (error) {
      return error instanceof MakeError ? `${error.code} ${error.message}` : String(error)
    }
  }

  it.each([
    ["IPv4", four, { address: other.address }],
    ["IPv6", six, { address6: other.address6 }],
    ["both at one end", four, other],
    ["both at one end, IPv6 at the other", six, other],
    ["both", { ...four, ...six }, other],
  ])("join nodes by %s", (_, a, b) => {
    expect(says(pair(a, b))).toBe("compiled")
    const [near] = compileNode(pair(a, b), "s1")
    const [far] = compileNode(pair(a, b), "k1")
    // Only what both have: a packet of the other family could never be answered.
    expect(near?.peerAddress).toBe("address" in a && "address" in b ? b.address : undefined)
    expect(near?.peerAddress6).toBe("address6" in a && "address6" in b ? b.address6 : undefined)
    expect(near?.peerAddress === undefined).toBe(far?.peerAddress === undefined)
    expect(near?.peerAddress6 === undefined).toBe(far?.peerAddress6 === undefined)
  })

  it("must be shared by the nodes of an edge; both are named", () => {
    const apart = pair(four, { address6: other.address6 })
    expect(says(apart)).toBe("MALFORMED edges.e: s1 has workflow addresses of IPv4 only and k1 of IPv6 only")
    const wires = pair(four, other, ["192.0.2.1", "2001:db8::2"])
    expect(says(wires)).toBe("MALFORMED edges.e: s1 is on the wire by IPv4 and k1 by IPv6")
    expect(unreachablePairs(wires)).toMatchObject([{ edge: "e", initiator: "s1", responder: "k1" }])
    expect(unreachablePairs(workflow)).toEqual([])
    // Without an edge between them they may be as different as they like.
    expect(says({ ...apart, edges: [] })).toBe("compiled")
    expect(says({ ...wires, edges: [] })).toBe("compiled")
  })

  it("may both be on the wire of IPv6, each node on one of them", () => {
    expect(says(pair(four, other, ["2001:db8::1", "2001:db8::2"]))).toBe("compiled")
  })

  it("are those of one node alone, and there is at least one", () => {
    expect(says(pair({}, other))).toMatch(/^MALFORMED nodes.s1.address: is missing/)
    expect(says(pair({ ...four, address6: other.address6 }, other))).toMatch(
      /^MALFORMED nodes.k1.address: belongs to another node/,
    )
  })
})

describe("compileNode", () => {
  it("gives each end its role and its peer", () => {
    expect(
      compileNode(workflow, "s1").map(({ id, role, peer, peerAddress, peerWire }) => [
        id,
        role,
        peer,
        peerAddress,
        peerWire,
      ]),
    ).toEqual([
      ["in:s1:t1", "initiator", "t1", "10.64.0.2", "192.0.2.2"],
      ["in:s1:t2", "initiator", "t2", "10.64.0.3", "192.0.2.3"],
      ["probe:s1:t1", "initiator", "t1", "10.64.0.2", "192.0.2.2"],
      ["probe:s1:t2", "initiator", "t2", "10.64.0.3", "192.0.2.3"],
    ])
    expect(
      compileNode(workflow, "k1").map(({ id, role, peer, protocol, port, lanes }) => [
        id,
        role,
        peer,
        protocol,
        port,
        lanes,
      ]),
    ).toEqual([
      ["out:t1:k1", "responder", "t1", "tcp", 9_000, 2],
      ["out:t2:k1", "responder", "t2", "tcp", 9_000, 2],
    ])
  })

  it("agrees with the whole: every instance has exactly two ends", () => {
    const ends = workflow.nodes.flatMap(({ id }) => compileNode(workflow, id).map((each) => each.id))
    expect(ends.sort()).toEqual(
      compileWorkflow(workflow)
        .flatMap(({ id }) => [id, id])
        .sort(),
    )
  })

  it("refuses a node that the workflow doesn't name", () => {
    expect(() => compileNode(workflow, "s9")).toThrow(/not in the workflow/)
  })
})

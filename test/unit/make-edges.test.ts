import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { compileNode, compileWorkflow, type Workflow } from "../../services/make/edges.ts"
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
    const many = Array.from({ length: limits.nodes }, (_, i) => node(`t${i}`, "transform", i))
    const nodes = [node("hub", "source", 300), ...many.slice(1)]
    const wide = { ...edge, to: "transform", lanes: 16 }
    expect(refusal({ nodes, edges: [{ ...wide, lanes: 5 }] })).toBe("compiled")
    expect(refusal({ nodes, edges: [wide] })).toBe("LIMIT")
    expect(refusal({ nodes: [...nodes, node("more", "sink", 301)], edges: [] })).toBe("LIMIT")
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

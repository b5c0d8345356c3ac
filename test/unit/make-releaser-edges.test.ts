import { beforeEach, describe, expect, it } from "vitest"
import type { Ack } from "../../services/make/release.ts"
import { eventsIn, filled, hex, opened, releasesIn, vouch } from "../support/make-lab.ts"
import {
  begin,
  beginAnew,
  codeOf,
  current,
  edgesOf,
  established,
  fail,
  join,
  LEASE_MS,
  log,
  nodes,
  pull,
  releaser,
  settle,
} from "./releaser-play.ts"

beforeEach(beginAnew)

describe("an edge", () => {
  it("gets no keys before both ends are vouched for and have asked", () => {
    join("alpha")
    expect(edgesOf(pull("alpha"), "alpha")).toEqual([])
    join("beta")
    expect(edgesOf(log, "alpha")).toEqual([])
    const outputs = pull("beta")
    expect(edgesOf(outputs, "alpha").map(({ state }) => state)).toEqual(["install", "install"])
    expect(edgesOf(outputs, "beta").map(({ state }) => state)).toEqual(["install", "install"])
  })

  it("is told to both ends as each other's mirror image", () => {
    join("alpha")
    join("beta")
    pull("alpha")
    const outputs = pull("beta")
    const [a, b] = [edgesOf(outputs, "alpha"), edgesOf(outputs, "beta")]
    a.forEach((mine, i) => {
      const theirs = b[i]
      expect(theirs?.instance).toBe(mine.instance)
      expect(theirs?.inbound).toEqual(mine.outbound)
      expect(theirs?.outbound).toEqual(mine.inbound)
      expect(theirs?.secret).toEqual(mine.secret)
      expect([mine.peer, theirs?.peer]).toEqual(["beta", "alpha"])
    })
    expect(new Set([...a, ...b].map(({ secret }) => hex(secret ?? filled(0, 0)))).size).toBe(2)
    const inboundOfBeta = b.flatMap(({ inbound }) => inbound)
    expect(new Set(inboundOfBeta).size).toBe(inboundOfBeta.length)
    for (const spi of inboundOfBeta) expect(spi).toBeGreaterThanOrEqual(256)
  })

  it("becomes active when both ends confirm the same, and its secret is then told to nobody", () => {
    established()
    expect(eventsIn(log).filter((event) => event === "edge-active")).toHaveLength(2)
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 1n })
    const edges = edgesOf(pull("alpha", 10), "alpha")
    expect(edges.map(({ state }) => state)).toEqual(["active", "active"])
    for (const edge of edges) {
      expect(edge.secret).toBeUndefined()
    }
  })

  it("is told once: who has confirmed gets neither secret nor peer again, whatever the other end does", () => {
    join("alpha")
    join("beta")
    pull("alpha")
    const first = releasesIn(pull("beta")).find(({ node }) => node === "alpha") ?? fail("alpha")
    expect(first.payload.batches.flatMap(({ peers }) => peers.map(({ node }) => node))).toEqual(["beta"])
    const { state } = nodes.get("alpha") ?? fail("alpha")
    state.accept(opened(first), vouch)
    releaser.ack(state.acknowledgement() ?? fail("alpha"), 0)
    const [second] = releasesIn(pull("alpha", 10))
    expect(second?.payload.batches).toEqual([])
    expect(second?.payload.edges.map((edge) => [edge.state, edge.secret])).toEqual([
      ["install", undefined],
      ["install", undefined],
    ])
    // It is believed as it is, and the other end still gets all of it.
    settle(second === undefined ? [] : [second], 10)
    const beta = releasesIn(pull("beta", 20)).find(({ node }) => node === "beta")
    expect(beta?.payload.edges.every(({ secret }) => secret?.length === 32)).toBe(true)
    settle(beta === undefined ? [] : [beta], 20)
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 1n })
  })

  it("doesn't become active when they confirm different things, but begins a new epoch", () => {
    join("alpha")
    join("beta")
    settle(pull("alpha"))
    const lie = (ack: Ack): Ack => ({
      ...ack,
      edges: ack.edges.map((edge) =>
        ack.node === "beta" && edge.epoch === 1n ? { ...edge, exporter: filled(16, 1) } : edge,
      ),
    })
    settle(pull("beta"), 0, lie)
    expect(eventsIn(log)).toContain("edge-disagrees")
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 2n })
  })

  it("doesn't become active when both ends confirm nothing, in the same words", () => {
    join("alpha")
    join("beta")
    settle(pull("alpha"))
    const forgotten = (ack: Ack): Ack => ({
      ...ack,
      edges: ack.edges.map((edge) => (edge.epoch === 1n ? { ...edge, exporter: filled(16, 0) } : edge)),
    })
    settle(pull("beta"), 0, forgotten)
    expect(eventsIn(log)).toContain("edge-disagrees")
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 2n })
  })

  it("isn't begun anew without end for a node that always lies: each failure waits longer", () => {
    join("alpha")
    join("beta")
    settle(pull("alpha"))
    const lie = (ack: Ack): Ack => ({
      ...ack,
      edges: ack.edges.map((edge) => (ack.node === "beta" ? { ...edge, exporter: filled(16, 1) } : edge)),
    })
    settle(pull("beta"), 0, lie)
    for (let ms = 100; ms <= 9_000; ms += 100) settle(releaser.tick(ms), ms, lie)
    expect(current("ask:alpha:beta")).toBeUndefined()
    const begun = eventsIn(log).filter((event) => event === "edge-disagrees").length / 2
    expect(begun).toBeGreaterThan(2)
    expect(begun).toBeLessThan(8)
  })

  it("waits no longer for what failed before once an end has a new result: it may be right now", () => {
    join("alpha")
    join("beta")
    settle(pull("alpha"))
    const without = (ack: Ack): Ack => ({ ...ack, edges: ack.node === "beta" ? [] : ack.edges })
    settle(pull("beta"), 0, without)
    for (let ms = 100; ms <= 9_000; ms += 100) settle(releaser.tick(ms), ms, without)
    settle(releaser.tick(9_100), 9_100)
    expect(current("ask:alpha:beta")).toBeUndefined()
    join("alpha", 9_200)
    settle(pull("alpha", 9_200), 9_200)
    expect(current("ask:alpha:beta")).toBeDefined()
    expect(current("bulk:alpha:beta")).toBeDefined()
  })

  it("takes a new epoch when an end says that it holds none", () => {
    established()
    nodes.get("beta")?.state.gaveUp("ask:alpha:beta", { term: 5n, n: 1n })
    settle(pull("beta", 50), 50)
    settle(releaser.tick(100), 100)
    expect(eventsIn(log)).toContain("edge-missing")
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 2n })
    expect(current("bulk:alpha:beta")).toEqual({ term: 5n, n: 1n })
  })

  it("rotates without a gap: the old epoch stays until both ends have switched and the grace time is over", () => {
    established()
    const outputs = releaser.rotate("ask:alpha:beta", 100)
    expect(edgesOf(outputs, "alpha").map(({ state, epoch }) => `${state} ${epoch}`)).toEqual([
      "active 1",
      "install 2",
      "active 1",
    ])
    settle(outputs, 100)
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 2n })
    expect(edgesOf(pull("alpha", 200), "alpha").map(({ state, epoch }) => `${state} ${epoch}`)).toEqual([
      "retire 1",
      "active 2",
      "active 1",
    ])
    expect(eventsIn(releaser.tick(2_099))).not.toContain("edge-retired")
    expect(eventsIn(releaser.tick(2_200))).toContain("edge-retired")
    expect(codeOf(() => releaser.rotate("none:a:b", 0))).toBe("NO_SUCH_EDGE edge")
  })

  it("rotates all instances of an edge, and those whose epoch has reached its age, without a gap", () => {
    established()
    settle(releaser.rotate("ask", 100), 100)
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 2n })
    expect(current("bulk:alpha:beta")).toEqual({ term: 5n, n: 1n })

    begin({ rotateMs: 12_000 })
    established()
    settle(releaser.tick(11_999), 11_999)
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 1n })
    const outputs = releaser.tick(12_000)
    expect(edgesOf(outputs, "alpha").map(({ state, epoch }) => `${state} ${epoch}`)).toEqual([
      "active 1",
      "install 2",
      "active 1",
      "install 2",
    ])
    settle(outputs, 12_000)
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 2n })
    settle(releaser.tick(23_999), 23_999)
    expect(current("bulk:alpha:beta")).toEqual({ term: 5n, n: 2n })
  })

  it("stops for both when the lease of either is over, and begins anew when it asks again", () => {
    established()
    pull("alpha", LEASE_MS - 1)
    const outputs = releaser.tick(LEASE_MS)
    expect(eventsIn(outputs)).toEqual(expect.arrayContaining(["node-lapsed", "edge-stopped"]))
    expect(edgesOf(outputs, "alpha")).toEqual([])
    expect(releasesIn(outputs).map(({ node }) => node)).toEqual(["alpha"])
    settle(pull("alpha", LEASE_MS), LEASE_MS)
    settle(pull("beta", LEASE_MS), LEASE_MS)
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 2n })
  })

  it("is sent again while it isn't acknowledged, without lasting longer", () => {
    join("alpha")
    join("beta")
    pull("alpha")
    const first = releasesIn(pull("beta")).find(({ node }) => node === "alpha")
    expect(releasesIn(releaser.tick(999))).toEqual([])
    const again = releasesIn(releaser.tick(1_000)).find(({ node }) => node === "alpha")
    expect(again?.header.nonce).toEqual(first?.header.nonce)
    expect(again?.header.sequence).toBeGreaterThan(first?.header.sequence ?? 99n)
    expect(again?.payload.edges).toEqual(first?.payload.edges)
  })

  it("is sent again at growing intervals, which an acknowledgement ends", () => {
    join("alpha")
    join("beta")
    pull("alpha")
    pull("beta")
    const { state } = nodes.get("alpha") ?? fail("alpha")
    const times: Array<number> = []
    for (let nowMs = 250; nowMs <= 12_000; nowMs += 250) {
      const release = releasesIn(releaser.tick(nowMs)).find(({ node }) => node === "alpha")
      if (release === undefined) continue
      times.push(nowMs)
      state.accept(opened(release), vouch)
    }
    expect(times).toEqual([1_000, 3_000, 7_000, 11_000])
    releaser.ack(state.acknowledgement() ?? fail("ack"), 12_000)
    pull("alpha", 12_000)
    expect(releasesIn(releaser.tick(12_999)).map(({ node }) => node)).not.toContain("alpha")
    expect(releasesIn(releaser.tick(13_000)).map(({ node }) => node)).toContain("alpha")
  })

  it("that nobody confirms is given up", () => {
    join("alpha")
    join("beta")
    pull("alpha")
    pull("beta")
    pull("alpha", LEASE_MS - 10)
    pull("beta", LEASE_MS - 10)
    expect(eventsIn(releaser.tick(LEASE_MS))).toContain("edge-overdue")
  })
})

import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import type { Workflow } from "../../services/make/edges.ts"
import type { NodeState } from "../../services/make/node-state.ts"
import type { ReleaseOutput, Releaser, ReleaserOutput } from "../../services/make/releaser.ts"
import {
  type Attested,
  attest,
  bootNs,
  newNode,
  newReleaser,
  opened,
  releasesIn,
  vouch,
  workflow,
} from "../support/make-lab.ts"

const mesh = (count: number, joined: (i: number, j: number) => boolean = () => true): Workflow => {
  const ids = Array.from({ length: count }, (_, i) => `m${i}`)
  return {
    ...workflow,
    stages: [{ id: "peer" }],
    nodes: ids.map((id, i) => ({ id, stage: "peer", address: `10.64.1.${i}`, wire: `192.0.2.${i}` })),
    edges: [
      {
        id: "e",
        from: "peer",
        to: "peer",
        protocol: "tcp",
        port: 1,
        lanes: 1,
        pairs: ids.flatMap((a, i) =>
          ids.slice(i + 1).flatMap((b, j) => (joined(i, i + 1 + j) ? [[a, b]] : [])),
        ),
      },
    ],
  }
}

interface Player {
  readonly attested: Attested
  readonly state: NodeState
}

/** A releaser that gathers, and a mesh of nodes, joined by values. */
class Mesh {
  readonly releaser: Releaser
  readonly players = new Map<string, Player>()
  /** Of all edges. */
  readonly ends: number
  releases = 0
  entries = 0
  nowMs = 0

  constructor(count: number, joined?: (i: number, j: number) => boolean) {
    const own = mesh(count, joined)
    this.ends = 2 * (own.edges[0]?.pairs?.length ?? 0)
    this.releaser = newReleaser({ workflow: own, gather: true, leaseMs: 30_000 })
    for (const { id } of own.nodes) {
      const attested = attest(id, this.releaser.beacon(0), { stage: "peer" })
      const state = newNode(attested, { workflow: own })
      state.followTerm(this.releaser.term)
      this.players.set(id, { attested, state })
    }
  }

  pull(id: string): void {
    const { attested, state } = this.player(id)
    const nonce = state.ask(bootNs(this.nowMs))
    this.inputs(this.releaser.accept(attested.result, this.nowMs))
    const { session } = attested.result.claims
    this.inputs(
      this.releaser.pull({ node: id, session, nonce, kem_key: attested.kemSecret.publicKey }, this.nowMs),
    )
  }

  /** Nothing but events comes out of inputs. */
  inputs(outputs: ReadonlyArray<ReleaserOutput>): void {
    expect(releasesIn(outputs)).toEqual([])
  }

  deliver(release: ReleaseOutput): void {
    this.releases += 1
    this.entries += release.payload.edges.length
    const { state } = this.player(release.node)
    state.accept(opened(release), vouch)
    const ack = state.acknowledgement()
    if (ack !== undefined) this.inputs(this.releaser.ack(ack, this.nowMs))
  }

  settle(): void {
    while (this.releaser.due(this.nowMs))
      for (const release of this.releaser.flush(this.nowMs)) this.deliver(release)
  }

  active(): number {
    return [...this.players.values()].reduce(
      (sum, { state }) => sum + state.held.filter(({ active }) => active).length,
      0,
    )
  }

  player(id: string): Player {
    const player = this.players.get(id)
    if (player === undefined) throw new Error(id)
    return player
  }
}

describe("a releaser that gathers", () => {
  it("needs two releases for each node, however many edges it has", () => {
    for (const count of [4, 16]) {
      const world = new Mesh(count)
      for (const id of world.players.keys()) world.pull(id)
      world.settle()
      expect(world.active()).toBe(count * (count - 1))
      expect(world.releases, `${count} nodes`).toBe(2 * count)
      // Per edge and end: told to install, told to use.
      expect(world.entries).toBe(2 * count * (count - 1))
    }
  })

  it("sends nothing more to a node before its last release is acknowledged, or a second old, or asked for anew", () => {
    const world = new Mesh(3)
    for (const id of ["m0", "m1"]) world.pull(id)
    world.nowMs = 50
    const first = world.releaser.flush(world.nowMs)
    expect(first.map(({ node }) => node)).toEqual(["m0", "m1"])
    world.pull("m2")
    // Of the changes for the others, nothing yet.
    expect(world.releaser.flush(world.nowMs).map(({ node }) => node)).toEqual(["m2"])
    expect(world.releaser.due(world.nowMs)).toBe(false)
    world.nowMs = 500
    world.pull("m0")
    expect(world.releaser.flush(world.nowMs).map(({ node }) => node)).toEqual(["m0"])
    world.nowMs = 1_050
    expect(world.releaser.due(world.nowMs)).toBe(true)
    expect(world.releaser.flush(world.nowMs).map(({ node }) => node)).toContain("m1")
    for (const release of first.filter(({ node }) => node === "m1")) world.deliver(release)
  })

  it("lets a revocation wait for nothing", () => {
    const world = new Mesh(3)
    for (const id of world.players.keys()) world.pull(id)
    for (const release of world.releaser.flush(0)) expect(release.payload.edges).toHaveLength(2)
    expect(world.releaser.due(0)).toBe(false)
    const told = releasesIn(world.releaser.revoke("m1", 1))
    expect(told.map(({ node }) => node).sort()).toEqual(["m0", "m1", "m2"])
    for (const { node, payload } of told) expect(payload.edges).toHaveLength(node === "m1" ? 0 : 1)
  })

  it("tells of a peer and a batch once, however many edges need them", () => {
    const world = new Mesh(5)
    for (const id of world.players.keys()) world.pull(id)
    for (const { node, payload } of world.releaser.flush(0)) {
      const told = payload.batches.flatMap(({ peers }) => peers.map((peer) => peer.node))
      expect(told.sort()).toEqual([...world.players.keys()].filter((id) => id !== node))
      expect(payload.batches).toHaveLength(4)
    }
  })
})

/** What happens at which time, in its order. */
class Timeline {
  readonly #steps: Array<{ readonly atMs: number; readonly run: () => void }> = []

  at(atMs: number, run: () => void): void {
    const later = this.#steps.findIndex((step) => step.atMs > atMs)
    this.#steps.splice(later < 0 ? this.#steps.length : later, 0, { atMs, run })
  }

  next(): { readonly atMs: number; readonly run: () => void } | undefined {
    return this.#steps.shift()
  }
}

/**
 * Nodes that come one after another, and take their time for a release, `hands` of them at once; the releaser looks at what
 * is ready each 5 ms. @returns when all edges were in use at both ends
 */
const playStart = (world: Mesh, every: number, takes: number, hands: number, absent = 0): number => {
  const timeline = new Timeline()
  const ids = [...world.players.keys()].slice(absent)
  ids.forEach((id, i) => {
    timeline.at(i * every, () => world.pull(id))
  })
  const free = new Array<number>(hands).fill(0)
  const all = absent === 0 ? world.ends : ids.length * (ids.length - 1)
  const look = (): void => {
    for (const release of world.releaser.flush(world.nowMs)) {
      const hand = free.indexOf(Math.min(...free))
      const until = Math.max(world.nowMs, free[hand] ?? 0) + takes
      free[hand] = until
      timeline.at(until, () => world.deliver(release))
    }
    timeline.at(world.nowMs + 5, look)
  }
  timeline.at(0, look)
  for (let step = timeline.next(); step !== undefined && step.atMs < 60_000; step = timeline.next()) {
    world.nowMs = step.atMs
    step.run()
    if (world.active() === all) return world.nowMs
  }
  throw new Error("not all edges are in use within a minute")
}

describe("a burst of joining nodes", () => {
  it.each([
    { every: 1, takes: 1, hands: 20 },
    { every: 9, takes: 9, hands: 2 },
    { every: 3, takes: 30, hands: 2 },
    { every: 25, takes: 20, hands: 1 },
    { every: 3, takes: 80, hands: 1 },
  ])("costs each node two releases, and no time: %o", ({ every, takes, hands }) => {
    const count = 20
    const world = new Mesh(count)
    const tookMs = playStart(world, every, takes, hands)
    // The first one can't know that others follow.
    expect(world.releases).toBeLessThanOrEqual(2 * count + 1)
    // All have come, then twice each hand's share of the releases, and a look after each.
    expect(tookMs).toBeLessThanOrEqual(every * (count - 1) + (2 * takes * count) / hands + 3 * 5)
  })

  it("tells a node no more often the more others come, and the later its few peers do", () => {
    const perNode = [60, 240].map((count) => {
      const apart = [1, count / 4, count / 2, (3 * count) / 4]
      const world = new Mesh(count, (i, j) => apart.includes(j - i))
      playStart(world, 25, 20, 2)
      return world.releases / count
    })
    for (const each of perNode) expect(each).toBeLessThanOrEqual(3)
  })

  it("doesn't wait long for one that never comes", () => {
    const world = new Mesh(20)
    const tookMs = playStart(world, 5, 5, 2, 1)
    expect(world.releases).toBeLessThanOrEqual(3 * 19)
    expect(tookMs).toBeLessThan(5 * 18 + 2 * 5 * 10 + 2 * 2 * 8 * 5)
  })

  it("lets nobody wait for longer than three quarters of a second, however long others keep coming", () => {
    const world = new Mesh(60)
    const sent = new Map<string, number>()
    for (const [i, id] of [...world.players.keys()].entries()) {
      world.nowMs = i * 40
      world.pull(id)
      for (const { node } of world.releaser.flush(world.nowMs))
        if (!sent.has(node)) sent.set(node, world.nowMs)
    }
    // The first one, too, once it has been seen that others follow.
    expect(sent.get("m1")).toBeGreaterThan(500)
    expect(sent.get("m1")).toBeLessThan(850)
  })

  it("keeps a lone node waiting for ten milliseconds", () => {
    const world = new Mesh(3)
    world.nowMs = 5_000
    world.pull("m0")
    expect(world.releaser.due(5_009)).toBe(false)
    expect(world.releaser.waits(5_009)).toBe(true)
    expect(world.releaser.due(5_010)).toBe(true)
  })

  it("keeps nobody waiting whose peers are all there", () => {
    const world = new Mesh(2)
    world.pull("m0")
    expect(world.releaser.due(0)).toBe(false)
    world.pull("m1")
    expect(world.releaser.flush(0).map(({ node }) => node)).toEqual(["m0", "m1"])
  })

  it("gives no more releases at once than it is asked for, and forgets none", () => {
    const world = new Mesh(5)
    for (const id of world.players.keys()) world.pull(id)
    const told = [3, 3, 3].map((most) => world.releaser.flush(0, most).map(({ node }) => node))
    expect(told.map((part) => part.length)).toEqual([3, 2, 0])
    expect(new Set(told.flat()).size).toBe(5)
  })
})

const RENEWALS = 10_000
const NODES = 4

/** What stays when the collector has been. */
const heapUsed = (): number => {
  setFlagsFromString("--expose-gc")
  const collect: unknown = runInNewContext("gc")
  if (typeof collect !== "function") throw new Error("no collector to call")
  collect()
  return process.memoryUsage().heapUsed
}

const sizeOf = (world: Mesh): readonly number[] => [
  ...[...world.players.values()].map(({ state }) => state.held.length),
  world.releaser.edges().length,
]

describe("steady state", () => {
  it(`grows nothing over ${RENEWALS} renewals`, () => {
    const world = new Mesh(NODES)
    const renew = (times: number): void => {
      for (let i = 0; i < times; i++) {
        // All of it rests on results of the beginning.
        world.nowMs += limits.resultMs / (RENEWALS + 2_000)
        world.releaser.beacon(world.nowMs)
        world.inputs(world.releaser.tick(world.nowMs))
        world.pull(`m${i % NODES}`)
        world.settle()
      }
    }
    for (const id of world.players.keys()) world.pull(id)
    world.settle()
    renew(1_000)
    const before = sizeOf(world)
    const releases = world.releases
    const heap = heapUsed()
    renew(RENEWALS)
    const grown = heapUsed() - heap
    expect(sizeOf(world)).toEqual(before)
    expect(world.active()).toBe(NODES * (NODES - 1))
    // One release for each renewal: nothing is told twice.
    expect(world.releases - releases).toBe(RENEWALS)
    // Less than 100 bytes for each renewal.
    expect(grown).toBeLessThan(1_000_000)
  }, 120_000)
})

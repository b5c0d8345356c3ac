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

const mesh = (count: number): Workflow => {
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
        pairs: ids.flatMap((a, i) => ids.slice(i + 1).map((b) => [a, b])),
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
  releases = 0
  entries = 0
  nowMs = 0

  constructor(count: number) {
    const own = mesh(count)
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
    const first = world.releaser.flush(world.nowMs)
    expect(first.map(({ node }) => node)).toEqual(["m0", "m1"])
    world.pull("m2")
    // Of the changes for the others, nothing yet.
    expect(world.releaser.flush(world.nowMs).map(({ node }) => node)).toEqual(["m2"])
    expect(world.releaser.due(world.nowMs)).toBe(false)
    world.nowMs = 500
    world.pull("m0")
    expect(world.releaser.flush(world.nowMs).map(({ node }) => node)).toEqual(["m0"])
    world.nowMs = 1_000
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
      expect(payload.peers.map((peer) => peer.node).sort()).toEqual(
        [...world.players.keys()].filter((id) => id !== node),
      )
      expect(payload.batches).toHaveLength(4)
      for (const { batch } of payload.peers) expect(payload.batches[batch]).toBeDefined()
    }
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

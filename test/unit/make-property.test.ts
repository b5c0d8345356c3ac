import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import type { Epoch } from "../../services/make/epoch.ts"
import { compareEpochs } from "../../services/make/epoch.ts"
import { MakeError } from "../../services/make/errors.ts"
import type { NodeState } from "../../services/make/node-state.ts"
import type { Ack } from "../../services/make/release.ts"
import type { ReleaseOutput, Releaser, ReleaserOutput } from "../../services/make/releaser.ts"
import {
  type Attested,
  adopt,
  attest,
  bootNs,
  Kernel,
  newNode,
  newReleaser,
  opened,
  vouch,
  workflow,
} from "../support/make-lab.ts"

/** Small, seeded, good enough to choose what the bus does next (mulberry32). */
const generator = (seed: number) => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  return { chance: (p: number) => next() < p, below: (n: number) => Math.floor(next() * n) }
}

type Message =
  | { readonly to: "node"; readonly release: ReleaseOutput }
  | { readonly to: "releaser"; readonly pull: Parameters<Releaser["pull"]>[0] }
  | { readonly to: "releaser"; readonly ack: Ack }

interface Player {
  attested: Attested
  state: NodeState
  kernel: Kernel
  readonly everOutbound: Set<string>
  askedMs: number
  revoked: boolean
}

const LEASE_MS = 3_000
const names = workflow.nodes.map(({ id }) => id)

/** A run: the bus loses, repeats and reorders; nodes restart their loaders or reboot; now and then a node is revoked. */
class World {
  readonly random: ReturnType<typeof generator>
  readonly releaser: Releaser
  readonly players = new Map<string, Player>()
  readonly highest = new Map<string, Epoch>()
  bus: Array<Message> = []
  /** Everything that was ever sent, for replays. */
  readonly history: Array<Message> = []
  nowMs = 0
  refusals = 0

  constructor(seed: number) {
    this.random = generator(seed)
    this.releaser = newReleaser({ leaseMs: LEASE_MS, graceMs: 200, resendMs: 300 })
    for (const name of names) this.join(name)
  }

  boot(): number {
    return this.nowMs
  }

  join(name: string): void {
    const attested = attest(name, this.releaser.beacon(this.nowMs))
    const state = newNode(attested)
    state.followTerm(this.releaser.term)
    const everOutbound = new Set<string>()
    const kernel = new Kernel(everOutbound)
    this.players.set(name, { attested, state, kernel, everOutbound, askedMs: -1, revoked: false })
  }

  /** The loader starts anew in the same boot: new keys and session, the kernel as it was. */
  restart(name: string): void {
    const player = this.player(name)
    player.attested = attest(name, this.releaser.beacon(this.nowMs))
    const tombstones = new Map<string, Epoch>()
    for (const key of player.everOutbound) {
      const [instance = "", dotted = ""] = key.split(" ")
      const [term = "0", n = "0"] = dotted.split(".")
      const epoch = { term: BigInt(term), n: BigInt(n) }
      const known = tombstones.get(instance)
      if (known === undefined || compareEpochs(epoch, known) > 0) tombstones.set(instance, epoch)
    }
    player.state = newNode(player.attested, {
      held: adopt(player.state),
      memory: { tombstones, term: undefined },
    })
    player.state.followTerm(this.releaser.term)
  }

  reboot(name: string): void {
    const player = this.player(name)
    const boot = new Uint8Array(16).map(() => this.random.below(256))
    player.attested = attest(name, this.releaser.beacon(this.nowMs), { boot })
    player.kernel = new Kernel(player.everOutbound)
    player.state = newNode(player.attested)
    player.state.followTerm(this.releaser.term)
  }

  player(name: string): Player {
    const player = this.players.get(name)
    if (player === undefined) throw new Error(name)
    return player
  }

  send(message: Message): void {
    this.history.push(message)
    this.bus.push(message)
  }

  emit(outputs: ReadonlyArray<ReleaserOutput>): void {
    for (const output of outputs) {
      if (output.kind === "release") {
        const { claims } = this.player(output.node).attested.result
        if (this.player(output.node).revoked) expect(output.payload.edges).toEqual([])
        expect(output.payload.edges.filter(({ peer }) => this.player(peer).revoked)).toEqual([])
        if (output.header.session.every((byte, i) => byte === claims.session[i]))
          this.send({ to: "node", release: output })
      } else if (
        output.event === "edge-install" &&
        output.instance !== undefined &&
        output.epoch !== undefined
      ) {
        const before = this.highest.get(output.instance)
        if (before !== undefined) expect(compareEpochs(output.epoch, before)).toBeGreaterThan(0)
        this.highest.set(output.instance, output.epoch)
      }
    }
  }

  /** A refusal is a typed error, and never a change. */
  attempt(run: () => void): void {
    try {
      run()
    } catch (error) {
      if (!(error instanceof MakeError)) throw error
      this.refusals++
    }
  }

  deliver(message: Message): void {
    if (message.to === "node") {
      const { release } = message
      const { state, kernel, askedMs } = this.player(release.node)
      this.attempt(() => {
        kernel.run(state.accept(opened(release), vouch))
        for (const { deadlineBootNs, epoch } of state.held)
          if (epoch.term === this.releaser.term)
            expect(deadlineBootNs).toBeLessThanOrEqual(bootNs(askedMs + LEASE_MS))
        const ack = state.acknowledgement()
        if (ack !== undefined) this.send({ to: "releaser", ack })
      })
      return
    }
    this.attempt(() => {
      if ("ack" in message) this.emit(this.releaser.ack(message.ack, this.nowMs))
      else {
        const player = this.player(message.pull.node)
        // A pull carries its result; the releaser takes it again and again.
        this.attempt(() => this.emit(this.releaser.accept(player.attested.result, this.nowMs)))
        this.emit(this.releaser.pull(message.pull, this.nowMs))
      }
    })
  }

  ask(name: string): void {
    const player = this.player(name)
    player.askedMs = this.nowMs
    const nonce = player.state.ask(bootNs(this.nowMs))
    const { result, kemSecret } = player.attested
    const { session } = result.claims
    this.send({ to: "releaser", pull: { node: name, session, nonce, kem_key: kemSecret.publicKey } })
  }

  step(hostile: boolean): void {
    const { random } = this
    this.nowMs += 1 + random.below(60)
    for (const [name, player] of this.players) {
      if (player.askedMs < 0 || this.nowMs - player.askedMs >= LEASE_MS / 3) this.ask(name)
      player.kernel.run(player.state.expire(bootNs(this.nowMs)))
    }
    this.emit(this.releaser.tick(this.nowMs))
    if (hostile && random.chance(0.02)) this.restart(names[random.below(names.length)] ?? "alpha")
    if (hostile && random.chance(0.01)) this.reboot(names[random.below(names.length)] ?? "alpha")
    if (hostile && random.chance(0.02)) this.emit(this.releaser.rotate(undefined, this.nowMs))
    const now = this.bus
    this.bus = []
    while (now.length > 0) {
      const at = hostile ? random.below(now.length) : 0
      const [message] = now.splice(at, 1)
      if (message === undefined) break
      const fate = hostile ? random.below(100) : 99
      if (fate < 20) continue
      if (fate < 36) this.bus.push(message)
      else this.deliver(message)
      if (fate >= 36 && fate < 48) this.deliver(message)
    }
    const old = this.history[random.below(this.history.length)]
    if (hostile && old !== undefined && random.chance(0.3)) this.deliver(old)
    this.check()
  }

  /** Whoever sends, the other end can open, under the same key and by the same index. */
  check(): void {
    for (const player of this.players.values()) {
      for (const held of player.state.held) {
        if (!held.active || held.deadlineBootNs <= bootNs(this.nowMs)) continue
        const peerName = player.state.edges.get(held.instance)?.peer ?? ""
        const peer = this.player(peerName)
        const keys = player.kernel.outbound.get(`${held.instance} ${held.epoch.term}.${held.epoch.n}`)?.key
        const there = held.outbound.map((spi) => peer.kernel.inbound.get(spi))
        // The peer may have lost them (restart of the guest, lease over): then nothing is received. Never something else.
        if (there.some((each) => each === undefined || each.instance !== held.instance)) continue
        expect(there.map((each) => each?.key).join()).toBe(keys)
      }
    }
  }

  allActive(): boolean {
    return [...this.players.values()].every(
      ({ state, kernel, revoked }) =>
        revoked ||
        [...state.edges.values()].every(
          ({ id, peer }) => this.player(peer).revoked || kernel.selected.has(id),
        ),
    )
  }

  /** Both ends send under the same epoch. */
  agreed(): boolean {
    return [...this.players.values()].every(({ kernel, state }) =>
      [...state.edges.values()].every(
        ({ id, peer }) => kernel.selected.get(id) === this.player(peer).kernel.selected.get(id),
      ),
    )
  }
}

const RUNS = 150

describe("releaser and three nodes over a bus that loses, repeats, reorders and replays", () => {
  it(`agree or are silent, and are whole again when it stops (${RUNS} seeds)`, () => {
    let refusals = 0
    for (let seed = 1; seed <= RUNS; seed++) {
      const world = new World(seed)
      try {
        for (let i = 0; i < 120; i++) world.step(true)
        const calm = world.nowMs
        while (!(world.allActive() && world.agreed()) && world.nowMs - calm < 4 * LEASE_MS) world.step(false)
        expect(world.allActive(), "every edge is in use").toBe(true)
        expect(world.agreed(), "both ends use the same epoch").toBe(true)
      } catch (error) {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error })
      }
      refusals += world.refusals
    }
    expect(refusals, "the bus was hostile").toBeGreaterThan(RUNS)
  }, 60_000)

  it("stop a revoked node's edges within a lease although the bus withholds everything from its peers", () => {
    for (let seed = 1; seed <= 20; seed++) {
      const world = new World(seed)
      while (!world.allActive()) world.step(false)
      const revokedAt = world.nowMs
      world.player("beta").revoked = true
      world.emit(world.releaser.revoke("beta", world.nowMs))
      // The bus hoards what was sent before and hands over nothing new.
      world.bus = []
      for (const name of names) {
        for (const held of world.player(name).state.held)
          expect(held.deadlineBootNs).toBeLessThanOrEqual(bootNs(revokedAt + LEASE_MS))
      }
      world.nowMs = revokedAt + LEASE_MS
      for (const name of names) {
        const player = world.player(name)
        player.kernel.run(player.state.expire(bootNs(world.nowMs)))
        expect(player.kernel.outbound.size).toBe(0)
      }
      // With the bus back, nothing of beta's comes back.
      for (let i = 0; i < 60; i++) world.step(false)
      expect(world.player("alpha").kernel.selected.size).toBe(0)
      expect(world.player("gamma").kernel.selected.size).toBe(0)
    }
  })

  it("gain nothing by hoarding: a release handed over late lasts no longer", () => {
    const world = new World(7)
    while (!world.allActive()) world.step(false)
    const alpha = world.player("alpha")
    world.bus = []
    world.ask("alpha")
    const asked = world.nowMs
    const [pull] = world.bus
    world.bus = []
    if (pull !== undefined) world.deliver(pull)
    const hoarded = world.bus.filter((message) => message.to === "node")
    world.nowMs = asked + LEASE_MS - 1
    for (const message of hoarded) world.deliver(message)
    for (const { deadlineBootNs } of alpha.state.held) expect(deadlineBootNs).toBe(bootNs(asked + LEASE_MS))
    expect(LEASE_MS).toBeLessThanOrEqual(limits.leaseMsMax)
  })
})

/**
 * Runs of a simulated domain that show one thing each: what seeds meet too seldom, and what must not be forgotten. By itself:
 * `node --import ./test/hostile/adversary-hooks.ts test/hostile/adversary-cases.ts`, one JSON line at the end.
 */
import { Signed } from "../../schemas/messages/common.ts"
import { Ack, Beacon, Presence, Pull } from "../../schemas/messages/release.ts"
import { encode } from "../../services/common/codec/index.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { Adversary } from "./adversary.ts"
import type { Sent } from "./adversary-bus.ts"
import { createDomain, type Domain, nodes } from "./adversary-domain.ts"
import { kindOf, on, opened, understood } from "./adversary-messages.ts"
import { WHOLE_WITHIN_MS } from "./adversary-run.ts"
import type { Scene } from "./adversary-scene.ts"
import { free } from "./adversary-virtual.ts"
import { World } from "./adversary-world.ts"

const honest: Scene = {
  peers: "results",
  lying: false,
  obstinate: false,
  turn: "none",
  controls: 1,
  hostileMs: 0,
}

/** A domain on a bus that does its work, but for whom it is told to cut off. */
class Stage {
  readonly world: World
  /** Identities of whom nobody hears, and who hear nobody. */
  readonly cutOff = new Set<string>()
  /** By releaser and by node. */
  /** Each node's newest request, as it was said. */
  readonly pulls = new Map<string, Sent>()
  /** Of each node. */
  readonly hellos = new Map<string, number>()
  readonly #reigns = new Map<string, bigint>()
  readonly #acked = new Map<string, { readonly term: bigint; readonly atMs: number }>()

  constructor(domain: Domain, scene: Scene, seed = 1) {
    this.world = new World(domain, seed, scene, (sent) => this.#route(sent))
    const bus = new Adversary(this.world, seed, new Set(), [])
    bus.hostile = false
    this.#pass = bus.route
    const { server } = this.world
    const hand = server.hand.bind(server)
    server.hand = (listening, sent) => {
      if (!this.cutOff.has(listening.link.identity)) hand(listening, sent)
    }
  }

  readonly #pass: (sent: Sent) => void

  #route(sent: Sent): void {
    if (this.cutOff.has(sent.from)) return
    const [, , , from = ""] = sent.subject.split(".")
    const [beacon, ack] = [understood(Beacon, sent.data), opened(Ack, sent.data)]
    if (kindOf(sent) === "beacon" && beacon !== undefined) this.#reigns.set(from, beacon.term)
    if (kindOf(sent) === "ack" && ack !== undefined)
      this.#acked.set(from, { term: ack.body.term, atMs: this.world.time.nowMs })
    if (kindOf(sent) === "hello") this.hellos.set(from, (this.hellos.get(from) ?? 0) + 1)
    if (kindOf(sent) === "pull") this.pulls.set(from, sent)
    this.#pass(sent)
  }

  term(releaser: string): bigint {
    return this.#reigns.get(releaser) ?? 0n
  }

  /** Whether every node has confirmed something of this releaser's present term since then. */
  follow(releaser: string, sinceMs: number): boolean {
    return nodes.every(({ id }) => {
      const acked = this.#acked.get(id)
      return acked !== undefined && acked.term === this.term(releaser) && acked.atMs >= sinceMs
    })
  }

  /** @returns ms until it was so */
  async until(what: string, isSo: () => boolean, mostMs = WHOLE_WITHIN_MS): Promise<number> {
    const { time } = this.world
    const beganMs = time.nowMs
    while (time.nowMs - beganMs < mostMs) {
      await time.step(Math.min(time.nowMs + 50, beganMs + mostMs))
      this.world.check()
      if (this.world.broken !== undefined) throw this.world.broken
      if (isSo()) return time.nowMs - beganMs
    }
    throw new Error(`${what}: not after ${mostMs} ms`)
  }

  async pass(ms: number): Promise<void> {
    const endMs = this.world.time.nowMs + ms
    await this.until("time passes", () => this.world.time.nowMs >= endMs, ms + 100)
  }

  /** Somebody on the bus claims that nodes have followed this term. */
  claim(term: bigint): void {
    const key = this.world.ideal.random(32)
    const data = encode(Presence, { v: 1, role: "verifier", control: "cp", key, term })
    this.say(on("presence.verifier-v9"), data)
  }

  /** Somebody on the bus says this. */
  say(subject: string, data: Uint8Array): void {
    const { server } = this.world
    server.send({
      from: "mallory",
      owner: "mallory",
      subject,
      reply: undefined,
      data,
      headers: {},
      status: 0,
    })
  }

  guest(control: number) {
    const found = this.world.guests[control]
    if (found === undefined) throw new Error(`no guest ${control}`)
    return found
  }
}

interface Case {
  readonly name: string
  readonly scene: Scene
  /** @returns ms that what it shows took, after which the domain must be as it should */
  readonly run: (stage: Stage) => Promise<number>
}

const HOUR = 3_600_000n * 4_096n

const cases: ReadonlyArray<Case> = [
  {
    name: "loaders that were started anew tell a control plane that was too what their kernels remember",
    scene: honest,
    run: async (stage) => {
      const { world } = stage
      await stage.until("nodes follow", () => stage.follow("r1", 0) && world.whole())
      const first = stage.term("r1")
      stage.claim(first + HOUR)
      await stage.until(
        "nodes follow a term that was driven",
        () => stage.term("r1") > first + HOUR && stage.follow("r1", 0),
      )
      for (const { id } of nodes) await world.startLoader(id)
      await world.startVerifier(stage.guest(0))
      await world.startReleaser(stage.guest(0))
      const startedMs = world.time.nowMs
      return stage.until(
        "nodes follow again",
        () => stage.term("r1") > first + HOUR && stage.follow("r1", startedMs),
      )
    },
  },
  {
    name: "a leader that was told lies rises above what nodes have followed meanwhile",
    scene: { ...honest, controls: 2 },
    run: async (stage) => {
      const { world } = stage
      await stage.until("nodes follow", () => stage.follow("r1", 0) && world.whole())
      for (let i = 0; i < 32; i++) {
        stage.claim(stage.term("r1") + HOUR)
        await stage.pass(1_000)
      }
      stage.cutOff.add("releaser-r1")
      await stage.until("nodes follow the other", () => stage.follow("r2", 0) && world.whole())
      const highest = stage.term("r2")
      await stage.guest(1).running.releaser?.stop()
      // Its entry lapses, so that the one that was cut off need not give way.
      await stage.pass(2_000)
      stage.cutOff.clear()
      const backMs = world.time.nowMs
      return stage.until(
        "nodes follow the one that is left",
        () => stage.term("r1") > highest && stage.follow("r1", backMs),
      )
    },
  },
  {
    name: "nodes whose questions are lost ask again as soon as they have waited for the answer",
    scene: honest,
    run: async (stage) => {
      const { world } = stage
      await stage.until("nodes follow", () => stage.follow("r1", 0) && world.whole())
      stage.cutOff.add("verifier-v1")
      for (const { id } of nodes) await world.reboot(id)
      stage.hellos.clear()
      await stage.pass(60_000)
      // Five seconds each, and no more than half a second between them.
      for (const [id, asked] of stage.hellos)
        if (asked < 11) throw new Error(`${id} has asked ${asked} times in 60 s`)
      if (stage.hellos.size < nodes.length) throw new Error("not all have asked")
      stage.cutOff.clear()
      const backMs = world.time.nowMs
      return stage.until("nodes follow again", () => stage.follow("r1", backMs))
    },
  },
  {
    name: "nobody says in a node's place that it has followed a higher term",
    scene: honest,
    run: async (stage) => {
      const { world } = stage
      await stage.until("nodes follow", () => stage.follow("r1", 0) && world.whole())
      const before = stage.term("r1")
      const crypto = world.ideal.of("mallory")
      const key = crypto.ed25519.generate()
      for (const { id } of nodes) {
        const found = opened(Pull, stage.pulls.get(id)?.data ?? new Uint8Array())
        if (found === undefined) throw new Error(`${id} has asked for nothing`)
        const body = encode(Pull, { ...found.body, followed: before + HOUR })
        const mine = sign(crypto, labels.signedPull, key, body)
        for (const forged of [mine, { ...mine, key: found.signed.key }, { ...found.signed, body }]) {
          stage.say(on(`pull.${id}`), encode(Signed, forged))
          await stage.pass(50)
        }
        await stage.pass(2_100)
      }
      if (stage.term("r1") !== before) throw new Error("the releaser believed it")
      return 0
    },
  },
]

const main = async (): Promise<void> => {
  const domain = createDomain("lab")
  const told: Array<{ readonly name: string; readonly ms?: number; readonly failed?: string }> = []
  for (const { name, scene, run } of cases) {
    const stage = new Stage(domain, scene)
    try {
      await stage.world.start()
      const ms = await run(stage)
      await stage.until("whole", () => stage.world.whole(), WHOLE_WITHIN_MS - ms)
      told.push({ name, ms: Math.round(ms) })
    } catch (error) {
      told.push({ name, failed: error instanceof Error ? error.message : String(error) })
    }
    stage.world.stop()
    free()
  }
  process.stdout.write(`${JSON.stringify({ cases: told })}\n`)
}

if (import.meta.main) await main()

/** What an adversary does by itself, beside what it does to messages: says things, and makes machines fail. */
import type { Sent } from "./adversary-bus.ts"
import { nodes } from "./adversary-domain.ts"
import type { Old } from "./adversary-forge.ts"
import { on } from "./adversary-messages.ts"
import type { Decision } from "./adversary-store.ts"
import type { Chance } from "./adversary-virtual.ts"
import type { World } from "./adversary-world.ts"

const ids = nodes.map(({ id }) => id as string)

/** When keys are there, most times; and before they are. */
const TURN_MS = 3_500
const DOUBLE_MS = 600
/** Longer than a peer's Evidence counts. */
const STANDSTILL_MS = 960_000

export interface PlotOptions {
  readonly world: World
  /** Its own pace: how long until the next deed, ms. */
  readonly pauseMs: () => number
  readonly decide: () => Decision | undefined
  readonly did: (n: number, what: string) => void
  readonly deliver: (sent: Sent, ms: number) => void
  readonly old: Old
}

export class Plot {
  readonly #options: PlotOptions
  /** Loaders that end at a given moment. */
  readonly #struck: Array<{ readonly atMs: number; readonly hit: ReadonlyArray<string> }> = []

  constructor(options: PlotOptions) {
    this.#options = options
  }

  get #w(): World {
    return this.#options.world
  }

  strike(atMs: number, hit: ReadonlyArray<string>): void {
    this.#struck.push({ atMs, hit })
  }

  /** Runs beside the domain for so long. */
  async run(ms: number): Promise<void> {
    const w = this.#w
    let untilMs = ms
    let nextMs = 300
    let turned = w.scene.turn === "none"
    while (w.time.nowMs < untilMs && w.broken === undefined) {
      const more = await w.time.step(Math.min(nextMs, untilMs))
      w.check()
      await this.#strikes()
      if (!turned && w.time.nowMs > (w.scene.turn === "double" ? DOUBLE_MS : TURN_MS)) {
        turned = true
        const before = w.time.nowMs
        await this.#turn()
        untilMs += w.time.nowMs - before
      }
      if (more || w.time.nowMs < nextMs) continue
      nextMs = w.time.nowMs + Math.round(this.#options.pauseMs())
      const decision = this.#options.decide()
      if (decision !== undefined) await this.#act(decision.n, decision.chance)
    }
  }

  /** What surely happens in this run. */
  async #turn(): Promise<void> {
    const w = this.#w
    const { turn } = w.scene
    const decision = this.#options.decide()
    if (decision === undefined) return
    this.#options.did(decision.n, `brings a turn: ${turn}`)
    if (turn === "standstill") w.standStill(STANDSTILL_MS)
    else if (turn === "revision") w.revokeGamma()
    else await w.double("beta", w.domain.stranger)
  }

  async #strikes(): Promise<void> {
    for (let next = this.#struck[0]; next !== undefined && next.atMs <= this.#w.time.nowMs; ) {
      this.#struck.shift()
      for (const id of next.hit) await this.#w.startLoader(id)
      next = this.#struck[0]
    }
  }

  async #act(n: number, chance: Chance) {
    const w = this.#w
    const { did } = this.#options
    const id = chance.pick(ids) ?? "alpha"
    const dice = chance.below(100)
    if (dice < 30) return this.#sayOld(n, chance)
    if (dice < 42) return this.#sayJunk(n, chance)
    if (dice < 54) {
      did(n, `${id}'s loader starts anew`)
      return w.startLoader(id)
    }
    if (dice < 60) {
      did(n, `${id} reboots`)
      return w.reboot(id)
    }
    if (dice < 73) return this.#failControl(n, dice < 68, chance)
    if (dice < 81) {
      did(n, `${id} derives wrong keys`)
      w.node(id).spoils = true
      return
    }
    if (dice < 86) {
      did(n, `${id}'s kernel has no room`)
      w.node(id).plane.fail()
      return
    }
    if (dice < 94) {
      const stranger = chance.chance(0.5)
      did(n, `${stranger ? "a stranger's machine" : "other software"} comes in ${id}'s name`)
      return w.double(id, stranger ? w.domain.stranger : w.domain.altered(id))
    }
    if (w.stored === w.workflows[0] && chance.chance(0.4)) {
      did(n, "the operator revokes gamma")
      w.revokeGamma()
    }
  }

  async #failControl(n: number, releaser: boolean, chance: Chance) {
    const w = this.#w
    const guest = chance.pick(w.guests)
    if (guest === undefined) return
    if (!releaser) {
      this.#options.did(n, `the verifier ${guest.verifier} starts anew`)
      return w.startVerifier(guest)
    }
    // Set back, but not to before the last reign began: that terms rise by themselves rests on this much.
    const behindMs = chance.chance(0.4) ? chance.below(Math.max(1, w.sinceReignMs)) : 0
    this.#options.did(n, `the releaser ${guest.releaser} starts anew, its clock ${behindMs} ms behind`)
    w.time.wallMs -= behindMs
    return w.startReleaser(guest)
  }

  /** Something that was said before, here or in another domain, to whom it was said or to somebody else. */
  #sayOld(n: number, chance: Chance): void {
    const { old, did, deliver } = this.#options
    const found = old(chance, () => true)
    if (found === undefined) return
    const tokens = found.subject.split(".")
    const to = chance.chance(0.3)
      ? tokens.map((each) => (ids.includes(each) ? (chance.pick(ids) ?? each) : each)).join(".")
      : found.subject
    did(n, `says again ${to}`)
    const times = chance.chance(0.05) ? 100 : 1
    for (let i = 0; i < times; i++) deliver({ ...found, subject: to }, 1 + chance.below(20))
  }

  #sayJunk(n: number, chance: Chance): void {
    const w = this.#w
    const listening = [...w.server.listening]
    const each = listening[chance.below(listening.length)]
    if (each === undefined) return
    const subject = each.pattern
      .replaceAll("*", () => chance.pick([...ids, "loader-alpha", "verifier-v1"]) ?? "x")
      .replace(">", "1")
    const data = new Uint8Array(chance.below(500)).map(() => chance.below(256))
    const reply = chance.chance(0.5) ? on("release.alpha") : undefined
    this.#options.did(n, `says junk on ${subject}`)
    const status = chance.pick([0, 0, 404, 503]) ?? 0
    w.server.hand(each, { from: "mallory", owner: "mallory", subject, reply, data, headers: {}, status })
  }
}

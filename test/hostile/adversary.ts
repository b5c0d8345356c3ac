/**
 * Whoever runs the bus, and means ill: sees everything, decides what becomes of each message, says what it likes to anybody
 * in anybody's name, owns genuine hardware that nobody enrolled, and makes machines fail. What it does in a run follows
 * from a seed; each deed has a number and can be left out, so that a run that breaks a rule can be made small.
 */
import { fits, type Sent } from "./adversary-bus.ts"
import { nodes } from "./adversary-domain.ts"
import { Forger, type Old } from "./adversary-forge.ts"
import { Liar } from "./adversary-liar.ts"
import { kindOf, on, short } from "./adversary-messages.ts"
import { Plot } from "./adversary-plot.ts"
import { type Decision, Store } from "./adversary-store.ts"
import { type Temper, temperOf } from "./adversary-temper.ts"
import { Chance } from "./adversary-virtual.ts"
import type { World } from "./adversary-world.ts"

const ids = nodes.map(({ id }) => id as string)
const OTHER_TEXT = [
  "",
  ".",
  "*",
  ">",
  "a b",
  "alpha\r\nPUB vs.v1.release.beta 2\r\nhi",
  "..",
  "\u202ealpha",
  "beta.*",
]

/** When somebody has just learnt what the others don't know yet. */
const MOMENTS: ReadonlySet<string> = new Set(["release", "ack", "pull", "evidence"])
/** How long it keeps nodes from hearing what it confirms in their place. */
const CONSPIRACY_MS = 400

export class Adversary {
  readonly #seed: number
  readonly #muted: ReadonlySet<number>
  readonly #temper: Temper
  readonly #corpus: ReadonlyArray<Sent>
  readonly #world: World
  readonly #forger: Forger
  readonly #store: Store
  readonly #plot: Plot
  /** What it did, by number. */
  readonly deeds = new Map<number, string>()
  hostile = true
  #counter = 0
  #conspiresUntilMs = 0

  constructor(world: World, seed: number, muted: ReadonlySet<number>, corpus: ReadonlyArray<Sent>) {
    this.#seed = seed
    this.#muted = muted
    this.#corpus = corpus
    this.#world = world
    this.#temper = temperOf(seed, world.scene.lying)
    this.#forger = new Forger(world.ideal.of("mallory"), this.#old)
    const did = this.#did
    const deliver = this.#deliver
    this.#store = new Store({ world, did, deliver, old: this.#old })
    const decide = () => this.#decide()
    if (world.scene.lying) world.lie = new Liar({ world, store: this.#store, decide, did }).lie
    this.#plot = new Plot({
      world,
      pauseMs: () => {
        const chance = Chance.of(seed, 0x10000 + Math.round(world.time.nowMs))
        return this.#temper.idleMs * (0.5 + chance.next())
      },
      decide: () => (world.scene.obstinate ? undefined : this.#decide()),
      did,
      deliver,
      old: this.#old,
    })
  }

  /** Does what it likes until then. */
  plot(untilMs: number): Promise<void> {
    return this.#plot.run(untilMs)
  }

  /** The next decision: its own chance, or none where it is to be left out. */
  #decide(): Decision | undefined {
    const n = this.#counter++
    if (!this.hostile || this.#muted.has(n)) return undefined
    return { n, chance: Chance.of(this.#seed, n) }
  }

  readonly #did = (n: number, what: string): void => {
    this.deeds.set(n, what)
  }

  readonly route = (sent: Sent) => {
    const decision = this.#decide()
    this.#forger.saw(sent)
    if (this.#store.takes(sent, decision)) return
    if (decision === undefined) {
      this.#deliver(sent, 1 + (this.#counter % 4))
      return
    }
    const { n, chance } = decision
    if (this.#conspires(sent, n, chance) || this.#keepsBack(sent, n, chance)) return
    if (this.#world.scene.obstinate) return this.#refuse(sent, n, chance)
    const temper = this.#temper
    let dice = chance.below(1_000)
    const falls = (share: number): boolean => {
      dice -= share
      return dice < 0
    }
    const latency = 1 + chance.below(5)
    const at = short(sent.subject)
    if (falls(temper.drop)) return this.#did(n, `drops ${at}`)
    if (falls(temper.delay)) {
      const ms = chance.below(1_500)
      this.#did(n, `delays ${at} by ${ms} ms`)
      return this.#deliver(sent, ms)
    }
    if (falls(temper.hoard)) {
      const ms = 1_500 + chance.below(9_000)
      this.#did(n, `hoards ${at} for ${ms} ms`)
      return this.#deliver(sent, ms)
    }
    if (falls(temper.repeat)) {
      this.#did(n, `repeats ${at}`)
      this.#deliver(sent, latency)
      const copies = chance.chance(0.05) ? 30 : 1
      for (let i = 0; i < copies; i++) this.#deliver(sent, chance.below(4_000))
      return
    }
    if (falls(temper.damage)) return this.#damage(sent, n, chance, latency)
    if (falls(temper.mislead)) return this.#mislead(sent, n, chance, latency)
    if (falls(MOMENTS.has(kindOf(sent)) ? 3 * temper.forge : temper.forge)) {
      const forged = this.#forger.forge(sent, chance)
      if (forged !== undefined) {
        this.#did(n, `forges ${at}: ${forged.how}`)
        if (chance.chance(0.5)) this.#deliver(sent, latency + chance.below(3))
        return this.#deliver({ ...sent, ...forged.sent }, latency)
      }
    }
    if (falls(temper.replay)) {
      const old = this.#old(chance, (each) => kindOf(each) === kindOf(sent))
      if (old !== undefined) {
        this.#did(n, `replays ${short(old.subject)} at ${at}`)
        // In its place, or before it: an answer that comes first is the one that counts.
        this.#deliver({ ...sent, data: old.data }, latency)
        if (chance.chance(0.7)) this.#deliver(sent, latency + chance.below(200))
        return
      }
    }
    this.#deliver(sent, latency)
    if (MOMENTS.has(kindOf(sent)) && chance.chance(0.06)) this.#strike(sent, n, chance, latency)
  }

  /** A new document is what hurts it most: half of the domain doesn't hear of it. */
  #keepsBack(sent: Sent, n: number, chance: Chance): boolean {
    if (!sent.subject.startsWith("$KV.workflows.") || chance.chance(0.5)) return false
    const deaf = new Set<string>()
    const w = this.#world
    this.#did(n, "keeps a document back from some")
    w.time.after(2, () =>
      w.server.deliver(
        sent,
        () => 0,
        ({ identity }) => {
          if (chance.chance(0.5)) deaf.add(identity)
          return !deaf.has(identity)
        },
      ),
    )
    return true
  }

  /** One that is obstinate lets nobody hear anything but verdicts against it. */
  #refuse(sent: Sent, n: number, chance: Chance): void {
    const forged = kindOf(sent) === "reply" ? this.#forger.refusal(sent, chance) : undefined
    if (forged !== undefined) this.#did(n, `forges ${short(sent.subject)}: ${forged.how}`)
    this.#deliver({ ...sent, ...forged?.sent }, 2)
  }

  /** For a while no node hears what it is given, and all of it is confirmed in their place. */
  #conspires(sent: Sent, n: number, chance: Chance): boolean {
    if (kindOf(sent) !== "release") return false
    const { nowMs } = this.#world.time
    if (nowMs >= this.#conspiresUntilMs) {
      if (!chance.chance((3 * this.#temper.forge) / 1_000)) return false
      this.#conspiresUntilMs = nowMs + CONSPIRACY_MS
    }
    const confirmed = this.#forger.confirmation(sent)
    if (confirmed === undefined) return false
    this.#did(n, `confirms ${short(sent.subject)} in the node's place`)
    this.#deliver({ ...sent, ...confirmed }, 1)
    return true
  }

  /** Machines fail when something has just been told to them, which is when it hurts. */
  #strike({ subject }: Sent, n: number, chance: Chance, latency: number): void {
    const hit = ids.filter((id) => subject.endsWith(`.${id}`) || chance.chance(0.4))
    this.#did(n, `ends ${hit.join(", ")} after ${short(subject)}`)
    this.#plot.strike(this.#world.time.nowMs + latency + chance.below(4), hit)
  }

  readonly #deliver = (sent: Sent, ms: number): void => {
    const w = this.#world
    const nth = this.#counter
    w.time.after(ms, () => {
      w.server.deliver(sent, (most) => Chance.of(this.#seed, nth ^ 0x5bd1).below(most))
    })
  }

  #damage(sent: Sent, n: number, chance: Chance, latency: number) {
    const data = Uint8Array.from(sent.data)
    const at = chance.below(data.length)
    if (chance.chance(0.6)) {
      data[at] = (data[at] ?? 0) ^ (1 << chance.below(8))
      this.#did(n, `flips a bit of ${sent.subject} at ${at}`)
      return this.#deliver({ ...sent, data }, latency)
    }
    if (chance.chance(0.5)) {
      this.#did(n, `cuts ${sent.subject} at ${at}`)
      return this.#deliver({ ...sent, data: data.subarray(0, at) }, latency)
    }
    const junk = new Uint8Array(chance.below(3_000)).map(() => chance.below(256))
    this.#did(n, `puts junk in the place of ${sent.subject}`)
    this.#deliver({ ...sent, data: junk }, latency)
  }

  /** To another place, or under a subject that isn't one. */
  #mislead(sent: Sent, n: number, chance: Chance, latency: number) {
    const tokens = sent.subject.split(".")
    const way = chance.below(3)
    if (way === 0) {
      const other = tokens
        .map((token) => (ids.includes(token) ? (chance.pick(ids) ?? token) : token))
        .join(".")
      this.#did(n, `sends ${sent.subject} to ${other}`)
      return this.#deliver({ ...sent, subject: other }, latency)
    }
    if (way === 1 && sent.reply !== undefined) {
      const victim = chance.pick(ids) ?? "beta"
      const reply =
        chance.pick([
          on(`release.${victim}`),
          `_INBOX.loader-${victim}.1`,
          on("hello.*"),
          `${sent.reply}.>`,
          `${sent.reply}\r\nPUB x 0\r\n`,
          "$JS.API.STREAM.DELETE.EVENTS",
          `_INBOX.verifier-v1.${chance.below(50)}`,
        ]) ?? ""
      this.#did(n, `has ${sent.subject} answered on ${JSON.stringify(reply)}`)
      this.#deliver({ ...sent, reply }, latency)
      return this.#deliver(sent, latency + 2)
    }
    // The server hands it to a listener under a subject that nobody could have sent on.
    const odd = tokens
      .map((token) => (ids.includes(token) ? (chance.pick(OTHER_TEXT) ?? token) : token))
      .join(".")
    this.#did(n, `hands ${sent.subject} over as ${JSON.stringify(odd)}`)
    const w = this.#world
    const listeners = [...w.server.listening].filter(({ pattern }) => fits(pattern, sent.subject))
    w.time.after(latency, () => {
      for (const each of listeners) w.server.hand(each, { ...sent, subject: odd })
    })
    this.#deliver(sent, latency + 2)
  }

  readonly #old: Old = (chance, wanted) => {
    const { history } = this.#world.witness
    const from = chance.chance(0.2) ? this.#corpus : history
    for (let i = 0; i < 40 && from.length > 0; i++) {
      const each = from[chance.below(from.length)]
      if (each !== undefined && wanted(each)) return each
    }
    return undefined
  }
}

/**
 * Whoever runs a real server: decides what becomes of each message that is on its way to a service, and says what it
 * likes. What it would do follows from a seed and from how many messages came before; real machines don't repeat a run to
 * the millisecond, so the seed gives the same temper and the same dice, not the same history.
 */
import { Chance } from "./adversary-virtual.ts"
import { handAs, type Wire } from "./proxy.ts"
import type { Message } from "./proxy-frames.ts"

const HOARD_MS = 3_000
const RECORDING_MAX = 4_000

export interface Recorded {
  readonly to: string
  readonly message: Message
}

const kindOf = (subject: string): string =>
  subject.startsWith("_INBOX.") ? "reply" : (subject.split(".")[2] ?? "")

export class ProxyAdversary {
  readonly #chance: Chance
  readonly #wires: () => ReadonlySet<Wire>
  readonly #ids: ReadonlyArray<string>
  readonly #corpus: ReadonlyArray<Recorded>
  readonly recording: Recorded[] = []
  /** How often it did what. */
  readonly deeds = new Map<string, number>()
  hostile = false
  /** Subjects that it leaves alone. */
  spares: RegExp | undefined

  constructor(
    seed: number,
    wires: () => ReadonlySet<Wire>,
    ids: ReadonlyArray<string>,
    corpus: ReadonlyArray<Recorded>,
  ) {
    this.#chance = Chance.of(seed, 0x9e37)
    this.#wires = wires
    this.#ids = ids
    this.#corpus = corpus
  }

  #did(what: string): void {
    this.deeds.set(what, (this.deeds.get(what) ?? 0) + 1)
  }

  readonly onDelivery = (wire: Wire, message: Message) => {
    if (this.recording.length < RECORDING_MAX) this.recording.push({ to: wire.name, message })
    if (!this.hostile || this.spares?.test(message.subject) === true) return wire.hand(message)
    const chance = this.#chance
    if (message.reply !== undefined && chance.chance(0.4)) this.#redirect(wire, message)
    const dice = chance.below(1_000)
    if (dice < 90) return this.#did("drops")
    if (dice < 150) return this.#late("delays", wire, message, chance.below(600))
    if (dice < 190) return this.#late("hoards", wire, message, 600 + chance.below(HOARD_MS))
    if (dice < 250) {
      wire.hand(message)
      return this.#late("repeats", wire, message, chance.below(1_500))
    }
    if (dice < 330) return this.#late("reorders", wire, message, 5 + chance.below(40))
    if (dice < 380) return this.#damage(wire, message)
    if (dice < 450) return this.#replay(wire, message)
    if (dice < 490) return this.#swap(wire, message)
    if (dice < 540) return this.#mislead(wire, message)
    if (dice < 580) return this.#answer(wire, message)
    wire.hand(message)
    if (dice >= 994) this.#interrupt(wire)
  }

  #late(what: string, wire: Wire, message: Message, ms: number): void {
    this.#did(what)
    setTimeout(() => wire.hand(message), ms)
  }

  #damage(wire: Wire, message: Message) {
    const chance = this.#chance
    const payload = Uint8Array.from(message.payload)
    const at = chance.below(Math.max(1, payload.length))
    if (chance.chance(0.5) && payload.length > 0) {
      payload[at] = (payload[at] ?? 0) ^ (1 << chance.below(8))
      this.#did("flips a bit")
      return wire.hand({ ...message, payload })
    }
    this.#did("cuts short")
    wire.hand({ ...message, payload: payload.subarray(0, at) })
  }

  /** Something of the same kind that was said before: in this run, or in another one with other keys. */
  #replay(wire: Wire, message: Message): void {
    const chance = this.#chance
    const kind = kindOf(message.subject)
    const from = chance.chance(0.4) && this.#corpus.length > 0 ? this.#corpus : this.recording
    for (let i = 0; i < 60; i++) {
      const old = chance.pick(from)
      if (old === undefined || kindOf(old.message.subject) !== kind) continue
      this.#did(from === this.#corpus ? "replays another run" : "replays")
      wire.hand({ ...message, payload: old.message.payload })
      break
    }
    if (chance.chance(0.7)) wire.hand(message)
  }

  #otherNode(subject: string): string {
    const tokens = subject.split(".")
    return tokens
      .map((token) => (this.#ids.includes(token) ? (this.#chance.pick(this.#ids) ?? token) : token))
      .join(".")
  }

  /** To another node, in its own name. */
  #swap(wire: Wire, message: Message): void {
    const subject = this.#otherNode(message.subject)
    this.#did("swaps")
    let heard = false
    for (const other of this.#wires()) heard = handAs(other, { ...message, subject }) || heard
    if (!heard) wire.hand({ ...message, subject })
  }

  /** A question once more, whose answer is to go elsewhere. */
  #redirect(wire: Wire, message: Message): void {
    const victim = this.#chance.pick(this.#ids) ?? "n1"
    const reply = this.#chance.pick([
      `vs.v1.release.${victim}`,
      `_INBOX.loader-${victim}.1`,
      `_INBOX.loader-${victim}.>`,
      "vs.v1.hello.*",
      "$JS.API.STREAM.DELETE.EVENTS",
      "$KV.workflows.lab",
    ])
    this.#did("has it answered elsewhere")
    wire.hand({ ...message, reply })
  }

  /** A subject that nobody could have published on. */
  #mislead(wire: Wire, message: Message): void {
    const chance = this.#chance
    const victim = chance.pick(this.#ids) ?? "n1"
    const odd = chance.pick(["*", ">", `${victim}.*`, "..", "\u0000", `${victim}\r\nPUB vs.v1.beacon.r9 0`])
    const tokens = message.subject.split(".")
    const subject = [...tokens.slice(0, -1), odd].join(".")
    // A line break ends the line of the protocol: what follows is no protocol at all, and the service connects anew.
    this.#did(subject.includes("\r\n") ? "breaks the line" : "puts odd text in a subject")
    wire.hand({ ...message, subject })
    if (chance.chance(0.5)) wire.hand(message)
  }

  /** In the place of whoever is asked: junk, an old answer, or a refusal, at once. */
  #answer(wire: Wire, message: Message): void {
    const chance = this.#chance
    const { reply } = message
    wire.hand(message)
    const asker = [...this.#wires()].find(({ name }) => reply?.startsWith(`_INBOX.${name}.`) === true)
    if (reply === undefined || asker === undefined) return
    this.#did("answers in another's place")
    const old = this.recording.filter((each) => kindOf(each.message.subject) === "reply")
    const junk = new Uint8Array(chance.below(400)).map(() => chance.below(256))
    const payload = chance.chance(0.7) ? (chance.pick(old)?.message.payload ?? junk) : junk
    handAs(asker, { subject: reply, reply: undefined, headers: undefined, payload })
  }

  /** Somebody's connection breaks; or somebody says again what it has said, which the server takes for its word. */
  #interrupt(wire: Wire) {
    const chance = this.#chance
    if (chance.chance(0.5)) {
      this.#did("cuts a connection")
      return wire.cut()
    }
    this.#did("speaks in another's name")
    const old = chance.pick(this.recording)
    if (old !== undefined) wire.say({ ...old.message, reply: undefined, headers: undefined })
  }
}

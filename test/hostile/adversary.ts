/**
 * Whoever runs the bus, and means ill: sees everything, decides what becomes of each message, says what it likes to anybody
 * in anybody's name, owns genuine hardware that nobody enrolled, and makes machines fail. What it does in a run follows
 * from a seed; each deed has a number and can be left out, so that a run that breaks a rule can be made small.
 */
import { Hello, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { Signed } from "../../schemas/messages/common.ts"
import { Ack, Beacon, Pull, Release } from "../../schemas/messages/release.ts"
import { SignedWorkflow } from "../../schemas/workflow.ts"
import { encode, type MessageSchema } from "../../services/common/codec/index.ts"
import type { Crypto } from "../../services/common/crypto/index.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { fits, type Sent } from "./adversary-bus.ts"
import { bootNow } from "./adversary-clock.ts"
import { nodes } from "./adversary-domain.ts"
import { Chance } from "./adversary-virtual.ts"
import { PREFIX, understood, type World } from "./adversary-world.ts"

/** What it is given to from run to run: chances in thousandths for each message. */
interface Temper {
  readonly drop: number
  readonly delay: number
  readonly hoard: number
  readonly repeat: number
  readonly damage: number
  readonly mislead: number
  readonly forge: number
  readonly replay: number
  /** Mean pause between deeds of its own, ms. */
  readonly idleMs: number
}

const tempers: ReadonlyArray<Temper> = [
  {
    drop: 80,
    delay: 120,
    hoard: 40,
    repeat: 100,
    damage: 60,
    mislead: 60,
    forge: 90,
    replay: 60,
    idleMs: 700,
  },
  {
    drop: 10,
    delay: 60,
    hoard: 150,
    repeat: 60,
    damage: 5,
    mislead: 20,
    forge: 60,
    replay: 120,
    idleMs: 900,
  },
  {
    drop: 200,
    delay: 200,
    hoard: 10,
    repeat: 200,
    damage: 20,
    mislead: 10,
    forge: 10,
    replay: 30,
    idleMs: 1_500,
  },
  { drop: 5, delay: 30, hoard: 20, repeat: 40, damage: 5, mislead: 40, forge: 200, replay: 200, idleMs: 500 },
  { drop: 0, delay: 20, hoard: 10, repeat: 20, damage: 0, mislead: 10, forge: 60, replay: 60, idleMs: 350 },
]

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

/** The prefix of everything in the table. */
const on = (rest: string): string => `${PREFIX}.${rest}`

export class Adversary {
  readonly #seed: number
  readonly #muted: ReadonlySet<number>
  readonly #temper: Temper
  readonly #corpus: ReadonlyArray<Sent>
  /** What it did, by number. */
  readonly deeds = new Map<number, string>()
  hostile = true
  #world: World | undefined
  #mallory: Crypto | undefined
  #key: ReturnType<Crypto["ed25519"]["generate"]> | undefined
  #counter = 0

  constructor(seed: number, muted: ReadonlySet<number>, corpus: ReadonlyArray<Sent>) {
    this.#seed = seed
    this.#muted = muted
    this.#corpus = corpus
    this.#temper = tempers[seed % tempers.length] ?? (tempers[0] as Temper)
  }

  join(world: World): void {
    this.#world = world
    this.#mallory = world.ideal.of("mallory")
    this.#key = this.#mallory.ed25519.generate()
  }

  get #w(): World {
    if (this.#world === undefined) throw new Error("in no world yet")
    return this.#world
  }

  get #m(): { crypto: Crypto; key: NonnullKey } {
    if (this.#mallory === undefined || this.#key === undefined) throw new Error("in no world yet")
    return { crypto: this.#mallory, key: this.#key }
  }

  /** The next decision: its own chance, or none where it is to be left out. */
  #decide(): { readonly n: number; readonly chance: Chance } | undefined {
    const n = this.#counter++
    if (!this.hostile || this.#muted.has(n)) return undefined
    return { n, chance: Chance.of(this.#seed, n) }
  }

  #did(n: number, what: string): void {
    this.deeds.set(n, what)
  }

  // Messages

  readonly route = (sent: Sent) => {
    const decision = this.#decide()
    if (this.#stores(sent, decision)) return
    if (decision === undefined) {
      this.#deliver(sent, 1 + (this.#counter % 4))
      return
    }
    const { n, chance } = decision
    const temper = this.#temper
    let dice = chance.below(1_000)
    const falls = (share: number): boolean => {
      dice -= share
      return dice < 0
    }
    const latency = 1 + chance.below(5)
    const short = sent.subject.replace(`${PREFIX}.`, "")
    if (falls(temper.drop)) return this.#did(n, `drops ${short}`)
    if (falls(temper.delay)) {
      const ms = chance.below(1_500)
      this.#did(n, `delays ${short} by ${ms} ms`)
      return this.#deliver(sent, ms)
    }
    if (falls(temper.hoard)) {
      const ms = 1_500 + chance.below(9_000)
      this.#did(n, `hoards ${short} for ${ms} ms`)
      return this.#deliver(sent, ms)
    }
    if (falls(temper.repeat)) {
      this.#did(n, `repeats ${short}`)
      this.#deliver(sent, latency)
      const copies = chance.chance(0.05) ? 30 : 1
      for (let i = 0; i < copies; i++) this.#deliver(sent, chance.below(4_000))
      return
    }
    if (falls(temper.damage)) return this.#damage(sent, n, chance, latency)
    if (falls(temper.mislead)) return this.#mislead(sent, n, chance, latency)
    if (falls(MOMENTS.has(kindOf(sent)) ? 3 * temper.forge : temper.forge)) {
      const forged = this.#forge(sent, chance)
      if (forged !== undefined) {
        this.#did(n, `forges ${short}: ${forged.how}`)
        if (chance.chance(0.5)) this.#deliver(sent, latency + chance.below(3))
        return this.#deliver({ ...sent, ...forged.sent }, latency)
      }
    }
    if (falls(temper.replay)) {
      const old = this.#old(chance, (each) => kindOf(each) === kindOf(sent))
      if (old !== undefined) {
        this.#did(n, `replays ${old.subject.replace(`${PREFIX}.`, "")} at ${short}`)
        // In its place, or before it: an answer that comes first is the one that counts.
        this.#deliver({ ...sent, data: old.data }, latency)
        if (chance.chance(0.7)) this.#deliver(sent, latency + chance.below(200))
        return
      }
    }
    this.#deliver(sent, latency)
    if (MOMENTS.has(kindOf(sent)) && chance.chance(0.06)) this.#strike(sent, n, chance, latency)
  }

  /** Machines fail when something has just been told to them, which is when it hurts. */
  #strike({ subject }: Sent, n: number, chance: Chance, latency: number): void {
    const w = this.#w
    const hit = ids.filter((id) => subject.endsWith(`.${id}`) || chance.chance(0.4))
    this.#did(n, `ends ${hit.join(", ")} after ${subject.replace(`${PREFIX}.`, "")}`)
    this.#struck.push({ atMs: w.time.nowMs + latency + chance.below(4), hit })
  }

  readonly #struck: Array<{ readonly atMs: number; readonly hit: ReadonlyArray<string> }> = []

  /** The stream and the bucket: what they say of themselves is the server's word. */
  #stores(sent: Sent, decision: { readonly n: number; readonly chance: Chance } | undefined): boolean {
    const { subject, reply } = sent
    const answer = (data: Uint8Array, status = 0) => {
      if (reply === undefined) return
      const told = {
        ...sent,
        from: "server",
        owner: "server",
        subject: reply,
        reply: undefined,
        data,
        status,
      }
      this.#deliver({ ...told, headers: { "Nats-Sequence": "1" } }, 1)
    }
    if (subject.startsWith(on("event."))) {
      // Lost acknowledgements make the sender say it again, seven times: now and then is enough.
      if (decision?.chance.chance(0.02)) this.#did(decision.n, "loses an event")
      else answer(new TextEncoder().encode('{"stream":"EVENTS","seq":1}'))
      return true
    }
    if (subject.startsWith("$KV.leaders.")) {
      answer(new TextEncoder().encode(JSON.stringify(this.#leader(sent, decision))))
      // Whoever follows the bucket hears of it by the subject itself.
      return false
    }
    if (!subject.startsWith("$JS.API.DIRECT.GET.")) return false
    const w = this.#w
    if (decision?.chance.chance(0.1)) {
      const old = decision.chance.chance(0.5) ? w.domain.workflows[0] : undefined
      this.#did(decision.n, old === undefined ? "denies the workflow" : "serves an old workflow")
      if (old === undefined) answer(new Uint8Array(0), 404)
      else answer(encode(SignedWorkflow, old))
    } else answer(encode(SignedWorkflow, w.stored))
    return true
  }

  /** An entry that lapses, taken by whoever names its sequence; or what a liar makes of it. */
  #leader({ headers }: Sent, decision: { readonly n: number; readonly chance: Chance } | undefined): object {
    const now = this.#w.time.nowMs
    const live = now < this.#entry.untilMs ? this.#entry.sequence : 0
    const lies = decision?.chance.chance(0.05) === true
    if (lies) this.#did(decision.n, "lies about the leader")
    const fits = Number(headers["Nats-Expected-Last-Subject-Sequence"] ?? 0) === live
    if (fits === lies) return { error: { code: 400, err_code: 10_071, description: "wrong last sequence" } }
    this.#entry = { sequence: this.#entry.sequence + 1, untilMs: now + 1_000 }
    return { stream: "KV_leaders", seq: this.#entry.sequence }
  }

  #entry = { sequence: 0, untilMs: 0 }

  #deliver(sent: Sent, ms: number): void {
    const w = this.#w
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
    const w = this.#w
    const listeners = [...w.server.listening].filter(({ pattern }) => fits(pattern, sent.subject))
    w.time.after(latency, () => {
      for (const each of listeners) w.server.hand(each, { ...sent, subject: odd })
    })
    this.#deliver(sent, latency + 2)
  }

  /** What a member of the bus with keys and hardware of its own makes of somebody else's message. */
  #forge(sent: Sent, chance: Chance): { readonly how: string; readonly sent: Partial<Sent> } | undefined {
    const { crypto, key } = this.#m
    const kind = kindOf(sent)
    const resigned = <T>(
      schema: MessageSchema<T>,
      label: Parameters<typeof sign>[1],
      change: (body: T) => T,
    ): Partial<Sent> | undefined => {
      const signed = understood(Signed, sent.data)
      const body = signed && understood(schema, signed.body)
      if (signed === undefined || body === undefined) return undefined
      const mine = sign(crypto, label, key, encode(schema, change(body)))
      // Signed by its own key and honest about it; or in the name of the key that it should be.
      return { data: encode(Signed, chance.chance(0.6) ? mine : { ...mine, key: signed.key }) }
    }
    const as = (how: string, made: Partial<Sent> | undefined) =>
      made === undefined ? undefined : { how, sent: made }
    const seed = crypto.randomBytes(32)
    switch (kind) {
      case "pull": {
        const { publicKey } = crypto.mlkem768.fromSeed(crypto.shake256(seed, 96))
        const way = chance.below(3)
        if (way === 0)
          return as(
            "its own KEM key",
            resigned(Pull, labels.signedPull, (pull) => ({ ...pull, kem_key: publicKey })),
          )
        if (way === 1)
          return as(
            "a later nonce",
            resigned(Pull, labels.signedPull, (pull) => {
              const nonce = Uint8Array.from(pull.nonce)
              nonce[7] = (nonce[7] ?? 0) + 1
              return { ...pull, nonce }
            }),
          )
        return as(
          "another node's result",
          resigned(Pull, labels.signedPull, (pull) => {
            const other = this.#old(chance, (each) => kindOf(each) === "pull")
            const signed = other && understood(Signed, other.data)
            const found = signed && understood(Pull, signed.body)
            return found === undefined
              ? pull
              : { ...pull, result: found.result, kem_key: found.kem_key, session: found.session }
          }),
        )
      }
      case "ack": {
        const exporter = crypto.randomBytes(16)
        const way = chance.below(3)
        if (way === 0)
          return as(
            "all is confirmed",
            resigned(Ack, labels.signedAck, (ack) => ({
              ...ack,
              edges: ack.edges.map((edge) => ({ ...edge, exporter })),
            })),
          )
        if (way === 1)
          return as(
            "nothing is held",
            resigned(Ack, labels.signedAck, (ack) => ({ ...ack, edges: [] })),
          )
        return as(
          "a later sequence",
          resigned(Ack, labels.signedAck, (ack) => ({ ...ack, sequence: ack.sequence + 1n })),
        )
      }
      case "release": {
        const confirmed = chance.chance(0.5) ? this.#confirmation(sent, chance) : undefined
        if (confirmed !== undefined) return { how: "confirms it in the node's place", sent: confirmed }
        return as(
          "its own signature",
          resigned(Release, labels.signedRelease, (release) =>
            chance.chance(0.5)
              ? { ...release, sequence: release.sequence + 1n }
              : { ...release, term: release.term + 1n },
          ),
        )
      }
      case "beacon": {
        const beacon = understood(Beacon, sent.data)
        if (beacon === undefined) return undefined
        const nonce = crypto.randomBytes(32)
        const term = chance.pick([2n ** 53n, 2n ** 64n - 1n, 0n, beacon.term + 1n]) ?? 0n
        return as("another beacon", { data: encode(Beacon, { ...beacon, nonce, term }) })
      }
      case "hello": {
        const hello = understood(Hello, sent.data)
        if (hello === undefined) return undefined
        return as("its own session", {
          data: encode(
            Hello,
            chance.chance(0.5) ? { ...hello, session: crypto.randomBytes(16) } : { ...hello, nonce: seed },
          ),
        })
      }
      case "evidence": {
        const evidence = understood(NodeEvidence, sent.data)
        if (evidence === undefined) return undefined
        const { claims } = evidence
        const dh = crypto.x25519.generate().publicKey
        const kem = crypto.mlkem768.fromSeed(crypto.shake256(seed, 96)).publicKey
        const changed = chance.pick([
          { ...claims, dh_key: dh },
          { ...claims, dh_key: dh, kem_key: kem, signing_key: key.publicKey },
          { ...claims, session: seed.subarray(0, 16) },
          { ...claims, node: chance.pick(ids) ?? claims.node },
          { ...claims, signing_key: key.publicKey },
        ])
        return as("other claims", { data: encode(NodeEvidence, { ...evidence, claims: changed ?? claims }) })
      }
      default:
        return undefined
    }
  }

  /** What is sealed can be guessed: both ends "hold" the term's first epochs, with one exporter. */
  #confirmation(sent: Sent, chance: Chance): Partial<Sent> | undefined {
    const signed = understood(Signed, sent.data)
    const release = signed && understood(Release, signed.body)
    if (release === undefined) return undefined
    const { crypto, key } = this.#m
    const { node, session, term, sequence } = release
    const edges = ["raw:alpha:beta", "packed:beta:gamma"]
      .filter((instance) => instance.split(":").includes(node))
      .map((instance) => ({
        instance,
        term,
        epoch: BigInt(1 + chance.below(2)),
        state: "install" as const,
        exporter: new Uint8Array(16).fill(0x42),
      }))
    const ack = encode(Ack, { v: 1, node, session, term, sequence, boot_ns: bootNow(), edges })
    const data = encode(Signed, sign(crypto, labels.signedAck, key, ack))
    return { from: "mallory", owner: "mallory", subject: on(`ack.${node}`), data }
  }

  #old(chance: Chance, wanted: (sent: Sent) => boolean): Sent | undefined {
    const { history } = this.#w
    const from = chance.chance(0.2) ? this.#corpus : history
    for (let i = 0; i < 40 && from.length > 0; i++) {
      const each = from[chance.below(from.length)]
      if (each !== undefined && wanted(each)) return each
    }
    return undefined
  }

  // Deeds of its own

  /** Runs beside the domain until it is told to stop. */
  async plot(untilMs: number): Promise<void> {
    const w = this.#w
    let nextMs = 300
    while (w.time.nowMs < untilMs && w.broken === undefined) {
      const more = await w.time.step(Math.min(nextMs, untilMs))
      w.check()
      for (
        let next = this.#struck[0];
        next !== undefined && next.atMs <= w.time.nowMs;
        next = this.#struck[0]
      ) {
        this.#struck.shift()
        for (const id of next.hit) await w.startLoader(id)
      }
      if (more || w.time.nowMs < nextMs) continue
      const pause = this.#temper.idleMs * (0.5 + Chance.of(this.#seed, 0x10000 + Math.round(nextMs)).next())
      nextMs = w.time.nowMs + Math.round(pause)
      const decision = this.#decide()
      if (decision !== undefined) await this.#act(decision.n, decision.chance)
    }
  }

  async #act(n: number, chance: Chance) {
    const w = this.#w
    const id = chance.pick(ids) ?? "alpha"
    const dice = chance.below(100)
    if (dice < 30) return this.#sayOld(n, chance)
    if (dice < 42) return this.#sayJunk(n, chance)
    if (dice < 54) {
      this.#did(n, `${id}'s loader starts anew`)
      return w.startLoader(id)
    }
    if (dice < 60) {
      this.#did(n, `${id} reboots`)
      return w.reboot(id)
    }
    if (dice < 68) {
      // Set back, but not to before the last reign began: that terms rise by themselves rests on this much.
      const behindMs = chance.chance(0.4) ? chance.below(Math.max(1, w.sinceReignMs)) : 0
      this.#did(n, `the releaser starts anew, its clock ${behindMs} ms behind`)
      w.time.wallMs -= behindMs
      return w.startReleaser()
    }
    if (dice < 73) {
      this.#did(n, "the verifier starts anew")
      return w.startVerifier()
    }
    if (dice < 81) {
      this.#did(n, `${id} derives wrong keys`)
      w.node(id).spoils = true
      return
    }
    if (dice < 86) {
      this.#did(n, `${id}'s kernel has no room`)
      w.node(id).plane.fail()
      return
    }
    if (dice < 94) {
      const stranger = chance.chance(0.5)
      this.#did(n, `${stranger ? "a stranger's machine" : "other software"} comes in ${id}'s name`)
      return w.double(id, stranger ? w.domain.stranger : w.domain.altered(id))
    }
    if (w.stored === w.domain.workflows[0] && chance.chance(0.4)) {
      this.#did(n, "the operator revokes gamma")
      w.revokeGamma()
    }
  }

  /** Something that was said before, here or in another domain, to whom it was said or to somebody else. */
  #sayOld(n: number, chance: Chance): void {
    const old = this.#old(chance, () => true)
    if (old === undefined) return
    const tokens = old.subject.split(".")
    const to = chance.chance(0.3)
      ? tokens.map((each) => (ids.includes(each) ? (chance.pick(ids) ?? each) : each)).join(".")
      : old.subject
    this.#did(n, `says again ${to}`)
    const times = chance.chance(0.05) ? 100 : 1
    for (let i = 0; i < times; i++) this.#deliver({ ...old, subject: to }, 1 + chance.below(20))
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
    this.#did(n, `says junk on ${subject}`)
    w.server.hand(each, {
      from: "mallory",
      owner: "mallory",
      subject,
      reply,
      data,
      headers: {},
      status: chance.pick([0, 0, 404, 503]) ?? 0,
    })
  }
}

type NonnullKey = ReturnType<Crypto["ed25519"]["generate"]>

const kindOf = ({ subject }: Sent): string =>
  subject.startsWith("_INBOX.") ? "reply" : (subject.split(".")[2] ?? "")

/** A whole domain in one process on a bus that somebody hostile runs: the services as they are, on virtual time. */
import {
  Cause,
  Clock,
  Context,
  Effect,
  Exit,
  Layer,
  Logger,
  Redacted,
  Schedule,
  Scheduler,
  Scope,
} from "effect"
import { permissionsFor } from "../../schemas/generate/permissions.ts"
import { AttestationResult, EvidenceReply, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { Signed } from "../../schemas/messages/common.ts"
import { Ack, Pull, Release } from "../../schemas/messages/release.ts"
import { DEFAULT_PREFIX, type Role } from "../../schemas/subjects.ts"
import { SignedWorkflow } from "../../schemas/workflow.ts"
import { serveAttester } from "../../services/attester/service.ts"
import { Bus, identity } from "../../services/common/bus/bus.ts"
import { decode, encode, type MessageSchema } from "../../services/common/codec/index.ts"
import type { Crypto } from "../../services/common/crypto/index.ts"
import { makeNode } from "../../services/dataplane-loader/node.ts"
import { compileRules, type Rules } from "../../services/dataplane-loader/rules.ts"
import { at } from "../../services/evidence/snp/report.ts"
import { knowWorkflow } from "../../services/guest/known-workflow.ts"
import { serveReleaser } from "../../services/key-releaser/service.ts"
import type { VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import { serveVerifier } from "../../services/verifier/service.ts"
import { connectAs, fits, type Sent, Server, serveBy } from "./adversary-bus.ts"
import { bootNow } from "./adversary-clock.ts"
import { Ideal, type Sealing } from "./adversary-crypto.ts"
import {
  DATAPLANE,
  type Domain,
  deviceOf,
  LEASE_MS,
  type Machine,
  newDirectory,
  nodes,
} from "./adversary-domain.ts"
import { ModelPlane } from "./adversary-plane.ts"
import { Chance, seize, VirtualTime } from "./adversary-virtual.ts"

/** A rule of the project that this run has broken. */
export class Broken extends Error {
  override readonly name = "Broken"
  readonly rule: string

  constructor(rule: string, detail: string) {
    super(`${rule}: ${detail}`)
    this.rule = rule
  }
}

export const PREFIX = DEFAULT_PREFIX
/** A challenge lives ten seconds, and is answered by Evidence that was made for it. */
const FRESH_MS = 11_000
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

export const understood = <T>(schema: MessageSchema<T>, data: Uint8Array): T | undefined => {
  const found = decode(schema, data, { subject: "observed" })
  return found.ok ? found.value : undefined
}

const parts = <T>(schema: MessageSchema<T>, data: Uint8Array): { signed: Signed; body: T } | undefined => {
  const signed = understood(Signed, data)
  const body = signed && understood(schema, signed.body)
  return signed === undefined || body === undefined ? undefined : { signed, body }
}

interface Running {
  readonly stop: () => Promise<void>
}

export interface Node {
  readonly id: string
  readonly crypto: Crypto
  plane: ModelPlane
  loader: Running | undefined
  /** How often a loader was started. */
  lives: number
  boot: Uint8Array
  /** The next keys that it derives are wrong. */
  spoils: boolean
  /** When it asked, by nonce; and the newest nonce. */
  readonly asked: Map<string, { readonly atNs: bigint; readonly atMs: number }>
  newest: string
  before: string
  newestNs: bigint
  newestMs: number
}

export class World {
  readonly domain: Domain
  readonly time: VirtualTime
  readonly ideal: Ideal
  readonly server: Server
  readonly nodes = new Map<string, Node>()
  /** Everything that was ever sent by somebody honest. */
  readonly history: Sent[] = []
  readonly log: string[] = []
  stored: SignedWorkflow
  /** Since when the releaser that is there knows the second version. */
  revokedMs: number | undefined
  broken: Broken | undefined
  messages = 0
  #context: Context.Context<never>
  #doubles: Running[] = []
  #verifier: Running | undefined
  #releaser: Running | undefined
  #reignMs = 0
  #reignWallMs = 0
  #sealedUnder = new Set<string>()
  /** DH keys that the verifier has vouched for: whose node's, and when. */
  readonly #vouched = new Map<string, { readonly node: string; readonly atMs: number }>()
  /** When honest hardware signed which report data. */
  readonly #reported = new Map<string, { readonly id: string; readonly atMs: number }>()
  /** The report data of the last Evidence that a verifier was shown for a DH key. */
  readonly #shown = new Map<string, string>()
  /** By node, instance and epoch: the exporter that the node's own acknowledgement has said. */
  readonly #confirmed = new Map<string, string>()
  readonly #acked = new Map<string, readonly [bigint, bigint]>()
  /** By node and loader process, the term of its last acknowledgement: what was never installed, no kernel remembers. */
  readonly #terms = new Map<string, bigint>()
  /** Of releases on their way: which nonce each answers. */
  readonly #answers = new Map<string, string>()
  readonly #allowed = new Map<string, ReadonlyArray<string>>()

  constructor(domain: Domain, seed: number, route: (sent: Sent) => void) {
    this.domain = domain
    this.stored = domain.workflows[0]
    const day = 86_400_000
    this.time = new VirtualTime(Math.floor(Date.now() / day) * day + day / 2)
    seize(this.time, Chance.of(seed, 0x7ff1))
    this.ideal = new Ideal(Chance.of(seed, 0x7ff2))
    this.ideal.onSeal = (sealing) => this.#onSeal(sealing)
    this.server = new Server((sent) => {
      this.#observe(sent)
      route(sent)
    })
    this.server.onHand = ({ identity: to }, sent) => this.#noteRequest(to, sent)
    serveBy(this.server)
    const logger = Logger.make(({ message, cause, fiber: _ }) => {
      const text = `${[message]
        .flat()
        .map((each) => (typeof each === "string" ? each : JSON.stringify(each)))
        .join(" ")} ${cause.reasons.length > 0 ? Cause.pretty(cause) : ""}`
      this.log.push(text)
      this.#expectNoSecret("a log line", new TextEncoder().encode(text))
      if (Cause.hasDies(cause)) this.accuse("no message crashes a service", text.slice(0, 600))
    })
    this.#context = Context.empty().pipe(
      Context.add(Clock.Clock, this.time.clock),
      Context.add(Scheduler.Scheduler, this.time.scheduler),
      Context.merge(Effect.runSync(Effect.scoped(Layer.build(Logger.layer([logger]))))),
    ) as Context.Context<never>
  }

  accuse = (rule: string, detail: string): void => {
    this.broken ??= new Broken(rule, `at ${Math.round(this.time.nowMs)} ms: ${detail}`)
  }

  node(id: string): Node {
    const found = this.nodes.get(id)
    if (found === undefined) throw new Error(id)
    return found
  }

  async start(): Promise<void> {
    await this.#attester("cp", this.domain.control, "control-plane", "cp", this.ideal.of("cp"))
    await this.startVerifier()
    await this.startReleaser()
    for (const { id } of nodes) {
      const node: Node = {
        id,
        crypto: this.ideal.of(`loader-${id}`, () => {
          const spoils = node.spoils
          node.spoils = false
          return spoils
        }),
        plane: this.#newPlane(id),
        loader: undefined,
        lives: 0,
        boot: this.ideal.random(16),
        spoils: false,
        asked: new Map(),
        newest: "",
        before: "",
        newestNs: 0n,
        newestMs: 0,
      }
      this.nodes.set(id, node)
      await this.#attester(id, this.domain.machine(id), "node", id, node.crypto, () => node.boot)
      await this.startLoader(id)
    }
  }

  async startVerifier(): Promise<void> {
    await this.#verifier?.stop()
    const crypto = this.ideal.of("verifier")
    const { trust } = this.domain
    const runDirectory = newDirectory(this.domain, "cp")
    this.#verifier = await this.#serve("verifier", "v1", "verifier", () =>
      serveVerifier({ crypto, trust, instance: "v1", control: "cp", runDirectory }),
    )
  }

  /** By the wall's clock. */
  get sinceReignMs(): number {
    return Math.floor(this.time.wallMs + this.time.nowMs - this.#reignWallMs)
  }

  async startReleaser(): Promise<void> {
    await this.#releaser?.stop()
    this.#reignWallMs = this.time.wallMs + this.time.nowMs
    this.#reignMs = this.time.nowMs
    // What a cold start can't know: the bus may hide from it what was in force before.
    this.revokedMs = undefined
    const crypto = this.ideal.of("releaser")
    const { trust } = this.domain
    const runDirectory = newDirectory(this.domain, "cp")
    this.#releaser = await this.#serve("releaser", "r1", "releaser", () =>
      serveReleaser({ crypto, trust, instance: "r1", control: "cp", runDirectory }),
    )
  }

  #newPlane(id: string): ModelPlane {
    return new ModelPlane({
      node: id,
      dataplane: DATAPLANE,
      accuse: this.accuse,
      sealedUnder: this.#sealedUnder,
      latestLease: () => (this.nodes.get(id)?.newestNs ?? 0n) + BigInt(LEASE_MS) * 1_000_000n + 2_000_000n,
    })
  }

  async startLoader(id: string): Promise<void> {
    const node = this.node(id)
    await node.loader?.stop()
    node.lives += 1
    node.loader = await this.#loader(id, `loader-${id}`, node.crypto, node.plane, id)
  }

  /** The machine starts anew: an empty kernel, another boot id. */
  async reboot(id: string): Promise<void> {
    const node = this.node(id)
    await node.loader?.stop()
    node.loader = undefined
    node.plane = this.#newPlane(id)
    node.boot = this.ideal.random(16)
    await this.startLoader(id)
  }

  /** Somebody with the right software on hardware of their own, or the wrong software on the right one, in a node's name. */
  async double(id: string, machine: Machine): Promise<void> {
    const crypto = this.ideal.of("mallory")
    const directory = `mallory-${id}`
    await this.#attester(
      id,
      machine,
      "node",
      directory,
      crypto,
      () => new Uint8Array(16).fill(0xbb),
      "mallory",
    )
    const plane = new ModelPlane({
      node: `mallory as ${id}`,
      dataplane: DATAPLANE,
      accuse: () => undefined,
      sealedUnder: new Set(),
      latestLease: () => 1n << 62n,
    })
    await this.#loader(id, "mallory", crypto, plane, directory)
  }

  /** Those who came in others' names are gone. */
  async withdraw(): Promise<void> {
    for (const each of this.#doubles.splice(0)) await each.stop()
  }

  /** A new version of the workflow, in which gamma is no more. */
  revokeGamma(): void {
    this.stored = this.domain.workflows[1]
    const data = encode(SignedWorkflow, this.stored)
    const subject = `$KV.workflows.${this.domain.name}`
    this.server.send({
      from: "operator-lab",
      owner: "operator",
      subject,
      reply: undefined,
      data,
      headers: {},
      status: 0,
    })
  }

  #attester(
    id: string,
    machine: Machine,
    role: "node" | "control-plane",
    directory: string,
    crypto: Crypto,
    bootId: () => Uint8Array = () => new Uint8Array(16),
    owner = `attester-${id}`,
  ): Promise<Running> {
    const guest = {
      crypto,
      trust: this.domain.trust,
      id,
      runDirectory: newDirectory(this.domain, directory),
      device: deviceOf(machine, (data) => {
        if (owner !== "mallory") this.#reported.set(hex(data), { id, atMs: this.time.nowMs })
      }),
      now: () => new Date(),
      measureDataplane: () => DATAPLANE,
      bootId,
    }
    return this.#serve("attester", id, owner, () =>
      role === "node" ? serveAttester({ role, guest }) : serveAttester({ role, guest }),
    )
  }

  #loader(id: string, owner: string, crypto: Crypto, model: ModelPlane, directory: string): Promise<Running> {
    const { trust } = this.domain
    const plane = model.plane()
    const runDirectory = newDirectory(this.domain, directory)
    return this.#serve("loader", id, owner, () =>
      Effect.gen(function* () {
        const bus = yield* Bus
        let known: { readonly workflow: VerifiedWorkflow; readonly rules: Rules } | undefined
        const lives = makeNode(bus, {
          crypto,
          trust,
          node: id,
          runDirectory,
          plane,
          watch: { whole: true, breaks: 0 },
          backend: "none",
        })
        yield* bus.subscribe("release", { node: id }, (signed) => lives.onRelease(signed))
        const newest = yield* knowWorkflow(crypto, trust, {
          onChange: (workflow) =>
            Effect.sync(() => {
              if (!workflow.document.nodes.some((each) => each.id === id)) {
                known = undefined
                plane.setEdges({ edges: [], policies: [] })
                return
              }
              const rules = compileRules(workflow, {
                crypto,
                nodeId: id,
                wireMtu: 1_500,
                wireFamilies: [4],
                espPort: 4_500,
                present: plane.edges(),
              })
              plane.setEdges({ edges: rules.edges.map(({ record }) => record), policies: [] })
              known = { workflow, rules }
            }),
        })
        yield* Effect.forkScoped(
          lives.tell.pipe(Effect.ignore({ log: true }), Effect.repeat(Schedule.spaced(3_000))),
        )
        yield* Effect.forkScoped(lives.live(() => (newest.current() === undefined ? undefined : known)))
        return yield* bus.closed
      }),
    )
  }

  async #serve(
    role: Role,
    instance: string,
    owner: string,
    service: () => Effect.Effect<unknown, unknown, Bus | Scope.Scope>,
  ): Promise<Running> {
    const scope = Scope.makeUnsafe()
    connectAs(owner)
    const config = {
      url: "nats://simulated",
      prefix: PREFIX,
      seed: Redacted.make(new Uint8Array(0)),
      identity: identity(role, instance),
    }
    const run = service().pipe(Effect.provide(Bus.layer(config)), Scope.provide(scope))
    const fiber = Effect.runForkWith(this.#context)(run as Effect.Effect<unknown, unknown>)
    let stopped = false
    fiber.addObserver((exit) => {
      if (stopped || owner === "mallory") return
      const why = Exit.isFailure(exit) ? Cause.pretty(exit.cause).slice(0, 600) : "ended"
      this.accuse("every service stays alive", `${role}-${instance}: ${why}`)
    })
    await this.time.settle()
    const stop = async () => {
      stopped = true
      fiber.interruptUnsafe()
      await this.time.settle()
      const closing = Effect.runForkWith(this.#context)(Scope.close(scope, Exit.void))
      // What a service waits for when it ends passes on the same clock.
      for (let i = 0; i < 200 && closing.pollUnsafe() === undefined; i++)
        await this.time.step(this.time.nowMs + 50)
    }
    const running = { stop }
    if (owner === "mallory") this.#doubles.push(running)
    return running
  }

  // What follows looks at what honest parties send, and at what they seal.

  #expectNoSecret(where: string, data: Uint8Array): void {
    const found = this.ideal.leakIn(data)
    if (found !== undefined) this.accuse("no secret leaves its party", `${where} has ${found}`)
  }

  #observe(sent: Sent): void {
    if (sent.owner === "mallory" || sent.owner === "operator" || sent.owner === "server") return
    this.messages += 1
    this.#expectNoSecret(`a message of ${sent.from} on ${sent.subject}`, sent.data)
    this.#expectAllowed(sent)
    const [, , name, to] = sent.subject.split(".")
    if (!sent.subject.startsWith(`${PREFIX}.`)) this.#observeReply(sent)
    else if (name === "pull") this.#observePull(to ?? "", sent.data)
    else if (name === "ack") this.#observeAck(to ?? "", sent.data)
    else if (name === "release") this.#observeRelease(to ?? "", sent.data)
    else if (sent.from === "releaser-r1" && Buffer.from(sent.data).includes("simulated version 2"))
      this.revokedMs ??= this.time.nowMs
    this.history.push(sent)
  }

  /** By a server with the table's permissions, and by an inbox's owner: an answer goes to who asked. */
  #expectAllowed({ from, subject }: Sent): void {
    const [role = "", ...rest] = from.split("-")
    const allowed =
      this.#allowed.get(from) ??
      permissionsFor({ role: role as Role, instance: rest.join("-"), domain: this.domain.name }).publish
    this.#allowed.set(from, allowed)
    if (!allowed.some((pattern) => fits(pattern, subject)) || /[\s*>]/.test(subject))
      this.accuse("nobody is made to publish elsewhere", `${from} on ${JSON.stringify(subject)}`)
    if (subject.startsWith("_INBOX.") && !this.#mayAnswer.has(`${from} ${subject}`))
      this.accuse("nobody is made to publish elsewhere", `${from} answers ${subject}, where nobody asked it`)
  }

  /** Where who may answer whom: of requests that were handed over, in the name of whoever the subject says. */
  readonly #mayAnswer = new Set<string>()

  #noteRequest(to: string, { subject, reply, data }: Sent): void {
    const [, , name, first = "", second = ""] = subject.split(".")
    const evidence = name === "evidence" ? understood(NodeEvidence, data) : undefined
    const piece = evidence?.evidence.pieces[0]
    if (evidence !== undefined && piece?.kind === "snp")
      this.#shown.set(
        hex(evidence.claims.dh_key),
        hex(piece.report.subarray(at.reportData, at.reportData + 64)),
      )
    const asker =
      name === "hello"
        ? `loader-${first}`
        : name === "evidence"
          ? `loader-${second}`
          : name === "attest"
            ? second
            : ""
    const tokens = reply?.split(".") ?? []
    const plain = tokens.length > 2 && tokens.every((token) => /^[A-Za-z0-9_-]{1,64}$/.test(token))
    if (plain && tokens[0] === "_INBOX" && tokens[1] === asker) this.#mayAnswer.add(`${to} ${reply}`)
  }

  #observeReply({ from, data }: Sent): void {
    if (!from.startsWith("verifier-")) return
    const reply = understood(EvidenceReply, data)
    if (reply?.kind !== "result") return
    const claims = understood(AttestationResult, reply.result.body)
    if (claims === undefined) return
    const owner = this.ideal.ownerOf(claims.dh_key)
    const [signer, kem] = [this.ideal.ownerOf(claims.signing_key), owner]
    if (owner !== `loader-${claims.node}` || signer !== kem)
      this.accuse(
        "no key to whom nobody vouches for",
        `${claims.node} is vouched for with keys of ${owner} and ${signer}`,
      )
    const reported = this.#reported.get(this.#shown.get(hex(claims.dh_key)) ?? "")
    if (reported?.id !== claims.node || this.time.nowMs - reported.atMs > FRESH_MS)
      this.accuse(
        "no key to whom nobody vouches for",
        `${claims.node} is vouched for by Evidence that isn't of now`,
      )
    this.#vouched.set(hex(claims.dh_key), { node: claims.node, atMs: this.time.nowMs })
  }

  #observePull(id: string, data: Uint8Array): void {
    const node = this.nodes.get(id)
    const found = parts(Pull, data)
    if (node === undefined || found === undefined) return
    const nonce = hex(found.body.nonce)
    node.before = node.newest
    node.newest = nonce
    node.newestNs = bootNow()
    node.newestMs = this.time.nowMs
    node.asked.set(nonce, { atNs: node.newestNs, atMs: this.time.nowMs })
  }

  #observeAck(id: string, data: Uint8Array): void {
    const found = parts(Ack, data)
    const node = this.nodes.get(id)
    if (found === undefined || node === undefined) return
    const { session, term, sequence, edges } = found.body
    const name = `${id} ${hex(session)}`
    const before = this.#acked.get(name)
    if (before !== undefined && (term < before[0] || (term === before[0] && sequence < before[1])))
      this.accuse(
        "terms and sequences only rise",
        `${id} goes from ${before.join(".")} back to ${term}.${sequence}`,
      )
    this.#acked.set(name, [term, sequence])
    const life = `${id} ${node.lives}`
    const highest = this.#terms.get(life) ?? 0n
    if (term < highest)
      this.accuse("terms and sequences only rise", `${id} goes from term ${highest} back to ${term}`)
    this.#terms.set(life, term)
    const answered = this.#answers.get(`${name} ${term} ${sequence}`)
    const recent = node.newestMs === this.time.nowMs ? node.before : ""
    if (answered !== undefined && before?.[1] !== sequence && answered !== node.newest && answered !== recent)
      this.accuse("a release answers the newest request", `${id} took one that answers another`)
    // A loader that was started anew says of what it found that it is there, and has no exporter of it.
    for (const edge of edges)
      if (edge.exporter.some((byte) => byte !== 0))
        this.#confirmed.set(`${id} ${edge.instance} ${edge.term}.${edge.epoch}`, hex(edge.exporter))
  }

  #observeRelease(id: string, data: Uint8Array): void {
    const found = parts(Release, data)
    const node = this.nodes.get(id)
    if (found === undefined || node === undefined) return
    const { session, term, sequence, nonce } = found.body
    this.#answers.set(`${id} ${hex(session)} ${term} ${sequence}`, hex(nonce))
    if (!node.asked.has(hex(nonce)))
      this.accuse("a release answers a request", `${id} is told what it did not ask for`)
  }

  #onSeal({ by, payload, kemOwner, dhOwner, dhKey }: Sealing): void {
    if (by !== "releaser") return
    const id = dhOwner?.replace(/^loader-/, "") ?? ""
    const rule = "no key to whom nobody vouches for"
    if (dhOwner === undefined || kemOwner !== dhOwner || !this.nodes.has(id))
      this.accuse(rule, `sealed to keys of ${dhOwner} and ${kemOwner}`)
    const vouched = this.#vouched.get(dhKey)
    if (vouched?.node !== id) this.accuse(rule, `${id}'s session was never vouched for`)
    else if (vouched.atMs < this.#reignMs)
      this.accuse(rule, `${id}'s session was vouched for before this term`)
    for (const peer of payload.peers) {
      const known = this.#vouched.get(hex(peer.dh_key))
      if (known?.node !== peer.node) this.accuse(rule, `${peer.node} is named as a peer with keys of nobody`)
    }
    for (const edge of payload.edges) {
      const gone = this.revokedMs !== undefined && this.time.nowMs > this.revokedMs
      if (gone && (id === "gamma" || edge.peer === "gamma"))
        this.accuse(rule, `${id} and ${edge.peer}: one was revoked`)
      if (edge.state !== "active") continue
      const epoch = `${edge.instance} ${edge.term}.${edge.epoch}`
      const [a, b] = [this.#confirmed.get(`${id} ${epoch}`), this.#confirmed.get(`${edge.peer} ${epoch}`)]
      if (a === undefined || a !== b)
        this.accuse("both ends agree or have none", `${epoch} begins while its ends say ${a} and ${b}`)
    }
  }

  /** Whoever sends, the other end opens under the same key, or not at all. Who was revoked a lease ago does neither. */
  check(): void {
    if (this.revokedMs !== undefined && this.time.nowMs > this.revokedMs + LEASE_MS + 5)
      for (const node of this.nodes.values()) {
        const ended = node.plane.edges.filter(({ id }) => this.#gammas.has(hex(id))).map(({ index }) => index)
        if (node.plane.alive.some(({ edge }) => ended.includes(edge)))
          this.accuse(
            "revoked means stopped within the lease",
            `${node.id} still holds keys of an edge to gamma`,
          )
      }
    for (const node of this.nodes.values())
      for (const { index, id } of node.plane.edges)
        for (const held of node.plane.sealing(index)) {
          for (const peer of this.nodes.values()) {
            if (peer === node) continue
            const there = peer.plane.indexOf(id)
            const opening = there === undefined ? undefined : peer.plane.opening(held.spi)
            if (
              opening !== undefined &&
              opening.edge === there &&
              opening.lane === held.lane &&
              opening.key !== held.key
            )
              this.accuse(
                "both ends agree or have none",
                `${node.id} and ${peer.id} have different keys of one index`,
              )
          }
        }
  }

  /** Edges of gamma, by their ids. */
  get #gammas(): ReadonlySet<string> {
    return new Set(this.node("gamma").plane.edges.map(({ id }) => hex(id)))
  }

  /** Both ends of every edge send, and the other end opens it. */
  whole(): boolean {
    const gone = this.stored === this.domain.workflows[0] ? "" : "gamma"
    return [...this.nodes.values()].every((node) => {
      if (node.id === gone) return node.plane.alive.length === 0
      const { edges } = node.plane
      const wanted = node.id === "beta" && gone === "" ? 2 : 1
      if (edges.length !== wanted) return false
      return edges.every(({ index, id }) => {
        const sealing = node.plane.sealing(index)
        const peer = [...this.nodes.values()].find(
          (each) => each !== node && each.plane.indexOf(id) !== undefined,
        )
        const lanes = new Set(sealing.map(({ lane }) => lane)).size
        return (
          lanes > 0 &&
          peer !== undefined &&
          sealing.every(({ spi, key }) => peer.plane.opening(spi)?.key === key)
        )
      })
    })
  }

  stop(): void {
    serveBy(undefined)
  }
}

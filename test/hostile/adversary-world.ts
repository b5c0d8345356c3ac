/** A whole domain in one process on a bus that somebody hostile runs: the services as they are, on virtual time. */
import { Cause, Clock, Context, Effect, Layer, Logger, Scheduler } from "effect"
import type { ReleasePayload } from "../../schemas/messages/release.ts"
import { SignedWorkflow } from "../../schemas/workflow.ts"
import { encode } from "../../services/common/codec/index.ts"
import type { Crypto } from "../../services/common/crypto/index.ts"
import type { SecretKey } from "../../services/common/crypto/secret-key.ts"
import type { Rules } from "../../services/dataplane-loader/rules.ts"
import { type Sent, Server, serveBy } from "./adversary-bus.ts"
import { Ideal, type Sealing } from "./adversary-crypto.ts"
import {
  type Domain,
  forgetGuests,
  guests,
  LEASE_MS,
  type Machine,
  nodes,
  type Versions,
} from "./adversary-domain.ts"
import { vouchForAnybody } from "./adversary-liar.ts"
import { hex } from "./adversary-messages.ts"
import { disagreements, ModelPlane, sendsOnAll } from "./adversary-plane.ts"
import type { Scene } from "./adversary-scene.ts"
import { type Running, Services } from "./adversary-services.ts"
import { Chance, seize, VirtualTime } from "./adversary-virtual.ts"
import { AGREE, ASKED, type Asked, type InstalledFor, UNVOUCHED, Witness } from "./adversary-witness.ts"

/** A rule of the project that this run has broken. */
export class Broken extends Error {
  override readonly name = "Broken"
  readonly rule: string

  constructor(rule: string, detail: string) {
    super(`${rule}: ${detail}`)
    this.rule = rule
  }
}

export interface Node extends Asked {
  readonly id: string
  readonly crypto: Crypto
  plane: ModelPlane
  loader: Running | undefined
  boot: Uint8Array
  /** The next keys that it derives are wrong. */
  spoils: boolean
  /** What its kernel enforces. */
  rules: Rules | undefined
}

/** A guest of the control plane. */
interface ControlGuest {
  readonly control: string
  readonly verifier: string
  readonly releaser: string
  running: { verifier?: Running; releaser?: Running }
  /** What its verifier signs with, where it lies. */
  key?: SecretKey
}

/** What a control plane that lies breaks by itself. */
const LIARS: ReadonlySet<string> = new Set([UNVOUCHED, AGREE, ASKED])

export class World {
  readonly domain: Domain
  readonly time: VirtualTime
  readonly ideal: Ideal
  readonly server: Server
  readonly witness: Witness
  readonly nodes = new Map<string, Node>()
  readonly guests: ReadonlyArray<ControlGuest>
  readonly log: string[] = []
  readonly scene: Scene
  readonly workflows: Versions
  /** How often an honest node has taken keys with somebody who isn't its peer. */
  deceived = 0
  stored: SignedWorkflow
  broken: Broken | undefined
  /** What a releaser that lies seals instead. */
  lie: ((sealing: Sealing) => ReleasePayload | undefined) | undefined
  readonly #services: Services
  readonly #sealedUnder = new Set<string>()
  #doubles: Running[] = []
  #reignWallMs = 0

  constructor(domain: Domain, seed: number, scene: Scene, route: (sent: Sent) => void) {
    this.domain = domain
    this.scene = scene
    this.workflows = domain.workflows[scene.peers]
    this.stored = this.workflows[0]
    this.guests = guests.slice(0, scene.controls).map((each) => ({ ...each, running: {} }))
    const day = 86_400_000
    this.time = new VirtualTime(Math.floor(Date.now() / day) * day + day / 2)
    seize(this.time, Chance.of(seed, 0x7ff1))
    this.ideal = new Ideal(Chance.of(seed, 0x7ff2))
    this.witness = new Witness({
      domain: domain.name,
      time: this.time,
      ideal: this.ideal,
      accuse: this.accuse,
      asked: (id) => this.nodes.get(id),
      looksAtPeers: this.looksAtPeers,
    })
    this.ideal.onSeal = (sealing) => {
      this.witness.sealed(sealing)
      return this.lie?.(sealing)
    }
    this.ideal.onGenuine = (by, report) => this.witness.proofs.found(by, report)
    this.server = new Server((sent) => {
      this.witness.observe(sent)
      route(sent)
    })
    this.server.onHand = ({ identity: to }, sent) => this.witness.handed(to, sent)
    serveBy(this.server)
    this.#services = new Services(domain, this.time, this.#context(), this.accuse)
  }

  #context(): Context.Context<never> {
    const logger = Logger.make(({ message, cause, fiber: _ }) => {
      const text = `${[message]
        .flat()
        .map((each) => (typeof each === "string" ? each : JSON.stringify(each)))
        .join(" ")} ${cause.reasons.length > 0 ? Cause.pretty(cause) : ""}`
      this.log.push(`${Math.round(this.time.nowMs)} ${text}`)
      this.witness.expectNoSecret("a log line", new TextEncoder().encode(text))
      if (Cause.hasDies(cause)) this.accuse("no message crashes a service", text.slice(0, 600))
    })
    return Context.empty().pipe(
      Context.add(Clock.Clock, this.time.clock),
      Context.add(Scheduler.Scheduler, this.time.scheduler),
      Context.merge(Effect.runSync(Effect.scoped(Layer.build(Logger.layer([logger]))))),
    ) as Context.Context<never>
  }

  accuse = (rule: string, detail: string): void => {
    if (this.scene.lying && LIARS.has(rule)) return
    this.broken ??= new Broken(rule, `at ${Math.round(this.time.nowMs)} ms: ${detail}`)
  }

  node(id: string): Node {
    const found = this.nodes.get(id)
    if (found === undefined) throw new Error(id)
    return found
  }

  async start(): Promise<void> {
    for (const guest of this.guests) {
      const { control } = guest
      const machine = this.domain.control(control)
      const crypto = this.ideal.of(control)
      const directory = control
      await this.#services.attester({ id: control, machine, role: "control-plane", directory, crypto })
      await this.startVerifier(guest)
      await this.startReleaser(guest)
    }
    for (const { id } of nodes) {
      const node = this.#newNode(id)
      this.nodes.set(id, node)
      await this.#services.attester({
        id,
        machine: this.domain.machine(id),
        role: "node",
        directory: id,
        crypto: node.crypto,
        bootId: () => node.boot,
        onReport: (data) => this.witness.reported(id, data),
      })
      await this.startLoader(id)
    }
  }

  #newNode(id: string): Node {
    const node: Node = {
      id,
      crypto: this.ideal.of(`loader-${id}`, () => {
        const spoils = node.spoils
        node.spoils = false
        return spoils
      }),
      plane: this.#newPlane(id),
      loader: undefined,
      boot: this.ideal.random(16),
      spoils: false,
      lives: 0,
      asked: new Set(),
      newest: "",
      before: "",
      newestNs: 0n,
      newestMs: 0,
      rules: undefined,
    }
    return node
  }

  /** Whether nodes appraise each other, or somebody lies about them. */
  get looksAtPeers(): boolean {
    return this.scene.peers !== "results" || this.scene.lying
  }

  async startVerifier(guest: ControlGuest): Promise<void> {
    const { control, verifier, running } = guest
    await running.verifier?.stop()
    const crypto = this.ideal.of(`verifier-${verifier}`)
    if (!this.scene.lying || guest !== this.guests[0]) {
      running.verifier = await this.#services.verifier(verifier, control, crypto)
      return
    }
    const generate = () => {
      guest.key = crypto.ed25519.generate()
      return guest.key
    }
    const spied = { ...crypto, ed25519: { ...crypto.ed25519, generate } }
    const vouch = vouchForAnybody(this, spied, verifier, control)
    running.verifier = await this.#services.verifier(verifier, control, spied, vouch)
  }

  /** Of the verifier in the guest of a releaser that lies. */
  verifierKeyOf(by: string): SecretKey | undefined {
    return this.guests.find(({ releaser }) => by === `releaser-${releaser}`)?.key
  }

  /** By what a node knows a peer, by the document that its kernel enforces. */
  peersOf(node: string, peer: string): InstalledFor["peers"] {
    const found = this.nodes.get(node)?.rules?.edges.find(({ edge }) => edge.peer === peer)
    return found?.edge.peers ?? "results"
  }

  #installed(id: string, edgeId: Uint8Array, key: string): void {
    if (!this.looksAtPeers) return
    const rule = this.node(id).rules?.edges.find(({ record }) => hex(record.id) === hex(edgeId))
    const origin = this.ideal.originOf(`loader-${id}`, key)
    if (rule === undefined || origin === undefined)
      this.accuse("a kernel gets keys that were derived", `${id} has others`)
    else if (!this.witness.installed(id, rule.edge, origin)) this.deceived += 1
  }

  /** How long no releaser has been started, by the wall's clock. */
  get sinceReignMs(): number {
    return Math.floor(this.time.wallMs + this.time.nowMs - this.#reignWallMs)
  }

  async startReleaser({ control, releaser, running }: ControlGuest): Promise<void> {
    await running.releaser?.stop()
    this.#reignWallMs = this.time.wallMs + this.time.nowMs
    this.witness.began(releaser)
    running.releaser = await this.#services.releaser(releaser, control, this.ideal.of(`releaser-${releaser}`))
  }

  #newPlane(id: string): ModelPlane {
    return new ModelPlane({
      node: id,
      accuse: this.accuse,
      sealedUnder: this.#sealedUnder,
      latestLease: () => (this.nodes.get(id)?.newestNs ?? 0n) + BigInt(LEASE_MS) * 1_000_000n + 2_000_000n,
      onInstall: (edge, key) => this.#installed(id, edge.id, key),
    })
  }

  async startLoader(id: string): Promise<void> {
    const node = this.node(id)
    await node.loader?.stop()
    node.lives += 1
    const { crypto, plane: model } = node
    const onRules = (rules: Rules) => {
      node.rules = rules
    }
    node.loader = await this.#services.loader({
      id,
      owner: `loader-${id}`,
      crypto,
      model,
      directory: id,
      onRules,
    })
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
    const owner = "mallory"
    const bootId = () => new Uint8Array(16).fill(0xbb)
    const attester = { id, machine, role: "node" as const, directory, crypto, bootId, owner }
    this.#doubles.push(await this.#services.attester(attester))
    const model = new ModelPlane({
      node: `mallory as ${id}`,
      accuse: () => undefined,
      sealedUnder: new Set(),
      latestLease: () => 1n << 62n,
    })
    this.#doubles.push(await this.#services.loader({ id, owner, crypto, model, directory }))
  }

  /** Those who came in others' names are gone. */
  async withdraw(): Promise<void> {
    for (const each of this.#doubles.splice(0)) await each.stop()
  }

  /** All machines are stopped at once, and go on as if nothing had been. */
  standStill(ms: number): void {
    this.time.nowMs += ms
  }

  /** A new version of the workflow, in which gamma is no more. */
  revokeGamma(): void {
    this.stored = this.workflows[1]
    this.server.send({
      from: "operator-lab",
      owner: "operator",
      subject: `$KV.workflows.${this.domain.name}`,
      reply: undefined,
      data: encode(SignedWorkflow, this.stored),
      headers: {},
      status: 0,
    })
  }

  /** Whoever sends, the other end opens under the same key, or not at all. Who was revoked a lease ago does neither. */
  check(): void {
    const { revokedMs } = this.witness
    if (revokedMs !== undefined && this.time.nowMs > revokedMs + LEASE_MS + 5) this.#expectNoGammas()
    for (const detail of disagreements(this.#planes)) this.accuse("both ends agree or have none", detail)
  }

  get #planes(): ReadonlyMap<string, ModelPlane> {
    return new Map([...this.nodes].map(([id, { plane }]) => [id, plane]))
  }

  #expectNoGammas(): void {
    const gammas = new Set(this.node("gamma").plane.edges.map(({ id }) => hex(id)))
    for (const node of this.nodes.values()) {
      const ended = node.plane.edges.filter(({ id }) => gammas.has(hex(id))).map(({ index }) => index)
      if (node.plane.alive.some(({ edge }) => ended.includes(edge)))
        this.accuse(
          "revoked means stopped within the lease",
          `${node.id} still holds keys of an edge to gamma`,
        )
    }
  }

  /** Both ends of every edge send, and the other end opens it. */
  whole(): boolean {
    const gone = this.stored === this.workflows[0] ? "" : "gamma"
    const planes = this.#planes
    return [...this.nodes.values()].every((node) => {
      if (node.id === gone) return node.plane.alive.length === 0
      return sendsOnAll(planes, node.id, node.id === "beta" && gone === "" ? 2 : 1)
    })
  }

  stop(): void {
    serveBy(undefined)
    forgetGuests(this.domain)
  }
}

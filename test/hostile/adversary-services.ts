/** Starts and stops the project's services, as they are, on the simulated bus and clock. */
import { Cause, type Context, Effect, Exit, Redacted, Schedule, Scope } from "effect"
import type { Role } from "../../schemas/subjects.ts"
import { serveAttester } from "../../services/attester/service.ts"
import { Bus, identity } from "../../services/common/bus/bus.ts"
import type { Crypto } from "../../services/common/crypto/index.ts"
import { makeNode } from "../../services/dataplane-loader/node.ts"
import { compileRules, type Rules } from "../../services/dataplane-loader/rules.ts"
import { knowWorkflow } from "../../services/guest/known-workflow.ts"
import { serveReleaser } from "../../services/key-releaser/service.ts"
import type { VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import { serveVerifier, type VerifierOptions } from "../../services/verifier/service.ts"
import { connectAs, cut } from "./adversary-bus.ts"
import { DATAPLANE, type Domain, deviceOf, type Machine, newDirectory } from "./adversary-domain.ts"
import { PREFIX } from "./adversary-messages.ts"
import type { Accuse, ModelPlane } from "./adversary-plane.ts"
import type { VirtualTime } from "./adversary-virtual.ts"

/** A service that is told to end does what it has begun; after this it is killed. */
const END_MS = 1_000

export interface Running {
  readonly stop: () => Promise<void>
}

export interface AttesterOptions {
  readonly id: string
  readonly machine: Machine
  readonly role: "node" | "control-plane"
  /** The guest's own directory: its services find each other's public keys there. */
  readonly directory: string
  readonly crypto: Crypto
  readonly bootId?: () => Uint8Array
  readonly owner?: string
  /** The hardware signs this. */
  readonly onReport?: (reportData: Uint8Array) => void
}

export interface LoaderOptions {
  readonly id: string
  readonly owner: string
  readonly crypto: Crypto
  readonly model: ModelPlane
  readonly directory: string
  /** What the kernel is to enforce from now on. */
  readonly onRules?: (rules: Rules) => void
}

export class Services {
  readonly #domain: Domain
  readonly #time: VirtualTime
  readonly #context: Context.Context<never>
  readonly #accuse: Accuse

  constructor(domain: Domain, time: VirtualTime, context: Context.Context<never>, accuse: Accuse) {
    this.#domain = domain
    this.#time = time
    this.#context = context
    this.#accuse = accuse
  }

  attester(options: AttesterOptions): Promise<Running> {
    const { id, machine, role, directory, crypto, owner = `attester-${id}`, onReport = () => {} } = options
    const guest = {
      crypto,
      trust: this.#domain.trust,
      id,
      runDirectory: newDirectory(this.#domain, directory),
      device: deviceOf(machine, onReport),
      measureDataplane: () => DATAPLANE,
      bootId: options.bootId ?? (() => new Uint8Array(16)),
    }
    return this.#serve("attester", id, owner, () =>
      role === "node" ? serveAttester({ role, guest }) : serveAttester({ role, guest }),
    )
  }

  verifier(
    instance: string,
    control: string,
    crypto: Crypto,
    appraise?: VerifierOptions["appraise"],
  ): Promise<Running> {
    const { trust } = this.#domain
    const runDirectory = newDirectory(this.#domain, control)
    return this.#serve("verifier", instance, "verifier", () =>
      serveVerifier({ crypto, trust, instance, control, runDirectory, ...(appraise && { appraise }) }),
    )
  }

  releaser(instance: string, control: string, crypto: Crypto): Promise<Running> {
    const { trust } = this.#domain
    const runDirectory = newDirectory(this.#domain, control)
    return this.#serve("releaser", instance, "releaser", () =>
      serveReleaser({ crypto, trust, instance, control, runDirectory }),
    )
  }

  loader({ id, owner, crypto, model, directory, onRules = () => {} }: LoaderOptions): Promise<Running> {
    const { trust } = this.#domain
    const plane = model.plane()
    const runDirectory = newDirectory(this.#domain, directory)
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
        yield* bus.subscribe("beacon", {}, (beacon) => lives.onBeacon(beacon))
        yield* bus.subscribe("renew", { node: id }, (_, { sender }) => lives.onRenew(sender))
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
              onRules(rules)
              plane.setEdges({ edges: rules.edges.map(({ record }) => record), policies: [] })
              known = { workflow, rules }
            }),
        })
        yield* Effect.forkScoped(
          lives.tell.pipe(Effect.ignore({ log: true }), Effect.repeat(Schedule.spaced(3_000))),
        )
        yield* Effect.forkScoped(
          lives.live(() => (newest.current() === undefined ? undefined : known), newest.doubt),
        )
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
      this.#accuse("every service stays alive", `${role}-${instance}: ${why}`)
    })
    await this.#time.settle()
    const stop = async () => {
      stopped = true
      fiber.interruptUnsafe()
      await this.#time.settle()
      const closing = Effect.runForkWith(this.#context)(Scope.close(scope, Exit.void))
      // What a service waits for when it ends passes on the same clock.
      const endMs = this.#time.nowMs + END_MS
      // Subscriptions belong to the connection too, which ends with the service itself.
      const isEnding = () => closing.pollUnsafe() === undefined || fiber.pollUnsafe() === undefined
      while (isEnding() && this.#time.nowMs < endMs) await this.#time.step(endMs)
      cut(config.identity.name, owner)
    }
    return { stop }
  }
}

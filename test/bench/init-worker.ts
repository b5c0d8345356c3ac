/**
 * A process with a share of the init bench's nodes. Each has its own two connections (loader, attester), keys, emulated
 * machine and maps; the code is that of the services. Told by its parent what to do, and tells it what happened and when.
 */

import { readFileSync, writeFileSync } from "node:fs"
import { Session } from "node:inspector"
import { join } from "node:path"
import { Context, Effect, Fiber, Layer, Logger, Redacted, Schedule, type Scope } from "effect"
import { readIpv4 } from "../../schemas/address.ts"
import { answerNode, type NodeGuest } from "../../services/attester/answer.ts"
import { DeviceQueue } from "../../services/attester/device-queue.ts"
import { Bus, type BusConfig, type BusShape, identity } from "../../services/common/bus/bus.ts"
import { loadTrust, type Trust } from "../../services/common/config/anchors.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { bootId } from "../../services/common/kernel/clock.ts"
import { makeNode } from "../../services/dataplane-loader/node.ts"
import { compileRules, type Rules } from "../../services/dataplane-loader/rules.ts"
import { TELL_LOOK_MS } from "../../services/dataplane-loader/telling.ts"
import { emulatedSnp } from "../../services/evidence/providers/index.ts"
import { knowWorkflow } from "../../services/guest/known-workflow.ts"
import type { VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import { FirstExchange } from "./init-first.ts"
import type { FromWorker, NodeTimes, ToWorker, WorkerOrder } from "./init-messages.ts"
import { type MapSets, mapSets, type NodePlane, planeOver } from "./init-plane.ts"

const tell = (message: FromWorker): void => void process.send?.(message)
/** CLOCK_MONOTONIC in ms: the same in all processes of a machine. */
const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6

/** A round is short. */
const PROFILE_INTERVAL_US = 200
const ESP_PORT = 4_500
const NO_ADDRESS = 0xff_ff_ff_ff

interface Member {
  readonly id: string
  readonly guest: NodeGuest
  readonly loader: BusShape
  readonly attester: BusShape
  readonly trust: Trust
  readonly runDirectory: string
  node: ReturnType<typeof makeNode> | undefined
  plane: NodePlane | undefined
  rules: Rules | undefined
  times: Partial<NodeTimes>
  /** How many edges are not in use yet. */
  left: number
}

const open = (config: BusConfig) =>
  Effect.gen(function* () {
    const scope: Scope.Scope = yield* Effect.scope
    return Context.get(yield* Layer.buildWithScope(Bus.layer(config), scope), Bus)
  })

/** Notes when the steps of a node's life were done; the bus is otherwise the same. */
const timed = (bus: BusShape, member: () => Member): BusShape => ({
  ...bus,
  request: (name, tokens, value, options) =>
    bus.request(name, tokens, value, options).pipe(
      Effect.tap((reply) =>
        Effect.sync(() => {
          if ("kind" in reply && reply.kind === "refused") return
          const step = name === "hello" || name === "attest" ? name : "evidence"
          member().times[step] ??= nowMs()
        }),
      ),
    ),
})

const run = (order: WorkerOrder) =>
  Effect.gen(function* () {
    const sets: MapSets = yield* Effect.acquireRelease(
      Effect.sync(() => mapSets(order.object)),
      (open) => Effect.sync(open.close),
    )
    const trust = loadTrust(order.anchors)
    const dataplane = Buffer.from(order.dataplane, "hex")
    let workflow: VerifiedWorkflow | undefined
    let started = false
    let waiting = 0

    const config = (role: "loader" | "attester", id: string): BusConfig => ({
      url: order.url,
      prefix: order.prefix,
      seed: Redacted.make(new Uint8Array(readFileSync(join(order.directory, "seeds", `${role}-${id}.nk`)))),
      identity: identity(role, id),
    })

    const join_ = Effect.fnUntraced(function* (id: string) {
      const runDirectory = join(order.directory, "guests", id)
      const guest: NodeGuest = {
        crypto,
        // Two processes in a guest: each reads the anchors for itself, and remembers certificates for itself.
        trust: loadTrust(order.anchors),
        id,
        runDirectory,
        device: new DeviceQueue(emulatedSnp(join(runDirectory, "snp-guest.json")), { timeoutMs: 10_000 }),
        measureDataplane: () => dataplane,
        bootId,
      }
      const attester = yield* open(config("attester", id))
      const loader = yield* open(config("loader", id))
      const member: Member = {
        id,
        guest,
        loader,
        attester,
        trust: loadTrust(order.anchors),
        runDirectory,
        node: undefined,
        plane: undefined,
        rules: undefined,
        times: {},
        left: 0,
      }
      yield* attester.serve("attest", { node: id }, (value) =>
        Effect.suspend(() => {
          const current = workflow
          if (current === undefined || value.kind !== "attest-node") return Effect.die("not started")
          return Effect.promise(() => answerNode(guest, current, value))
        }),
      )
      yield* loader.subscribe("release", { node: id }, (signed) => {
        if (!started) return Effect.void
        member.times.release ??= nowMs()
        if (member.left > 0) member.times.releases = (member.times.releases ?? 0) + 1
        return member.node?.onRelease(signed) ?? Effect.void
      })
      return member
    })

    const members = yield* Effect.forEach(order.nodes, join_, { concurrency: 16 })
    const [first] = members
    if (first === undefined) return yield* Effect.die("a worker without nodes")

    const byId = new Map(members.map((member) => [member.id, member]))
    const exchange = new FirstExchange(sets.object, tell, (id) => {
      const member = byId.get(id)
      if (member === undefined) return
      member.times.first = nowMs()
      waiting -= 1
      if (waiting > 0) return
      const nodes = members.map(({ id, times }) => ({ id, ...(times as NodeTimes) }))
      tell({ kind: "done", nodes, tried: exchange.tried })
    })

    /** An association that packets are sent under from now on, of an edge that had none. */
    const activated = (member: Member): void => {
      member.left -= 1
      if (member.left > 0) return
      member.times.active = nowMs()
      // The node acknowledges first.
      setImmediate(() => exchange.inUse(member.id))
    }

    const prepare = (): void => {
      const current = workflow
      if (current === undefined) throw new Error("no workflow")
      started = false
      for (const member of members) {
        member.plane?.close()
        const plane = planeOver(sets.make(order.mapsOnDemand), dataplane)
        const rules = compileRules(current, {
          crypto,
          nodeId: member.id,
          wireMtu: 1500,
          wireFamilies: [4],
          espPort: ESP_PORT,
          present: { edges: [], policies: [] },
        })
        plane.setEdges({
          edges: rules.edges.map((r) => r.record),
          policies: rules.edges.flatMap((r) => r.policies),
        })
        plane.configure({
          innerAddress: readIpv4(rules.node.address ?? ""),
          innerAddress6: undefined,
          wireAddress: readIpv4(rules.node.wire),
          wireAddress6: undefined,
          // No bus is reached over these wires.
          busAddress: NO_ADDRESS,
          busAddress6: undefined,
          busPort: 1,
          espPort: ESP_PORT,
          innerMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
        })
        const inUse = new Set<number>()
        member.plane = plane
        member.rules = rules
        member.times = {}
        member.left = rules.edges.length
        member.node = makeNode(
          timed(member.loader, () => member),
          {
            crypto,
            trust: member.trust,
            node: member.id,
            runDirectory: member.runDirectory,
            plane: {
              ...plane,
              activate: (edge, lane, spi) => {
                plane.activate(edge, lane, spi)
                if (lane !== 0 || inUse.has(edge)) return
                inUse.add(edge)
                activated(member)
              },
            },
            watch: { whole: true, breaks: 0 },
            backend: "bench",
          },
        )
      }
      waiting = members.filter(({ left }) => left > 0).length
      exchange.begin(
        members.flatMap(({ id, plane, rules }) =>
          plane === undefined || rules === undefined ? [] : [{ id, plane, rules }],
        ),
      )
    }

    let lives: ReadonlyArray<Fiber.Fiber<unknown, unknown>> = []
    const start = Effect.gen(function* () {
      const now = workflow
      started = true
      lives = yield* Effect.forEach(members, ({ node, rules }) =>
        Effect.forkScoped(
          node?.live(() =>
            now === undefined || rules === undefined ? undefined : { workflow: now, rules },
          ) ?? Effect.void,
        ),
      )
    })

    /** What the nodes' services do besides when all is well. Each looks at the document; one of them reads it for all. */
    const steady = Effect.forEach(
      members,
      ({ node, loader, attester }) =>
        Effect.all([
          Effect.forkScoped(
            (node?.tell ?? Effect.void).pipe(Effect.repeat(Schedule.spaced(TELL_LOOK_MS)), Effect.ignore),
          ),
          loader.workflows.watch(trust.domain, () => Effect.void),
          attester.workflows.watch(trust.domain, () => Effect.void),
        ]),
      { concurrency: 16, discard: true },
    )

    yield* knowWorkflow(crypto, trust, {
      onChange: (next) =>
        Effect.sync(() => {
          workflow = next
          tell({ kind: "knows", version: next.document.version })
        }),
    }).pipe(Effect.provideService(Bus, first.loader))

    // Begun after the object was loaded: a profiler's signals interrupt the kernel's verifier.
    const profiler = order.profile === undefined ? undefined : new Session()
    const profile = (path: string) =>
      profiler?.post("Profiler.stop", (error, { profile: found }) => {
        if (error === null) writeFileSync(path, JSON.stringify(found))
      })
    profiler?.connect()
    profiler?.post("Profiler.enable")
    profiler?.post("Profiler.setSamplingInterval", { interval: PROFILE_INTERVAL_US })

    const context = yield* Effect.context<Scope.Scope>()
    return yield* Effect.callback<void>((resume) => {
      const obey = (message: ToWorker): void => {
        if (message.kind === "prepare") {
          prepare()
          tell({ kind: "prepared", rssMb: Math.round(process.memoryUsage.rss() / 1_048_576) })
        } else if (message.kind === "start") {
          profiler?.post("Profiler.start")
          Effect.runForkWith(context)(start)
        } else if (message.kind === "open" || message.kind === "seal") {
          exchange.receive(message)
        } else if (message.kind === "steady") {
          Effect.runForkWith(context)(steady)
        } else if (message.kind === "rest") {
          if (order.profile !== undefined) profile(order.profile)
          Effect.runForkWith(context)(
            Fiber.interruptAll(lives).pipe(Effect.andThen(Effect.sync(() => tell({ kind: "rested" })))),
          )
        } else resume(Effect.void)
      }
      process.on("message", (message: ToWorker) => {
        try {
          obey(message)
        } catch (error) {
          tell({ kind: "failed", message: String(error) })
        }
      })
      tell({ kind: "ready" })
    })
  })

// Without its parent it has nobody to work for.
process.once("disconnect", () => process.exit())
process.on("uncaughtException", (error) => tell({ kind: "failed", message: String(error) }))
process.once("message", (order: WorkerOrder) => {
  void Effect.runPromise(
    Effect.scoped(run(order)).pipe(Effect.provide(Logger.layer([])), Effect.tapCause(Effect.logError)),
  )
    .catch((error: unknown) => tell({ kind: "failed", message: String(error) }))
    .finally(() => process.disconnect?.())
})

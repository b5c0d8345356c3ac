/** Nodes that follow whatever workflow is in force, and the operator's tool as a process of its own. */
import { spawn } from "node:child_process"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import { CHECKOUT } from "../../infra/lab/hardware.ts"
import { Bus } from "../../services/common/bus/bus.ts"
import { makeNode } from "../../services/dataplane-loader/node.ts"
import { compileRules, type Rules } from "../../services/dataplane-loader/rules.ts"
import { knowWorkflow } from "../../services/guest/known-workflow.ts"
import type { VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import { type PlayedNode, type RecordedPlane, recordedPlane } from "./nodes.ts"
import { crypto, hex, type World } from "./support.ts"

export interface Follower extends RecordedPlane {
  readonly stop: () => Promise<void>
  /** Takes the node's leave, as the loader does before it ends. */
  readonly leave: () => Promise<void>
  readonly rules: () => Rules | undefined
}

/** A loader without a kernel that takes up each new document as the real one does. */
export const follow = (world: World, node: PlayedNode): Follower => {
  const recorded = recordedPlane()
  const { trust } = world
  let known: { workflow: VerifiedWorkflow; rules: Rules } | undefined
  const lives = makeNode(node.bus, {
    crypto,
    trust,
    node: node.id,
    runDirectory: node.runDirectory,
    plane: recorded.plane,
    watch: { whole: true, breaks: 0 },
    backend: "none",
  })
  const onChange = (workflow: VerifiedWorkflow) =>
    Effect.sync(() => {
      const present = {
        edges: known?.rules.edges.map(({ record }) => record) ?? [],
        policies: known?.rules.edges.flatMap(({ policies }) => policies) ?? [],
      }
      try {
        const rules = compileRules(workflow, {
          crypto,
          nodeId: node.id,
          wireMtu: 1_500,
          wireFamilies: [4],
          espPort: 4_500,
          present,
        })
        known = { workflow, rules }
      } catch {
        known = undefined
      }
    })
  const stop = world.begin(
    Effect.gen(function* () {
      yield* node.bus.subscribe("release", { node: node.id }, (signed) => lives.onRelease(signed))
      yield* knowWorkflow(crypto, trust, { onChange }).pipe(Effect.provideService(Bus, node.bus))
      yield* lives.live(() => known)
    }),
  )
  return { ...recorded, stop, rules: () => known?.rules, leave: () => world.run(lives.leave) }
}

/** The tool as the operator runs it. */
export const vouchsafe = (
  world: World,
  ...args: ReadonlyArray<string>
): Promise<{ readonly status: number; readonly out: string; readonly err: string }> => {
  const directory = world.newDirectory(`cli-${hex(crypto.randomBytes(4))}`)
  const [seed, key] = [join(directory, "seed"), join(directory, "operator.key")]
  writeFileSync(seed, world.nats.seed("operator", "lab"), { mode: 0o600 })
  writeFileSync(key, `${hex(world.operator.reveal("ed25519"))}\n`, { mode: 0o600 })
  const child = spawn(
    process.execPath,
    [join(CHECKOUT, "services", "cli", "main.ts"), ...args, "--domain", "lab", "--key", key],
    {
      env: {
        PATH: process.env.PATH,
        VOUCHSAFE_NATS_URL: world.nats.url,
        VOUCHSAFE_NATS_SEED: seed,
        VOUCHSAFE_INSTANCE: "lab",
      },
      stdio: ["ignore", "pipe", "pipe"],
    },
  )
  let [out, err] = ["", ""]
  child.stdout.on("data", (chunk: Buffer) => {
    out += chunk.toString()
  })
  child.stderr.on("data", (chunk: Buffer) => {
    err += chunk.toString()
  })
  return new Promise((resolve) => child.once("close", (status) => resolve({ status: status ?? 1, out, err })))
}

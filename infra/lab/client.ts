/** The lab as operator and auditor on its own bus: applies the workflow, follows events and statistics. */
import { readFileSync } from "node:fs"
import { Effect, Logger, ManagedRuntime, Redacted } from "effect"
import type { Stats } from "../../schemas/messages/stats.ts"
import { DEFAULT_PREFIX } from "../../schemas/subjects.ts"
import type { SignedWorkflow } from "../../schemas/workflow.ts"
import { Bus } from "../../services/common/bus/bus.ts"
import { identity } from "../../services/common/bus/subject.ts"
import type { StoredEvent } from "../../services/common/bus/types.ts"

export interface Client {
  ensureStreams(): Promise<void>
  apply(domain: string, workflow: SignedWorkflow): Promise<void>
  /** Stored events after this stream sequence, oldest first. */
  events(after: number): Promise<ReadonlyArray<StoredEvent>>
  close(): Promise<void>
}

const BATCH = 256

/** Connects as `operator-<instance>`. `onStats` gets every node's statistics as they come. */
export const connectOperator = async (
  url: string,
  instance: string,
  seedPath: string,
  onStats: (stats: Stats) => void,
): Promise<Client> => {
  const layer = Bus.layer({
    url,
    prefix: DEFAULT_PREFIX,
    seed: Redacted.make(new TextEncoder().encode(readFileSync(seedPath, "utf8").trim())),
    identity: identity("operator", instance),
  })
  const runtime = ManagedRuntime.make(layer)
  const quiet = Effect.provide(Logger.layer([]))
  const run = <A, E>(effect: Effect.Effect<A, E, Bus>): Promise<A> => runtime.runPromise(effect.pipe(quiet))
  await run(Effect.asVoid(Bus))
  const following = runtime.runFork(
    Effect.gen(function* () {
      const bus = yield* Bus
      yield* bus.subscribe("stats", {}, (stats) => Effect.sync(() => onStats(stats)))
      return yield* Effect.never
    }).pipe(Effect.scoped, quiet),
  )
  return {
    ensureStreams: () => run(Effect.flatMap(Bus, (bus) => bus.ensureStreams)),
    apply: (domain, workflow) =>
      run(Effect.flatMap(Bus, (bus) => Effect.asVoid(bus.workflows.put(domain, workflow)))),
    events: (after) => run(Effect.flatMap(Bus, (bus) => bus.history({ after, most: BATCH }))),
    close: async () => {
      following.interruptUnsafe()
      await runtime.dispose()
    },
  }
}

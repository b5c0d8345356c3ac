/** Runs a program with a bus for each of some identities of a test's server; all are closed at its end. */
import { Context, Effect, Layer, Logger, type Scope } from "effect"
import { Bus, type BusShape } from "../../services/common/bus/bus.ts"
import type { TestNats } from "./nats.ts"

export type Who = Parameters<TestNats["config"]>

export const openBus = (nats: TestNats, ...who: Who) =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    return Context.get(yield* Layer.buildWithScope(Bus.layer(nats.config(...who)), scope), Bus)
  })

type Buses<W extends ReadonlyArray<Who>> = { readonly [K in keyof W]: BusShape }

export const withBuses = <const W extends ReadonlyArray<Who>, A>(
  nats: TestNats,
  who: W,
  program: (...buses: Buses<W>) => Effect.Effect<A, unknown, Scope.Scope>,
): Promise<A> =>
  Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const buses = yield* Effect.forEach(who, (one) => openBus(nats, one[0], one[1]))
        return yield* program(...(buses as unknown as Buses<W>))
      }),
    ).pipe(Effect.provide(Logger.layer([]))),
  )

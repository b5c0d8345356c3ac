/** The smallest service there is, for tests of the frame: it answers every hello with a refusal, after a while. */
import { Config, Effect } from "effect"
import { Bus, busConfig } from "../../services/common/bus/bus.ts"
import { runService } from "../../services/common/process/index.ts"

runService({
  name: "greeter",
  about: "answers hellos",
  settings: Config.all({
    bus: busConfig("verifier"),
    delayMs: Config.Int("GREETER_DELAY_MS").pipe(Config.withDefault(0)),
  }),
  variables: [["GREETER_DELAY_MS", "how long an answer takes"]],
  main: ({ bus: config, delayMs }) =>
    Effect.gen(function* () {
      const bus = yield* Bus
      yield* bus.serve(
        "hello",
        {},
        ({ node }) =>
          Effect.logInfo("asked").pipe(
            Effect.andThen(Effect.sleep(delayMs)),
            Effect.as({
              v: 1,
              kind: "refused",
              by: bus.identity.name,
              code: "HELLO",
              field: node,
              message: "",
            } as const),
          ),
        { perSenderMax: 64 },
      )
      yield* bus.event({ type: "vouchsafe.service.ready", data: {} })
      yield* Effect.logInfo("ready", { prefix: bus.prefix })
      return yield* bus.closed
    }).pipe(Effect.provide(Bus.layer(config))),
})

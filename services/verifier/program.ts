import { Config, Effect, Option } from "effect"
import { Bus, busConfig } from "../common/bus/bus.ts"
import { loadTrust } from "../common/config/anchors.ts"
import { openRunDirectory } from "../common/config/guest-keys.ts"
import { crypto } from "../common/crypto/index.ts"
import { runService } from "../common/process/index.ts"
import { collateralVariables, makeCollateralCache } from "../guest/collateral-cache.ts"
import { verifierConfig } from "./config.ts"
import { defaultThreads, makePool, THREADS_MAX } from "./pool.ts"
import { serveVerifier } from "./service.ts"

runService({
  name: "verifier",
  about:
    "challenges nodes, appraises their Evidence against the signed workflow, and signs what they have proven",
  settings: Config.all({ bus: busConfig("verifier"), own: verifierConfig }),
  variables: [
    ["VOUCHSAFE_CONTROL_NODE", "the instance of this guest's own attester"],
    ["VOUCHSAFE_RUN_DIR", "root-only directory where this guest's services leave their public keys"],
    [
      "VOUCHSAFE_ANCHORS",
      "the guest's measured configuration: operators and control plane to believe (JSON)",
    ],
    [
      "VOUCHSAFE_APPRAISAL_THREADS",
      `threads that appraise, 0 to ${THREADS_MAX}; 0: the service's own (${defaultThreads()})`,
    ],
    ["VOUCHSAFE_RECORDS", "a folder that keeps the last verdicts of each node, to be replayed (none)"],
    ...collateralVariables,
  ],
  main: ({ bus, own }) =>
    Effect.gen(function* () {
      const { instance, runDirectory, anchors } = own.guest
      openRunDirectory(runDirectory)
      const { view, snapshot } = yield* makeCollateralCache({ settings: own.collateral })
      const pool =
        own.threads === 0
          ? undefined
          : yield* makePool({
              threads: own.threads,
              instance,
              control: own.control,
              stale: own.collateral.stale,
              snapshot,
            })
      return yield* serveVerifier({
        crypto,
        trust: loadTrust(anchors),
        instance,
        control: own.control,
        runDirectory,
        collateral: view,
        snapshot,
        ...(pool && { appraise: (...of: Parameters<typeof pool.appraise>) => pool.appraise(...of) }),
        ...(Option.isSome(own.records) && { records: own.records.value }),
      })
    }).pipe(Effect.provide(Bus.layer(bus))),
})

import { Config, Effect } from "effect"
import { Bus, busConfig } from "../common/bus/bus.ts"
import { loadTrust } from "../common/config/anchors.ts"
import { openRunDirectory } from "../common/config/guest-keys.ts"
import { crypto } from "../common/crypto/index.ts"
import { runService } from "../common/process/index.ts"
import { collateralVariables } from "../guest/collateral-cache.ts"
import { controlCollateral } from "../guest/control-collateral.ts"
import { releaserConfig } from "./config.ts"
import { serveReleaser } from "./service.ts"

runService({
  name: "key-releaser",
  about: "turns a signed workflow and fresh results into epochs and leases, sealed to each node",
  settings: Config.all({ bus: busConfig("releaser"), own: releaserConfig }),
  variables: [
    ["VOUCHSAFE_CONTROL_NODE", "the instance of this guest's own attester"],
    ["VOUCHSAFE_RUN_DIR", "root-only directory where this guest's services leave their public keys"],
    [
      "VOUCHSAFE_ANCHORS",
      "the guest's measured configuration: operators and control plane to believe (JSON)",
    ],
    ...collateralVariables,
  ],
  main: ({ bus, own }) =>
    Effect.gen(function* () {
      const { instance, runDirectory, anchors } = own.guest
      openRunDirectory(runDirectory)
      const trust = loadTrust(anchors)
      const collateral = yield* controlCollateral(trust, own.collateral)
      return yield* serveReleaser({
        crypto,
        trust,
        instance,
        control: own.control,
        runDirectory,
        collateral,
      })
    }).pipe(Effect.provide(Bus.layer(bus))),
})

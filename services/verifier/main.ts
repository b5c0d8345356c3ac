import { Config, Effect } from "effect"
import { Bus, busConfig } from "../common/bus/bus.ts"
import { loadTrust } from "../common/config/anchors.ts"
import { openRunDirectory } from "../common/config/guest-keys.ts"
import { crypto } from "../common/crypto/index.ts"
import { runService } from "../common/process/index.ts"
import { verifierConfig } from "./config.ts"
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
  ],
  main: ({ bus, own }) =>
    Effect.suspend(() => {
      const { instance, runDirectory, anchors } = own.guest
      openRunDirectory(runDirectory)
      return serveVerifier({
        crypto,
        trust: loadTrust(anchors),
        instance,
        control: own.control,
        runDirectory,
      })
    }).pipe(Effect.provide(Bus.layer(bus))),
})

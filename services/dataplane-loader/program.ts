import { Config } from "effect"
import { busConfig } from "../common/bus/bus.ts"
import { runService } from "../common/process/index.ts"
import { collateralVariables } from "../guest/collateral-cache.ts"
import { loaderConfig } from "./config.ts"
import { runLoader, teardown } from "./service.ts"

runService({
  name: "dataplane-loader",
  about:
    "loads a node's data plane default-deny, has the node attested, and turns releases into keys in the kernel",
  settings: Config.all({ bus: busConfig("loader"), own: loaderConfig }),
  variables: [
    ["VOUCHSAFE_RUN_DIR", "root-only directory where this guest's services leave their public keys"],
    [
      "VOUCHSAFE_ANCHORS",
      "the guest's measured configuration: operators and control plane to believe (JSON)",
    ],
    ["VOUCHSAFE_OBJECT", "the compiled data plane, bpf/build/vouchsafe.bpf.o"],
    ["VOUCHSAFE_PINS", "directory below /sys/fs/bpf for this node's programs and maps"],
    ["VOUCHSAFE_WIRE_DEVICE", "the untrusted wire (wire0)"],
    [
      "VOUCHSAFE_WIRE_ADDRESS",
      "this node's address on it, IPv4 or IPv6; or one of each, with a comma between",
    ],
    ["VOUCHSAFE_INNER_DEVICE", "the far end of the internal veth (m1)"],
    ["VOUCHSAFE_INNER_MAC", "Ethernet address of its near end, m0"],
    [
      "VOUCHSAFE_KEEPALIVE_SECONDS",
      "how often to keep a NAT's translations alive: 20 behind one, 0 (the default) elsewhere",
    ],
    ["VOUCHSAFE_METRICS", "address and port for Prometheus, such as 127.0.0.1:9464; without it, none"],
    ...collateralVariables,
  ],
  main: (settings) => runLoader(settings),
  commands: {
    "--leave": {
      about: "as without, but a signal makes the node leave: its keys and its peers' end at once",
      main: (settings) => runLoader(settings, true),
    },
    "--teardown": { about: "detach and unpin the data plane for good, and end", main: teardown },
  },
})

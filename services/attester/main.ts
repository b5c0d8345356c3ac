import { Config, Effect } from "effect"
import { Bus, busConfig } from "../common/bus/bus.ts"
import { loadTrust } from "../common/config/anchors.ts"
import { openRunDirectory } from "../common/config/guest-keys.ts"
import { crypto } from "../common/crypto/index.ts"
import { bootId } from "../common/kernel/clock.ts"
import { measureAttached } from "../common/kernel/measure.ts"
import { ifIndex } from "../common/kernel/netdev.ts"
import { runService } from "../common/process/index.ts"
import { emulatedSnpDevice } from "../evidence/provider.ts"
import type { Guest } from "./answer.ts"
import { type AttesterConfig, attesterConfig } from "./config.ts"
import { type Role, serveAttester } from "./service.ts"

const roleOf = ({ guest, role, device, wireDevice, innerDevice }: AttesterConfig): Role => {
  openRunDirectory(guest.runDirectory)
  const own: Guest = {
    crypto,
    trust: loadTrust(guest.anchors),
    id: guest.instance,
    runDirectory: guest.runDirectory,
    device: emulatedSnpDevice(device.slice("emulated-snp:".length)),
    now: () => new Date(),
  }
  if (role === "control-plane") return { role, guest: own }
  const measureDataplane = () =>
    measureAttached({ wireIfindex: ifIndex(wireDevice), innerIfindex: ifIndex(innerDevice) }).digest
  return { role, guest: { ...own, measureDataplane, bootId } }
}

runService({
  name: "attester",
  about: "answers challenges with hardware Evidence about this guest",
  settings: Config.all({ bus: busConfig("attester"), own: attesterConfig }),
  variables: [
    ["VOUCHSAFE_ROLE", "node or control-plane"],
    ["VOUCHSAFE_DEVICE", "what makes the Evidence: emulated-snp:/path/of/the/machine's/state"],
    ["VOUCHSAFE_RUN_DIR", "root-only directory where this guest's services leave their public keys"],
    [
      "VOUCHSAFE_ANCHORS",
      "the guest's measured configuration: operators and control plane to believe (JSON)",
    ],
    ["VOUCHSAFE_WIRE_DEVICE", "node only: the untrusted wire (wire0)"],
    ["VOUCHSAFE_INNER_DEVICE", "node only: the far end of the internal veth (m1)"],
  ],
  main: ({ bus, own }) =>
    Effect.suspend(() => serveAttester(roleOf(own))).pipe(Effect.provide(Bus.layer(bus))),
})

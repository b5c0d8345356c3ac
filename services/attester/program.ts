import { Config, Effect } from "effect"
import { Bus, busConfig } from "../common/bus/bus.ts"
import { loadTrust } from "../common/config/anchors.ts"
import { openRunDirectory, writeEndorsement } from "../common/config/guest-keys.ts"
import { crypto } from "../common/crypto/index.ts"
import { bootId } from "../common/kernel/clock.ts"
import { measureAttached } from "../common/kernel/measure.ts"
import { ifIndex } from "../common/kernel/netdev.ts"
import { runService } from "../common/process/index.ts"
import type { Guest } from "./answer.ts"
import { type AttesterConfig, attesterConfig, attesterVariables } from "./config.ts"
import { checkDevice, openDevice } from "./device.ts"
import type { DeviceQueue } from "./device-queue.ts"
import { type Role, serveAttester } from "./service.ts"

const roleOf = (config: AttesterConfig, device: DeviceQueue): Role => {
  const { guest, role, wireDevice, innerDevice } = config
  openRunDirectory(guest.runDirectory)
  const trust = loadTrust(guest.anchors)
  const own: Guest = {
    crypto,
    trust,
    id: guest.instance,
    runDirectory: guest.runDirectory,
    device,
  }
  if (role === "control-plane") return { role, guest: own }
  writeEndorsement(guest.runDirectory, device.provider.endorsement?.keys)
  const measureDataplane = () =>
    measureAttached({ wireIfindex: ifIndex(wireDevice), innerIfindex: ifIndex(innerDevice) }).digest
  return { role, guest: { ...own, measureDataplane, bootId } }
}

runService({
  name: "attester",
  about: "answers challenges with hardware Evidence about this guest",
  settings: Config.all({ bus: busConfig("attester"), own: attesterConfig }),
  variables: attesterVariables,
  check: ({ own }) => Effect.scoped(checkDevice(own)),
  main: ({ bus, own }) =>
    openDevice(own).pipe(
      Effect.flatMap((device) => serveAttester(roleOf(own, device))),
      Effect.provide(Bus.layer(bus)),
    ),
})

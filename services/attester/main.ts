import { Config, Effect } from "effect"
import { Bus, busConfig } from "../common/bus/bus.ts"
import { loadTrust } from "../common/config/anchors.ts"
import { openRunDirectory, writeEndorsement } from "../common/config/guest-keys.ts"
import { crypto } from "../common/crypto/index.ts"
import { bootId } from "../common/kernel/clock.ts"
import { measureAttached } from "../common/kernel/measure.ts"
import { ifIndex } from "../common/kernel/netdev.ts"
import { runService } from "../common/process/index.ts"
import { controlCollateral } from "../guest/control-collateral.ts"
import type { Guest } from "./answer.ts"
import { type AttesterConfig, attesterConfig, attesterVariables } from "./config.ts"
import { checkDevice, openDevice } from "./device.ts"
import type { DeviceQueue } from "./device-queue.ts"
import { type Role, serveAttester } from "./service.ts"

const roleOf = Effect.fnUntraced(function* (config: AttesterConfig, device: DeviceQueue) {
  const { guest, role, wireDevice, innerDevice } = config
  openRunDirectory(guest.runDirectory)
  const trust = loadTrust(guest.anchors)
  const own: Guest = {
    crypto,
    trust,
    id: guest.instance,
    runDirectory: guest.runDirectory,
    device,
    now: () => new Date(),
  }
  if (role === "control-plane") return { role, guest: own } satisfies Role
  const collateral = yield* controlCollateral(trust, config.collateral)
  writeEndorsement(guest.runDirectory, device.provider.endorsement?.keys)
  const measureDataplane = () =>
    measureAttached({ wireIfindex: ifIndex(wireDevice), innerIfindex: ifIndex(innerDevice) }).digest
  return { role, guest: { ...own, measureDataplane, bootId, collateral } } satisfies Role
})

runService({
  name: "attester",
  about: "answers challenges with hardware Evidence about this guest",
  settings: Config.all({ bus: busConfig("attester"), own: attesterConfig }),
  variables: attesterVariables,
  check: ({ own }) => Effect.scoped(checkDevice(own)),
  main: ({ bus, own }) =>
    openDevice(own).pipe(
      Effect.flatMap((device) => Effect.flatMap(roleOf(own, device), serveAttester)),
      Effect.provide(Bus.layer(bus)),
    ),
})

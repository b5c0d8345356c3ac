import { Config, Schema } from "effect"
import { guestConfig } from "../guest/config.ts"

const device = Schema.String.check(Schema.isPattern(/^emulated-snp:\/[^\0]{1,4094}$/))

export const attesterConfig = Config.all({
  guest: guestConfig,
  role: Config.Literals(["node", "control-plane"], "VOUCHSAFE_ROLE"),
  /** `emulated-snp:/path/of/the/machine's/state`. */
  device: Config.schema(device, "VOUCHSAFE_DEVICE"),
  /** Where the data plane is attached; only looked at in the role of a node. */
  wireDevice: Config.String("VOUCHSAFE_WIRE_DEVICE").pipe(Config.withDefault("wire0")),
  innerDevice: Config.String("VOUCHSAFE_INNER_DEVICE").pipe(Config.withDefault("m1")),
})
export type AttesterConfig = Config.Success<typeof attesterConfig>

import { Config } from "effect"
import { tokenConfig } from "../common/bus/config.ts"
import { collateralConfig } from "../guest/collateral-cache.ts"
import { guestConfig } from "../guest/config.ts"

export const releaserConfig = Config.all({
  guest: guestConfig,
  /** The id of this guest's own attester; its Evidence says which verifier key is genuine. */
  control: tokenConfig("VOUCHSAFE_CONTROL_NODE"),
  collateral: collateralConfig,
})

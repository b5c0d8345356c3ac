import { Config } from "effect"
import { tokenConfig } from "../common/bus/config.ts"
import { collateralConfig } from "../guest/collateral-cache.ts"
import { guestConfig, pathConfig } from "../guest/config.ts"

export const verifierConfig = Config.all({
  guest: guestConfig,
  /** The id of this guest's own attester. */
  control: tokenConfig("VOUCHSAFE_CONTROL_NODE"),
  collateral: collateralConfig,
  records: Config.option(pathConfig("VOUCHSAFE_RECORDS")),
})
export type VerifierConfig = Config.Success<typeof verifierConfig>

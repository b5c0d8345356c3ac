import { Config, Effect } from "effect"
import { refuseSetting, tokenConfig } from "../common/bus/config.ts"
import { collateralConfig } from "../guest/collateral-cache.ts"
import { guestConfig, pathConfig } from "../guest/config.ts"
import { defaultThreads, THREADS_MAX } from "./pool.ts"

export const verifierConfig = Config.all({
  guest: guestConfig,
  /** The id of this guest's own attester. */
  control: tokenConfig("VOUCHSAFE_CONTROL_NODE"),
  collateral: collateralConfig,
  threads: Config.Int("VOUCHSAFE_APPRAISAL_THREADS").pipe(
    Config.withDefault(defaultThreads()),
    Config.mapEffect((threads) =>
      threads >= 0 && threads <= THREADS_MAX
        ? Effect.succeed(threads)
        : refuseSetting("VOUCHSAFE_APPRAISAL_THREADS", `must be 0 to ${THREADS_MAX}`),
    ),
  ),
  records: Config.option(pathConfig("VOUCHSAFE_RECORDS")),
})

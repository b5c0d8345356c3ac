/** What a guest looks up to judge its control plane's Evidence: nothing, unless its anchors ask for what vendors say. */
import { Effect } from "effect"
import type { Trust } from "../common/config/anchors.ts"
import type { CollateralLookup } from "../evidence/appraisal/verify-pieces.ts"
import { type CollateralSettings, makeCollateralCache } from "./collateral-cache.ts"

/** TDX can't be judged without collateral; an SNP report can, where nobody asks for AMD's revocation list. */
export const asksForCollateral = ({
  platforms,
  sev_snp,
}: Pick<Trust["controlPlane"], "platforms" | "sev_snp">): boolean =>
  platforms.some((platform) => platform.startsWith("tdx")) || sev_snp?.revocation === true

/** A cache filled in the background until the scope closes; undefined where nothing would be looked up in it. */
export const controlCollateral = Effect.fn("controlCollateral")(function* (
  { controlPlane }: Trust,
  settings: CollateralSettings,
) {
  if (!asksForCollateral(controlPlane)) return undefined
  const { view } = yield* makeCollateralCache({ settings })
  return (now: Date): CollateralLookup => view(now)
})

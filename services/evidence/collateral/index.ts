/** Collateral that all vendors share: what was used, and where it is stored. */
export {
  CollateralError,
  type CollateralErrorCode,
  type CollateralKind,
  type CollateralUse,
} from "./collateral.ts"
export { type CollateralFolder, readCollateralFolder } from "./folder.ts"

/** Collateral that all vendors share: what was used, where it is stored, and what may be used of it. */
export { type CollateralRoots, intelKeys } from "./admit.ts"
export {
  CollateralError,
  type CollateralErrorCode,
  type CollateralKind,
  type CollateralUse,
} from "./collateral.ts"
export { type CollateralFolder, readCollateralFolder, readCollateralTree } from "./folder.ts"
export { type CollateralItem, type CollateralItemKind, fileNameOf } from "./item.ts"
export type { ChipAtTcb, MirrorWants } from "./mirror.ts"
export type { IntelCa } from "./recognise.ts"
export { nextAskMs, plainSchedule, type ScheduleRules } from "./schedule.ts"
export {
  type CollateralSnapshot,
  emptySnapshot,
  genuineRoots,
  inTurn as collateralInTurn,
  type Offered as OfferedCollateral,
  type OfferRules as CollateralOfferRules,
  type Outcome as CollateralOutcome,
  offer as offerCollateral,
} from "./snapshot.ts"
export {
  type CollateralView,
  type ItemStatus as CollateralStatus,
  itemsOf as collateralItemsOf,
  missingFor as missingCollateralFor,
  plainStaleRules,
  type StaleRules,
  statusOf as collateralStatusOf,
  viewOf as collateralViewOf,
} from "./view.ts"

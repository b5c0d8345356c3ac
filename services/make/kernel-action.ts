import type { EdgeAt } from "./held.ts"
import type { TrafficKey } from "./keys.ts"

/**
 * What the kernel is to do. Inserting is only-if-absent; an action that fails is reported with `gaveUp`, never tried again.
 * Indices are numbers, lanes are positions.
 */
export type KernelAction =
  | (EdgeAt & { readonly kind: "installInbound"; readonly keys: ReadonlyArray<TrafficKey> })
  | (EdgeAt & { readonly kind: "installOutbound"; readonly keys: ReadonlyArray<TrafficKey> })
  | (EdgeAt & {
      readonly kind: "setLease"
      readonly inbound: ReadonlyArray<number>
      readonly outbound: ReadonlyArray<number>
      readonly deadlineBootNs: bigint
    })
  | (EdgeAt & { readonly kind: "activate"; readonly outbound: ReadonlyArray<number> })
  | (EdgeAt & {
      readonly kind: "retire"
      readonly inbound: ReadonlyArray<number>
      readonly outbound: ReadonlyArray<number>
      /** Nothing has taken its place: the lanes' outbound selection goes too. */
      readonly wasActive: boolean
    })

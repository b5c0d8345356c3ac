import { type Epoch, formatEpoch } from "./epoch.ts"

export interface EdgeAt {
  readonly instance: string
  readonly epoch: Epoch
}

/** One epoch of one edge as the kernel holds it. */
export interface HeldEpoch extends EdgeAt {
  /** Per lane. */
  readonly inbound: ReadonlyArray<number>
  readonly outbound: ReadonlyArray<number>
  /** Whether packets are sent under it. */
  readonly active: boolean
  readonly deadlineBootNs: bigint
  /** Where peers are known by their Evidence: no lease goes beyond this. Unknown for what an earlier loader installed. */
  readonly provenUntilBootNs?: bigint
  /** Unknown for what an earlier loader installed. */
  readonly exporter?: Uint8Array
}

/** Ids hold neither spaces nor dots. */
export const keyOf = ({ instance, epoch }: EdgeAt): string => `${instance} ${formatEpoch(epoch)}`

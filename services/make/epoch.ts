/**
 * Epochs: generations of an edge's keys, as pairs (term, n). A term is one reign of a releaser; n counts within it.
 * Ordered by term, then n. Both only rise.
 */
import { limits } from "../../schemas/limits.ts"
import { MakeError } from "./errors.ts"

export interface Epoch {
  readonly term: bigint
  readonly n: bigint
}

/** Room for any number of bounded steps before u64 ends. */
export const TERM_MAX = 2n ** 63n

/** Negative, zero or positive, as a sorting function wants it. */
export const compareEpochs = (a: Epoch, b: Epoch): number => {
  if (a.term !== b.term) return a.term < b.term ? -1 : 1
  if (a.n !== b.n) return a.n < b.n ? -1 : 1
  return 0
}

export const formatEpoch = ({ term, n }: Epoch): string => `${term}.${n}`

/**
 * A term that control-plane Evidence binds may follow `last`: not lower, and not so much higher that its successors
 * would soon have nowhere to go. `last` is undefined at the start of a node's session.
 * @throws MakeError NOT_RISING
 */
export const expectTermMayFollow = (last: bigint | undefined, next: bigint): void => {
  if (next < 1n || next > TERM_MAX) throw new MakeError("NOT_RISING", "term", "is outside 1..2^63")
  if (last === undefined) return
  if (next < last) throw new MakeError("NOT_RISING", "term", "is lower than one already followed")
  if (next - last > BigInt(limits.termStepMax))
    throw new MakeError("NOT_RISING", "term", `rises by more than ${limits.termStepMax}`)
}

/** @throws MakeError NOT_RISING unless `next` is above the highest epoch ever installed for the same edge. */
export const expectEpochRises = (field: string, highest: Epoch | undefined, next: Epoch): void => {
  if (next.n < 1n) throw new MakeError("NOT_RISING", field, "counts from 1")
  if (highest !== undefined && compareEpochs(next, highest) <= 0)
    throw new MakeError("NOT_RISING", field, "was reached before: its keys may have been used")
}

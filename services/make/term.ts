/**
 * Terms: 4,096 to the millisecond since 2026, of which the low twelve bits are random. So they rise from one start of a
 * releaser to the next, and from one instance to another, without anything kept or agreed upon, and two that begin at one
 * time hardly ever get the same. Below 2^53 until 2095: also a program that takes them for numbers tells them apart.
 */
import type { Crypto } from "../common/crypto/port.ts"

const ORIGIN_MS = Date.UTC(2026, 0, 1)
const PER_MS = 4_096n
/**
 * How far above its own clock a releaser follows what it only hears of. More would let anybody on the bus drive terms to
 * their end; less would lock this releaser out when another one's clock was wrong.
 */
export const AHEAD_MAX = 366n * 86_400_000n * PER_MS
/**
 * How far above the latest end of all documents that were in force here: a newer one that ends earlier leaves nodes where they
 * are. No releaser reigns past its document's end by its own clock, however wrong the clock is, so that no node can honestly
 * have followed more; what is left is for documents before that this process has not known, and for terms that rose one above
 * the other. A bound by the own clock alone would be tighter, and would let whoever sets one control
 * plane's clock forward lock all nodes out when the clock is right again.
 */
export const PAST_END_MAX = 86_400_000n * PER_MS

export interface TermInputs {
  /** The last one that this process has begun. */
  readonly last: bigint | undefined
  /** The highest that it has heard of: anybody may have said it. */
  readonly heard: bigint | undefined
  readonly wallMs: number
  /** 0..4095. */
  readonly random: number
}

const byClock = (wallMs: number): bigint => BigInt(Math.max(1, Math.floor(wallMs - ORIGIN_MS))) * PER_MS

/**
 * Whether a term that was heard of is one that the next may be put above.
 * @param endMs the latest end of all documents that were in force, ms since 1970; absent where none is known
 */
export const isCredible = (heard: bigint, wallMs: number, endMs = Number.POSITIVE_INFINITY): boolean =>
  heard <= byClock(wallMs) + AHEAD_MAX &&
  (endMs === Number.POSITIVE_INFINITY || heard <= byClock(endMs) + PAST_END_MAX)

/**
 * A term above the last one of this process, above what it credibly has heard of, and, as long as the clocks of the
 * releasers don't go back by more than they are apart, above any before it.
 */
export const nextTerm = ({ last = 0n, heard = 0n, wallMs, random }: TermInputs): bigint => {
  const low = BigInt(random) % PER_MS
  const clock = byClock(wallMs)
  const credible = isCredible(heard, wallMs) ? heard : 0n
  const least = last > credible ? last : credible
  return clock > least ? clock + low : least + 1n + low
}

/** The twelve random bits. */
export const randomLow = (crypto: Crypto): number => {
  const [a = 0, b = 0] = crypto.randomBytes(2)
  return ((a & 0x0f) << 8) | b
}

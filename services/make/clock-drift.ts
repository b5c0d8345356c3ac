/**
 * Whether a node's boot clock, on which its leases run, goes as fast as ours. Each acknowledgement says what the node's
 * clock showed at a moment that lies between two of ours: when the release that it acknowledges was sent, and when it
 * arrived. Between two such moments at least `sent2 - arrived1` and at most `arrived2 - sent1` have passed, whatever the bus
 * held back: delays make the bounds wider, and can prove nothing against a clock that is right. Pure; times in ms.
 */

/** A clock that is off by more than this, in one part per so many, is not to be trusted with leases. */
const PART = 100
/** Nothing is said of a shorter time: what clocks are corrected by, and what timers are rough by, would count. */
const SPAN_MS = 30_000
const APART_MS = 5_000
const REMEMBERED = 16

export interface ClockSample {
  /** The node's boot clock. */
  readonly nodeMs: number
  /** Our clock, before and after. */
  readonly sentMs: number
  readonly arrivedMs: number
}

export type Drift = "none" | "fast" | "slow"

export class ClockDrift {
  #samples: Array<ClockSample> = []

  /** Another boot is another clock. */
  forget(): void {
    this.#samples = []
  }

  /** @returns what this sample proves together with one before it */
  take(sample: ClockSample): Drift {
    for (const before of this.#samples) {
      const drift = between(before, sample)
      if (drift !== "none") return drift
    }
    this.#keep(sample)
    return "none"
  }

  /** Of those that are close to each other, the one that says the most. */
  #keep(sample: ClockSample): void {
    const newest = this.#samples.at(-1)
    if (newest !== undefined && sample.sentMs - newest.sentMs < APART_MS) {
      const width = ({ sentMs, arrivedMs }: ClockSample) => arrivedMs - sentMs
      if (width(sample) < width(newest)) this.#samples[this.#samples.length - 1] = sample
      return
    }
    this.#samples = [...this.#samples.slice(1 - REMEMBERED), sample]
  }
}

const between = (a: ClockSample, b: ClockSample): Drift => {
  const passed = b.nodeMs - a.nodeMs
  const [least, most] = [b.sentMs - a.arrivedMs, b.arrivedMs - a.sentMs]
  // A clock that stands is slow however long one looks; one that jumps is fast however short.
  if (least >= SPAN_MS && passed < least - least / PART) return "slow"
  if (passed >= SPAN_MS && passed > most + most / PART) return "fast"
  return "none"
}

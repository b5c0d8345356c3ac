/** Which releasers say that they lead, and in which order to believe it: nobody's word counts before Evidence confirms it. */
import { limits } from "../../schemas/limits.ts"
import type { Beacon } from "../../schemas/messages/release.ts"

export interface Leader extends Beacon {
  readonly atMs: number
}

const LEADERS = 8
/** What Evidence did not confirm is left alone for so long, unless the releaser says something else. */
const PENALTY_MS = 1_000
/** A beacon is lost now and then. */
const SILENT_MS = 3 * limits.beaconEveryMs

export class Leaders {
  readonly #heard = new Map<string, Leader>()
  readonly #failed = new Map<string, { readonly term: bigint; readonly untilMs: number }>()

  heard(beacon: Beacon, nowMs: number): void {
    if (beacon.term === 0n) return
    this.#heard.delete(beacon.releaser)
    this.#heard.set(beacon.releaser, { ...beacon, atMs: nowMs })
    for (const oldest of this.#heard.keys()) {
      if (this.#heard.size <= LEADERS) break
      this.#heard.delete(oldest)
      this.#failed.delete(oldest)
    }
  }

  newest(releaser: string): Leader | undefined {
    return this.#heard.get(releaser)
  }

  /**
   * The newest beacon of the first of these that leads: a term that is claimed by anybody else, however high, is not the one
   * that a refusal is to reach. Where none of them is heard any more, another one has taken over.
   */
  beaconOf(releasers: ReadonlyArray<string | undefined>, nowMs: number): Uint8Array | undefined {
    for (const releaser of releasers) {
      const own = releaser === undefined ? undefined : this.#heard.get(releaser)
      if (own !== undefined && nowMs - own.atMs <= SILENT_MS) return own.nonce
    }
    return this.inOrder(nowMs)[0]?.nonce
  }

  failed({ releaser, term }: Leader, nowMs: number): void {
    this.#failed.set(releaser, { term, untilMs: nowMs + PENALTY_MS })
  }

  /**
   * Highest term first; without those that have been silent for long. Those that have just fallen silent come after those
   * that speak, as the guest of a releaser that is gone still proves what it wrote; those that failed lately come last.
   */
  inOrder(nowMs: number): ReadonlyArray<Leader> {
    const penalty = ({ releaser, term, atMs }: Leader): number => {
      const failed = this.#failed.get(releaser)
      if (failed !== undefined && failed.term === term && nowMs < failed.untilMs) return 2
      return nowMs - atMs > SILENT_MS ? 1 : 0
    }
    return [...this.#heard.values()]
      .filter(({ atMs }) => nowMs - atMs <= limits.beaconMs / 2)
      .sort((a, b) => penalty(a) - penalty(b) || (a.term < b.term ? 1 : -1))
  }
}

/**
 * Results that were taken back, remembered for as long as they could still be brought forward: a result is accepted only
 * within the life of its beacon, which was issued before the result was. Bounded, whoever talks. Pure.
 */
import { limits } from "../../schemas/limits.ts"

const SIGNERS_MOST = 64
const RESULTS_MOST = 4 * limits.nodes

const textOf = (...bytes: ReadonlyArray<Uint8Array>): string =>
  bytes.map((one) => Buffer.from(one).toString("hex")).join(":")

export class WithdrawnResults {
  /** Verifiers that have signed results which were accepted here: others have nothing to take back. */
  readonly #signers = new Set<string>()
  readonly #untilMs = new Map<string, number>()

  /** @param signer of a result that was accepted */
  know(signer: Uint8Array): void {
    const key = textOf(signer)
    this.#signers.delete(key)
    this.#signers.add(key)
    const [oldest] = this.#signers
    if (this.#signers.size > SIGNERS_MOST && oldest !== undefined) this.#signers.delete(oldest)
  }

  /** @returns false for a signer that nothing was accepted from */
  take(signer: Uint8Array, result: Uint8Array, nowMs: number): boolean {
    if (!this.#signers.has(textOf(signer))) return false
    for (const [known, untilMs] of this.#untilMs) {
      if (nowMs < untilMs && this.#untilMs.size < RESULTS_MOST) break
      this.#untilMs.delete(known)
    }
    const key = textOf(signer, result)
    // The order is that of time.
    this.#untilMs.delete(key)
    this.#untilMs.set(key, nowMs + limits.beaconMs)
    return true
  }

  has(signer: Uint8Array, result: Uint8Array, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(textOf(signer, result))
    return untilMs !== undefined && nowMs < untilMs
  }
}

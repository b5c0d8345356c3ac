/**
 * Orders of operators that a releaser carries out at once: each of them once, within a minute of its issue, and none that
 * was issued before this book was begun. What a new releaser can't know of was issued before it. Pure; times are ms since
 * the epoch, the clock that operators have too.
 */
import { MakeError } from "./errors.ts"

export const ORDER_MS = 60_000
const REMEMBERED_MAX = 1_024

export interface Order {
  readonly domain: string
  readonly issued_ms: number
  /** 32 bytes. */
  readonly nonce: Uint8Array
}

export class OrderBook {
  readonly #domain: string
  readonly #sinceMs: number
  /** Of orders that were taken, the time of issue by nonce. */
  readonly #taken = new Map<string, number>()
  #nowMs: number

  constructor(domain: string, nowMs: number) {
    this.#domain = domain
    this.#sinceMs = nowMs
    this.#nowMs = nowMs
  }

  /**
   * Takes an order whose signature, by an operator, has been verified. Taken is taken, whatever becomes of it.
   * @throws MakeError MISDIRECTED (another domain), STALE (too old, from the future, or taken before), LIMIT (too many)
   */
  take(order: Order, nowMs: number): void {
    // A clock that is turned back must not make old orders young.
    this.#nowMs = Math.max(this.#nowMs, nowMs)
    if (order.domain !== this.#domain)
      throw new MakeError("MISDIRECTED", "order.domain", "is another domain's")
    if (order.issued_ms < this.#sinceMs)
      throw new MakeError("STALE", "order.issued_ms", "is before this releaser began; give the order again")
    if (Math.abs(this.#nowMs - order.issued_ms) >= ORDER_MS)
      throw new MakeError("STALE", "order.issued_ms", `is more than ${ORDER_MS / 1000} s from this clock`)
    for (const [nonce, issuedMs] of this.#taken)
      if (this.#nowMs - issuedMs >= ORDER_MS) this.#taken.delete(nonce)
    const nonce = Buffer.from(order.nonce).toString("hex")
    if (this.#taken.has(nonce)) throw new MakeError("STALE", "order.nonce", "was taken before")
    if (this.#taken.size >= REMEMBERED_MAX)
      throw new MakeError("LIMIT", "order", `more than ${REMEMBERED_MAX} within ${ORDER_MS / 1000} s`)
    this.#taken.set(nonce, order.issued_ms)
  }
}

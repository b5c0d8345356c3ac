import { describe, expect, it } from "vitest"
import { MakeError } from "../../services/make/errors.ts"
import { ORDER_MS, type Order, OrderBook } from "../../services/make/orders.ts"

const NOW = 1_800_000_000_000
const order = (change: Partial<Order> = {}): Order => ({
  domain: "lab",
  issued_ms: NOW,
  nonce: new Uint8Array(32).fill(1),
  ...change,
})
const codeOf = (run: () => void): string => {
  try {
    run()
  } catch (error) {
    if (error instanceof MakeError) return `${error.code} ${error.field}`
    throw error
  }
  return "taken"
}

describe("an operator's order", () => {
  it("is taken once, in its domain and its minute, and not if it is older than the releaser", () => {
    const book = new OrderBook("lab", NOW - 1_000)
    const taking = (change: Partial<Order>, at = NOW) => codeOf(() => book.take(order(change), at))
    expect(taking({ domain: "other" })).toBe("MISDIRECTED order.domain")
    expect(taking({})).toBe("taken")
    expect(taking({}, NOW + 1)).toBe("STALE order.nonce")
    expect(taking({}, NOW + ORDER_MS)).toBe("STALE order.issued_ms")
    expect(taking({ nonce: new Uint8Array(32).fill(2), issued_ms: NOW - 1_001 })).toBe(
      "STALE order.issued_ms",
    )
    expect(taking({ nonce: new Uint8Array(32).fill(2), issued_ms: NOW + 3 * ORDER_MS })).toBe(
      "STALE order.issued_ms",
    )
  })

  it("doesn't come back when the clock is turned back", () => {
    const book = new OrderBook("lab", NOW - 1_000)
    book.take(order(), NOW)
    book.take(order({ nonce: new Uint8Array(32).fill(2), issued_ms: NOW + ORDER_MS }), NOW + ORDER_MS)
    expect(codeOf(() => book.take(order(), NOW))).toBe("STALE order.issued_ms")
  })

  it("is refused when too many were taken, until their time is over", () => {
    const book = new OrderBook("lab", NOW)
    const many = (count: number, at: number): string => {
      for (let i = 0; i < count; i++) {
        const nonce = new Uint8Array(32)
        new DataView(nonce.buffer).setUint32(0, i + at - NOW)
        const code = codeOf(() => book.take(order({ nonce, issued_ms: at }), at))
        if (code !== "taken") return `${i} ${code}`
      }
      return "all"
    }
    expect(many(2_000, NOW)).toBe("1024 LIMIT order")
    expect(many(1_000, NOW + ORDER_MS + 5_000)).toBe("all")
  })
})

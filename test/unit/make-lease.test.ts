import { describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import {
  compareEpochs,
  expectEpochRises,
  expectTermMayFollow,
  formatEpoch,
  TERM_MAX,
} from "../../services/make/epoch.ts"
import { MakeError } from "../../services/make/errors.ts"
import { leaseDeadline, nonceCounter, StandingRequest } from "../../services/make/lease.ts"
import { expectSpi, SPI_MAX, SPI_MIN, SpiAllocator } from "../../services/make/spi.ts"

describe("epochs", () => {
  it("are ordered by term, then by count", () => {
    const rising = [
      { term: 1n, n: 1n },
      { term: 1n, n: 2n },
      { term: 2n, n: 1n },
      { term: 2n ** 62n, n: 1n },
    ]
    rising.forEach((a, i) => {
      rising.forEach((b, j) => {
        expect(Math.sign(compareEpochs(a, b))).toBe(Math.sign(i - j))
      })
    })
    expect(formatEpoch({ term: 2n, n: 7n })).toBe("2.7")
  })

  it("only rise", () => {
    const highest = { term: 2n, n: 5n }
    expectEpochRises("epoch", undefined, { term: 1n, n: 1n })
    expectEpochRises("epoch", highest, { term: 2n, n: 6n })
    expectEpochRises("epoch", highest, { term: 3n, n: 1n })
    for (const next of [highest, { term: 2n, n: 4n }, { term: 1n, n: 99n }, { term: 3n, n: 0n }])
      expect(() => expectEpochRises("epoch", highest, next)).toThrow(MakeError)
  })
})

describe("terms", () => {
  it("may stay or rise by a bounded step; so none can be driven to the end of the numbers", () => {
    const step = BigInt(limits.termStepMax)
    expectTermMayFollow(undefined, 1n)
    expectTermMayFollow(7n, 7n)
    expectTermMayFollow(7n, 7n + step)
    for (const [last, next] of [
      [7n, 6n],
      [7n, 8n + step],
      [7n, 2n ** 53n],
      [undefined, 0n],
      [undefined, TERM_MAX + 1n],
      [TERM_MAX, TERM_MAX + 1n],
    ] as const)
      expect(() => expectTermMayFollow(last, next)).toThrow(MakeError)
  })
})

describe("leases", () => {
  it("last from the request for a bounded time", () => {
    expect(leaseDeadline(5n, 1_000)).toBe(1_000_000_005n)
    expect(leaseDeadline(0n, limits.leaseMsMax)).toBe(BigInt(limits.leaseMsMax) * 1_000_000n)
    for (const duration of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, limits.leaseMsMax + 1])
      expect(() => leaseDeadline(0n, duration)).toThrow(MakeError)
  })

  it("are granted to the newest request only, as often as it is answered", () => {
    const request = new StandingRequest(crypto)
    expect(() => request.answeredBy(new Uint8Array(32))).toThrow(/never asked/)
    const first = request.ask(100n)
    expect(request.answeredBy(first)).toBe(100n)
    expect(request.answeredBy(Uint8Array.from(first))).toBe(100n)
    const second = request.ask(200n)
    expect(() => request.answeredBy(first)).toThrow(/older request/)
    expect(request.answeredBy(second)).toBe(200n)
    expect(() => request.answeredBy(second.with(31, (second[31] ?? 0) ^ 1))).toThrow(/never asked/)
    expect(() => request.answeredBy(second.subarray(1))).toThrow(MakeError)
  })

  it("are asked for with nonces that rise and can't be guessed", () => {
    const request = new StandingRequest(crypto)
    const nonces = Array.from({ length: 20 }, () => request.ask(0n))
    expect(nonces.map(nonceCounter)).toEqual(nonces.map((_, i) => BigInt(i + 1)))
    expect(new Set(nonces.map((nonce) => Buffer.from(nonce.subarray(8)).toString("hex"))).size).toBe(20)
    expect(() => nonceCounter(new Uint8Array(31))).toThrow(MakeError)
  })
})

describe("SPIs", () => {
  it("are 256..2^32-1", () => {
    expectSpi("spi", SPI_MIN)
    expectSpi("spi", SPI_MAX)
    for (const spi of [0, 255, -1, SPI_MAX + 1, 256.5, Number.NaN])
      expect(() => expectSpi("spi", spi)).toThrow(MakeError)
  })

  it("are unique, start anywhere, never reserved, and come back only after all others", () => {
    const starts = new Set(Array.from({ length: 20 }, () => new SpiAllocator(crypto).allocate(1)[0]))
    expect(starts.size).toBeGreaterThan(15)
    const nearEnd = { ...crypto, randomBytes: () => Uint8Array.of(0xff, 0xff, 0xff, 0xfe) }
    const allocator = new SpiAllocator(nearEnd)
    expect(allocator.allocate(4)).toEqual([SPI_MAX - 1, SPI_MAX, SPI_MIN, SPI_MIN + 1])
    const low = new SpiAllocator({ ...crypto, randomBytes: () => new Uint8Array(4) })
    const first = low.allocate(2)
    expect(first).toEqual([256, 257])
    low.free(first)
    expect(low.allocate(1)).toEqual([258])
  })

  it("end with the maps", () => {
    const allocator = new SpiAllocator(crypto)
    allocator.allocate(limits.associations)
    expect(() => allocator.allocate(1)).toThrow(MakeError)
    expect(allocator.size).toBe(limits.associations)
  })
})

import { describe, expect, it } from "vitest"
import type { Launch, TpmRun } from "../../schemas/messages/attestation.ts"
import { native as crypto } from "../../services/common/crypto/index.ts"
import { MakeError } from "../../services/make/errors.ts"
import { LaunchBook } from "../../services/make/launch.ts"

const filled = (length: number, byte: number) => new Uint8Array(length).fill(byte)
const [boot, otherBoot] = [filled(16, 1), filled(16, 2)]
const snp: Launch = { report_id: filled(32, 3), report_id_ma: filled(32, 0xff) }
const run: TpmRun = { resets: 4, restarts: 2, clock_ms: 10_000n, safe: true }

/** As a relying party does: what is expected becomes known. */
const bookOf = (book = new LaunchBook(crypto)) => ({
  book,
  take: (launch: Launch, askedMs: number, { node = "n1", of = boot } = {}): string => {
    const shown = { node, boot: of, launch }
    try {
      book.expect(shown, askedMs)
      book.know(shown, askedMs + 10)
      return "taken"
    } catch (error) {
      if (error instanceof MakeError) return `${error.code} ${error.field}`
      throw error
    }
  },
})

describe("the launch of a machine", () => {
  it("is taken as it was before, however often", () => {
    const { take } = bookOf()
    for (let at = 0; at < 5; at++) expect(take({ ...snp, tpm: run }, at * 100)).toBe("taken")
  })

  it("can't become another within a boot: that is a clone", () => {
    const { take } = bookOf()
    expect(take(snp, 0)).toBe("taken")
    expect(take({ ...snp, report_id: filled(32, 4) }, 100)).toBe("CLONED launch.report_id")
    expect(take({ ...snp, report_id_ma: filled(32, 4) }, 100)).toBe("CLONED launch.report_id_ma")
    expect(take({}, 100)).toBe("CLONED launch.report_id")
    expect(take(snp, 100)).toBe("taken")
  })

  it("may lack a part that the bus took away where the stage takes the rest: that locks nobody out", () => {
    const { take } = bookOf()
    // A TPM's part that comes later, or not, is no sign of another machine.
    for (const launch of [snp, { ...snp, tpm: run }, snp, { ...snp, tpm: run }])
      expect(take(launch, 100)).toBe("taken")
    // TPM alone, then all of it; on a machine without a report id (TDX) too.
    for (const launch of [{ tpm: run }, { ...snp, tpm: run }, { tpm: run }])
      expect(take(launch, 200)).toBe("taken")
    for (const launch of [{}, { tpm: run }, {}, { tpm: run }])
      expect(take(launch, 300, { node: "n2" })).toBe("taken")
    expect(take({ tpm: run }, 300, { node: "n3" })).toBe("taken")
    expect(take(snp, 300, { node: "n3" })).toBe("taken")
  })

  it("is remembered by all the parts that were ever shown", () => {
    const { take } = bookOf()
    take({ ...snp, tpm: run }, 0)
    take(snp, 100)
    expect(take({ ...snp, tpm: { ...run, resets: 5 } }, 200)).toBe("CLONED launch.tpm.resets")
    // Asked for after the TPM's part came, though before what came without one.
    expect(take({ ...snp, tpm: { ...run, clock_ms: 9_999n } }, 50)).toBe("ROLLED_BACK launch.tpm.clock_ms")
    take({ tpm: run }, 200)
    expect(take({ ...snp, report_id: filled(32, 4), tpm: run }, 300)).toBe("CLONED launch.report_id")
    expect(take({ ...snp, report_id: filled(32, 4) }, 300)).toBe("CLONED launch.report_id")
    expect(take({ ...snp, tpm: run }, 300)).toBe("taken")
  })

  it("says both values when it does", () => {
    const { book } = bookOf()
    book.know({ node: "n1", boot, launch: snp }, 0)
    const clone = { node: "n1", boot, launch: { ...snp, report_id: filled(32, 4) } }
    expect(() => book.expect(clone, 1)).toThrow(
      `was ${"03".repeat(32)}, is ${"04".repeat(32)}, in one and the same boot ${"01".repeat(16)}`,
    )
  })

  it("is another one in another boot, and of another node", () => {
    const { take } = bookOf()
    expect(take(snp, 0)).toBe("taken")
    const another = { ...snp, report_id: filled(32, 4) }
    expect(take(another, 100, { of: otherBoot })).toBe("taken")
    expect(take(another, 100, { node: "n2" })).toBe("taken")
  })

  it("isn't forgotten when the node has booted anew: an old boot doesn't come back as another", () => {
    const { take } = bookOf()
    take({ tpm: { ...run, clock_ms: 10_000n } }, 0)
    take({ tpm: { ...run, resets: 5, clock_ms: 20_000n } }, 100, { of: otherBoot })
    expect(take({ tpm: { ...run, clock_ms: 9_000n } }, 200)).toBe("ROLLED_BACK launch.tpm.clock_ms")
  })
})

describe("a TPM's counters within a boot", () => {
  const following = (change: Partial<TpmRun>, askedMs = 100): string => {
    const { take } = bookOf()
    take({ tpm: run }, 0)
    return take({ tpm: { ...run, ...change } }, askedMs)
  }

  it("go on", () => {
    expect(following({ clock_ms: 10_001n })).toBe("taken")
    expect(following({ clock_ms: 2n ** 64n - 1n })).toBe("taken")
    expect(following({ restarts: 3 })).toBe("taken")
    expect(following({ safe: false })).toBe("taken")
  })

  it("never show another reset", () => {
    expect(following({ resets: 5, clock_ms: 20_000n })).toBe("CLONED launch.tpm.resets")
    expect(following({ resets: 3 })).toBe("CLONED launch.tpm.resets")
  })

  it("never go back, also by a clock that the TPM calls unsafe: that is about earlier resets", () => {
    expect(following({ clock_ms: 9_999n })).toBe("ROLLED_BACK launch.tpm.clock_ms")
    expect(following({ clock_ms: 9_999n, safe: false })).toBe("ROLLED_BACK launch.tpm.clock_ms")
    expect(following({ restarts: 1 })).toBe("ROLLED_BACK launch.tpm.restarts")
  })

  it("are only old in Evidence that was asked for before the newest came: the bus may have kept it back", () => {
    expect(following({ clock_ms: 9_999n }, 9)).toBe("STALE launch.tpm.clock_ms")
    expect(following({ clock_ms: 9_999n }, 10)).toBe("ROLLED_BACK launch.tpm.clock_ms")
  })

  it("count restarts modulo 2^32, as a TPM shows them that hides how many there were", () => {
    const { take } = bookOf()
    take({ tpm: { ...run, restarts: 2 ** 32 - 1 } }, 0)
    expect(take({ tpm: { ...run, restarts: 0 } }, 100)).toBe("taken")
    expect(take({ tpm: { ...run, restarts: 2 ** 32 - 1 } }, 200)).toBe("ROLLED_BACK launch.tpm.restarts")
  })
})

describe("what a book remembers", () => {
  it("is bounded by boots of a node, the oldest of which goes", () => {
    const { take } = bookOf()
    take(snp, 0)
    for (let i = 1; i <= 16; i++) take({}, i, { of: filled(16, 100 + i) })
    expect(take({}, 100)).toBe("taken")
  })
})

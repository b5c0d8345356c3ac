/** The queue before the hardware: one call at a time, spaced, bounded, and alive when the hardware isn't. */
import { describe, expect, it } from "vitest"
import type { Piece } from "../../schemas/messages/common.ts"
import { DeviceQueue, type DeviceQueueOptions } from "../../services/attester/device-queue.ts"
import { type AttestationProvider, ProviderError } from "../../services/evidence/providers/index.ts"

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

interface Call {
  readonly data: number
  readonly at: number
  readonly answer: () => void
  readonly fail: (error: unknown) => void
}

const pieceOf = (data: Uint8Array): Piece => ({ kind: "snp", report: data, certificates: [] })

/** Hardware that answers when it is told to. */
const begin = (options: DeviceQueueOptions = {}) => {
  const calls: Call[] = []
  const provider: AttestationProvider = {
    platform: "sev-snp",
    emulated: true,
    about: "a test",
    attest: (data) =>
      new Promise((resolve, reject) => {
        calls.push({
          data: data[0] ?? 0,
          at: performance.now(),
          answer: () => resolve([pieceOf(data)]),
          fail: reject,
        })
      }),
    close: async () => undefined,
  }
  const queue = new DeviceQueue(provider, { everyMs: 0, ...options })
  const ask = (data: number) => {
    const asked = queue.attest(Uint8Array.of(data)).then(
      ({ pieces: [piece] }) => (piece?.kind === "snp" ? (piece.report[0] ?? 0) : -1),
      (error: unknown) => (error instanceof ProviderError ? error.code : String(error)),
    )
    return asked
  }
  const called = async (count: number): Promise<Call> => {
    for (let tries = 0; calls.length < count && tries < 2_000; tries++) await pause(1)
    const call = calls[count - 1]
    if (call === undefined) throw new Error(`no call ${count}`)
    return call
  }
  return { calls, ask, called }
}

describe("the queue before the hardware", () => {
  it("asks one thing at a time, in order", async () => {
    const { calls, ask, called } = begin()
    const asked = [1, 2, 3].map(ask)
    for (const n of [1, 2, 3]) {
      const call = await called(n)
      await pause(5)
      expect(calls).toHaveLength(n)
      expect(call.data).toBe(n)
      call.answer()
    }
    expect(await Promise.all(asked)).toEqual([1, 2, 3])
  })

  it("leaves time between two calls", async () => {
    const { calls, ask, called } = begin({ everyMs: 40 })
    const asked = [1, 2, 3].map(ask)
    for (const n of [1, 2, 3]) (await called(n)).answer()
    await Promise.all(asked)
    const gaps = calls.slice(1).map(({ at }, i) => at - (calls[i]?.at ?? 0))
    for (const gap of gaps) expect(gap).toBeGreaterThan(38)
  })

  it("lets only so many wait", async () => {
    const { ask, called } = begin({ waitingMost: 3 })
    const asked = [1, 2, 3, 4, 5, 6].map(ask)
    expect(await asked[4]).toBe("QUEUE_FULL")
    expect(await asked[5]).toBe("QUEUE_FULL")
    for (const n of [1, 2, 3, 4]) (await called(n)).answer()
    expect(await Promise.all(asked.slice(0, 4))).toEqual([1, 2, 3, 4])
  })

  it("passes an error on to the one who asked, and goes on", async () => {
    const { ask, called } = begin()
    const asked = [1, 2].map(ask)
    ;(await called(1)).fail(new ProviderError("IO", "device", "EIO", "success"))
    ;(await called(2)).answer()
    expect(await Promise.all(asked)).toEqual(["IO", 2])
  })

  it("takes a provider that throws at once for one that refuses", async () => {
    const queue = new DeviceQueue({
      platform: "tpm",
      emulated: true,
      about: "a test",
      attest: () => {
        throw new ProviderError("IO", "device", "EIO", "success")
      },
      close: async () => undefined,
    })
    await expect(queue.attest(new Uint8Array(64))).rejects.toMatchObject({ code: "IO" })
    await expect(queue.attest(new Uint8Array(64))).rejects.toMatchObject({ code: "IO" })
  })

  it("gives up hardware that doesn't answer, asks it nothing more, and goes on when it comes back", async () => {
    const { calls, ask, called } = begin({ timeoutMs: 60 })
    const asked = [1, 2, 3].map(ask)
    expect(await asked[0]).toBe("TIMEOUT")
    expect(await Promise.all(asked.slice(1))).toEqual(["WEDGED", "WEDGED"])
    expect(await ask(4)).toBe("WEDGED")
    await pause(100)
    expect(await ask(5)).toBe("WEDGED")
    expect(calls).toHaveLength(1)
    ;(await called(1)).answer()
    await pause(5)
    const again = ask(6)
    const call = await called(2)
    // The late answer went to nobody.
    expect(call.data).toBe(6)
    call.answer()
    expect(await again).toBe(6)
  })

  it("comes back after a late error too", async () => {
    const { ask, called } = begin({ timeoutMs: 40 })
    expect(await ask(1)).toBe("TIMEOUT")
    ;(await called(1)).fail(new Error("late"))
    await pause(5)
    const again = ask(2)
    ;(await called(2)).answer()
    expect(await again).toBe(2)
  })

  it("doesn't begin what has waited too long already", async () => {
    const { calls, ask, called } = begin({ timeoutMs: 150, everyMs: 100 })
    const asked = [1, 2, 3].map(ask)
    ;(await called(1)).answer()
    ;(await called(2)).answer()
    expect(await Promise.all(asked)).toEqual([1, 2, "TIMEOUT"])
    expect(calls).toHaveLength(2)
  })
})

/** How the stored workflow is followed when messages about it are lost: the bus is played. */
import { Effect } from "effect"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { SignedWorkflow } from "../../schemas/workflow.ts"
import type { Core } from "../../services/common/bus/bus.ts"
import { Counting } from "../../services/common/bus/counters.ts"
import { BusError } from "../../services/common/bus/types.ts"
import { makeWorkflows } from "../../services/common/bus/workflows.ts"
import { encode } from "../../services/common/codec/index.ts"

const SIGNATURE = { key: new Uint8Array(32), signature: new Uint8Array(64) }

const packed = (byte: number): Uint8Array =>
  encode(SignedWorkflow, { v: 1, document: Uint8Array.of(byte), signatures: [SIGNATURE] })

const played = () => {
  const counting = new Counting()
  const store = { data: packed(1), looks: 0, fails: false, denies: false }
  const core = {
    config: { prefix: "vs.v1" },
    counting,
    connection: {
      request: async () => {
        store.looks += 1
        if (store.denies) throw new BusError({ reason: "Denied", subject: "s", message: "may not ask" })
        if (store.fails) return { status: 503, data: new Uint8Array(0), header: () => undefined }
        return { status: 0, data: store.data, header: () => "1" }
      },
      subscribe: () => ({ drain: async () => {} }),
      flush: async () => {},
    },
    refuse: () => {},
    fail: () => {},
  } as unknown as Core
  return { core, counting, store }
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Follows for a while; `steps` run one after the other with the time that passes before each. */
const following = async (
  { core }: ReturnType<typeof played>,
  steps: (seen: readonly number[], pass: (ms: number) => Promise<unknown>) => Promise<void>,
): Promise<void> => {
  const seen: number[] = []
  const end = new AbortController()
  const running = Effect.runPromiseExit(
    Effect.scoped(
      makeWorkflows(core)
        .watch("lab", ({ document }) => Effect.sync(() => seen.push(document[0] ?? -1)))
        .pipe(Effect.andThen(Effect.never)),
    ),
    { signal: end.signal },
  )
  await vi.advanceTimersByTimeAsync(10)
  await steps(seen, (ms) => vi.advanceTimersByTimeAsync(ms))
  end.abort()
  await vi.advanceTimersByTimeAsync(3_000)
  await running
}

describe("a workflow whose message was lost", () => {
  it("is found by looking, about every 30 s", async () => {
    const bus = played()
    await following(bus, async (seen, pass) => {
      expect(seen).toEqual([1])
      bus.store.data = packed(2)
      await pass(20_000)
      expect([seen, bus.store.looks]).toEqual([[1], 1])
      await pass(20_000)
      expect(seen).toEqual([1, 2])
      await pass(400_000)
      expect(bus.store.looks).toBeGreaterThan(10)
      expect(bus.store.looks).toBeLessThan(22)
    })
  })

  it("is found soon after a new connection", async () => {
    const bus = played()
    await following(bus, async (seen, pass) => {
      bus.store.data = packed(2)
      bus.counting.reconnects += 1
      await pass(2_500)
      expect([seen, bus.store.looks]).toEqual([[1, 2], 2])
    })
  })

  it("is asked for again after some seconds when there was no answer", async () => {
    const bus = played()
    await following(bus, async (seen, pass) => {
      bus.store.data = packed(2)
      bus.store.fails = true
      bus.counting.reconnects += 1
      await pass(2_500)
      bus.store.fails = false
      await pass(8_000)
      expect(seen).toEqual([1, 2])
    })
  })

  it("is found by a service that somebody answered in the store's place when it began", async () => {
    const bus = played()
    bus.store.fails = true
    await following(bus, async (seen, pass) => {
      expect([seen, bus.store.looks]).toEqual([[], 1])
      bus.store.fails = false
      await pass(8_000)
      expect(seen).toEqual([1])
    })
  })

  it("is nothing to wait for where the server lets this identity ask nothing", async () => {
    const bus = played()
    bus.store.denies = true
    const watching = Effect.scoped(makeWorkflows(bus.core).watch("lab", () => Effect.void))
    await expect(Effect.runPromise(watching)).rejects.toMatchObject({ reason: "Denied" })
  })
})

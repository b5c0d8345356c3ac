/**
 * A hundred rotations under a numbered stream and a bulk transfer, each as fast as it goes: no packet is lost, no connection
 * is reset. The cores decide as in a deployment, and real planes in real namespaces carry it out.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { makeLivingPair, type Pair, startStreams } from "./pair.ts"

const ROTATIONS = 100
/** A tenth of the product's grace time: what is on its way arrives much sooner. */
const GRACE_MS = 200

let pair: Pair
beforeAll(async () => {
  pair = await makeLivingPair(GRACE_MS)
}, 60_000)
afterAll(() => pair?.end(), 30_000)

describe(`${ROTATIONS} rotations under full load`, () => {
  it("lose nothing", async () => {
    const streams = await startStreams(pair.members)
    await new Promise((resolve) => setTimeout(resolve, 500))
    const before = pair.events.filter((event) => event === "edge-active").length
    const began = performance.now()
    for (let i = 0; i < ROTATIONS; i++) await pair.rotate()
    const seconds = (performance.now() - began) / 1_000
    const { udp, got, tcp, arrived } = await streams.stop()
    console.info(
      `${ROTATIONS} rotations in ${seconds.toFixed(1)} s: ${got.distinct} of ${udp.sent} datagrams ` +
        `(${Math.round(udp.sent / seconds)}/s, longest gap ${got.longest_gap_ms} ms), ` +
        `${((tcp.bytes * 8) / seconds / 1e6).toFixed(0)} Mbit/s by TCP`,
    )
    expect(pair.failures).toEqual([])
    // Two edges each time, and every old key went.
    expect(pair.events.filter((event) => event === "edge-active").length - before).toBe(2 * ROTATIONS)
    expect(pair.events.filter((event) => event.startsWith("edge-dis") || event === "edge-missing")).toEqual(
      [],
    )
    expect(pair.failures).toEqual([])
    for (const { plane } of pair.members) {
      const present = plane.associations()
      expect(present.length).toBe(2 * 2 * 2)
      expect(Math.max(...present.map(({ epoch }) => Number(epoch.n)))).toBe(ROTATIONS + 1)
    }
    expect(udp.sent).toBeGreaterThan(ROTATIONS * 100)
    expect(got).toMatchObject({ datagrams: udp.sent, distinct: udp.sent, highest: udp.sent - 1 })
    expect(tcp).toEqual({ bytes: arrived.bytes, error: 0 })
    expect(arrived.error).toBe(0)
    expect(tcp.bytes).toBeGreaterThan(10e6)
    expect(pair.drops()).toEqual({})
  }, 150_000)
})

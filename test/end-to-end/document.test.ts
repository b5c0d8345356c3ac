/** Versions of the document under a numbered stream and a bulk transfer: what stays in it doesn't lose a packet. */
import { afterAll, beforeAll, expect, it } from "vitest"
import { makeLivingPair, type Pair, startStreams } from "./pair.ts"

const VERSIONS = 10

let pair: Pair
beforeAll(async () => {
  pair = await makeLivingPair(200)
}, 60_000)
afterAll(() => pair?.end(), 30_000)

it(`${VERSIONS} versions of the document under full load lose nothing of the edges that stay`, async () => {
  const streams = await startStreams(pair.members)
  await new Promise((resolve) => setTimeout(resolve, 300))
  for (let i = 0; i < VERSIONS; i++) {
    await pair.newDocument(i % 2 === 0 ? 0 : 150)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const { udp, got, tcp, arrived } = await streams.stop()
  console.info(
    `${VERSIONS} versions: ${got.distinct} of ${udp.sent} datagrams, longest gap ${got.longest_gap_ms} ms, ${arrived.bytes} bytes`,
  )
  expect(pair.failures).toEqual([])
  expect(pair.events.filter((event) => event === "edge-active")).toHaveLength(2 * (VERSIONS + 1))
  expect(udp.sent).toBeGreaterThan(VERSIONS * 100)
  expect(got).toMatchObject({ datagrams: udp.sent, distinct: udp.sent })
  expect([tcp.error, arrived]).toEqual([0, { bytes: tcp.bytes, error: 0 }])
  expect(pair.drops()).toEqual({})
}, 150_000)

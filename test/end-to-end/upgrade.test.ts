/**
 * Other programs in place of those that run, under a numbered stream and a bulk transfer: a new build of the same layout
 * loses nothing; another layout begins with default deny and none of the keys.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { tamper } from "../../infra/lab/tamper.ts"
import { realObject } from "../kernel/compile.ts"
import { makeLivingPair, type Pair, startStreams } from "./pair.ts"

const UPGRADES = 20
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

let pair: Pair
const directory = mkdtempSync(join(tmpdir(), "vsupgrade-"))
const otherBuild = join(directory, "other.bpf.o")
beforeAll(async () => {
  tamper(realObject, otherBuild)
  pair = await makeLivingPair(200)
}, 60_000)
afterAll(() => {
  pair?.end()
  rmSync(directory, { recursive: true })
}, 30_000)

describe(`${UPGRADES} upgrades under full load`, () => {
  it("lose nothing, keep every key, and change the measurement", async () => {
    const streams = await startStreams(pair.members)
    await new Promise((resolve) => setTimeout(resolve, 500))
    const keys = () => pair.members.map(({ plane }) => plane.associations())
    const before = { keys: keys(), digest: hex(pair.members[0].plane.measurement.digest) }
    const began = performance.now()
    for (let i = 0; i < UPGRADES; i++) {
      const index = (i >> 1) % 2 === 0 ? 0 : 1
      // Each node goes to the other build and back, both ends in turn.
      const object = i % 2 === 0 ? otherBuild : realObject
      const plane = pair.reopen(index, object)
      const { space } = pair.members[index]
      expect(plane.fresh).toBe(false)
      expect(plane.waiting).toBeDefined()
      const running = hex(plane.measurement.digest)
      space.wire.inside(() => plane.upgrade())
      expect(plane.waiting).toBeUndefined()
      expect(hex(plane.measurement.digest)).not.toBe(running)
      expect(space.wire.inside(() => plane.inspect())).toEqual([])
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    const seconds = (performance.now() - began) / 1_000
    const { udp, got, tcp, arrived } = await streams.stop()
    console.info(
      `${UPGRADES} upgrades in ${seconds.toFixed(1)} s: ${got.distinct} of ${udp.sent} datagrams, longest gap ${got.longest_gap_ms} ms`,
    )
    expect(hex(pair.members[0].plane.measurement.digest)).toBe(before.digest)
    expect(keys()).toEqual(before.keys)
    expect(udp.sent).toBeGreaterThan(UPGRADES * 100)
    expect(got).toMatchObject({ datagrams: udp.sent, distinct: udp.sent })
    expect([tcp.error, arrived]).toEqual([0, { bytes: tcp.bytes, error: 0 }])
    expect(pair.drops()).toEqual({})
  }, 150_000)
})

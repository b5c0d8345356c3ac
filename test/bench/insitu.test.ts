/** The bench of enforcement in place, in short: it gives what it promises. No figure is judged here. */
import { expect, test } from "vitest"
import { measureInSitu } from "./insitu.ts"

test("each program's time for each size of packet", async () => {
  const { sizes } = await measureInSitu(1, 300)
  expect(sizes.map(({ bytes }) => bytes)).toEqual([64, 1438])
  for (const { bytes: _bytes, ...ns } of sizes)
    for (const one of Object.values(ns)) expect(one).toBeGreaterThan(0)
  const [small, large] = sizes
  expect(large?.seal_ns).toBeGreaterThan(small?.seal_ns ?? 0)
}, 90_000)

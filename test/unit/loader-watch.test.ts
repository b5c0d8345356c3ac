/** What the watch over the plane does with what it finds, on a clock of its own. */
import { expect, test } from "vitest"
import { KernelError } from "../../services/common/kernel/errors.ts"
import type { Finding } from "../../services/dataplane-loader/dataplane/plane.ts"
import { PlaneWatch } from "../../services/dataplane-loader/watch.ts"

const finding: Finding = { subject: "wire-ingress", found: "nothing", wanted: "vs_open alone" }

const make = () => {
  let now = 0
  const calls: string[] = []
  const plane = {
    amiss: [] as ReadonlyArray<Finding>,
    stubborn: [] as ReadonlyArray<Finding>,
    refuses: false,
    inspect: (): ReadonlyArray<Finding> => plane.amiss,
    cutOff: () => {
      calls.push("cut off")
      if (plane.refuses) throw new KernelError("map delete", "sa_out", "EPERM")
    },
    restore: () => {
      calls.push("restore")
      if (plane.stubborn.length === 0) plane.amiss = []
      return plane.stubborn
    },
  }
  const watch = new PlaneWatch(plane, () => now)
  const after = (ms: number) => {
    now += ms
    return watch.look()
  }
  return { plane, watch, after, calls }
}

test("a whole plane is left alone", () => {
  const { watch, after, calls } = make()
  for (let i = 0; i < 10; i++) expect(after(200)).toBeUndefined()
  expect([watch.whole, watch.breaks, calls]).toEqual([true, 0, []])
})

test("a finding ends traffic in the same look, and says what was found", () => {
  const { plane, watch, after, calls } = make()
  plane.amiss = [finding]
  expect(after(200)).toEqual({ kind: "tampered", findings: [finding] })
  expect([watch.whole, watch.breaks, calls]).toEqual([false, 1, ["cut off"]])
})

test("it stays cut off until nothing is amiss, and is told once", () => {
  const { plane, watch, after, calls } = make()
  plane.amiss = plane.stubborn = [finding]
  after(200)
  for (let i = 0; i < 25; i++) expect(after(200)).toBeUndefined()
  expect(watch.whole).toBe(false)
  expect(calls.filter((one) => one === "cut off")).toHaveLength(26)
  expect(calls.filter((one) => one === "restore")).toHaveLength(5)
  plane.stubborn = []
  expect(after(1_000)).toEqual({ kind: "restored", brokenMs: 6_000 })
  expect([watch.whole, after(200)]).toEqual([true, undefined])
})

test("broken again and again, it waits longer each time; after a quiet time no longer", () => {
  const { plane, after } = make()
  const untilRestored = (): number => {
    plane.amiss = [finding]
    after(200)
    for (let waited = 200; ; waited += 200) if (after(200)?.kind === "restored") return waited
  }
  expect([untilRestored(), untilRestored(), untilRestored()]).toEqual([1_000, 2_000, 4_000])
  for (let i = 0; i < 5; i++) untilRestored()
  expect(untilRestored()).toBe(30_000)
  after(300_000)
  expect(untilRestored()).toBe(1_000)
})

test("a kernel that refuses to cut off is told too, and asked again", () => {
  const { plane, watch, after, calls } = make()
  plane.amiss = [finding]
  plane.refuses = true
  expect(after(200)).toMatchObject({ kind: "tampered", findings: [finding, { subject: "sa_out" }] })
  expect(after(200)).toBeUndefined()
  expect([watch.whole, calls]).toEqual([false, ["cut off", "cut off"]])
})

test("whatever is thrown by a look cuts off, and by putting right keeps it cut off", () => {
  const { plane, watch, after, calls } = make()
  plane.inspect = () => {
    throw Object.assign(new Error(`ELOOP: ${"x".repeat(1_000)}`), { code: "ELOOP" })
  }
  const change = after(200)
  expect(change).toMatchObject({ kind: "tampered", findings: [{ subject: "plane", wanted: "an answer" }] })
  expect(change?.kind === "tampered" ? change.findings[0]?.found : "").toHaveLength(256)
  const { restore } = plane
  plane.restore = () => {
    throw new TypeError("unexpected")
  }
  for (let i = 0; i < 10; i++) expect(after(200)).toBeUndefined()
  // Once with each look, and once more after each of the two attempts.
  expect([watch.whole, calls]).toEqual([false, Array(13).fill("cut off")])
  Object.assign(plane, { restore, inspect: () => [] })
  plane.cutOff = () => {
    throw new TypeError("unexpected")
  }
  expect(after(1_000)).toMatchObject({ kind: "restored" })
  expect(after(200)).toBeUndefined()
})

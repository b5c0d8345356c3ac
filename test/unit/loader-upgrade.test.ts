/** When an upgrade is done, what keys it keeps, and what is told of it. */
import { expect, test } from "vitest"
import { KernelError } from "../../services/common/kernel/errors.ts"
import type { Measurement } from "../../services/common/kernel/measure.ts"
import { upgradePlane } from "../../services/dataplane-loader/upgrade.ts"

const measured = (byte: number): Measurement => ({
  digest: new Uint8Array(48).fill(byte),
  programs: [],
  mapIds: new Map(),
})
const [OLD, NEW] = ["0a".repeat(48), "0b".repeat(48)]

const make = (waiting: Measurement | undefined = measured(11), refuse?: KernelError) => {
  const calls: string[] = []
  return {
    calls,
    measurement: measured(10),
    waiting,
    upgrade: () => {
      calls.push("upgrade")
      if (refuse !== undefined) throw refuse
    },
    revokeAll: () => void calls.push("revoke all"),
  }
}

test("both listed: done, keys kept, and told from where", () => {
  const plane = make()
  expect(upgradePlane(plane, [OLD, NEW])).toMatchObject({ done: true, message: expect.stringContaining(OLD) })
  expect(plane.calls).toEqual(["upgrade"])
})

test("only the new one listed: keys that the old one held go first", () => {
  const plane = make()
  expect(upgradePlane(plane, [NEW])).toMatchObject({
    done: true,
    message: expect.stringContaining("keys gone"),
  })
  expect(plane.calls).toEqual(["revoke all", "upgrade"])
})

test.each([[[OLD]], [[]]])("the new one not listed (%s): what runs goes on", (listed) => {
  const plane = make()
  expect(upgradePlane(plane, listed)).toMatchObject({ done: false, code: "NOT_LISTED" })
  expect(plane.calls).toEqual([])
})

test("nothing waits: nothing is done or told", () => {
  const plane = { ...make(), waiting: undefined }
  expect(upgradePlane(plane, [OLD, NEW])).toBeUndefined()
  expect(plane.calls).toEqual([])
})

test("a kernel that refuses is told of", () => {
  const plane = make(measured(11), new KernelError("load", "x.o", "EACCES"))
  expect(upgradePlane(plane, [OLD, NEW])).toMatchObject({ done: false, code: "EACCES" })
})

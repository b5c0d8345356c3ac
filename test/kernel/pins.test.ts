/** Where pins lie: a directory that others may write would let them take programs off their hooks, or forget used epochs. */
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, symlinkSync, unlinkSync } from "node:fs"
import { join } from "node:path"
import { afterEach, beforeEach, expect, test } from "vitest"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { openPins } from "../../services/dataplane-loader/dataplane/pins.ts"

const base = join(BPFFS, `vouchsafe-pins-test-${process.pid}`)
const stranger = 65_534

beforeEach(() => {
  ensureBpffs()
  mkdirSync(base, { mode: 0o700 })
})
afterEach(() => removePins(base))

const refused = expect.objectContaining({ code: "INVALID", op: "open plane" })

test("are made for their owner alone, all of the path", () => {
  openPins(join(base, "domain", "node")).unlock()
  for (const path of [join(base, "domain"), join(base, "domain", "node")])
    expect(lstatSync(path).mode & 0o7777).toBe(0o700)
  openPins(join(base, "domain", "node")).unlock()
})

test.each(["", "domain", "domain/node"])("in a stranger's directory are refused: %s", (part) => {
  mkdirSync(join(base, "domain", "node"), { recursive: true, mode: 0o700 })
  chownSync(join(base, part), stranger, stranger)
  expect(() => openPins(join(base, "domain", "node"))).toThrow(refused)
})

test.each([0o777, 0o1777, 0o770])("in a directory that others may write are refused", (mode) => {
  mkdirSync(join(base, "domain"))
  chmodSync(join(base, "domain"), mode)
  expect(() => openPins(join(base, "domain", "node"))).toThrow(refused)
  expect(existsSync(join(base, "domain", "node"))).toBe(false)
})

test("behind a link are refused, and nothing is made where it leads", () => {
  mkdirSync(join(base, "elsewhere"), { mode: 0o700 })
  symlinkSync(join(base, "elsewhere"), join(base, "domain"))
  try {
    expect(() => openPins(join(base, "domain", "node"))).toThrow(refused)
    expect(existsSync(join(base, "elsewhere", "node"))).toBe(false)
  } finally {
    unlinkSync(join(base, "domain"))
  }
})

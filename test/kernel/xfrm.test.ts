/** Linux's own ESP, in the guest with kernel 6.1, and our programs there: what one seals the other opens, and both refuse the same. */
import { spawn } from "node:child_process"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, expect, test } from "vitest"

const LIMIT_S = 240
const directory = mkdtempSync(join(tmpdir(), "vouchsafe-xfrm-"))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const boot = (script: string): Promise<{ readonly status: number | null; readonly output: string }> =>
  new Promise((done, fail) => {
    const env = { ...process.env, LIMIT_S: String(LIMIT_S) }
    const child = spawn("infra/guest/boot-6.1.sh", [script], { env })
    let output = ""
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (text) => {
        output += String(text)
      })
    child.on("error", fail)
    child.on("close", (status) => done({ status, output }))
  })

test("XFRM opens what we seal and we open what XFRM seals", { timeout: (LIMIT_S + 30) * 1000 }, async () => {
  const script = join(directory, "inside")
  // Another number than node's own: only this script's status can have come out of the guest.
  const lines = [
    "#!/bin/sh",
    `cd ${resolve(".")}`,
    "node_modules/.bin/node test/kernel/xfrm-inside.ts; exit $((40 + $?))",
  ]
  writeFileSync(script, `${lines.join("\n")}\n`)
  chmodSync(script, 0o755)
  const { status, output } = await boot(script)
  expect(output).not.toContain("BROKEN")
  for (const outer of [4, 6])
    for (const numbers of ["without ESN", "with ESN", "with ESN, over the wrap of the low half"])
      for (const what of ["IPv4", "IPv6", "XFRM takes no forgery", "XFRM takes ours once"])
        expect(output).toContain(`held: ${what} over IPv${outer} ${numbers}\n`)
  expect(status).toBe(40)
})

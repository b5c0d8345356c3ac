/** The plane under a kernel without TCX, where filters of clsact take its place, and with tracing of programs. */
import { spawn } from "node:child_process"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, expect, test } from "vitest"

const LIMIT_S = 280
const directory = mkdtempSync(join(tmpdir(), "vskern-guest-"))
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

test("a plane's whole life on clsact, and a program that traces it", { timeout: 300_000 }, async () => {
  const script = join(directory, "inside")
  // Another number than node's own: only this script's status can have come out of the guest.
  const lines = [
    "#!/bin/sh",
    `cd ${resolve(".")}`,
    "node_modules/.bin/node test/kernel/plane-6.1-inside.ts; exit $((40 + $?))",
  ]
  writeFileSync(script, `${lines.join("\n")}\n`)
  chmodSync(script, 0o755)
  const { status, output } = await boot(script)
  expect(output).toMatch(/^kernel: 6\.1\./)
  expect(output).not.toContain("BROKEN")
  for (const what of [
    "there is no TCX",
    "reloads measure alike",
    "a fresh plane measures like its object",
    "one filter is on the hook",
    "a new loader takes it over",
    "an epoch is installed once",
    "the next epoch can be installed",
    "a tracing program loads",
    "it is found when it is loaded",
    "it is found when it is attached",
    "nothing is left on the hook",
  ])
    expect(output).toContain(`held: ${what}\n`)
  expect(status).toBe(40)
})

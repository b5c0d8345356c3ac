/** The same objects under Debian's kernel 6.1: its verifier is stricter and forgets more, and its TC has no TCX. */
import { spawn } from "node:child_process"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { vectors } from "./aead-vectors.ts"

const LIMIT_S = 280
let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-guest-"))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Boots the guest with a script of these lines; gives its exit status and what it printed. */
const boot = (
  name: string,
  lines: ReadonlyArray<string>,
): Promise<{ status: number | null; output: string }> => {
  const script = join(directory, name)
  writeFileSync(script, `#!/bin/sh\n${lines.join("\n")}\n`)
  chmodSync(script, 0o755)
  return new Promise((done, fail) => {
    const child = spawn("infra/guest/boot-6.1.sh", [script], {
      env: { ...process.env, LIMIT_S: String(LIMIT_S) },
    })
    let output = ""
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += String(text)))
    child.on("error", fail)
    child.on("close", (status) => done({ status, output }))
  })
}

describe("kernel 6.1", () => {
  test("loads both objects, agrees with the vectors, seals and opens", { timeout: 300_000 }, async () => {
    const root = resolve(".")
    // Another number than node's own: only the script's status can have come out of the guest.
    const inside = "node_modules/.bin/node test/kernel/guest-inside.ts; exit $((40 + $?))"
    const run = await boot("inside", [`cd ${root}`, inside])
    expect(run.output).toMatch(/^kernel: 6\.1\./)
    expect(run.output).toContain("hooks: clsact")
    for (const line of run.output.matchAll(/^complexity: .*$/gm)) console.log(`kernel 6.1, ${line[0]}`)
    for (const { name } of vectors) expect(run.output).toContain(`held: ${name}\n`)
    for (const what of [
      "the product's four programs load",
      "sealing gives the bytes of another implementation",
      "opening gives them back, over the wrap of the low half",
      "a replay is refused",
      "a forgery is refused",
      "IPv4 and IPv6 carry each other",
    ])
      expect(run.output).toContain(`held: ${what}\n`)
    expect(run.output).not.toContain("BROKEN")
    expect(run.status).toBe(40)
  })
})

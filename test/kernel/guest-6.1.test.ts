/**
 * The same objects and the same loader under Debian's kernel 6.1: its verifier is stricter and forgets more, its TC has no TCX, so that
 * filters of clsact take its place; and it has what this machine's may lack, Linux's own ESP and tracing of programs. One start for all.
 */
import { spawn } from "node:child_process"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { vectors } from "./aead-vectors.ts"

const LIMIT_S = 380
const directory = mkdtempSync(join(tmpdir(), "vouchsafe-guest-"))
let status: number | null
let output = ""

const boot = (script: string): Promise<number | null> =>
  new Promise((done, fail) => {
    const env = { ...process.env, LIMIT_S: String(LIMIT_S) }
    const child = spawn("infra/guest/boot-6.1.sh", [script], { env })
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (text) => {
        output += String(text)
      })
    child.on("error", fail)
    child.on("close", done)
  })

beforeAll(
  async () => {
    const script = join(directory, "inside")
    // Another number than node's own: only this script's status can have come out of the guest.
    const lines = [
      "#!/bin/sh",
      `cd ${resolve(".")}`,
      "node_modules/.bin/node test/kernel/inside-6.1.ts; exit $((40 + $?))",
    ]
    writeFileSync(script, `${lines.join("\n")}\n`)
    chmodSync(script, 0o755)
    status = await boot(script)
  },
  (LIMIT_S + 30) * 1000,
)
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const held = (what: string): void => expect(output).toContain(`held: ${what}\n`)

describe("kernel 6.1", () => {
  test("nothing is broken, and the script came to its end", () => {
    expect(output).toMatch(/^kernel: 6\.1\./)
    expect(output).not.toContain("BROKEN")
    expect(status).toBe(40)
  })

  test("loads both objects, agrees with the vectors, seals and opens", () => {
    expect(output).toContain("hooks: clsact")
    for (const line of output.matchAll(/^complexity: .*$/gm)) console.log(`kernel 6.1, ${line[0]}`)
    for (const { name } of vectors) held(name)
    for (const what of [
      "the product's four programs load",
      "sealing gives the bytes of another implementation",
      "opening gives them back, over the wrap of the low half",
      "a replay is refused",
      "a forgery is refused",
      "IPv4 and IPv6 carry each other",
    ])
      held(what)
  })

  test("a plane's whole life on clsact", () => {
    for (const what of [
      "there is no TCX",
      "reloads measure alike",
      "a fresh plane measures like its object",
      "one filter is on the hook",
      "a new loader takes it over",
      "an epoch is installed once",
      "the next epoch can be installed",
      "nothing is left on the hook",
    ])
      held(what)
  })

  test.each(["tracing", "replacing"])("a %s program that reaches into the sealer", (which) => {
    for (const what of [
      `nothing is found before the ${which} program`,
      `a ${which} program loads`,
      "it is found when it is loaded",
      "it is found when it is attached",
      `the watch finds the ${which} program within a second`,
      `the ${which} program ends traffic`,
      `nothing is put right beside the ${which} program`,
      `all is put right without the ${which} program`,
    ])
      held(what)
  })

  test("XFRM opens what we seal and we open what XFRM seals; both refuse the same", () => {
    for (const outer of [4, 6])
      for (const numbers of ["without ESN", "with ESN", "with ESN, over the wrap of the low half"])
        for (const what of ["IPv4", "IPv6", "XFRM takes no forgery", "XFRM takes ours once"])
          held(`${what} over IPv${outer} ${numbers}`)
  })
})

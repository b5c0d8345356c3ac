/** The operator's tool as a process: what it prints arrives whole, and what is wrong is said in one line. */
import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { afterAll, describe, expect, it } from "vitest"

const main = fileURLToPath(new URL("../../services/cli/main.ts", import.meta.url))
const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
const folder = mkdtempSync(join(tmpdir(), "vouchsafe-cli-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const run = (...args: string[]) =>
  spawnSync(process.execPath, [main, ...args], {
    encoding: "utf8",
    env: { PATH: process.env.PATH },
    timeout: 60_000,
  })

describe("vouchsafe", () => {
  it("is a program of the package's, and says its version", () => {
    expect(manifest.bin).toEqual({ vouchsafe: "services/cli/main.ts" })
    expect(readFileSync(main, "utf8").split("\n")[0]).toBe("#!/usr/bin/env node")
    const direct = spawnSync(main, ["--version"], { encoding: "utf8", timeout: 60_000 })
    expect(direct.stdout).toBe(`vouchsafe ${manifest.version}\n`)
    expect(direct.status).toBe(0)
  })

  it("prints more than a pipe holds, to a reader that takes its time", async () => {
    const files = Array.from({ length: 400 }, (_, i) => join(folder, `${"not-evidence-".repeat(10)}${i}.bin`))
    for (const file of files) writeFileSync(file, "no evidence at all")
    const child = spawn(process.execPath, [main, "evidence", "inspect", "--json", ...files], {
      stdio: ["ignore", "pipe", "ignore"],
    })
    const ended = new Promise((resolve) => child.once("exit", resolve))
    await sleep(3_000)
    const pieces: Buffer[] = []
    for await (const piece of child.stdout) pieces.push(piece)
    const text = Buffer.concat(pieces).toString("utf8")
    expect(text.length).toBeGreaterThan(2 * 65_536)
    expect(JSON.parse(text)).toHaveLength(files.length)
    expect(await ended).toBe(2)
  }, 60_000)

  it("names the setting that a command on the bus misses", () => {
    for (const args of [["status"], ["enroll", "list", "--domain", "lab"], ["events"]]) {
      const { status, stderr } = run(...args)
      expect(stderr).toBe("vouchsafe: settings: VOUCHSAFE_NATS_URL is not set\n")
      expect(status).toBe(78)
    }
  })

  it("never overwrites a key", () => {
    const path = join(folder, "operator.key")
    expect(run("keygen", path).status).toBe(0)
    const key = readFileSync(path)
    const { status, stderr } = run("keygen", path)
    expect(stderr).toBe(`vouchsafe: ${path} exists: a key file is never overwritten\n`)
    expect(status).toBe(1)
    expect(readFileSync(path)).toEqual(key)
  })
})

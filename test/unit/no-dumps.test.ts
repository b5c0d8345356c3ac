/** A crash must not put keys on a disk: neither of a service, nor of an operator's tool. */
import { type ChildProcess, spawn } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterEach, expect, it } from "vitest"
import { newUser } from "../../services/common/bus/bus.ts"
import { scratchDirectory } from "../support/scratch.ts"

const directory = scratchDirectory("dumps")
const fileOf = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const started: ChildProcess[] = []
afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL")
})

/** Under a shell that lets it dump all it has, as systemd does. */
const dumping = (program: string, args: ReadonlyArray<string>, env: Record<string, string>): number => {
  const child = spawn("sh", ["-c", `ulimit -c unlimited 2>/dev/null; exec "$0" "$@"`, program, ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: "ignore",
    cwd: directory,
  })
  started.push(child)
  return child.pid ?? 0
}

const dumpLimit = (pid: number): string =>
  /^Max core file size +(\S+) +(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, "latin1"))?.[0] ?? "none"

const becomes = async (pid: number, wanted: RegExp): Promise<void> => {
  for (let i = 0; i < 3_000 && !wanted.test(dumpLimit(pid)); i++)
    await new Promise((resolve) => setTimeout(resolve, 20))
  expect(dumpLimit(pid)).toMatch(wanted)
}

const none = /size +0 +0/

it("here a process may dump unless it gives that up", () => {
  const limit = dumpLimit(dumping("sleep", ["60"], {}))
  if (none.test(limit)) console.warn("nothing may dump on this machine: the two tests below prove nothing")
})

it("a service gives it up before it is on the bus", async () => {
  const seed = join(directory, "seed")
  writeFileSync(seed, newUser().seed, { mode: 0o600 })
  const service = dumping(process.execPath, [fileOf("../support/greeter.ts")], {
    VOUCHSAFE_NATS_URL: "nats://127.0.0.1:9",
    VOUCHSAFE_NATS_SEED: seed,
    VOUCHSAFE_INSTANCE: "v1",
  })
  await becomes(service, none)
}, 90_000)

it("an operator's tool gives it up before it reads a key", async () => {
  const tool = `
    import { createOperatorKey } from ${JSON.stringify(fileOf("../../services/cli/operator-key.ts"))}
    import { crypto } from ${JSON.stringify(fileOf("../../services/common/crypto/index.ts"))}
    createOperatorKey(crypto, ${JSON.stringify(join(directory, "key"))})
    setInterval(() => {}, 1_000)
  `
  await becomes(dumping(process.execPath, ["--input-type=module", "-e", tool], {}), none)
}, 90_000)

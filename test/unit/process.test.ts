import { type ChildProcess, spawn } from "node:child_process"
import { chmodSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Fiber } from "effect"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { line } from "../../services/common/process/index.ts"
import { withBuses } from "../support/buses.ts"
import { startNats, type TestNats } from "../support/nats.ts"

const greeter = fileURLToPath(new URL("../support/greeter.ts", import.meta.url))
let nats: TestNats
let seedPath: string
const started: ChildProcess[] = []

beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "verifier", instance: "v1" },
    { role: "loader", instance: "n1" },
  ])
  await withBuses(nats, [["operator", "lab"]], (operator) => operator.ensureStreams)
  seedPath = join(nats.directory, "verifier.seed")
  writeFileSync(seedPath, nats.seed("verifier", "v1"), { mode: 0o600 })
})
afterEach(() => {
  for (const child of started.splice(0)) if (child.exitCode === null) child.kill("SIGKILL")
})
afterAll(() => nats.stop())

interface Run {
  readonly child: ChildProcess
  readonly output: () => string
  readonly ended: Promise<number | null>
  /** Waits until it has said this so many times. */
  readonly saw: (text: string, times?: number) => Promise<void>
}

const run = (
  flags: ReadonlyArray<string>,
  changes: Readonly<Record<string, string | undefined>> = {},
): Run => {
  const env: Record<string, string | undefined> = {
    PATH: process.env.PATH,
    VOUCHSAFE_NATS_URL: nats.url,
    VOUCHSAFE_NATS_SEED: seedPath,
    VOUCHSAFE_INSTANCE: "v1",
    ...changes,
  }
  const child = spawn(process.execPath, [greeter, ...flags], { env, stdio: ["ignore", "pipe", "pipe"] })
  started.push(child)
  let output = ""
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (chunk: Buffer) => (output += chunk.toString()))
  const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)))
  const saw = async (text: string, times = 1): Promise<void> => {
    const said = () => output.split(text).length > times
    for (let i = 0; i < 2_000 && !said(); i++) await new Promise((resolve) => setTimeout(resolve, 10))
    if (!said()) throw new Error(`never said ${text}:\n${output}`)
  }
  return { child, output: () => output, ended, saw }
}

const hello = {
  v: 1,
  domain: "lab",
  node: "n1",
  session: new Uint8Array(16),
  nonce: new Uint8Array(32),
  term: 0n,
} as const

describe("a service process", () => {
  it("answers all that it began before it obeys SIGTERM, and ends with 0", async () => {
    const service = run([], { GREETER_DELAY_MS: "1000" })
    await service.saw("ready")
    const answers = await withBuses(nats, [["loader", "n1"]], (loader) =>
      Effect.gen(function* () {
        const asking = yield* Effect.forkChild(
          Effect.all(
            Array.from({ length: 20 }, () =>
              loader.request("hello", { node: "n1" }, hello, { timeoutMs: 5_000 }),
            ),
            { concurrency: "unbounded" },
          ),
        )
        yield* Effect.promise(() => service.saw("asked", 20))
        service.child.kill("SIGTERM")
        return yield* Fiber.join(asking)
      }),
    )
    expect(answers).toHaveLength(20)
    expect(answers.every((answer) => answer.kind === "refused" && answer.code === "HELLO")).toBe(true)
    expect(await service.ended).toBe(0)
  })

  it("ends at once with 0 when it is told to stop before it has found a server", async () => {
    const service = run([], { VOUCHSAFE_NATS_URL: "nats://127.0.0.1:1" })
    await service.saw("trying again")
    service.child.kill("SIGTERM")
    expect(await service.ended).toBe(0)
  })

  it("says in one line which setting is wrong, and ends with 78", async () => {
    const open = join(nats.directory, "open.seed")
    writeFileSync(open, nats.seed("verifier", "v1"))
    chmodSync(open, 0o644)
    const text = join(nats.directory, "text.seed")
    writeFileSync(text, "not a seed", { mode: 0o600 })
    for (const [changes, wanted] of [
      [{ VOUCHSAFE_NATS_URL: undefined }, /VOUCHSAFE_NATS_URL is not set/],
      [{ VOUCHSAFE_NATS_URL: "nats://user:hunter2@127.0.0.1:4222" }, /VOUCHSAFE_NATS_URL: .*without user/],
      [{ VOUCHSAFE_NATS_SEED: open }, /VOUCHSAFE_NATS_SEED: others than its owner may read/],
      [{ VOUCHSAFE_NATS_SEED: text }, /VOUCHSAFE_NATS_SEED: .*does not hold the seed/],
      [{ VOUCHSAFE_INSTANCE: "a.b" }, /VOUCHSAFE_INSTANCE: .*not a subject token/],
      [{ VOUCHSAFE_PREFIX: "vs.>" }, /VOUCHSAFE_PREFIX: .*prefix/],
      [{ VOUCHSAFE_LOG: "xml" }, /VOUCHSAFE_LOG/],
      [{ GREETER_DELAY_MS: "soon" }, /GREETER_DELAY_MS/],
    ] as const) {
      const service = run(["--check"], changes)
      expect(await service.ended).toBe(78)
      expect(service.output()).toMatch(wanted)
      expect(service.output().trimEnd().split("\n")).toHaveLength(1)
      expect(service.output()).not.toContain("hunter2")
    }
  })

  it("checks, explains itself, and refuses unknown flags", async () => {
    const check = run(["--check"])
    expect(await check.ended).toBe(0)
    expect(check.output()).toContain("the settings are valid")
    const help = run(["--help"], { VOUCHSAFE_NATS_URL: undefined })
    expect(await help.ended).toBe(0)
    expect(help.output()).toContain("GREETER_DELAY_MS")
    const wrong = run(["--verbose"])
    expect(await wrong.ended).toBe(64)
  })

  it("ends with 1 and a way out when the server does not know its identity", async () => {
    const stranger = join(nats.directory, "stranger.seed")
    const { newUser } = await import("../../services/common/bus/bus.ts")
    writeFileSync(stranger, newUser().seed, { mode: 0o600 })
    const service = run([], { VOUCHSAFE_NATS_SEED: stranger })
    expect(await service.ended).toBe(1)
    expect(service.output()).toMatch(/greeter: the NATS server does not accept this identity/)
  })
})

describe("a line of the log", () => {
  const entry = {
    time: "2026-01-01T00:00:00.000Z",
    level: "INFO",
    service: "verifier",
    message: "two\nlines \u001b[31m",
    fields: { node: "n1", code: "A B", term: 7n, key: new Uint8Array(32), error: new Error("bad") },
    cause: undefined,
  }
  it("is one line of text without control characters", () => {
    expect(line(entry, "text")).toBe(
      '2026-01-01T00:00:00.000Z INFO  verifier: two\\u{a}lines \\u{1b}[31m node=n1 code="A B" term=7 key=<32 bytes> error="Error: bad"\n',
    )
  })
  it("is one line of JSON", () => {
    const text = line(entry, "json")
    expect(text.indexOf("\n")).toBe(text.length - 1)
    expect(JSON.parse(text)).toMatchObject({
      level: "INFO",
      node: "n1",
      term: "7",
      key: "<32 bytes>",
      error: "Error: bad",
    })
  })
})

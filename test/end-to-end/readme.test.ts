/** What the README shows is tried as it stands there: the workflow, the operator's commands, a service by itself. */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"

const root = fileURLToPath(new URL("../..", import.meta.url))
const readme = readFileSync(join(root, "README.md"), "utf8")
const scripts = (
  JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> }
).scripts

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() =>
        typeof address === "object" && address ? resolve(address.port) : reject(new Error("no port")),
      )
    })
  })

/** The README's workflow with the places that it leaves open filled in. */
const exampleWorkflow = (): string => {
  const block = /```yaml\n(.*?)```/s.exec(readme)?.[1] ?? ""
  return block
    .replaceAll('["..."]', `["${"ab".repeat(48)}"]`)
    .replaceAll('sev_snp: "..."', `sev_snp: "${"cd".repeat(64)}"`)
    .replaceAll('tdx: "..."', `tdx: "${"cd".repeat(16)}"`)
}

let directory: string
let bus: string
let port: number
let server: ReturnType<typeof spawn> | undefined

const cli = (args: ReadonlyArray<string>, env: Record<string, string> = {}) => {
  const done = spawnSync("npm", ["run", "vouchsafe", "--", ...args], {
    cwd: root,
    encoding: "utf8",
    timeout: 30_000,
    env: { ...process.env, ...env },
  })
  return { status: done.status, out: done.stdout, err: done.stderr }
}

const asOperator = () => ({
  VOUCHSAFE_NATS_URL: `nats://127.0.0.1:${port}`,
  VOUCHSAFE_NATS_SEED: join(bus, "operator-me.nk"),
  VOUCHSAFE_INSTANCE: "me",
})

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-readme-"))
  bus = join(directory, "bus")
  port = await freePort()
  writeFileSync(join(directory, "workflow.yaml"), exampleWorkflow())
})

afterAll(() => {
  server?.kill("SIGTERM")
  rmSync(directory, { recursive: true, force: true })
})

describe("README", () => {
  it("names only npm scripts that exist", () => {
    const named = [...readme.matchAll(/npm run ([a-z-]+)/g)].map(([, name]) => name ?? "")
    expect(named.length).toBeGreaterThan(5)
    for (const name of named) expect(scripts).toHaveProperty(name)
  })

  it("links only to files that exist", () => {
    const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map(([, path]) => path ?? "")
    expect(links.length).toBeGreaterThan(3)
    for (const path of links) expect(existsSync(join(root, path)), path).toBe(true)
  })

  it("shows a workflow that passes workflow check, and says what it allows", () => {
    const { status, out } = cli(["workflow", "check", join(directory, "workflow.yaml")])
    expect(out).toContain("example version 1 of domain lab")
    expect(out).not.toContain("EMULATED")
    expect(status).toBe(0)
  })

  it("keygen makes a key that nobody else can read, and never overwrites one", () => {
    const key = join(directory, "operator.key")
    expect(cli(["keygen", key]).status).toBe(0)
    expect(execFileSync("stat", ["-c", "%a", key], { encoding: "utf8" }).trim()).toBe("600")
    const again = cli(["keygen", key])
    expect(again.status).toBe(1)
    expect(again.err).toContain("exists: a key file is never overwritten")
  })

  it("a bus made for six identities carries workflow, events and status", async () => {
    const identities = [
      "verifier-v1",
      "releaser-r1",
      "attester-cp",
      "attester-n1",
      "loader-n1",
      "operator-me",
    ]
    expect(readme).toContain(identities.join(" "))
    expect(cli(["bus", bus, ...identities, "--port", String(port)]).status).toBe(0)
    server = spawn("nats-server", ["-c", join(bus, "nats.conf")], { stdio: "ignore" })
    const apply = [
      "workflow",
      "apply",
      join(directory, "workflow.yaml"),
      "--key",
      join(directory, "operator.key"),
    ]
    const applied = cli([...apply, "--json"], asOperator())
    expect(applied.err).toBe("")
    expect(JSON.parse(applied.out)).toMatchObject({ workflow: "example", version: 1 })
    // One that ends before what is stored: said, and applied.
    const shorter = readFileSync(join(directory, "workflow.yaml"), "utf8")
      .replace("version: 1", "version: 2")
      .replace(/not_after: \d{4}-/, "not_after: 2026-")
    writeFileSync(join(directory, "shorter.yaml"), shorter)
    const next = cli(
      apply.map((word) => word.replace("workflow.yaml", "shorter.yaml")),
      asOperator(),
    )
    expect(next.err).toContain("warning: version 2 ends at 2026-")
    expect(next.out).toContain("version 2 is signed and applied")
    expect(cli(["status"], asOperator()).out).toContain("No loader was heard")
    expect(cli(["events"], asOperator()).status).toBe(0)
  })

  it("a verifier starts by itself against that bus, follows the workflow and drains on SIGTERM", async () => {
    const key = (
      JSON.parse(cli(["keygen", join(directory, "other.key"), "--json"]).out) as { public_key: string }
    ).public_key
    const anchors = /```json\n(.*?)```/s
      .exec(readme)?.[1]
      ?.replace("<64 hex digits>", key)
      .replace(/<(\d+)>/g, (_, digits: string) => "0".repeat(Number(digits)))
    writeFileSync(join(directory, "anchors.json"), anchors ?? "", { mode: 0o600 })
    const verifier = spawn("npm", ["run", "verifier"], {
      cwd: root,
      stdio: ["ignore", "ignore", "pipe"],
      detached: true,
      env: {
        ...process.env,
        VOUCHSAFE_NATS_URL: `nats://127.0.0.1:${port}`,
        VOUCHSAFE_NATS_SEED: join(bus, "verifier-v1.nk"),
        VOUCHSAFE_INSTANCE: "v1",
        VOUCHSAFE_CONTROL_NODE: "cp",
        VOUCHSAFE_RUN_DIR: join(directory, "run"),
        VOUCHSAFE_ANCHORS: join(directory, "anchors.json"),
      },
    })
    try {
      const deadline = Date.now() + 20_000
      let seen = ""
      // The workflow was signed by another operator than these anchors name: the verifier must say so and not follow it.
      while (!seen.includes("workflow.refused") && Date.now() < deadline) {
        seen = cli(["events"], asOperator()).out
      }
      expect(seen).toMatch(/verifier-v1\s+service\.ready/)
      expect(seen).toMatch(/verifier-v1\s+workflow\.refused\s+UNSIGNED \(signatures\)/)
    } finally {
      const ended = new Promise((resolve) => verifier.once("exit", resolve))
      if (verifier.pid !== undefined) process.kill(-verifier.pid, "SIGTERM")
      await ended
    }
  })

  it("wrong usage says what is wrong and shows the usage, status 64", () => {
    for (const args of [
      [],
      ["nonsense"],
      ["events", "--after", "x"],
      ["workflow", "apply"],
      ["bus", directory, "king-1"],
    ]) {
      const { status, err } = cli(args)
      expect(status, args.join(" ")).toBe(64)
      expect(err).toContain("the operator's tool")
    }
  })
})

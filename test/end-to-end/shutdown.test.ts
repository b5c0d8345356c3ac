/** `npm start` itself, as a person runs it at a terminal: a process group of its own, ended by Ctrl-C, by SIGKILL, or not begun. */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { afterEach, describe, expect, it } from "vitest"
import { startTime, sweep } from "../../infra/lab/sweep.ts"
import { sleep, until } from "./support.ts"

const ROOT = fileURLToPath(new URL("../..", import.meta.url))
const LIMIT_MS = 90_000

interface Run {
  readonly pid: number
  said(): string
  ended: Promise<{ readonly status: number | null; readonly signal: NodeJS.Signals | null }>
  /** A signal to everything in the foreground, as the terminal sends it. */
  interrupt(signal: NodeJS.Signals): void
}

const running = new Set<ChildProcess>()

const start = (command: string, args: ReadonlyArray<string>): Run => {
  const child = spawn(command, args, { cwd: ROOT, detached: true, stdio: ["ignore", "pipe", "pipe"] })
  running.add(child)
  let said = ""
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      said += chunk.toString()
    })
  const { pid = -1 } = child
  return {
    pid,
    said: () => said,
    ended: new Promise((resolve) => {
      child.on("close", (status, signal) => {
        running.delete(child)
        resolve({ status, signal })
      })
    }),
    interrupt: (signal) => {
      if (pid > 1) process.kill(-pid, signal)
    },
  }
}

afterEach(async () => {
  for (const child of running) if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL")
  if (running.size > 0) await sleep(500)
  await sweep()
})

const untilSaid = (run: Run, text: string | RegExp): Promise<string> =>
  until(`npm start says ${text}`, 60_000, () => {
    const found = run.said().match(text)
    return found === null ? undefined : (found[1] ?? found[0])
  }).catch((error: Error) => {
    throw new Error(`${error.message}:\n${run.said().slice(-2_000)}`)
  })

/** Every process of a tree with the time it was started, so that a later one of the same id isn't taken for it. */
const treeOf = (root: number): ReadonlyMap<number, string> => {
  const parents = new Map<number, number>()
  for (const name of readdirSync("/proc").filter((each) => /^\d+$/.test(each))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8")
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]))
    } catch {
      // Gone already.
    }
  }
  const tree = new Map<number, string>()
  const walk = (pid: number): void => {
    tree.set(pid, startTime(pid) ?? "")
    for (const [child, parent] of parents) if (parent === pid && !tree.has(child)) walk(child)
  }
  walk(root)
  return tree
}

const alive = (tree: ReadonlyMap<number, string>): ReadonlyArray<number> =>
  [...tree].filter(([pid, started]) => startTime(pid) === started).map(([pid]) => pid)

/** What carries the run's name: namespaces, pins, its directory. */
const remainsOf = (id: string): ReadonlyArray<string> => [
  ...(existsSync("/run/netns") ? readdirSync("/run/netns") : []).filter((ns) => ns.startsWith(`vs-${id}-`)),
  ...[`/run/vouchsafe-${id}`, `/sys/fs/bpf/vouchsafe-${id}`].filter((path) => existsSync(path)),
]

/** Runs whose owner is gone: what an ended run has left, and nobody else's. */
const abandoned = (): ReadonlyArray<string> =>
  readdirSync("/run").filter((name) => {
    const id = /^vouchsafe-(\d+)$/.exec(name)?.[1]
    return id !== undefined && startTime(Number(id)) === undefined
  })

const RUN_ID = /\/run\/vouchsafe-(\d+)\/log/

describe("npm start", () => {
  it("ends within 10 s of Ctrl-C, and neither namespace, pin, process nor file of it is left", {
    timeout: LIMIT_MS,
  }, async () => {
    const run = start("npm", ["start"])
    await untilSaid(run, "Ctrl-C takes everything down")
    const id = await untilSaid(run, RUN_ID)
    const tree = treeOf(run.pid)
    // npm, its shell's successor, the bus, its two relays, the capture, and eleven services.
    expect(alive(tree).length).toBeGreaterThanOrEqual(16)
    expect(remainsOf(id)).toHaveLength(12)
    const began = performance.now()
    run.interrupt("SIGINT")
    const { status, signal } = await run.ended
    expect(performance.now() - began).toBeLessThan(10_000)
    expect([0, 130, "SIGINT"]).toContain(signal ?? status)
    expect(alive(tree)).toEqual([])
    expect(remainsOf(id)).toEqual([])
    expect(run.said()).not.toContain("could not be removed")
    expect(run.said()).toMatch(/0 unexpected, 0 lost, marker seen 0 times/)
  })

  it("killed with everything it started running: its processes die with it, the next start clears the rest away", {
    timeout: LIMIT_MS,
  }, async () => {
    const run = start("npm", ["start"])
    await untilSaid(run, /edge raw .* is active/)
    const tree = treeOf(run.pid)
    const [id = ""] = [...tree.keys()].map(String).filter((pid) => existsSync(`/run/vouchsafe-${pid}`))
    expect(remainsOf(id)).toHaveLength(12)
    run.interrupt("SIGKILL")
    await run.ended
    await until("its processes are gone", 3_000, () => (alive(tree).length === 0 ? true : undefined))
    expect(remainsOf(id)).toHaveLength(12)
    const next = start("npm", ["start"])
    await untilSaid(next, "network:")
    expect(next.said()).toContain(`cleared away what run ${id} had left`)
    expect(remainsOf(id)).toEqual([])
    next.interrupt("SIGINT")
    await next.ended
  })

  it.each([
    ["another user", ["--reuid", "65534", "--regid", "65534", "--clear-groups"]],
    ["root without capabilities", ["--bounding-set=-all", "--inh-caps=-all"]],
  ])("as %s: one clear sentence, a status that isn't 0, nothing begun", async (_, rights) => {
    const before = abandoned()
    // The checkout may lie where only root may look: what is asked here is what happens when it can be read.
    const readable = rights.includes("--reuid")
      ? ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
      : []
    const script = `cd "$0" && npm start --silent -- --once`
    const run = start("setpriv", [
      ...rights,
      ...readable,
      "env",
      "HOME=/nonexistent",
      "npm_config_cache=/nonexistent",
      "npm_config_logs_max=0",
      "sh",
      "-c",
      script,
      ROOT,
    ])
    const { status } = await run.ended
    expect(status).toBe(2)
    const lines = run.said().trim().split("\n")
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(/^vouchsafe: (needs root|can't|the kernel refuses|network namespaces).*: .*\.$/)
    expect(abandoned().filter((name) => !before.includes(name))).toEqual([])
  })
})

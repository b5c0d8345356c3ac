/** What a new user meets first: `npm start`, as a process of its own, from its first line to nothing left behind. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { afterEach, describe, expect, it } from "vitest"
import type { Summary } from "../../infra/lab/summary.ts"

const MAIN = fileURLToPath(new URL("../../infra/lab/main.ts", import.meta.url))
const SETUP = fileURLToPath(new URL("../../infra/setup.sh", import.meta.url))
const LIMIT_MS = 90_000

interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

interface Started {
  readonly child: ChildProcess
  readonly pid: number
  readonly ended: Promise<Ended>
  /** Resolves when stdout holds the text; rejects when the process ends first. */
  until(text: string): Promise<void>
}

const children = new Set<ChildProcess>()
afterEach(() => {
  for (const child of children) child.kill("SIGTERM")
  children.clear()
})

const start = (
  command: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {},
): Started => {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } })
  children.add(child)
  const text = { stdout: "", stderr: "" }
  const looks = new Set<() => void>()
  for (const name of ["stdout", "stderr"] as const) {
    child[name].on("data", (chunk: Buffer) => {
      text[name] += chunk.toString()
      for (const look of looks) look()
    })
  }
  const ended = new Promise<Ended>((resolve) => {
    child.on("close", (status) => {
      children.delete(child)
      resolve({ status, ...text })
    })
  })
  return {
    child,
    pid: child.pid ?? -1,
    ended,
    until: (wanted) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (text.stdout.includes(wanted)) resolve()
        }
        looks.add(look)
        look()
        void ended.then(() =>
          reject(new Error(`ended without saying "${wanted}":\n${text.stdout}${text.stderr}`)),
        )
      }),
  }
}

const lab = (...args: ReadonlyArray<string>): Started => start(process.execPath, [MAIN, ...args])

/** Everything on this machine that carries the run's name, and every process whose parent or log is the run's. */
const remains = (pid: number): ReadonlyArray<string> => {
  const found: string[] = []
  const namespaces = existsSync("/run/netns") ? readdirSync("/run/netns") : []
  found.push(...namespaces.filter((name) => name.startsWith(`vs-${pid}-`)))
  for (const path of [`/run/vouchsafe-${pid}`, `/sys/fs/bpf/vouchsafe-${pid}`])
    if (existsSync(path)) found.push(path)
  for (const id of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const log = readlinkSync(`/proc/${id}/fd/2`)
      if (log.startsWith(`/run/vouchsafe-${pid}/`)) found.push(`process ${id}`)
    } catch {
      // Gone, or a thread of the kernel.
    }
  }
  return found
}

describe("npm start -- --once --json", () => {
  it.each([
    ["ipv4", []],
    ["ipv6", ["--underlay", "ipv6"]],
  ] as const)(
    "%s: attests, refuses, carries, reports one JSON object, and leaves nothing",
    { timeout: LIMIT_MS },
    async (underlay, more) => {
      const run = lab("--once", "--json", ...more)
      const { status, stdout, stderr } = await run.ended
      expect(stderr).toContain("EMULATED")
      expect(stdout, stderr.slice(-4_000)).not.toBe("")
      const summary = JSON.parse(stdout) as Summary
      expect(summary.problems).toEqual([])
      expect(status).toBe(0)
      expect(summary).toMatchObject({ ok: true, emulated: true, underlay })
      expect(summary.nodes.map((n) => [n.id, n.stage, n.verdict])).toEqual([
        ["n1", "source", "accepted"],
        ["n2", "transform", "accepted"],
        ["n3", "sink", "accepted"],
        ["n4", "sink", "refused"],
      ])
      for (const node of summary.nodes) {
        expect(node.platform).toContain("emulated")
        expect(node.dataplane).toMatch(/^[0-9a-f]{96}$/)
        expect(node.backend).not.toBe("")
      }
      expect(summary.refused.map(({ id, code }) => [id, code])).toEqual([["n4", "DATAPLANE"]])
      expect(summary.edges.map((e) => [e.id, e.from, e.to, e.epoch])).toEqual([
        ["raw", "n1", "n2", 1],
        ["packed", "n2", "n3", 1],
      ])
      expect(summary.pipeline.bytes).toBeGreaterThan(1_000_000)
      expect(summary.pipeline.sha256).toBe(summary.pipeline.sha256_local)
      expect(summary.wire).toMatchObject({
        unexpected_frames: 0,
        marker_hits: 0,
        lost_frames: 0,
        intruder_frames: 30,
      })
      expect(summary.drops).toMatchObject({ UNKNOWN_SPI: 15, FOREIGN_IN: 15 })
      for (const name of ["setup", "nats", "attest", "release", "first_packet", "total"] as const) {
        expect(Number.isInteger(summary.timings_ms[name])).toBe(true)
      }
      expect(remains(run.pid)).toEqual([])
    },
  )
})

describe("npm start", () => {
  it("stays up with working edges until Ctrl-C, pressed twice, and leaves nothing", {
    timeout: LIMIT_MS,
  }, async () => {
    const run = lab()
    await run.until("Ctrl-C takes everything down")
    const held = remains(run.pid)
    expect(held).toContain(`/sys/fs/bpf/vouchsafe-${run.pid}`)
    expect(held.filter((name) => name.startsWith("vs-"))).toHaveLength(10)
    run.child.kill("SIGINT")
    await new Promise((resolve) => setTimeout(resolve, 100))
    run.child.kill("SIGINT")
    const { status, stdout } = await run.ended
    expect(status).toBe(0)
    expect(stdout).toMatch(
      /the wire, from start to end: \d+ frames, 0 unexpected, 0 lost, marker seen 0 times/,
    )
    expect(remains(run.pid)).toEqual([])
  })

  it("leaves nothing when it is interrupted half-way", { timeout: LIMIT_MS }, async () => {
    const run = lab("--once")
    await run.until("bus: nats-server")
    run.child.kill("SIGTERM")
    expect((await run.ended).status).toBe(130)
    expect(remains(run.pid)).toEqual([])
  })

  it("clears away at its next start what a killed run left", { timeout: LIMIT_MS }, async () => {
    const killed = lab("--once")
    await killed.until("signed and applied")
    killed.child.kill("SIGKILL")
    await killed.ended
    expect(remains(killed.pid)).not.toEqual([])
    const next = lab("--once")
    await next.until("network:")
    expect(remains(killed.pid)).toEqual([])
    next.child.kill("SIGTERM")
    const { stdout } = await next.ended
    expect(stdout).toContain(`cleared away what run ${killed.pid} had left`)
    expect(remains(next.pid)).toEqual([])
  })
})

describe("on a machine that can't", () => {
  // Another user, who may read every file: the checkout may lie where others can't look.
  const mayRead = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
  const nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups", ...mayRead]
  const cases: ReadonlyArray<[string, string, ReadonlyArray<string>, RegExp]> = [
    ["without root", "setpriv", nobody, /needs root.*sudo/],
    ["on an old kernel", "setarch", ["--uname-2.6"], /needs Linux 6\.1 or newer \(this is 2\.6/],
    ["as root of a user namespace only", "unshare", ["--user", "--map-root-user"], /BPF/],
    [
      "without the right to make namespaces",
      "setpriv",
      ["--bounding-set=-sys_admin"],
      /network namespaces can't be created|can't create network namespaces/,
    ],
  ]
  it.for(cases)(
    "%s: says so in one sentence, status 2, nothing left",
    async ([, command, args, sentence], context) => {
      // In a chroot nobody may make a user namespace: there this machine can't be played.
      if (spawnSync(command, [...args, "true"]).status !== 0) context.skip(`${command} doesn't work here`)
      for (const program of [
        [process.execPath, MAIN, "--once"],
        ["sh", SETUP, "run"],
      ]) {
        const run = start(command, [...args, ...program])
        const { status, stdout, stderr } = await run.ended
        expect([status, stdout]).toEqual([2, ""])
        expect(stderr).toMatch(sentence)
        expect(stderr.trimEnd().split("\n")).toHaveLength(1)
        expect(stderr).toMatch(/^vouchsafe: /)
        expect(remains(run.pid)).toEqual([])
      }
    },
  )

  it("refuses arguments that it doesn't know, before it does anything", async () => {
    const { status, stderr } = await lab("--twice").ended
    expect(status).toBe(2)
    expect(stderr).toMatch(/unknown argument: --twice\nusage: /)
    expect((await lab("--underlay", "ipx").ended).stderr).toMatch(/unknown argument: --underlay ipx\n/)
  })
})

describe("infra/setup.sh", () => {
  it("is silent and quick when there is nothing to do", async () => {
    // One time of a few: a busy machine takes its time to start what it starts.
    let best = Number.POSITIVE_INFINITY
    for (let i = 0; i < 5 && best >= 2_000; i++) {
      const began = performance.now()
      expect(await start("sh", [SETUP, "test"]).ended).toEqual({ status: 0, stdout: "", stderr: "" })
      best = Math.min(best, performance.now() - began)
    }
    expect(best).toBeLessThan(2_000)
  })
  it("names the packages of Debian that it wants, each once", () => {
    const lists = readFileSync(SETUP, "utf8").match(/^(?:test_)?packages='([^']*)'/gm) ?? []
    const names = lists.flatMap((list) => list.replace(/^.*='|'$/g, "").split(" "))
    expect(names.length).toBeGreaterThan(10)
    expect(new Set(names).size).toBe(names.length)
  })
})

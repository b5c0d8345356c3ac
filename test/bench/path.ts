/**
 * What crosses a wire between two namespaces through each system: TCP throughput and what it costs, latency of ping-pongs, new
 * connections. Every round measures every system, one after another; the figures are medians over the rounds. The two ends are
 * put onto a core each. Where a peer can't run here its row says why.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { parseArgs } from "node:util"
import { OBJECT } from "../kernel/plane.ts"
import { buildNullObject } from "./ciphers.ts"
import { closing } from "./closing.ts"
import { machine, quantile } from "./machine.ts"
import { wholeOption } from "./numbers.ts"
import { systems } from "./peers.ts"
import { barPlot } from "./plot.ts"
import { INNER_MTU, inside, type Path, type System } from "./system.ts"
import { table } from "./table.ts"

const [IPERF, PONG, CONN] = [5201, 7000, 7001]
const packages =
  "wireguard-go wireguard-tools nebula tinc openvpn stunnel4 iperf3 iputils-ping ethtool".split(" ")
const clockTicks = 100
/** The part of the cores that others may use while CPU time is measured. */
const quiet = 0.15

interface Sample {
  readonly tcp1_gbit: number
  readonly tcp4_gbit: number
  readonly cpu_s_per_gb: number
  readonly udp64_p50_us: number
  readonly udp64_p99_us: number
  readonly udp64_p999_us: number
  readonly udp1300_p50_us: number
  readonly udp1300_p99_us: number
  readonly udp1300_p999_us: number
  readonly tcp64_p50_us: number
  readonly tcp64_p99_us: number
  readonly tcp1300_p50_us: number
  readonly conn_per_s: number
}
type Figures = Partial<Sample>

/** CPU seconds that this machine has spent on anything so far, interrupts included. */
const busySeconds = (): number => {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = (
    readFileSync("/proc/stat", "utf8").split("\n")[0] ?? ""
  )
    .split(/\s+/)
    .slice(1)
    .map(Number)
  return (user + nice + system + irq + softirq) / clockTicks
}

/** What else the machine does: CPU seconds a second while we do nothing. */
const background = async (): Promise<number> => {
  const [busy, from] = [busySeconds(), performance.now()]
  await sleep(500)
  return (busySeconds() - busy) / ((performance.now() - from) / 1000)
}

const node = process.execPath
const pong = new URL("pong.ts", import.meta.url).pathname
const onCore = (core: number): readonly string[] => ["taskset", "-c", String(core)]

const serve = (path: Path, args: readonly string[]): ChildProcess => {
  const [program = "", ...rest] = inside(path.server, ...onCore(1), ...args)
  return spawn(program, rest, { stdio: "ignore" })
}

const ask = (path: Path, args: readonly string[]): unknown => {
  const [program = "", ...rest] = inside(path.client, ...onCore(0), ...args)
  const answer = spawnSync(program, rest, { encoding: "utf8", timeout: 30_000 })
  if (answer.status !== 0) throw new Error(`${args.slice(0, 3).join(" ")}: ${answer.stderr.slice(0, 300)}`)
  return JSON.parse(answer.stdout)
}

const throughput = async (path: Path, streams: number, seconds: number) => {
  const idle = await background()
  const [busy, from] = [busySeconds(), performance.now()]
  const time = ["-t", String(seconds), "-P", String(streams), "-J"]
  const answer = ask(path, ["iperf3", "-c", path.target, "-p", String(IPERF), ...time]) as {
    readonly end?: { readonly sum_received?: { readonly bits_per_second?: number; readonly bytes?: number } }
  }
  const { bits_per_second: bits = Number.NaN, bytes = Number.NaN } = answer.end?.sum_received ?? {}
  const spent = busySeconds() - busy - idle * ((performance.now() - from) / 1000)
  // Beside others who want the cores nothing can be said about ours.
  const cpuPerGb = idle < quiet * availableParallelism() && spent > 0 ? (spent * 1e9) / bytes : undefined
  return { gbit: bits / 1e9, cpuPerGb }
}

const latency = (path: Path, kind: "udp" | "tcp", size: number, count: number) =>
  ask(path, [node, pong, kind, path.target, String(PONG), String(size), String(count)]) as {
    readonly p50_us: number
    readonly p99_us: number
    readonly p999_us: number
    readonly lost: number
  }

interface Effort {
  readonly seconds: number
  readonly pings: number
  readonly connections: number
}

const measure = async (path: Path, effort: Effort): Promise<Figures> => {
  const servers = [
    serve(path, ["iperf3", "-s", "-B", path.listen, "-p", String(IPERF)]),
    serve(path, [node, pong, "udp-serve", path.listen, String(PONG)]),
    serve(path, [node, pong, "tcp-serve", path.listen, String(PONG)]),
    serve(path, [node, pong, "conn-serve", path.listen, String(CONN)]),
  ]
  try {
    await sleep(1000)
    const tcp64 = latency(path, "tcp", 64, effort.pings)
    const tcp1300 = latency(path, "tcp", 1300, effort.pings)
    const udp64 = path.udp ? latency(path, "udp", 64, effort.pings) : undefined
    const udp1300 = path.udp ? latency(path, "udp", 1300, effort.pings) : undefined
    const one = await throughput(path, 1, effort.seconds)
    const four = await throughput(path, 4, effort.seconds)
    const opened = ask(path, [node, pong, "conn", path.target, String(CONN), String(effort.connections)]) as {
      readonly per_second: number
    }
    return {
      tcp1_gbit: one.gbit,
      tcp4_gbit: four.gbit,
      ...(one.cpuPerGb !== undefined && { cpu_s_per_gb: one.cpuPerGb }),
      ...(udp64 && { udp64_p50_us: udp64.p50_us, udp64_p99_us: udp64.p99_us, udp64_p999_us: udp64.p999_us }),
      ...(udp1300 && {
        udp1300_p50_us: udp1300.p50_us,
        udp1300_p99_us: udp1300.p99_us,
        udp1300_p999_us: udp1300.p999_us,
      }),
      tcp64_p50_us: tcp64.p50_us,
      tcp64_p99_us: tcp64.p99_us,
      tcp1300_p50_us: tcp1300.p50_us,
      conn_per_s: opened.per_second,
    }
  } finally {
    for (const server of servers) server.kill()
  }
}

interface Row {
  readonly system: string
  readonly version: string
  readonly rounds: Figures[]
  skipped?: string
}

const once = async (system: System, row: Row, effort: Effort): Promise<void> => {
  if (row.skipped !== undefined) return
  let close: (() => void | Promise<void>) | undefined
  try {
    const path = await system.make()
    close = closing(() => path.close())
    row.rounds.push(await measure(path, effort))
  } catch (error) {
    // What has been measured before stays; a system that never ran is said to be missing.
    const why =
      error instanceof Error ? error.message.trim().split("\n").slice(0, 3).join(" ") : String(error)
    process.stderr.write(`bench path: ${system.name}: ${why}\n`)
    if (row.rounds.length === 0) row.skipped = why
  } finally {
    await close?.()
  }
}

const medians = (rounds: readonly Figures[]): Figures => {
  const names = [...new Set(rounds.flatMap((figures) => Object.keys(figures)))] as (keyof Sample)[]
  return Object.fromEntries(
    names.map((name) => {
      const values = rounds.flatMap((figures) => figures[name] ?? [])
      return [name, Number(quantile(values, 0.5).toPrecision(4))]
    }),
  )
}

/** Installs from Debian whatever the peers need and the machine lacks. */
const install = (): void => {
  const missing = packages.filter(
    (name) =>
      spawnSync("dpkg-query", ["-W", "-f", `\${db:Status-Abbrev}`, name], {
        encoding: "utf8",
      }).stdout.trim() !== "ii",
  )
  if (missing.length === 0) return
  process.stderr.write(`bench path: installing ${missing.join(" ")}\n`)
  const args = ["install", "-y", "--no-install-recommends", ...missing]
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
  if (spawnSync("apt-get", args, { stdio: "ignore", env }).status !== 0)
    process.stderr.write("bench path: apt-get failed; what is absent is skipped\n")
}

const addedTo = (figures: Figures, plain: Figures | undefined) => ({
  ...figures,
  ...(figures.udp64_p50_us !== undefined &&
    plain?.udp64_p50_us !== undefined && {
      udp64_added_p50_us: Number((figures.udp64_p50_us - plain.udp64_p50_us).toFixed(2)),
    }),
  ...(figures.udp1300_p50_us !== undefined &&
    plain?.udp1300_p50_us !== undefined && {
      udp1300_added_p50_us: Number((figures.udp1300_p50_us - plain.udp1300_p50_us).toFixed(2)),
    }),
})

export const benchPath = async (args: readonly string[]): Promise<void> => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: "boolean", default: false },
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "2" },
      pings: { type: "string", default: "5000" },
      only: { type: "string", default: "" },
      plot: { type: "string", default: ".cache/bench/path.svg" },
    },
  })
  const effort = {
    seconds: wholeOption("seconds", values.seconds, 1, 600),
    pings: wholeOption("pings", values.pings, 100, 1_000_000),
    connections: 2000,
  }
  const rounds = wholeOption("rounds", values.rounds, 1, 1_000)
  const before = machine()
  install()
  const directory = mkdtempSync(join(tmpdir(), "vouchsafe-bench-"))
  try {
    const objects = { ours: OBJECT, none: buildNullObject(directory) }
    const all = systems(objects, [IPERF, PONG, CONN])
      .filter(({ name }) => name.includes(values.only))
      .map((system): { system: System; row: Row } => ({
        system,
        row: { system: system.name, version: system.version(), rounds: [] },
      }))
    for (let round = 0; round < rounds; round++)
      for (const { system, row } of all) await once(system, row, effort)
    const plain = medians(all.find(({ row }) => row.system.startsWith("plaintext"))?.row.rounds ?? [])
    const rows = all.map(({ row: { system, version, rounds, skipped } }) => ({
      system,
      version,
      ...(skipped !== undefined && { skipped }),
      rounds: rounds.length,
      ...addedTo(medians(rounds), plain),
    }))
    mkdirSync(dirname(values.plot), { recursive: true })
    writeFileSync(values.plot, plotOf(rows))
    const result = {
      bench: "path",
      machine: { ...before, load_after: machine().load },
      inner_mtu: INNER_MTU,
      rounds,
      rows,
      plot: values.plot,
    }
    const head = `${before.cpu}, ${before.cores} cores, Linux ${before.kernel}, load ${before.load.join(" ")}`
    const text = [
      head,
      `medians of ${values.rounds} rounds; inner MTU ${INNER_MTU}; latencies are one way, in us; CPU is the whole machine's minus what it did before, - where that was much`,
      "",
      ...linesOf(rows),
      `plot: ${values.plot}`,
      "",
    ].join("\n")
    process.stdout.write(values.json ? `${JSON.stringify(result, null, 2)}\n` : text)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

type Result = Figures & {
  readonly system: string
  readonly version: string
  readonly skipped?: string
  readonly udp64_added_p50_us?: number
  readonly udp1300_added_p50_us?: number
}

const columns = [
  ["tcp1_gbit", "TCP 1"],
  ["tcp4_gbit", "TCP 4"],
  ["cpu_s_per_gb", "CPU s/GB"],
  ["udp64_p50_us", "UDP 64"],
  ["udp64_added_p50_us", "added"],
  ["udp64_p99_us", "p99"],
  ["udp64_p999_us", "p99.9"],
  ["udp1300_p50_us", "UDP 1300"],
  ["udp1300_added_p50_us", "added"],
  ["udp1300_p99_us", "p99"],
  ["tcp64_p50_us", "TCP 64"],
  ["tcp1300_p50_us", "TCP 1300"],
  ["conn_per_s", "conn/s"],
] as const satisfies readonly (readonly [keyof Result, string])[]

const linesOf = (rows: readonly Result[]): readonly string[] => [
  ...table(
    ["system", "version", ...columns.map(([, title]) => title)],
    rows.map((row) => [row.system, row.version, ...columns.map(([name]) => row[name] ?? "-")]),
  ),
  ...rows.flatMap(({ system, skipped }) => (skipped === undefined ? [] : [`SKIPPED ${system}: ${skipped}`])),
]

const plotOf = (rows: readonly Result[]): string =>
  barPlot({
    title: "TCP through each system",
    unit: "Gbit/s",
    groups: rows.map(({ system }) => system),
    series: [
      { name: "1 stream", values: rows.map(({ tcp1_gbit }) => tcp1_gbit) },
      { name: "4 streams", values: rows.map(({ tcp4_gbit }) => tcp4_gbit) },
    ],
  })

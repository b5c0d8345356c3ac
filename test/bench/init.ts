/**
 * How long a workflow takes from "all told to start" to "every edge in use at both ends, and its first packet let in": N nodes
 * that say hello at once, against the control plane's real services over a real NATS server. A round is a new version of the workflow: a new term, new
 * sessions, new maps. The first round meets code that no one has run yet.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { parseArgs } from "node:util"
import { Context, Effect, Layer, Logger } from "effect"
import { DOMAIN } from "../../infra/lab/domain.ts"
import { CHECKOUT } from "../../infra/lab/hardware.ts"
import { Bus } from "../../services/common/bus/bus.ts"
import { measureObject } from "../../services/common/kernel/measure.ts"
import { type Lab, openLab } from "./init-lab.ts"
import type { NodeTimes, Tried } from "./init-messages.ts"
import { plotOf, plottedSizes, type Size } from "./init-plot.ts"
import { cpuOf, peakMbOf, type Steady, steadyLines, watchSteady } from "./init-steady.ts"
import { pairsOf, type Topology, topologies } from "./init-topology.ts"
import { machine, quantile } from "./machine.ts"
import { wholeOption } from "./numbers.ts"
import { table } from "./table.ts"

const OBJECT = join(CHECKOUT, "bpf/build/vouchsafe.bpf.o")
/** Beyond this, hash maps that take all their memory at once (as the product's do) don't fit a machine of 16 GiB. */
const PREALLOCATED_NODES_MAX = 200
/** So that many renewals don't take long. */
const SHORT_LEASE_SECONDS = 3

const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6
const rounded = (value: number, digits = 3): number => Number(value.toFixed(digits))

const phases = ["hello", "evidence", "appraisal", "release", "install"] as const
type Phase = (typeof phases)[number]

/**
 * When the last node was through with each phase, as what it added to the whole: the sum is the whole. The first packets of
 * its edges are part of the last one.
 */
const phasesOf = (times: readonly NodeTimes[], from: number): Record<Phase, number> => {
  const ends = (["hello", "attest", "evidence", "release", "first"] as const).map((step) =>
    Math.max(...times.map((each) => each[step])),
  )
  const starts = [from, ...ends]
  return Object.fromEntries(
    phases.map((phase, i) => [phase, rounded(((ends[i] ?? 0) - (starts[i] ?? 0)) / 1_000)]),
  ) as Record<Phase, number>
}

export interface FirstPacketsCost {
  readonly edges: number
  /** From when the last edge was in use. */
  readonly seconds: number
  /** How often an edge was in use no more when its packet was tried, see `Tried`. */
  readonly again: number
  /** Of programs that share one set of maps in a process, with the copying that this needs: no node has this to do. */
  readonly cpu_s: number
}

export interface Round {
  readonly seconds: number
  readonly phases: Record<Phase, number>
  readonly cpu_s: number
  readonly cpu_by_process: Readonly<Record<string, number>>
  readonly peak_rss_mb: number
  /** To each node until all its edges were in use, on average: two are the least. */
  readonly releases_per_node: number
  /** Until all edges were in use at both ends; `seconds` are until the first packet of each was let in. */
  readonly in_use_seconds: number
  /** The first packet of every edge, sealed and opened by the programs; what that took of the CPU is in all figures. */
  readonly first_packets: FirstPacketsCost
  readonly steady?: Steady
}

const within = <A>(what: string, ms: number, promise: Promise<A>): Promise<A> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms / 1_000} s`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

const playRound = async (
  lab: Lab,
  timeoutMs: number,
  watch?: (lab: Lab) => Promise<Steady>,
): Promise<Round> => {
  const processes = [...lab.pids]
  for (const worker of lab.workers) worker.send({ kind: "prepare" })
  await Promise.all(lab.workers.map((worker) => worker.next("prepared")))
  const before = processes.map(([, pid]) => cpuOf(pid))
  const from = nowMs()
  for (const worker of lab.workers) worker.send({ kind: "start" })
  const done = await within(
    "a packet over every edge",
    timeoutMs,
    Promise.all(lab.workers.map((worker) => worker.next("done"))),
  )
  const used = processes.map(([, pid], i) => cpuOf(pid) - (before[i] ?? 0))
  const times = done.flatMap(({ nodes }) => nodes)
  const until = (step: "active" | "first"): number =>
    rounded((Math.max(...times.map((each) => each[step])) - from) / 1_000)
  const sum = (what: keyof Tried): number => done.reduce((all, { tried }) => all + tried[what], 0)
  const round: Round = {
    seconds: until("first"),
    in_use_seconds: until("active"),
    phases: phasesOf(times, from),
    releases_per_node: rounded(times.reduce((sum, { releases }) => sum + releases, 0) / times.length, 1),
    cpu_s: rounded(used.reduce((sum, each) => sum + each, 0)),
    cpu_by_process: Object.fromEntries(processes.map(([who], i) => [who, rounded(used[i] ?? 0)])),
    first_packets: {
      edges: sum("packets"),
      again: sum("again"),
      seconds: rounded(until("first") - until("active")),
      cpu_s: rounded(sum("cpuMs") / 1_000),
    },
    peak_rss_mb: Math.round(processes.reduce((sum, [, pid]) => sum + peakMbOf(pid), 0)),
  }
  const steady = await watch?.(lab)
  for (const worker of lab.workers) worker.send({ kind: "rest" })
  await Promise.all(lab.workers.map((worker) => worker.next("rested")))
  return steady === undefined ? round : { ...round, steady }
}

/** Puts a version in force and waits until all that obey it know it. */
const apply = (lab: Lab, bus: Bus["Service"], version: number) =>
  Effect.gen(function* () {
    const knowing = Promise.all(lab.workers.map((worker) => worker.next("knows")))
    // Awaited below: until then a failure must not end the process, which has to clear up.
    knowing.catch(() => {})
    yield* bus.workflows.put(DOMAIN, lab.sign(version))
    yield* Effect.promise(() => within("the workflow", 120_000, knowing))
    // The control plane's own processes take it from the same message; parsing it takes them as long.
    yield* Effect.sleep(1_500)
  })

export interface InitResult {
  readonly nodes: number
  readonly topology: Topology
  readonly edges: number
  readonly seconds: number
  readonly in_use_seconds: number
  readonly cold_seconds: number
  readonly ms_per_edge: number
  readonly cpu_ms_per_edge: number
  readonly phases: Record<Phase, number>
  readonly first_packets: Round["first_packets"]
  readonly peak_rss_mb: number
  readonly cpu_s: number
  readonly cpu_by_process: Readonly<Record<string, number>>
  readonly maps: "preallocated" | "on demand"
  readonly processes: string
  readonly rounds: readonly Round[]
  readonly machine: ReturnType<typeof machine>
}

export interface InitOptions {
  readonly nodes: number
  readonly topology: Topology
  readonly rounds: number
  readonly workers: number
  readonly profile: string | undefined
  /** How long to watch the renewals after the last round. */
  readonly steadySeconds: number
  /** How many renewals to watch, of short leases; instead of the time. */
  readonly renewals: number
}

/** How long the leases are, and what comes after the last round. */
const afterwards = ({ nodes, steadySeconds, renewals }: InitOptions) => {
  const leaseSeconds = renewals > 0 ? SHORT_LEASE_SECONDS : steadySeconds > 0 ? 30 : 120
  const perSecond = (3 * nodes) / leaseSeconds
  const seconds = renewals > 0 ? renewals / perSecond : steadySeconds
  const watch = seconds > 0 ? (lab: Lab) => watchSteady(lab, perSecond, seconds) : undefined
  return { leaseSeconds, watch }
}

const measureInit = async (options: InitOptions): Promise<InitResult> => {
  const { nodes, topology } = options
  const pairs = pairsOf(topology, nodes)
  const mapsOnDemand = nodes > PREALLOCATED_NODES_MAX
  const load = machine()
  const { leaseSeconds, watch } = afterwards(options)
  if (options.profile !== undefined) mkdirSync(options.profile, { recursive: true })
  const lab = await openLab({
    nodes,
    pairs,
    workers: options.workers,
    object: OBJECT,
    dataplane: Buffer.from(measureObject(OBJECT).digest).toString("hex"),
    mapsOnDemand,
    leaseSeconds,
    profile: options.profile,
  })
  const program = Effect.gen(function* () {
    const scope = yield* Effect.scope
    const bus = Context.get(yield* Layer.buildWithScope(Bus.layer(lab.bus("operator", "bench")), scope), Bus)
    yield* bus.ensureStreams
    yield* Effect.promise(() =>
      within(
        "the nodes",
        120_000 + 500 * nodes,
        Promise.all(lab.workers.map((worker) => worker.next("ready"))),
      ),
    )
    const rounds: Round[] = []
    for (let version = 1; version <= options.rounds; version++) {
      yield* apply(lab, bus, version)
      const after = version === options.rounds ? watch : undefined
      rounds.push(yield* Effect.promise(() => playRound(lab, 120_000 + 100 * nodes, after)))
    }
    return rounds
  })
  try {
    const rounds = await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(Logger.layer([]))))
    const warm = rounds.length > 1 ? rounds.slice(1) : rounds
    const seconds = quantile(
      warm.map((round) => round.seconds),
      0.5,
    )
    const median = warm.find((round) => round.seconds === seconds) ?? warm[0]
    if (median === undefined) throw new Error("no round")
    return {
      nodes,
      topology,
      edges: pairs.length,
      seconds,
      in_use_seconds: median.in_use_seconds,
      cold_seconds: rounds[0]?.seconds ?? seconds,
      ms_per_edge: rounded((1_000 * seconds) / pairs.length),
      cpu_ms_per_edge: rounded((1_000 * median.cpu_s) / pairs.length),
      phases: median.phases,
      first_packets: median.first_packets,
      peak_rss_mb: median.peak_rss_mb,
      cpu_s: median.cpu_s,
      cpu_by_process: median.cpu_by_process,
      maps: mapsOnDemand ? "on demand" : "preallocated",
      processes: `nats-server, attester, verifier and key-releaser of the control plane, ${options.workers} with nodes`,
      rounds,
      machine: load,
    }
  } finally {
    await lab.close()
  }
}

const isTopology = (text: string): text is Topology => (topologies as readonly string[]).includes(text)

const linesOf = (result: InitResult): readonly string[] => [
  `${result.nodes} nodes, ${result.topology}, ${result.edges} pairs: ${result.seconds} s (first round ${result.cold_seconds} s), ${result.cpu_s} s of CPU, ${result.peak_rss_mb} MB at most, load ${result.machine.load.join(" ")}`,
  ...table(
    ["round", "seconds", "in use", ...phases, "releases", "cpu s", ...Object.keys(result.cpu_by_process)],
    result.rounds.map((round, i) => [
      String(i + 1),
      round.seconds,
      round.in_use_seconds,
      ...phases.map((phase) => round.phases[phase]),
      round.releases_per_node,
      round.cpu_s,
      ...Object.values(round.cpu_by_process),
    ]),
  ),
  `first packets of ${result.first_packets.edges} edges: let in ${result.first_packets.seconds} s after the last edge was in use (at ${result.in_use_seconds} s), ${result.first_packets.cpu_s} s of CPU of the bench's own; ${result.first_packets.again} tried again, their edges being in use no more`,
  ...result.rounds.flatMap(({ steady }) => (steady === undefined ? [] : steadyLines(steady))),
]

export const benchInit = async (args: readonly string[]): Promise<void> => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      nodes: { type: "string", default: "10" },
      topology: { type: "string", default: "mesh" },
      rounds: { type: "string", default: "5" },
      workers: { type: "string", default: "2" },
      profile: { type: "string" },
      steady: { type: "string", default: "0" },
      renewals: { type: "string", default: "0" },
      plot: { type: "string" },
      json: { type: "boolean", default: false },
    },
  })
  const { topology, plot } = values
  if (!isTopology(topology)) throw new RangeError(`--topology: one of ${topologies.join(", ")}`)
  const measured = (size: Size): Promise<InitResult> =>
    measureInit({
      ...size,
      rounds: wholeOption("rounds", values.rounds, 1, 1_000),
      workers: wholeOption("workers", values.workers, 1, 64),
      profile: values.profile,
      steadySeconds: wholeOption("steady", values.steady, 0, 86_400),
      renewals: wholeOption("renewals", values.renewals, 0, 1_000_000),
    })
  const sizes =
    plot === undefined ? [{ topology, nodes: wholeOption("nodes", values.nodes, 2, 10_000) }] : plottedSizes
  const results: InitResult[] = []
  for (const size of sizes) {
    const result = await measured(size)
    results.push(result)
    if (!values.json) process.stdout.write(`${linesOf(result).join("\n")}\n`)
  }
  if (values.json)
    process.stdout.write(`${JSON.stringify(plot === undefined ? results[0] : results, null, 2)}\n`)
  if (plot === undefined) return
  mkdirSync(dirname(plot), { recursive: true })
  writeFileSync(plot, plotOf(results))
}

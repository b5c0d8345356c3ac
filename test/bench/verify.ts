/**
 * What a verification costs: each kind, cold and with its chain remembered, with both implementations of the crypto port.
 * Rounds are interleaved, so that a change of the machine's mood meets all of them alike. Then 1,000 mixed verifications
 * on as many threads as there are cores, up to two. At last the same as a verifier does it: whole appraisals of nodes'
 * answers, in its own thread and by its pool, and how long the service's own thread is kept from other work.
 */
import { once } from "node:events"
import { availableParallelism } from "node:os"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { parseArgs } from "node:util"
import { Worker } from "node:worker_threads"
import { Effect, Result } from "effect"
import { type Crypto, native, noble } from "../../services/common/crypto/index.ts"
import { plainStaleRules } from "../../services/evidence/collateral/index.ts"
import { AppraisalPool } from "../../services/verifier/pool.ts"
import { type Answer, answers, inLine, sampleSnapshot } from "./appraisal.ts"
import { haveVectors, type Subject, subjects, type Warmth } from "./evidence.ts"
import { machine, quantile } from "./machine.ts"

const rounds = 300
/** Noble is several times slower: every so many rounds are enough. */
const nobleEvery = 10
const mixed = 1_000
const mixedRuns = 7

/** Milliseconds, warm and native; and verifications each second on two cores. */
const targets: Readonly<Record<string, number>> = { snp: 1.0, tdx: 1.5, tpm: 0.5 }
const throughputTarget = 1_000

interface Series {
  readonly subject: Subject
  readonly crypto: Crypto
  readonly warmth: Warmth
  readonly samples: number[]
}

const measureEach = (): readonly Series[] => {
  const all = subjects().flatMap((subject) =>
    [native, noble].flatMap((crypto) =>
      (["cold", "warm"] as const).map((warmth): Series => ({ subject, crypto, warmth, samples: [] })),
    ),
  )
  // Compiles the code and fills the caches.
  for (const { subject, crypto, warmth } of all) for (let i = 0; i < 3; i++) subject.verify(crypto, warmth)
  for (let round = 0; round < rounds; round++)
    for (const { subject, crypto, warmth, samples } of all) {
      if (crypto === noble && round % nobleEvery !== 0) continue
      const from = performance.now()
      subject.verify(crypto, warmth)
      samples.push(performance.now() - from)
    }
  return all
}

interface Run {
  readonly perSecond: number
  /** Of all threads together: what the work costs, whoever else wants the cores. */
  readonly cpuMs: number
}

const ask = async (workers: readonly Worker[], total: number): Promise<Run> => {
  const used = process.cpuUsage()
  const from = performance.now()
  await Promise.all(
    workers.map(async (worker, i) => {
      const share = Math.floor(total / workers.length) + (i < total % workers.length ? 1 : 0)
      const done = once(worker, "message")
      worker.postMessage(share)
      await done
    }),
  )
  const perSecond = (1_000 * total) / (performance.now() - from)
  const { user, system } = process.cpuUsage(used)
  return { perSecond, cpuMs: (user + system) / 1_000 }
}

const startWorker = async (): Promise<Worker> => {
  const worker = new Worker(new URL("verify-worker.ts", import.meta.url))
  await once(worker, "message")
  return worker
}

/** One thread and then two, in turns. */
const measureThroughput = async () => {
  const counts = [...new Set([1, Math.min(2, availableParallelism())])]
  const series = counts.map((threads) => ({ threads, runs: [] as Run[] }))
  const workers = await Promise.all(Array.from({ length: Math.max(...counts) }, startWorker))
  try {
    for (let i = 0; i < mixedRuns; i++)
      for (const { threads, runs } of series) runs.push(await ask(workers.slice(0, threads), mixed))
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
  return series.map(({ threads, runs }) => {
    const speeds = runs.map(({ perSecond }) => perSecond)
    const costs = runs.map(({ cpuMs }) => cpuMs)
    return {
      threads,
      verifications: mixed,
      per_second: Math.round(quantile(speeds, 0.5)),
      per_second_best: Math.round(Math.max(...speeds)),
      cpu_ms: Math.round(quantile(costs, 0.5)),
      target: threads === 2 ? throughputTarget : null,
    }
  })
}

const appraisalRounds = 100
/** Answers that are under way at once: as from a fleet that joins. */
const atOnce = 64

const measureAppraisals = () => {
  const judge = inLine(sampleSnapshot())
  const all = answers().flatMap((answer) =>
    [native, noble].flatMap((crypto) =>
      (["cold", "warm"] as const).map((warmth) => ({ answer, crypto, warmth, samples: [] as number[] })),
    ),
  )
  for (const { answer, crypto, warmth } of all) for (let i = 0; i < 3; i++) judge(answer, crypto, warmth)
  for (let round = 0; round < appraisalRounds; round++)
    for (const { answer, crypto, warmth, samples } of all) {
      if (crypto === noble && round % nobleEvery !== 0) continue
      const from = performance.now()
      judge(answer, crypto, warmth)
      samples.push(performance.now() - from)
    }
  return all.map(({ answer, crypto, warmth, samples }) => ({
    kind: answer.kind,
    sample: answer.name,
    crypto: crypto.name,
    chain: warmth,
    median_ms: rounded(quantile(samples, 0.5)),
    p99_ms: rounded(quantile(samples, 0.99)),
    fastest_ms: rounded(quantile(samples, 0)),
    samples: samples.length,
  }))
}

const appraiseAll = async (pool: AppraisalPool, all: readonly Answer[], total: number): Promise<void> => {
  let next = 0
  const run = async (): Promise<void> => {
    while (next < total) {
      const one = all[next++ % all.length]
      if (one === undefined) return
      const outcome = await Effect.runPromise(Effect.result(pool.appraise(one.evidence, one.asked, one.at)))
      if (Result.isFailure(outcome)) throw new Error(`the pool refused: ${outcome.failure.code}`)
    }
  }
  await Promise.all(Array.from({ length: atOnce }, run))
}

/** The service's own pool with two threads: answers a second, and the longest that its event loop stood still. */
const measurePool = async () => {
  const snapshot = sampleSnapshot()
  const all = answers()
  const from = performance.now()
  const used = process.cpuUsage()
  const pool = new AppraisalPool({
    threads: 2,
    growMs: 0,
    instance: "v1",
    control: "cp",
    stale: plainStaleRules,
    snapshot: () => snapshot,
  })
  try {
    while (pool.ready < 1) await new Promise((resolve) => setTimeout(resolve, 1))
    const start_ms = performance.now() - from
    const start = process.cpuUsage(used)
    // Every thread there, its code compiled, its caches filled.
    while (pool.ready < 2) await appraiseAll(pool, all, 2 * atOnce)
    await appraiseAll(pool, all, 10 * atOnce)
    const alone: number[] = []
    for (let i = 0; i < 10 * all.length; i++) {
      const at = performance.now()
      const one = all[i % all.length]
      if (one?.kind !== "snp") continue
      await Effect.runPromise(pool.appraise(one.evidence, one.asked, one.at))
      alone.push(performance.now() - at)
    }
    const speeds: number[] = []
    const costs: number[] = []
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    for (let i = 0; i < mixedRuns; i++) {
      const cpu = process.cpuUsage()
      const at = performance.now()
      await appraiseAll(pool, all, mixed)
      speeds.push((1_000 * mixed) / (performance.now() - at))
      const { user, system } = process.cpuUsage(cpu)
      costs.push((user + system) / 1_000)
    }
    delay.disable()
    return {
      threads: 2,
      appraisals: mixed,
      per_second: Math.round(quantile(speeds, 0.5)),
      per_second_best: Math.round(Math.max(...speeds)),
      cpu_ms: Math.round(quantile(costs, 0.5)),
      loop_delay_p99_ms: rounded(delay.percentile(99) / 1e6),
      loop_delay_max_ms: rounded(delay.max / 1e6),
      snp_alone_ms: rounded(quantile(alone, 0.5)),
      first_thread_ms: Math.round(start_ms),
      first_thread_cpu_ms: Math.round((start.user + start.system) / 1_000),
      target: throughputTarget,
    }
  } finally {
    await pool.close()
  }
}

const rounded = (value: number): number => Number(value.toFixed(3))

export const benchVerify = async (args: readonly string[]): Promise<void> => {
  const { values } = parseArgs({ args: [...args], options: { json: { type: "boolean", default: false } } })
  const before = machine()
  const kinds = measureEach().map(({ subject, crypto, warmth, samples }) => ({
    kind: subject.kind,
    sample: subject.name,
    crypto: crypto.name,
    chain: warmth,
    median_ms: rounded(quantile(samples, 0.5)),
    p99_ms: rounded(quantile(samples, 0.99)),
    fastest_ms: rounded(quantile(samples, 0)),
    samples: samples.length,
    target_ms: crypto === native && warmth === "warm" ? (targets[subject.kind] ?? null) : null,
  }))
  const throughput = await measureThroughput()
  const appraisals = haveVectors ? measureAppraisals() : []
  const pool = haveVectors ? await measurePool() : null
  const result = {
    bench: "verify",
    machine: { ...before, load_after: machine().load },
    real_samples: haveVectors,
    verify: kinds,
    throughput,
    appraise: appraisals,
    pool,
  }
  process.stdout.write(
    values.json ? `${JSON.stringify(result, null, 2)}\n` : `${linesOf(result).join("\n")}\n`,
  )
}

interface Figures {
  readonly machine: ReturnType<typeof machine> & { readonly load_after: readonly number[] }
  readonly verify: readonly {
    readonly kind: string
    readonly sample: string
    readonly crypto: string
    readonly chain: string
    readonly median_ms: number
    readonly p99_ms: number
    readonly fastest_ms: number
    readonly target_ms: number | null
  }[]
  readonly throughput: readonly {
    readonly threads: number
    readonly verifications: number
    readonly per_second: number
    readonly per_second_best: number
    readonly cpu_ms: number
    readonly target: number | null
  }[]
  readonly appraise: ReturnType<typeof measureAppraisals>
  readonly pool: Awaited<ReturnType<typeof measurePool>> | null
}

const poolLines = (pool: Figures["pool"]): readonly string[] =>
  pool === null
    ? ["NO APPRAISALS MEASURED: they need real samples (VOUCHSAFE_VECTORS)"]
    : [
        `${pool.appraisals} mixed appraisals by the verifier's pool, ${pool.threads} threads: ${pool.per_second}/s (median), ${pool.per_second_best}/s (best), ${pool.cpu_ms} ms of CPU; target ${pool.target}/s`,
        `the service's own thread stood still for at most ${pool.loop_delay_max_ms} ms, p99 ${pool.loop_delay_p99_ms} ms`,
        `an SNP node alone: ${pool.snp_alone_ms} ms; the first thread starts in ${pool.first_thread_ms} ms, ${pool.first_thread_cpu_ms} ms of CPU`,
      ]

const linesOf = ({ machine: on, verify, throughput, appraise, pool }: Figures): readonly string[] => [
  `${on.cpu}, ${on.cores} cores, kernel ${on.kernel}, node ${on.node}`,
  `load ${on.load.join(" ")} before, ${on.load_after.join(" ")} after`,
  "",
  "kind   crypto  chain   median ms    p99 ms   fastest   target   sample",
  ...verify.map(
    ({ kind, crypto, chain, median_ms, p99_ms, fastest_ms, target_ms, sample }) =>
      `${kind.padEnd(6)} ${crypto.padEnd(7)} ${chain.padEnd(5)} ${median_ms.toFixed(3).padStart(11)} ${p99_ms.toFixed(3).padStart(9)} ${fastest_ms.toFixed(3).padStart(9)} ${(target_ms === null ? "" : target_ms.toFixed(1)).padStart(8)}   ${sample}`,
  ),
  "",
  ...throughput.map(({ threads, verifications, per_second, per_second_best, cpu_ms, target }) => {
    const wanted = target === null ? "" : `; target ${target}/s`
    const how = `${verifications} mixed, warm, native, ${threads} thread${threads === 1 ? "" : "s"}`
    return `${how}: ${per_second}/s (median), ${per_second_best}/s (best), ${cpu_ms} ms of CPU${wanted}`
  }),
  "",
  "whole appraisals",
  ...appraise.map(
    ({ kind, crypto, chain, median_ms, p99_ms, fastest_ms, sample }) =>
      `${kind.padEnd(7)} ${crypto.padEnd(7)} ${chain.padEnd(5)} ${median_ms.toFixed(3).padStart(10)} ${p99_ms.toFixed(3).padStart(9)} ${fastest_ms.toFixed(3).padStart(9)}   ${sample}`,
  ),
  ...poolLines(pool),
]

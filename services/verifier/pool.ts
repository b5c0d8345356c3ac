/**
 * Threads that appraise, so that the service goes on answering while hardware's signatures are verified, and on as many
 * cores as there are. What waits is bounded; a thread that crashes, or takes too long, costs the answer that it was at,
 * and is replaced. Verdicts are the same as in the service's own thread, byte for byte: it is the same code.
 */
import { availableParallelism } from "node:os"
import { Worker } from "node:worker_threads"
import { Effect } from "effect"
import { limits } from "../../schemas/limits.ts"
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { Refused } from "../common/bus/types.ts"
import type { CollateralSnapshot } from "../evidence/collateral/index.ts"
import type { Outstanding, Verdict } from "../guest/appraise-node.ts"
import { refuse } from "../guest/refusals.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import type { FromThread, Job, ThreadSettings } from "./pool-messages.ts"

/** All of the environment that a thread gets. */
const PASSED = ["VOUCHSAFE_CRYPTO", "NODE_DISABLE_COMPILE_CACHE"]

/** More threads than this gain nothing: one core verifies hundreds of answers a second. */
export const THREADS_MAX = 8
export const defaultThreads = (): number => Math.min(2, availableParallelism())

/** Nobody waits for an answer any longer than this. */
const WAIT_MS = 5_000
/** The worst Evidence within its limits takes a hundredth of this. */
const APPRAISE_MS = 3_000
const RESTART_MS_MAX = 5_000
/** A thread takes about this long to start, of a core that others could use: only for work that takes longer. */
const GROW_MS = 500
/** Of one thread: what a hostile answer can make it take. */
const memory = { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 32 }

export interface PoolOptions extends ThreadSettings {
  /** At the most: the pool begins with one, and grows when there is work for more. */
  readonly threads: number
  readonly snapshot?: () => CollateralSnapshot
  readonly waitingMax?: number
  readonly appraiseMs?: number
  readonly growMs?: number
  /** Another thread's code: for tests. */
  readonly script?: URL
  /** A thread has ended that should not have. */
  readonly ended?: (why: string) => void
}

interface Waiting {
  readonly evidence: NodeEvidence
  readonly asked: Outstanding
  readonly now: Date
  readonly sinceMs: number
  readonly done: (outcome: Verdict | Refused) => void
}

interface Thread {
  readonly worker: Worker
  ready: boolean
  job:
    | {
        readonly id: number
        readonly waiting: Waiting
        readonly late: NodeJS.Timeout
        readonly sinceMs: number
      }
    | undefined
  workflow: VerifiedWorkflow | undefined
  snapshot: CollateralSnapshot | undefined
}

const notAppraised = (why: string): Refused => refuse("NOT_APPRAISED", "evidence", why)
const busy = (): Refused =>
  refuse("BUSY", "evidence", "too many answers wait to be appraised; ask again later")

export class AppraisalPool {
  readonly #options: PoolOptions
  readonly #threads = new Set<Thread>()
  readonly #restarts = new Set<NodeJS.Timeout>()
  /** In the order of their coming. */
  readonly #waiting = new Set<Waiting>()
  #jobs = 0
  /** What an answer has taken lately. */
  #costMs = 1
  /** Threads that ended one after another without a verdict in between. */
  #failures = 0
  #closed = false

  constructor(options: PoolOptions) {
    this.#options = options
    this.#start()
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /** Threads that have started. */
  get ready(): number {
    return [...this.#threads].filter(({ ready }) => ready).length
  }

  /** Fails with BUSY when too many wait, with NOT_APPRAISED when the thread ended over it. */
  appraise(evidence: NodeEvidence, asked: Outstanding, now: Date): Effect.Effect<Verdict, Refused> {
    return Effect.callback<Verdict, Refused>((resume) => {
      if (this.#closed || this.#waiting.size >= (this.#options.waitingMax ?? limits.nodes)) {
        resume(Effect.fail(busy()))
        return undefined
      }
      const done = (outcome: Verdict | Refused): void =>
        resume("accepted" in outcome ? Effect.succeed(outcome) : Effect.fail(outcome))
      const waiting = { evidence, asked, now, sinceMs: performance.now(), done }
      this.#waiting.add(waiting)
      this.#next()
      this.#grow()
      return Effect.sync(() => void this.#waiting.delete(waiting))
    })
  }

  /** What waits is refused; what is being appraised ends with its thread. */
  async close(): Promise<void> {
    this.#closed = true
    for (const timer of this.#restarts) clearTimeout(timer)
    for (const { done } of this.#waiting) done(busy())
    this.#waiting.clear()
    await Promise.all([...this.#threads].map(({ worker }) => worker.terminate()))
  }

  #grow(): void {
    const { threads, growMs = GROW_MS } = this.#options
    const own = this.#threads.size + this.#restarts.size
    if (own < threads && this.ready === own && (this.#waiting.size * this.#costMs) / own > growMs)
      this.#start()
  }

  #start(): void {
    const { instance, control, stale, script } = this.#options
    const settings: ThreadSettings = { instance, control, ...(stale && { stale }) }
    const worker = new Worker(script ?? new URL("pool-main.ts", import.meta.url), {
      workerData: settings,
      env: Object.fromEntries(
        PASSED.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
      ),
      resourceLimits: memory,
    })
    const thread: Thread = { worker, ready: false, job: undefined, workflow: undefined, snapshot: undefined }
    this.#threads.add(thread)
    let why = ""
    worker.on("message", (message: FromThread) => this.#heard(thread, message))
    worker.on("error", (error: unknown) => {
      why = error instanceof Error ? error.message : String(error)
    })
    worker.on("exit", (status) => this.#ended(thread, why === "" ? `ended with ${status}` : why))
  }

  #heard(thread: Thread, message: FromThread): void {
    if (message.kind === "ready") thread.ready = true
    else {
      const { job } = thread
      if (job?.id !== message.id) return
      clearTimeout(job.late)
      thread.job = undefined
      this.#costMs += (performance.now() - job.sinceMs - this.#costMs) / 16
      this.#failures = 0
      job.waiting.done(message.verdict)
    }
    this.#next()
  }

  /** Another one takes its place, later with each that fails, so that hostile answers can't keep the machine starting threads. */
  #ended(thread: Thread, why: string): void {
    this.#threads.delete(thread)
    if (thread.job !== undefined) {
      clearTimeout(thread.job.late)
      thread.job.waiting.done(notAppraised("appraising it failed"))
    }
    if (this.#closed) return
    this.#dropLate()
    this.#options.ended?.(why.slice(0, 256))
    const pauseMs = Math.min(RESTART_MS_MAX, 50 * 2 ** Math.min(this.#failures, 10))
    this.#failures++
    const timer = setTimeout(() => {
      this.#restarts.delete(timer)
      if (!this.#closed) this.#start()
    }, pauseMs)
    this.#restarts.add(timer)
  }

  /** Gives what waits to threads that don't work. */
  #next(): void {
    for (const thread of this.#threads) {
      if (!thread.ready || thread.job !== undefined) continue
      const waiting = this.#take()
      if (waiting === undefined) return
      this.#give(thread, waiting)
    }
  }

  #take(): Waiting | undefined {
    this.#dropLate()
    const [first] = this.#waiting
    if (first !== undefined) this.#waiting.delete(first)
    return first
  }

  #dropLate(): void {
    for (const waiting of this.#waiting) {
      if (performance.now() - waiting.sinceMs < WAIT_MS) return
      this.#waiting.delete(waiting)
      waiting.done(busy())
    }
  }

  #give(thread: Thread, waiting: Waiting): void {
    const { evidence, now } = waiting
    const { workflow, nodeId, session, verifierNonce, beacon, value, nonce, controlDigest, activation } =
      waiting.asked
    const snapshot = this.#options.snapshot?.()
    const id = ++this.#jobs
    const job: Job = {
      id,
      evidence,
      asked: { nodeId, session, verifierNonce, beacon, value, nonce, controlDigest, activation },
      atMs: now.getTime(),
      ...(workflow !== thread.workflow && { workflow }),
      ...(snapshot !== undefined && snapshot !== thread.snapshot && { snapshot }),
    }
    const late = setTimeout(() => void thread.worker.terminate(), this.#options.appraiseMs ?? APPRAISE_MS)
    thread.job = { id, waiting, late, sinceMs: performance.now() }
    thread.workflow = workflow
    thread.snapshot = snapshot
    thread.worker.postMessage(job)
  }
}

/** A pool for as long as the scope lives. */
export const makePool = Effect.fn("makePool")(function* (options: Omit<PoolOptions, "ended">) {
  const context = yield* Effect.context<never>()
  const ended = (why: string): void =>
    void Effect.runForkWith(context)(Effect.logError("a thread that appraises has ended", { message: why }))
  return yield* Effect.acquireRelease(
    Effect.sync(() => new AppraisalPool({ ...options, ended })),
    (pool) => Effect.promise(() => pool.close()),
  )
})

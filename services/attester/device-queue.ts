/**
 * One report at a time. Hardware is slow (milliseconds to seconds), throttled by the host, and may never answer: requests
 * wait in a short queue, are spaced, and get an error when the time is over. While a call that was given up has not come
 * back, nothing more is asked: each would hold one of this process's few threads for files.
 */
import type { Credential } from "../../schemas/messages/attestation.ts"
import type { Evidence } from "../../schemas/messages/common.ts"
import { type AttestationProvider, ProviderError } from "../evidence/providers/index.ts"

export interface DeviceQueueOptions {
  /** From one call's start to the next. */
  readonly everyMs?: number
  /** For one call, and for waiting before it. */
  readonly timeoutMs?: number
  readonly waitingMost?: number
}

interface Waiting {
  readonly since: number
  /** Asks the device; what it gives tells whoever waits. A device that throws at once is one that rejects. */
  readonly ask: () => Promise<() => void>
  readonly reject: (error: unknown) => void
}

export class DeviceQueue {
  readonly provider: AttestationProvider
  readonly #everyMs: number
  readonly #timeoutMs: number
  readonly #waitingMost: number
  readonly #waiting: Waiting[] = []
  #isRunning = false
  /** Since when a call that was given up is still out. */
  #wedgedAt: number | undefined
  #startedAt = Number.NEGATIVE_INFINITY

  constructor(provider: AttestationProvider, options: DeviceQueueOptions = {}) {
    this.provider = provider
    this.#everyMs = options.everyMs ?? 20
    this.#timeoutMs = options.timeoutMs ?? 10_000
    this.#waitingMost = options.waitingMost ?? 32
  }

  /**
   * @param reportData 64 bytes
   * @throws ProviderError QUEUE_FULL, TIMEOUT, WEDGED, or what the provider throws
   */
  attest(reportData: Uint8Array): Promise<Evidence> {
    return this.#queued(async () => ({ pieces: [...(await this.provider.attest(reportData))] }))
  }

  /**
   * Opens a credential of a challenge.
   * @throws as `attest`; ProviderError ABSENT without an endorsement key
   */
  activate(credential: Credential): Promise<Uint8Array> {
    const { endorsement } = this.provider
    if (endorsement === undefined) return Promise.reject(this.#error("ABSENT", "none", "an endorsement key"))
    return this.#queued(() => endorsement.activate(credential))
  }

  #queued<A>(ask: () => Promise<A>): Promise<A> {
    if (this.#wedgedAt !== undefined) return Promise.reject(this.#wedged())
    if (this.#waiting.length >= this.#waitingMost)
      return Promise.reject(
        this.#error("QUEUE_FULL", `${this.#waiting.length} that wait`, `fewer than ${this.#waitingMost}`),
      )
    return new Promise((resolve, reject) => {
      const asked = async () => {
        const answer = await ask()
        return () => resolve(answer)
      }
      this.#waiting.push({ ask: asked, since: performance.now(), reject })
      this.#next()
    })
  }

  #error(code: "ABSENT" | "QUEUE_FULL" | "TIMEOUT" | "WEDGED", found: string, wanted: string): ProviderError {
    return new ProviderError(code, this.provider.platform, found, wanted)
  }

  #wedged(): ProviderError {
    const seconds = Math.round((performance.now() - (this.#wedgedAt ?? 0)) / 1_000)
    return this.#error("WEDGED", `a call that was given up ${seconds} s ago and is still out`, "its return")
  }

  #next(): void {
    if (this.#isRunning) return
    const job = this.#waiting.shift()
    if (job === undefined) return
    this.#isRunning = true
    const wait = this.#startedAt + this.#everyMs - performance.now()
    if (wait > 0) setTimeout(() => this.#start(job), wait)
    else this.#start(job)
  }

  #start(job: Waiting): void {
    this.#startedAt = performance.now()
    if (this.#startedAt - job.since > this.#timeoutMs) {
      job.reject(this.#error("TIMEOUT", "no turn", `one within ${this.#timeoutMs} ms`))
      this.#done()
      return
    }
    const timer = setTimeout(() => this.#giveUp(job), this.#timeoutMs)
    const settle = (act: () => void) => {
      clearTimeout(timer)
      // Of a job that was given up, this changes nothing.
      act()
      this.#wedgedAt = undefined
      this.#done()
    }
    job.ask().then(
      (tell) => settle(tell),
      (error: unknown) => settle(() => job.reject(error)),
    )
  }

  #giveUp(job: Waiting): void {
    this.#wedgedAt = performance.now()
    job.reject(this.#error("TIMEOUT", "no answer", `one within ${this.#timeoutMs} ms`))
    for (const other of this.#waiting.splice(0)) other.reject(this.#wedged())
  }

  #done(): void {
    this.#isRunning = false
    this.#next()
  }
}

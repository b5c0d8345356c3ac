/** The stream and the buckets of the simulated server: what they say of themselves is their owner's word. */
import { SignedWorkflow } from "../../schemas/workflow.ts"
import { encode } from "../../services/common/codec/index.ts"
import type { Sent } from "./adversary-bus.ts"
import { on } from "./adversary-messages.ts"
import type { Chance } from "./adversary-virtual.ts"
import type { World } from "./adversary-world.ts"

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

export interface Decision {
  readonly n: number
  readonly chance: Chance
}

export interface StoreOptions {
  readonly world: World
  readonly did: (n: number, what: string) => void
  readonly deliver: (sent: Sent, ms: number) => void
}

export class Store {
  readonly #options: StoreOptions
  #entry = { sequence: 0, untilMs: 0 }

  constructor(options: StoreOptions) {
    this.#options = options
  }

  /** @returns whether that was all there is to do with the message */
  takes(sent: Sent, decision: Decision | undefined): boolean {
    const { subject } = sent
    const { did } = this.#options
    if (subject.startsWith(on("event."))) {
      // Lost acknowledgements make the sender say it again, seven times: now and then is enough.
      if (decision?.chance.chance(0.02)) did(decision.n, "loses an event")
      else this.#answer(sent, text('{"stream":"EVENTS","seq":1}'))
      return true
    }
    if (subject.startsWith("$KV.leaders.")) {
      this.#answer(sent, text(JSON.stringify(this.#leader(sent, decision))))
      // Whoever follows the bucket hears of it by the subject itself.
      return false
    }
    if (!subject.startsWith("$JS.API.DIRECT.GET.")) return false
    this.#workflow(sent, decision)
    return true
  }

  #workflow(sent: Sent, decision: Decision | undefined): void {
    const { world, did } = this.#options
    if (decision?.chance.chance(0.1) !== true) {
      this.#answer(sent, encode(SignedWorkflow, world.stored))
      return
    }
    const denied = decision.chance.chance(0.5)
    did(decision.n, denied ? "denies the workflow" : "serves an old workflow")
    if (denied) this.#answer(sent, new Uint8Array(0), 404)
    else this.#answer(sent, encode(SignedWorkflow, world.domain.workflows[0]))
  }

  /** An entry that lapses, taken by whoever names its sequence; or what a liar makes of it. */
  #leader({ headers }: Sent, decision: Decision | undefined): object {
    const { world, did } = this.#options
    const now = world.time.nowMs
    const live = now < this.#entry.untilMs ? this.#entry.sequence : 0
    const lies = decision?.chance.chance(0.05) === true
    if (lies) did(decision.n, "lies about the leader")
    const fits = Number(headers["Nats-Expected-Last-Subject-Sequence"] ?? 0) === live
    if (fits === lies) return { error: { code: 400, err_code: 10_071, description: "wrong last sequence" } }
    this.#entry = { sequence: this.#entry.sequence + 1, untilMs: now + 1_000 }
    return { stream: "KV_leaders", seq: this.#entry.sequence }
  }

  #answer({ reply }: Sent, data: Uint8Array, status = 0): void {
    if (reply === undefined) return
    const headers = { "Nats-Sequence": "1" }
    const from = { from: "server", owner: "server" }
    this.#options.deliver({ ...from, subject: reply, reply: undefined, data, headers, status }, 1)
  }
}

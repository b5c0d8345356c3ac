/**
 * What this verifier has vouched for and may have to take back: of each node the Evidence that was accepted last, and
 * which results were signed for it. Pure; bounded by the nodes of a workflow.
 */
import { limits } from "../../schemas/limits.ts"
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { SevSnp, Tdx } from "../../schemas/platforms.ts"
import type { CollateralSnapshot } from "../evidence/collateral/index.ts"
import type { Outstanding, Verdict } from "../guest/appraise-node.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"

const dayMs = 86_400_000
/** Evidence that was accepted is looked at again this often, whatever is known of the times at which it may become bad. */
export const REVIEW_MS = 60_000
/**
 * A node may not have got the last result, and go on with one before it: none is forgotten that a lease can still rest on. A
 * node that wants more than this within that time gets none.
 */
export const RESULTS_MOST = 64
/** No lease rests on a result for longer after it was signed: there is nothing to take back then. */
export const KEPT_MS = limits.resultMs + limits.leaseMsMax

export interface SignedFor {
  readonly session: Uint8Array
  /** Digest of the result's body. */
  readonly digest: Uint8Array
  /** Of this verifier's monotonic clock. */
  readonly atMs: number
}

export interface Held {
  readonly node: string
  readonly evidence: NodeEvidence
  readonly asked: Outstanding
  readonly stage: string
  /** The machine that its last result names. */
  readonly chip: Uint8Array
  /** Newest first. */
  readonly results: ReadonlyArray<SignedFor>
  /** When it is to be looked at again: by the monotonic clock, and at a time that its verdict names. */
  reviewMs: number
  changes: number
}

export interface NewlyHeld {
  readonly evidence: NodeEvidence
  readonly asked: Outstanding
  readonly verdict: Verdict & { readonly accepted: true }
  readonly at: Date
  readonly digest: Uint8Array
}

export class HeldResults {
  readonly #held = new Map<string, Held>()

  get size(): number {
    return this.#held.size
  }

  get(node: string): Held | undefined {
    return this.#held.get(node)
  }

  /** Whether one result more could not be taken back later. */
  full(node: string, workflow: VerifiedWorkflow, nowMs: number): boolean {
    return this.#earlier(node, workflow, nowMs).length >= RESULTS_MOST
  }

  #earlier(node: string, workflow: VerifiedWorkflow, nowMs: number): ReadonlyArray<SignedFor> {
    const before = this.#held.get(node)
    if (before?.asked.workflow !== workflow) return []
    return before.results.filter(({ atMs }) => nowMs - atMs < KEPT_MS)
  }

  /** A result was signed. Those for another document go: they count for nothing under this one. */
  keep({ evidence, asked, verdict, at, digest }: NewlyHeld, nowMs: number): void {
    const { nodeId: node, workflow } = asked
    const earlier = this.#earlier(node, workflow, nowMs)
    this.#held.delete(node)
    this.#held.set(node, {
      node,
      evidence,
      asked,
      stage: verdict.result.stage,
      chip: verdict.result.chip,
      results: [{ session: asked.session, digest, atMs: nowMs }, ...earlier].slice(0, RESULTS_MOST),
      reviewMs: nowMs + REVIEW_MS,
      changes: nextChange(workflow, verdict, at),
    })
    const [oldest] = this.#held.keys()
    if (this.#held.size > limits.nodes && oldest !== undefined) this.#held.delete(oldest)
  }

  /** Looks at it again when nothing is more urgent. */
  reviewed(held: Held, verdict: Verdict, at: Date, nowMs: number): void {
    held.reviewMs = nowMs + REVIEW_MS
    held.changes = nextChange(held.asked.workflow, verdict, at)
  }

  forget(node: string): void {
    this.#held.delete(node)
  }

  /** Everything is to be looked at now: something that verdicts rest on is new. */
  reviewAll(): void {
    for (const held of this.#held.values()) held.reviewMs = Number.NEGATIVE_INFINITY
  }

  /** Whose turn it is. What no lease can rest on any more is dropped. */
  due(nowMs: number, at: Date): ReadonlyArray<Held> {
    for (const { node, results } of this.#held.values())
      if (nowMs - (results[0]?.atMs ?? Number.NEGATIVE_INFINITY) >= KEPT_MS) this.#held.delete(node)
    return [...this.#held.values()].filter(
      ({ reviewMs, changes }) => reviewMs <= nowMs || changes <= at.getTime(),
    )
  }

  all(): ReadonlyArray<Held> {
    return [...this.#held.values()]
  }
}

const startOf = (day: string): number => Date.parse(`${day}T00:00:00Z`)

/** Ends of grace and of accepted advisories, ms since 1970. */
const daysOf = (rule: SevSnp["tcb"] | Tdx["tcb"] | undefined): ReadonlyArray<number> => {
  if (rule === undefined) return []
  const grace = (rule.grace_days ?? 0) * dayMs
  const floors = "minimum" in rule ? rule.minimum : []
  return [
    ...(rule.advisories ?? []).map(({ until }) => startOf(until) + dayMs),
    ...floors.flatMap(({ since }) => (since === undefined ? [] : [startOf(since) + grace])),
  ]
}

/**
 * The next time that a verdict names itself: the end of what it rests on, of grace, of an advisory that is accepted, of a value that the stage takes for a time. What
 * no verdict says (until when a certificate, or grace from the day of Intel's fix) `REVIEW_MS` finds.
 * @returns ms since 1970, Infinity when there is none
 */
export const nextChange = ({ document }: VerifiedWorkflow, verdict: Verdict, at: Date): number => {
  const stage = document.stages[verdict.accepted ? verdict.result.stage : verdict.stage]
  const times = [
    ...(verdict.appraisal?.collateral ?? []).map(({ expires }) => expires.getTime()),
    ...daysOf(stage?.sev_snp?.tcb),
    ...daysOf(stage?.tdx?.tcb),
    ...Object.values(stage?.until ?? {}).map((end) => Date.parse(end)),
  ]
  return Math.min(...times.filter((time) => time > at.getTime()), Number.POSITIVE_INFINITY)
}

/** What only evidence of this very node, made for this very challenge, passes: with all of these, hardware speaks of it. */
const bound = [
  "genuine",
  "tpm-genuine",
  "report-data",
  "tpm-report-data",
  "chip-known",
  "chip-id",
  "binding",
  "launch",
  "activation",
]
/**
 * What can fail because the bus took an unsigned part away or put one in, a log, a whole piece, or what binds a TPM's key: no word of
 * the node's either.
 */
const strippable = ["platform", "secure-boot", "tpm-key", "tpm-secure-boot", "tpm-images"]
const ofChallenge = ["domain", "node", "nonce", "challenge", "control-plane", "session"]

/**
 * Whether refused Evidence is the node's own all the same. Anybody on the bus can answer a challenge with something that
 * isn't: that must not stop a node.
 */
export const speaksOfNode = ({ checks }: Verdict): boolean => {
  const passed = (name: string): boolean => checks.some((one) => one.name === name && one.result === "passed")
  return (
    ofChallenge.every(passed) &&
    passed("genuine") &&
    passed("chip-id") &&
    (passed("report-data") || passed("tpm-report-data")) &&
    checks.every(({ name, result }) => result !== "failed" || ![...bound, ...strippable].includes(name))
  )
}

/**
 * Whether refused Evidence is of a machine whose word counts for the node: the one that it is pinned to, which `chip-id` has
 * looked at; under `chip: any` only the one that a result in force names. Whoever has any one genuine machine could end a
 * node otherwise.
 */
export const isItsMachine = (
  { nodeId, workflow: { document } }: Outstanding,
  { machine }: Verdict & { readonly accepted: false },
  before: Held | undefined,
): boolean =>
  document.nodes.find(({ id }) => id === nodeId)?.chip !== "any" ||
  (machine !== undefined && before !== undefined && Buffer.compare(machine, before.chip) === 0)

/** Names the content of a snapshot: what was confirmed again, or given by another source, is no news. */
export const contentOf = ({ held }: CollateralSnapshot): string =>
  [...held]
    .map(([key, { item }]) => `${key}=${item.sha256}`)
    .sort()
    .join("\n")

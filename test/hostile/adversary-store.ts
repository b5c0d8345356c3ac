/** The stream and the buckets of the simulated server: what they say of themselves is their owner's word. */
import { AttestationResult, Hello, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { ControlProof, NodeProof, Proof } from "../../schemas/messages/peer.ts"
import { SignedWorkflow } from "../../schemas/workflow.ts"
import { encode } from "../../services/common/codec/index.ts"
import { native } from "../../services/common/crypto/index.ts"
import { hashLeaf, helloLeaf, rootOf } from "../../services/make/merkle.ts"
import type { Sent } from "./adversary-bus.ts"
import type { Old } from "./adversary-forge.ts"
import { kindOf, on, understood } from "./adversary-messages.ts"
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
  readonly old: Old
}

/** A node's Evidence as somebody put it into the bucket, with the result that it led to. */
export interface Known {
  readonly claims: AttestationResult
  readonly evidence: NodeEvidence
  readonly body: Uint8Array
}

const NOTHING = new Uint8Array(0)
const PUT_PROOF = "$KV.proofs."
const GET_PROOF = "$JS.API.DIRECT.GET.KV_proofs.$KV.proofs."

export class Store {
  readonly #options: StoreOptions
  #entry = { sequence: 0, untilMs: 0 }
  /** The bucket of proofs, by digest in hex; and what honest verifiers have put there, by node. */
  readonly #proofs = new Map<string, Uint8Array>()
  readonly #known = new Map<string, Known[]>()
  /** The newest of each node. */
  readonly #nonces = new Map<string, Uint8Array>()

  constructor(options: StoreOptions) {
    this.#options = options
  }

  /** @returns whether that was all there is to do with the message */
  takes(sent: Sent, decision: Decision | undefined): boolean {
    const { subject } = sent
    const { did } = this.#options
    if (subject.startsWith(PUT_PROOF)) {
      if (decision?.chance.chance(0.03)) did(decision.n, "loses a proof")
      else this.#keep(subject.slice(PUT_PROOF.length), sent)
      this.#answer(sent, text('{"stream":"KV_proofs","seq":1}'))
      return true
    }
    if (subject.startsWith(GET_PROOF)) {
      this.#proof(sent, subject.slice(GET_PROOF.length), decision)
      return true
    }
    if (kindOf(sent) === "hello") this.#hear(sent)
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

  put(digest: string, data: Uint8Array): void {
    this.#proofs.set(digest, data)
  }

  /** What verifiers have found of a node, the oldest first. */
  known(node: string): ReadonlyArray<Known> {
    return this.#known.get(node) ?? []
  }

  #keep(digest: string, { data }: Sent): void {
    this.put(digest, data)
    const { body, evidence } = understood(NodeProof, data) ?? {}
    const claims = body && understood(AttestationResult, body)
    const packed = evidence && understood(NodeEvidence, evidence)
    if (body === undefined || claims === undefined || packed === undefined) return
    this.#known.set(claims.node, [...this.known(claims.node), { claims, evidence: packed, body }])
  }

  #hear({ subject, data }: Sent): void {
    const nonce = this.#options.world.looksAtPeers ? understood(Hello, data)?.nonce : undefined
    if (nonce !== undefined) this.#nonces.set(subject.split(".")[3] ?? "", nonce)
  }

  #proof(sent: Sent, digest: string, decision: Decision | undefined): void {
    const right = this.#proofs.get(digest)
    const lies = decision?.chance.chance(0.25) === true
    const served = lies && right ? this.#otherProof(sent, right, decision.chance) : undefined
    if (served !== undefined) this.#options.did(decision?.n ?? 0, `serves ${sent.from} ${served[0]}`)
    const data = served === undefined ? (right ?? NOTHING) : served[1]
    if (data !== undefined) this.#answer(sent, data, data.length === 0 ? 404 : 0)
  }

  /** In the place of what stands under a digest. */
  #otherProof({ from }: Sent, right: Uint8Array, chance: Chance): readonly [string, Uint8Array?] | undefined {
    const way = chance.below(8)
    if (way === 0) return ["nothing"]
    if (way === 1) return ["that there is no such proof", NOTHING]
    if (way === 2) {
      const data = Uint8Array.from(right)
      const bit = chance.below(8 * data.length)
      data[bit >> 3] = (data[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      return ["a proof with another bit", data]
    }
    if (way === 3) return ["a proof that ends early", right.subarray(0, chance.below(right.length))]
    if (way === 4) {
      const other = chance.pick([...this.#proofs.values()])
      return other && ["another proof", other]
    }
    if (way === 5) {
      const other = this.#options.old(chance, ({ subject }) => subject.startsWith(PUT_PROOF))
      return other && ["a proof of before, or of elsewhere", other.data]
    }
    return this.#forged(from.replace(/^loader-/, ""), right, chance)
  }

  /** With what the reader looks for in it. */
  #forged(reader: string, right: Uint8Array, chance: Chance): readonly [string, Uint8Array] | undefined {
    const proof = understood(Proof, right)
    const nonce = this.#nonces.get(reader)
    if (proof === undefined || nonce === undefined) return undefined
    if (proof.kind === "node") {
      const claims = understood(AttestationResult, proof.body)
      const others = claims === undefined ? [] : this.known(claims.node)
      const other = chance.pick(others)
      if (claims === undefined || other === undefined) return undefined
      // The other's Evidence beside this result, or this Evidence beside a result that says more.
      const body = chance.chance(0.5) ? proof.body : other.body
      const evidence = body === proof.body ? encode(NodeEvidence, other.evidence) : proof.evidence
      return ["a proof of two halves", encode(NodeProof, { ...proof, body, evidence })]
    }
    const own = hashLeaf(native, helloLeaf("node", reader, nonce))
    const leaves = proof.leaves.map((leaf, i) => (i === 0 ? own : leaf))
    if (chance.chance(0.5)) return ["leaves of its own", encode(ControlProof, { ...proof, leaves })]
    const claims = { ...proof.control.claims, merkle_root: rootOf(native, leaves), leaves: leaves.length }
    const control = { ...proof.control, claims }
    return ["a root of its own", encode(ControlProof, { ...proof, control, leaves })]
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
    else this.#answer(sent, encode(SignedWorkflow, world.workflows[0]))
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

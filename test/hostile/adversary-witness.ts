/** Looks at what honest parties send and seal, and holds it against the project's rules. */
import { AttestationResult, EvidenceReply, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { Ack, Beacon, Pull, Release } from "../../schemas/messages/release.ts"
import { at } from "../../services/evidence/snp/report.ts"
import type { Sent } from "./adversary-bus.ts"
import { bootNow } from "./adversary-clock.ts"
import type { Ideal, Origin, Sealing } from "./adversary-crypto.ts"
import { hex, mayPublish, opened, PREFIX, understood } from "./adversary-messages.ts"
import type { Accuse } from "./adversary-plane.ts"
import { ShownProofs } from "./adversary-proofs.ts"
import type { VirtualTime } from "./adversary-virtual.ts"

/** A challenge lives ten seconds, and is answered by Evidence that was made for it. */
const FRESH_MS = 11_000
export const UNVOUCHED = "no key to whom nobody vouches for"
const ELSEWHERE = "nobody is made to publish elsewhere"
const RISING = "terms and sequences only rise"
export const ASKED = "a release answers a request"
export const AGREE = "both ends agree or have none"
const UNPROVEN = "no key with a peer that wasn't appraised here"

/** What is known of a node's requests. */
export interface Asked {
  /** How often a loader was started. */
  lives: number
  /** When it asked, by nonce; the newest nonce, and the one before. */
  readonly asked: Set<string>
  newest: string
  before: string
  newestNs: bigint
  newestMs: number
}

export interface InstalledFor {
  readonly peer: string
  readonly peers: "results" | "evidence"
}

/** What is known of a releaser process. */
interface Reign {
  term: bigint
  sinceMs: number
  /** Since when it knows the second version. */
  revokedMs: number | undefined
}

export interface WitnessOptions {
  readonly domain: string
  readonly time: VirtualTime
  readonly ideal: Ideal
  readonly accuse: Accuse
  readonly asked: (node: string) => Asked | undefined
  /** Whether nodes look at each other's Evidence. */
  readonly looksAtPeers: boolean
}

export class Witness {
  readonly #options: WitnessOptions
  /** Everything that was ever sent by somebody honest. */
  readonly history: Sent[] = []
  readonly proofs = new ShownProofs()
  messages = 0
  /** Releases that nodes got and that name what they say. */
  named = 0
  readonly #reigns = new Map<string, Reign>()
  /** DH keys that a verifier has vouched for: whose node's, and when. */
  readonly #vouched = new Map<string, { readonly node: string; readonly atMs: number }>()
  /** When honest hardware signed which report data. */
  readonly #reported = new Map<string, { readonly id: string; readonly atMs: number }>()
  /** The report data of the last Evidence that a verifier was shown for a DH key. */
  readonly #shown = new Map<string, string>()
  /** By node, instance and epoch: the exporter that the node's own acknowledgement has said. */
  readonly #confirmed = new Map<string, string>()
  readonly #acked = new Map<string, readonly [bigint, bigint]>()
  /** By node and loader process, the term of its last acknowledgement: what was never installed, no kernel remembers. */
  readonly #terms = new Map<string, bigint>()
  /** Of releases on their way: which nonce each answers. */
  readonly #answers = new Map<string, string>()
  /** Where who may answer whom: of requests that were handed over, in the name of whoever the subject says. */
  readonly #mayAnswer = new Set<string>()

  constructor(options: WitnessOptions) {
    this.#options = options
  }

  /** A releaser was started anew: what a cold start can't know, the bus may hide from it. */
  began(releaser: string): void {
    this.#reigns.set(releaser, { term: 0n, sinceMs: this.#options.time.nowMs, revokedMs: undefined })
  }

  /** When the last releaser that may lead has learnt of the second version; undefined while one hasn't. */
  get revokedMs(): number | undefined {
    let last = 0
    for (const { revokedMs } of this.#reigns.values()) {
      if (revokedMs === undefined) return undefined
      last = Math.max(last, revokedMs)
    }
    return last
  }

  reported(id: string, reportData: Uint8Array): void {
    this.#reported.set(hex(reportData), { id, atMs: this.#options.time.nowMs })
  }

  expectNoSecret(where: string, data: Uint8Array): void {
    const { ideal, accuse } = this.#options
    const found = ideal.leakIn(data)
    if (found !== undefined) accuse("no secret leaves its party", `${where} has ${found}`)
  }

  /** Somebody sends a message, and nobody has touched it yet. */
  observe(sent: Sent): void {
    if (sent.owner === "mallory" || sent.owner === "operator" || sent.owner === "server") return
    this.messages += 1
    this.expectNoSecret(`a message of ${sent.from} on ${sent.subject}`, sent.data)
    this.#expectAllowed(sent)
    if (this.#options.looksAtPeers) this.proofs.said(sent)
    const [, , name, to = ""] = sent.subject.split(".")
    if (!sent.subject.startsWith(`${PREFIX}.`)) this.#onReply(sent)
    else if (name === "pull") this.#onPull(to, sent.data)
    else if (name === "ack") this.#onAck(to, sent.data)
    else if (name === "release") this.#onRelease(to, sent.data)
    else if (name === "beacon") this.#onBeacon(to, sent.data)
    else if (name === "event" && sent.from.startsWith("releaser-")) this.#onEvent(sent)
    this.history.push(sent)
  }

  /** By a server with the table's permissions, and by an inbox's owner: an answer goes to who asked. */
  #expectAllowed({ from, subject }: Sent): void {
    const { accuse, domain } = this.#options
    if (!mayPublish(from, domain, subject)) accuse(ELSEWHERE, `${from} on ${JSON.stringify(subject)}`)
    if (subject.startsWith("_INBOX.") && !this.#mayAnswer.has(`${from} ${subject}`))
      accuse(ELSEWHERE, `${from} answers ${subject}, where nobody asked it`)
  }

  /** Somebody is handed a message. */
  handed(to: string, sent: Sent): void {
    const { subject, reply, data } = sent
    if (this.#options.looksAtPeers) this.proofs.handed(to, sent)
    const [, , name, first = "", second = ""] = subject.split(".")
    const evidence = name === "evidence" ? understood(NodeEvidence, data) : undefined
    const piece = evidence?.evidence.pieces[0]
    if (evidence !== undefined && piece?.kind === "snp")
      this.#shown.set(
        hex(evidence.claims.dh_key),
        hex(piece.report.subarray(at.reportData, at.reportData + 64)),
      )
    const askers: Record<string, string> = {
      hello: `loader-${first}`,
      evidence: `loader-${second}`,
      attest: second,
    }
    const tokens = reply?.split(".") ?? []
    const plain = tokens.length > 2 && tokens.every((token) => /^[A-Za-z0-9_-]{1,64}$/.test(token))
    if (plain && tokens[0] === "_INBOX" && tokens[1] === askers[name ?? ""])
      this.#mayAnswer.add(`${to} ${reply}`)
  }

  #onReply({ from, data }: Sent): void {
    if (!from.startsWith("verifier-")) return
    const reply = understood(EvidenceReply, data)
    if (reply?.kind !== "result") return
    const claims = understood(AttestationResult, reply.result.body)
    if (claims === undefined) return
    const { ideal, accuse, time } = this.#options
    const [kem, signer] = [ideal.ownerOf(claims.dh_key), ideal.ownerOf(claims.signing_key)]
    if (kem !== `loader-${claims.node}` || signer !== kem)
      accuse(UNVOUCHED, `${claims.node} is vouched for with keys of ${kem} and ${signer}`)
    const reported = this.#reported.get(this.#shown.get(hex(claims.dh_key)) ?? "")
    if (reported?.id !== claims.node || time.nowMs - reported.atMs > FRESH_MS)
      accuse(UNVOUCHED, `${claims.node} is vouched for by Evidence that isn't of now`)
    this.#vouched.set(hex(claims.dh_key), { node: claims.node, atMs: time.nowMs })
  }

  #onPull(id: string, data: Uint8Array): void {
    const node = this.#options.asked(id)
    const found = opened(Pull, data)
    if (node === undefined || found === undefined) return
    node.before = node.newest
    node.newest = hex(found.body.nonce)
    node.newestNs = bootNow()
    node.newestMs = this.#options.time.nowMs
    node.asked.add(node.newest)
  }

  #onAck(id: string, data: Uint8Array): void {
    const found = opened(Ack, data)
    const { accuse, asked, time } = this.#options
    const node = asked(id)
    if (found === undefined || node === undefined) return
    const { session, term, sequence, edges } = found.body
    const name = `${id} ${hex(session)}`
    const before = this.#acked.get(name)
    if (before !== undefined && (term < before[0] || (term === before[0] && sequence < before[1])))
      accuse(RISING, `${id} goes from ${before.join(".")} back to ${term}.${sequence}`)
    this.#acked.set(name, [term, sequence])
    const life = `${id} ${node.lives}`
    const highest = this.#terms.get(life) ?? 0n
    if (term < highest) accuse(RISING, `${id} goes from term ${highest} back to ${term}`)
    this.#terms.set(life, term)
    const answered = this.#answers.get(`${name} ${term} ${sequence}`)
    const recent = node.newestMs === time.nowMs ? node.before : ""
    if (answered !== undefined && before?.[1] !== sequence && answered !== node.newest && answered !== recent)
      accuse("a release answers the newest request", `${id} took one that answers another`)
    // A loader that was started anew says of what it found that it is there, and has no exporter of it.
    for (const edge of edges)
      if (edge.exporter.some((byte) => byte !== 0))
        this.#confirmed.set(`${id} ${edge.instance} ${edge.term}.${edge.epoch}`, hex(edge.exporter))
  }

  #onRelease(id: string, data: Uint8Array): void {
    const found = opened(Release, data)
    const { accuse, asked } = this.#options
    const node = asked(id)
    if (found === undefined || node === undefined) return
    const { session, term, sequence, nonce, state } = found.body
    if (state !== undefined) this.named += 1
    this.#answers.set(`${id} ${hex(session)} ${term} ${sequence}`, hex(nonce))
    if (!node.asked.has(hex(nonce))) accuse(ASKED, `${id} is told what it did not ask for`)
  }

  #onBeacon(releaser: string, data: Uint8Array): void {
    const reign = this.#reigns.get(releaser)
    const term = understood(Beacon, data)?.term
    if (reign === undefined || term === undefined || term === reign.term) return
    if (term < reign.term)
      this.#options.accuse(RISING, `${releaser} goes from term ${reign.term} back to ${term}`)
    reign.term = term
    // Nobody can know its first beacon before it is said.
    reign.sinceMs = this.#options.time.nowMs
  }

  #onEvent({ from, data }: Sent): void {
    const reign = this.#reigns.get(from.replace(/^releaser-/, ""))
    if (reign !== undefined && Buffer.from(data).includes("simulated version 2"))
      reign.revokedMs ??= this.#options.time.nowMs
  }

  /** A kernel got keys. @returns whether they are with the peer that they should be with */
  installed(node: string, edge: InstalledFor, origin: Origin): boolean {
    const { ideal, accuse } = this.#options
    const owner = ideal.ownerOf(origin.peerKey)
    if (edge.peers !== "evidence") return owner === `loader-${edge.peer}`
    const missing =
      owner === `loader-${edge.peer}`
        ? this.proofs.missing(node, edge.peer, origin, (data) => this.#reported.get(data)?.id)
        : `a key of its own, and not of ${owner}`
    if (missing !== undefined) accuse(UNPROVEN, `${node} has keys with ${edge.peer}, which lacks ${missing}`)
    return true
  }

  /** Somebody seals a payload. */
  readonly sealed = ({ by, payload, kemOwner, dhOwner, dhKey }: Sealing): void => {
    const { accuse, asked, time } = this.#options
    const reign = by.startsWith("releaser-") ? this.#reigns.get(by.replace(/^releaser-/, "")) : undefined
    if (reign === undefined) return
    const id = dhOwner?.replace(/^loader-/, "") ?? ""
    if (dhOwner === undefined || kemOwner !== dhOwner || asked(id) === undefined)
      accuse(UNVOUCHED, `sealed to keys of ${dhOwner} and ${kemOwner}`)
    const vouched = this.#vouched.get(dhKey)
    if (vouched?.node !== id) accuse(UNVOUCHED, `${id}'s session was never vouched for`)
    else if (vouched.atMs < reign.sinceMs)
      accuse(UNVOUCHED, `${id}'s session was vouched for before this term`)
    for (const peer of payload.batches.flatMap(({ peers }) => peers)) {
      const known = this.#vouched.get(hex(peer.dh_key))
      if (known?.node !== peer.node) accuse(UNVOUCHED, `${peer.node} is named as a peer with keys of nobody`)
    }
    for (const edge of payload.edges) {
      const gone = reign.revokedMs !== undefined && time.nowMs > reign.revokedMs
      if (gone && (id === "gamma" || edge.peer === "gamma"))
        accuse(UNVOUCHED, `${id} and ${edge.peer}: one was revoked`)
      if (edge.state !== "active") continue
      const epoch = `${edge.instance} ${edge.term}.${edge.epoch}`
      const [a, b] = [this.#confirmed.get(`${id} ${epoch}`), this.#confirmed.get(`${edge.peer} ${epoch}`)]
      if (a === undefined || a !== b) accuse(AGREE, `${epoch} begins while its ends say ${a} and ${b}`)
    }
  }
}

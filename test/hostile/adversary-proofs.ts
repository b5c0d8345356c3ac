/**
 * What each node was really shown of its peers, judged here anew from the bytes that it was handed: by whom keys may be
 * installed where the workflow says `peers: evidence`, whatever the control plane has said.
 */
import { AttestationResult, Hello, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { Proof } from "../../schemas/messages/peer.ts"
import { native } from "../../services/common/crypto/index.ts"
import { at } from "../../services/evidence/snp/report.ts"
import { controlEvidenceDigest } from "../../services/make/control-plane.ts"
import { hashLeaf, helloLeaf, rootOf } from "../../services/make/merkle.ts"
import { evidenceDigest } from "../../services/make/proof.ts"
import { resultDigest } from "../../services/make/result.ts"
import { reportDataOf } from "../support/node-evidence.ts"
import type { Sent } from "./adversary-bus.ts"
import { bootNow } from "./adversary-clock.ts"
import type { Origin } from "./adversary-crypto.ts"
import { hex, understood } from "./adversary-messages.ts"

/** As `limits.peerEvidenceMs`, said here once more: a rule that follows what it judges judges nothing. */
const COUNTS_NS = 900_000n * 1_000_000n
const GET_PROOF = /^\$JS\.API\.DIRECT\.GET\.KV_proofs\.\$KV\.proofs\.([0-9a-f]{64})$/

/** Evidence of a peer that a node has got, whole and under its digest. */
interface Shown {
  readonly node: string
  readonly reportData: string
  readonly workflow: string
  readonly control: string
}

export class ShownProofs {
  /** Which digest is asked for, by the inbox that is to be answered. */
  readonly #asked = new Map<string, string>()
  /** By reader and the peer's DH key. */
  readonly #shown = new Map<string, Shown[]>()
  /** By reader: which report data it has found to be signed by hardware. */
  readonly #verified = new Set<string>()
  /** By control digest: the leaves under the root. */
  readonly #leaves = new Map<string, ReadonlySet<string>>()
  /** By node: the leaf of each of its nonces, and when it was first said. */
  readonly #nonces = new Map<string, Map<string, bigint>>()
  /** The document that a session was attested under, by the session's DH key. */
  readonly #workflows = new Map<string, Uint8Array>()

  /** Somebody honest says this. */
  said(sent: Sent): void {
    const { subject, reply, from, data } = sent
    const [, wanted] = GET_PROOF.exec(subject) ?? []
    if (wanted !== undefined && reply !== undefined) this.#asked.set(reply, wanted)
    const [, , name] = subject.split(".")
    if (!from.startsWith("loader-")) return
    const node = from.slice("loader-".length)
    const hello = name === "hello" ? understood(Hello, data) : undefined
    if (hello !== undefined) {
      const made = this.#nonces.get(node) ?? new Map<string, bigint>()
      const leaf = hex(hashLeaf(native, helloLeaf("node", node, hello.nonce)))
      if (!made.has(leaf)) made.set(leaf, bootNow())
      this.#nonces.set(node, made)
    }
    const claims = name === "evidence" ? understood(NodeEvidence, data)?.claims : undefined
    if (claims !== undefined) this.#workflows.set(hex(claims.dh_key), claims.workflow)
  }

  /** Somebody is handed what stands in the bucket, or what is said to. */
  handed(to: string, { subject, data }: Sent): void {
    const wanted = this.#asked.get(subject)
    const proof = wanted === undefined ? undefined : understood(Proof, data)
    if (wanted === undefined || proof === undefined) return
    if (proof.kind === "control") {
      const { control, leaves } = proof
      const { merkle_root: root, leaves: count } = control.claims
      const isWhole = count === leaves.length && hex(rootOf(native, leaves)) === hex(root)
      if (isWhole && hex(controlEvidenceDigest(native, control)) === wanted)
        this.#leaves.set(wanted, new Set(leaves.map(hex)))
      return
    }
    const body = understood(AttestationResult, proof.body)
    const evidence = understood(NodeEvidence, proof.evidence)
    if (evidence === undefined || hex(resultDigest(native, proof.body)) !== wanted) return
    if (hex(evidenceDigest(native, proof.evidence)) !== hex(body?.evidence ?? new Uint8Array(0))) return
    const { node, workflow, control, dh_key } = evidence.claims
    const name = `${to} ${hex(dh_key)}`
    const shown = {
      node,
      reportData: hex(reportDataOf(evidence.claims)),
      workflow: hex(workflow),
      control: hex(control),
    }
    this.#shown.set(name, [...(this.#shown.get(name) ?? []), shown])
  }

  /** Somebody has found that hardware signed this report. */
  found(by: string, report: Uint8Array): void {
    this.#verified.add(`${by} ${hex(report.subarray(at.reportData, at.reportData + 64))}`)
  }

  /** Of the session with this DH key. */
  workflowOf(dhKey: Uint8Array): Uint8Array | undefined {
    return this.#workflows.get(hex(dhKey))
  }

  /**
   * Whether a node may have keys with a peer: it has got that peer's Evidence for this very key and its own session's
   * document, has verified it, and finds a nonce of its own in it that is young enough.
   * @param signed says whose honest hardware has signed report data, hex
   * @returns what is missing, if anything
   */
  missing(
    node: string,
    peer: string,
    { ownKey, peerKey }: Origin,
    signed: (reportData: string) => string | undefined,
  ): string | undefined {
    const by = `loader-${node}`
    const workflow = hex(this.workflowOf(ownKey) ?? new Uint8Array(0))
    const whole = (this.#shown.get(`${by} ${hex(peerKey)}`) ?? []).filter((each) => each.node === peer)
    if (whole.length === 0) return "Evidence that names the key, whole and under its digest"
    const genuine = whole.filter(({ reportData }) => signed(reportData) === peer)
    if (genuine.length === 0) return "Evidence that the peer's own hardware has signed"
    const appraised = genuine.filter(({ reportData }) => this.#verified.has(`${by} ${reportData}`))
    if (appraised.length === 0) return "an appraisal of its own"
    const fitting = appraised.filter((each) => each.workflow === workflow)
    if (fitting.length === 0) return "Evidence under the document of its session"
    const own = this.#nonces.get(node) ?? new Map<string, bigint>()
    const ages = fitting.flatMap(({ control }) =>
      [...(this.#leaves.get(control) ?? [])].flatMap((leaf) => own.get(leaf) ?? []),
    )
    if (ages.length === 0) return "a nonce of its own in the peer's Evidence"
    if (ages.every((madeNs) => bootNow() - madeNs > COUNTS_NS))
      return "a nonce of its own that is young enough"
    return undefined
  }
}

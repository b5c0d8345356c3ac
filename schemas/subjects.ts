/**
 * Every subject of the bus, in one table: its shape, what travels on it, who may publish and who may subscribe. NATS
 * permissions, the AsyncAPI document and the README's table are generated from it.
 *
 * `{name}` in a pattern is one token. A role's permission fills in the tokens that belong to the identity itself
 * (`own`), so that a loader can say hello for its own node only; the others become `*`.
 */
import type { Schema } from "effect"
import { limits } from "./limits.ts"
import {
  AttestReply,
  AttestRequest,
  EvidenceReply,
  Hello,
  HelloReply,
  NodeEvidence,
} from "./messages/attestation.ts"
import { CollateralPiece } from "./messages/collateral.ts"
import { Signed } from "./messages/common.ts"
import { Event } from "./messages/event.ts"
import { Fresh, Proof, Renew } from "./messages/peer.ts"
import { Beacon, Leader, Presence } from "./messages/release.ts"
import { Stats } from "./messages/stats.ts"
import { SignedWorkflow } from "./workflow.ts"

export type Role = "attester" | "verifier" | "releaser" | "loader" | "operator" | "auditor"

/** Who may use a subject: a role, and which tokens of the pattern must be the identity's own. */
export interface Party {
  readonly role: Role
  readonly own: ReadonlyArray<Token>
}

/**
 * node: the node an attester or loader belongs to. instance: a verifier's or releaser's own instance.
 * identity: the NATS user, `<role>-<node or instance>`, which is also its inbox: `_INBOX.<identity>.>`.
 * key: the name of a value in a bucket that is read as a whole. digest: that of a value which is read by it.
 */
export type Token = "node" | "instance" | "identity" | "domain" | "key" | "digest"

export interface Subject {
  /** Without the prefix (`vs.v1`), tokens in braces. */
  readonly pattern: string
  readonly kind: "request" | "publish" | "event" | "kv"
  readonly payload: Schema.Top
  /** Only for requests: what comes back. */
  readonly reply?: Schema.Top
  readonly publishers: ReadonlyArray<Party>
  readonly subscribers: ReadonlyArray<Party>
  /** Largest payload in bytes; more is refused before it is looked at. */
  readonly bytesMax: number
  /** Only for kv: the bucket. Its keys are what follows the pattern's first token. */
  readonly bucket?: Bucket
  /** Only for requests that any instance may answer. */
  readonly queue?: string
  readonly meaning: string
}

export type Bucket = "workflows" | "collateral" | "leaders" | "proofs"

const by = (role: Role, ...own: ReadonlyArray<Token>): Party => ({ role, own })
const everyone: ReadonlyArray<Role> = ["attester", "verifier", "releaser", "loader", "operator", "auditor"]

export const subjects = {
  hello: {
    pattern: "hello.{node}",
    kind: "request",
    payload: Hello,
    reply: HelloReply,
    publishers: [by("loader", "node")],
    subscribers: [by("verifier")],
    queue: "verifier",
    bytesMax: 4_096,
    meaning: "a node asks to be attested and gets a challenge with the control plane's Evidence",
  },
  attest: {
    pattern: "attest.{node}.{identity}",
    kind: "request",
    payload: AttestRequest,
    reply: AttestReply,
    publishers: [by("loader", "node", "identity"), by("verifier", "identity"), by("releaser", "identity")],
    subscribers: [by("attester", "node")],
    bytesMax: limits.evidenceBytes,
    meaning: "asks the attester of a guest for Evidence",
  },
  evidence: {
    pattern: "evidence.{instance}.{node}",
    kind: "request",
    payload: NodeEvidence,
    reply: EvidenceReply,
    publishers: [by("loader", "node")],
    subscribers: [by("verifier", "instance")],
    bytesMax: limits.evidenceBytes,
    meaning:
      "a node answers a challenge at the verifier that issued it and gets a signed result or a refusal",
  },
  beacon: {
    pattern: "beacon.{instance}",
    kind: "publish",
    payload: Beacon,
    publishers: [by("releaser", "instance")],
    subscribers: [by("verifier"), by("releaser"), by("loader")],
    bytesMax: 512,
    meaning:
      "the leading releaser's fresh value, which every challenge carries so that it can tell a result's age; nodes hear of a new term",
  },
  presence: {
    pattern: "presence.{instance}",
    kind: "publish",
    payload: Presence,
    publishers: [by("verifier", "instance"), by("releaser", "instance")],
    subscribers: [by("releaser")],
    bytesMax: 512,
    meaning: "a verifier or a releaser that stands by is there, and which guest's attester vouches for it",
  },
  pull: {
    pattern: "pull.{node}",
    kind: "publish",
    payload: Signed,
    publishers: [by("loader", "node")],
    subscribers: [by("releaser")],
    bytesMax: 65_536,
    meaning: "a node's standing request for its keys, with a fresh nonce and its result",
  },
  release: {
    pattern: "release.{node}",
    kind: "publish",
    payload: Signed,
    publishers: [by("releaser")],
    subscribers: [by("loader", "node")],
    bytesMax: limits.messageBytes,
    meaning: "a node's full desired state, sealed to its attested key",
  },
  ack: {
    pattern: "ack.{node}",
    kind: "publish",
    payload: Signed,
    publishers: [by("loader", "node")],
    subscribers: [by("releaser")],
    bytesMax: limits.messageBytes,
    meaning: "what a node holds now, with an exporter per edge to compare both ends",
  },
  withdraw: {
    pattern: "withdraw.{instance}",
    kind: "publish",
    payload: Signed,
    publishers: [by("verifier", "instance")],
    subscribers: [by("releaser")],
    bytesMax: 131_072,
    meaning: "a verifier takes back results that it signed: evidence has become bad since, and keys must go",
  },
  leave: {
    pattern: "leave.{node}",
    kind: "publish",
    payload: Signed,
    publishers: [by("loader", "node")],
    subscribers: [by("releaser")],
    bytesMax: 1_024,
    meaning: "a node that is about to stop gives up its keys and its peers' to it",
  },
  fresh: {
    pattern: "fresh.{node}",
    kind: "publish",
    payload: Fresh,
    publishers: [by("loader", "node")],
    subscribers: [by("verifier")],
    bytesMax: 512,
    meaning: "a node that appraises its peers itself tells the nonce that their next Evidence is to contain",
  },
  renew: {
    pattern: "renew.{node}.{identity}",
    kind: "publish",
    payload: Renew,
    publishers: [by("loader", "identity")],
    subscribers: [by("loader", "node")],
    bytesMax: 512,
    meaning: "a node asks a peer for Evidence that contains a nonce of its own",
  },
  order: {
    pattern: "order.{domain}",
    kind: "publish",
    payload: Signed,
    publishers: [by("operator")],
    subscribers: [by("releaser")],
    bytesMax: 1_024,
    meaning: "an operator asks for new keys at once",
  },
  event: {
    pattern: "event.{identity}",
    kind: "event",
    payload: Event,
    publishers: everyone.map((role) => by(role, "identity")),
    subscribers: [by("auditor"), by("operator")],
    bytesMax: 65_536,
    meaning: "what happened and why, kept in the stream EVENTS",
  },
  stats: {
    pattern: "stats.{node}",
    kind: "publish",
    payload: Stats,
    publishers: [by("loader", "node")],
    subscribers: [by("auditor"), by("operator")],
    bytesMax: limits.messageBytes,
    meaning: "counters of a node's data plane, every two seconds and on change",
  },
  workflow: {
    pattern: "workflow.{domain}",
    kind: "kv",
    bucket: "workflows",
    payload: SignedWorkflow,
    publishers: [by("operator")],
    subscribers: everyone.map((role) => by(role)),
    bytesMax: limits.messageBytes,
    meaning: "the signed workflow of a domain, in the bucket of workflows",
  },
  leader: {
    pattern: "leader.{domain}",
    kind: "kv",
    bucket: "leaders",
    payload: Leader,
    publishers: [by("releaser")],
    subscribers: [by("releaser")],
    bytesMax: 512,
    meaning: "which releaser leads a domain, in a bucket whose entries last a second: a hint, no more",
  },
  collateral: {
    pattern: "collateral.{key}",
    kind: "kv",
    bucket: "collateral",
    payload: CollateralPiece,
    publishers: [by("operator")],
    subscribers: [by("verifier"), by("releaser"), by("attester"), by("loader"), by("operator")],
    bytesMax: limits.collateralBytes + 1_024,
    meaning:
      "certificates, revocation lists and TCB levels as their vendors signed them, in a bucket that is read as a whole",
  },
  proof: {
    pattern: "proof.{digest}",
    kind: "kv",
    bucket: "proofs",
    payload: Proof,
    publishers: [by("verifier")],
    subscribers: [by("loader")],
    bytesMax: limits.proofBytes,
    meaning:
      "raw Evidence of nodes and control planes, for peers that appraise it themselves, each under its digest",
  },
} as const satisfies Record<string, Subject>

export type SubjectName = keyof typeof subjects

/** The JetStream stream of events and the KV buckets; a key is one token, the last of the subject's pattern. */
export const streams = {
  events: "EVENTS",
  workflows: "workflows",
  collateral: "collateral",
  leaders: "leaders",
  proofs: "proofs",
} as const
export const DEFAULT_PREFIX = "vs.v1"

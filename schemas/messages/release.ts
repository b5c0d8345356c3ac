/** Steps 5 to 7 of MAKE: standing request, sealed release, acknowledgement. See `services/make/SPEC.md`. */
import { Schema } from "effect"
import {
  bytes,
  bytesMax,
  Digest,
  InstanceId,
  KemKey,
  LeaseMs,
  list,
  Nonce,
  Session,
  SigningKey,
  Spi,
  Token,
  text,
  U64,
  Version,
} from "../fields.ts"
import { limits } from "../limits.ts"
import { PeerBatch, SignedResult } from "./result.ts"

/**
 * A fresh value of the releaser that leads: a result that contains it is no older than it. Verifiers ask the attester of
 * its guest for Evidence, and nodes that follow an older term come for it.
 */
export const Beacon = Schema.Struct({ v: Version, releaser: Token, control: Token, term: U64, nonce: Nonce })
export type Beacon = typeof Beacon.Type

/**
 * A verifier, or a releaser that stands by, is there: whose attester vouches for its key, and the highest term that it has
 * heard of. Nobody believes it; releasers ask for Evidence.
 */
export const Presence = Schema.Struct({
  v: Version,
  role: Schema.Literals(["verifier", "releaser"]),
  control: Token,
  key: SigningKey,
  term: U64,
})
export type Presence = typeof Presence.Type

/** Who leads, as the bucket of leaders has it: a hint for those that stand by. */
export const Leader = Schema.Struct({ v: Version, releaser: Token, control: Token, term: U64 })
export type Leader = typeof Leader.Type

/** The body that a node signs to ask for its keys: the newest nonce is the only one that gets an answer. */
export const Pull = Schema.Struct({
  v: Version,
  node: Token,
  session: Session,
  nonce: Nonce,
  result: SignedResult,
  /** The key that the result names by its digest: only the releaser needs it. */
  kem_key: KemKey,
  /** Instead of asking: the node has followed this term, and the reign that its result was made for is below it. */
  followed: Schema.optionalKey(U64),
})
export type Pull = typeof Pull.Type

/**
 * The body that a releaser signs: outer header and sealed payload (HPKE, RFC 9180, base mode). Where `state` names the payload
 * that the node was told last, and has acknowledged, the other two are empty.
 */
export const Release = Schema.Struct({
  v: Version,
  domain: Token,
  workflow: Digest,
  node: Token,
  session: Session,
  releaser: Token,
  term: U64,
  sequence: U64,
  nonce: Nonce,
  suite: text(64),
  enc: bytesMax(1_120),
  ciphertext: bytesMax(limits.messageBytes),
  state: Schema.optionalKey(Digest),
})
export type Release = typeof Release.Type

/** One epoch of one edge, as one of its two nodes gets it. */
export const EdgeRelease = Schema.Struct({
  instance: InstanceId,
  term: U64,
  epoch: U64,
  state: Schema.Literals(["install", "active", "retire"]),
  peer: Token,
  /** One index per lane, in lane order; inbound are ours, outbound the peer's. */
  inbound: list(Spi, limits.lanes),
  outbound: list(Spi, limits.lanes),
  /** Only with `install`, and until the node has confirmed: keys are derived then or never. */
  secret: Schema.optionalKey(bytes(32)),
})
export type EdgeRelease = typeof EdgeRelease.Type

/** A new generation of an edge's keys, the one in use, and one in its grace time. */
const GENERATIONS = 3

/** The sealed payload: the node's full desired state. What it doesn't name is to be retired. */
export const ReleasePayload = Schema.Struct({
  v: Version,
  lease_ms: LeaseMs,
  /** Of peers only what the epochs to install need, each once. */
  batches: list(PeerBatch, limits.nodeEdges),
  edges: list(EdgeRelease, GENERATIONS * limits.nodeEdges),
  /** Of terms before this one: whoever is at the other end was taken back since, so that all up to this term ends at once. */
  ended: Schema.optionalKey(list(Schema.Struct({ instance: InstanceId, term: U64 }), limits.nodeEdges)),
})
export type ReleasePayload = typeof ReleasePayload.Type

/** The body that a node signs to take its leave: nothing of this session is wanted any more. */
export const Leave = Schema.Struct({ v: Version, node: Token, session: Session })
export type Leave = typeof Leave.Type

/** The body that a node signs to say what it holds now. */
export const Ack = Schema.Struct({
  v: Version,
  node: Token,
  session: Session,
  term: U64,
  sequence: U64,
  /** When this was said, by the node's boot clock. */
  boot_ns: U64,
  edges: list(
    Schema.Struct({
      instance: InstanceId,
      term: U64,
      epoch: U64,
      state: Schema.Literals(["install", "active"]),
      exporter: bytes(16),
    }),
    GENERATIONS * limits.nodeEdges,
  ),
})
export type Ack = typeof Ack.Type

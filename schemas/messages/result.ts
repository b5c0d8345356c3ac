/** Attestation Results under way: a verifier signs the root of a tree over a batch of them. See `services/make/SPEC.md`. */
import { Schema } from "effect"
import { bytesMax, Count, DhKey, Digest, list, Signature, SigningKey, Token, Version } from "../fields.ts"
import { limits } from "../limits.ts"

const PATH_MAX = 12
const Leaves = Count.check(Schema.isBetween({ minimum: 1, maximum: limits.batchLeaves }))
const Index = Count.check(Schema.isBetween({ minimum: 0, maximum: limits.batchLeaves - 1 }))

/** The root over a batch of results, its size, and the verifier's signature over both. */
export const ResultBatch = Schema.Struct({
  key: SigningKey,
  root: Digest,
  size: Leaves,
  signature: Signature,
})
export type ResultBatch = typeof ResultBatch.Type

/** A whole result, for the node that it is about and for the releaser. The body is an `AttestationResult`. */
export const SignedResult = Schema.Struct({
  v: Version,
  batch: ResultBatch,
  index: Index,
  path: list(Digest, PATH_MAX),
  /** Of whom and which key it speaks, see `resultSubject`: the other half of its leaf. */
  subject: Digest,
  body: bytesMax(limits.resultBytes),
})
export type SignedResult = typeof SignedResult.Type

/** What a peer needs of a result: which key, and the digest of the whole. Domain and workflow it knows by itself. */
export const PeerResult = Schema.Struct({
  node: Token,
  dh_key: DhKey,
  result: Digest,
  index: Index,
})
export type PeerResult = typeof PeerResult.Type

const HASH_BYTES = 32
/** What 1,024 leaves of 4,096 lack at the most. */
const PROOF_MAX = limits.batchLeaves / 2

/** Results under one signature, proven together. The root follows from the leaves and the proof. */
export const PeerBatch = Schema.Struct({
  key: SigningKey,
  size: Leaves,
  signature: Signature,
  /** Hashes, one behind another. */
  proof: bytesMax(PROOF_MAX * HASH_BYTES),
  /** By rising index. */
  peers: list(PeerResult, limits.nodeEdges),
})
export type PeerBatch = typeof PeerBatch.Type

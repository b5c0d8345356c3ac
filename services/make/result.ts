/**
 * Attestation Results as relying parties hold them. A verifier signs many at once: the root of a tree (RFC 9162) whose
 * leaves are
 *
 *   subject = SHA-256(result-subject, domain, workflow digest, node, DH key)
 *   digest  = SHA-256(result-digest, body)
 *   leaf    = (result-leaf, subject, digest)
 *
 * A peer is told node, key and digest, and puts together the rest of the leaf from what it knows by itself: no result of
 * another workflow or domain can stand in for the one that it expects. It believes leaves of one batch together.
 */
import type { Launch } from "../../schemas/messages/attestation.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { verifyBytes } from "./envelope.ts"
import { expectBytes, MakeError } from "./errors.ts"
import { labels } from "./labels.ts"
import { buildTree, hashLeaf, type Inclusion, verifyInclusion } from "./merkle.ts"
import { joinPaths, rootUnder } from "./multi-proof.ts"
import { digest, encodeFields, withFields } from "./transcript.ts"

/** What of a result's body decides; named as in the message. */
export interface ResultClaims {
  readonly domain: string
  readonly workflow: Uint8Array
  readonly node: string
  readonly session: Uint8Array
  readonly stage: string
  readonly chip: Uint8Array
  readonly boot: Uint8Array
  /** What hardware says of this launch; absent where it says nothing. */
  readonly launch?: Launch
  /** SHA-384 of the data plane that was measured; absent where nothing rests on it. */
  readonly dataplane?: Uint8Array
  /** Of the values that the stage lists, those that the Evidence has shown; absent where nothing rests on them. */
  readonly values?: ReadonlyArray<Uint8Array>
  readonly signing_key: Uint8Array
  readonly dh_key: Uint8Array
  /** See `kemKeyDigest`: peers have no use for the key itself, which is large. */
  readonly kem_key_digest: Uint8Array
  readonly beacon: Uint8Array
}

/** One signature over many results; named as in the message. */
export interface ResultBatch {
  /** Ed25519 public key of the verifier, 32 bytes. */
  readonly key: Uint8Array
  readonly root: Uint8Array
  readonly size: number
  readonly signature: Uint8Array
}

export interface SignedResult {
  readonly v: 1
  readonly batch: ResultBatch
  readonly index: number
  readonly path: ReadonlyArray<Uint8Array>
  readonly subject: Uint8Array
  readonly body: Uint8Array
}

/** What a peer needs of a result; named as in the message. */
export interface PeerResult {
  readonly node: string
  readonly dh_key: Uint8Array
  /** Digest, 32 bytes. */
  readonly result: Uint8Array
  /** Its leaf's; each is higher than the one before. */
  readonly index: number
}

/** Results under one signature as peers are told of them; named as in the message. */
export interface PeerBatch extends Omit<ResultBatch, "root"> {
  /** What the leaves lack on their way to the root, see `multi-proof.ts`. */
  readonly proof: Uint8Array
  readonly peers: ReadonlyArray<PeerResult>
}

/** Where results count. */
export interface ResultScope {
  readonly domain: string
  readonly workflow: Uint8Array
}

/** Of whom a relying party expects a result. */
export interface WantedResult extends ResultScope {
  readonly node: string
}

declare const vouched: unique symbol

/** Only `vouchResult` makes these. */
export interface VouchedResult {
  readonly [vouched]: true
  readonly claims: ResultClaims
  /** SHA-256(label, body), 32 bytes: what traffic keys rest on. */
  readonly digest: Uint8Array
  readonly signed: SignedResult
}

/** Only `vouchPeers` makes these. */
export interface VouchedPeer {
  readonly [vouched]: true
  readonly node: string
  readonly dhKey: Uint8Array
  readonly digest: Uint8Array
}

/** Of the body that the verifier vouches for. */
export const resultDigest = (crypto: Crypto, body: Uint8Array): Uint8Array =>
  digest(crypto, labels.resultDigest, body)

/** Of a node's ML-KEM-768 key, or of none (no bytes). 32 bytes. */
export const kemKeyDigest = (crypto: Crypto, kemKey: Uint8Array): Uint8Array =>
  digest(crypto, labels.kemKeyDigest, kemKey)

/** Who has which DH key in which workflow. 32 bytes. */
export const resultSubject = (
  crypto: Crypto,
  { domain, workflow, node }: WantedResult,
  dhKey: Uint8Array,
): Uint8Array => digest(crypto, labels.resultSubject, domain, workflow, node, dhKey)

const resultLeaf = (subject: Uint8Array, result: Uint8Array): Uint8Array =>
  encodeFields(labels.resultLeaf, subject, result)

const batchBytes = (root: Uint8Array, size: number): Uint8Array =>
  encodeFields(labels.signedResults, root, size)

/** What a verifier has decided to sign. */
export interface UnsignedResult extends WantedResult {
  readonly dhKey: Uint8Array
  /** The packed AttestationResult, which says the same and more. */
  readonly body: Uint8Array
}

/**
 * @param results 1..4,096 of them
 * @throws MakeError LIMIT
 */
export const signResults = (
  crypto: Crypto,
  key: SecretKey,
  results: ReadonlyArray<UnsignedResult>,
): ReadonlyArray<SignedResult> => {
  const subjects = results.map((each) => resultSubject(crypto, each, each.dhKey))
  const leaves = results.map(({ body }, i) =>
    resultLeaf(subjects[i] ?? new Uint8Array(0), resultDigest(crypto, body)),
  )
  const { root, size, inclusion } = buildTree(crypto, leaves)
  const signature = crypto.ed25519.sign(batchBytes(root, size), key)
  const batch: ResultBatch = { key: key.publicKey, root, size, signature }
  return results.map(({ body }, index) => ({
    v: 1,
    batch,
    index,
    path: inclusion(index).path,
    subject: subjects[index] ?? new Uint8Array(0),
    body,
  }))
}

const BATCHES_REMEMBERED = 1_024

/** Batches whose signature was verified: a node meets the same one with every peer of it. Bounded; the oldest go. */
export class KnownBatches {
  readonly #crypto: Crypto
  readonly #known = new Map<string, ResultBatch>()

  constructor(crypto: Crypto) {
    this.#crypto = crypto
  }

  /**
   * @returns the batch: the same object for the same one
   * @throws MakeError NOT_AUTHENTIC when none of these verifiers signed it
   */
  expect(verifierKeys: ReadonlyArray<Uint8Array>, batch: ResultBatch): ResultBatch {
    const { key, root, size, signature } = batch
    // Every part of it is in the name: what was verified is exactly this.
    const name = `${Buffer.concat([key, root, signature]).toString("base64")} ${size}`
    const known = this.#known.get(name)
    if (known !== undefined && verifierKeys.some((one) => this.#crypto.equalConstantTime(one, key)))
      return known
    verifyBytes(this.#crypto, verifierKeys, key, signature, batchBytes(root, size))
    if (this.#known.size >= BATCHES_REMEMBERED)
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest)
        break
      }
    this.#known.set(name, batch)
    return batch
  }
}

const expectIn = (
  crypto: Crypto,
  field: string,
  batch: ResultBatch,
  at: Omit<Inclusion, "size">,
  leaf: Uint8Array,
): void => {
  const inclusion = { index: at.index, size: batch.size, path: at.path }
  if (!verifyInclusion(crypto, batch.root, leaf, inclusion))
    throw new MakeError("NOT_AUTHENTIC", field, "is not in the batch that the verifier signed")
}

/**
 * @param verifierKeys those that accepted control-plane Evidence binds
 * @param decode from body to claims, after the body has proven authentic; throws its own errors
 * @throws MakeError NOT_AUTHENTIC when no such verifier signed it
 */
export const vouchResult = (
  crypto: Crypto,
  verifierKeys: ReadonlyArray<Uint8Array>,
  signed: SignedResult,
  decode: (body: Uint8Array) => ResultClaims,
  known: KnownBatches = new KnownBatches(crypto),
): VouchedResult => {
  const { subject, body } = signed
  const batch = known.expect(verifierKeys, signed.batch)
  const ownDigest = resultDigest(crypto, body)
  expectIn(crypto, "result", batch, signed, resultLeaf(subject, ownDigest))
  const claims = decode(body)
  expectBytes("result.dh_key", claims.dh_key, 32)
  expectBytes("result.signing_key", claims.signing_key, 32)
  expectBytes("result.kem_key_digest", claims.kem_key_digest, 32)
  // The verifier itself has signed two things that differ: peers would be told another key than the node has.
  if (!crypto.equalConstantTime(subject, resultSubject(crypto, claims, claims.dh_key)))
    throw new MakeError("NOT_VOUCHED", "result.subject", "is not what the result says")
  return { claims, digest: ownDigest, signed: { ...signed, batch } } as VouchedResult
}

/**
 * What a release says of peers under one signature, held against what the node itself expects: all of them or none.
 * @param scope the node's own: no result of another domain or workflow gives the root that was signed
 * @throws MakeError NOT_AUTHENTIC when no such verifier has vouched for these keys of these nodes in this scope; LIMIT,
 *   MALFORMED for what is no proof at all
 */
export const vouchPeers = (
  crypto: Crypto,
  verifierKeys: ReadonlyArray<Uint8Array>,
  scope: ResultScope,
  { key, size, signature, proof, peers }: PeerBatch,
  known: KnownBatches = new KnownBatches(crypto),
): ReadonlyArray<VouchedPeer> => {
  const leaves = peers.map(({ node, dh_key, result, index }) => {
    expectBytes("batches.peers.dh_key", dh_key, 32)
    expectBytes("batches.peers.result", result, 32)
    const subject = resultSubject(crypto, { ...scope, node }, dh_key)
    const hash = withFields(labels.resultLeaf, [subject, result], (leaf) => hashLeaf(crypto, leaf))
    return { index, hash }
  })
  const root = rootUnder(crypto, "batches", size, leaves, proof)
  known.expect(verifierKeys, { key, root, size, signature })
  return peers.map(({ node, dh_key, result }) => ({ node, dhKey: dh_key, digest: result }) as VouchedPeer)
}

/**
 * What peers are told of these results.
 * @param vouched each of another node
 */
export const peerBatches = (vouched: Iterable<VouchedResult>): ReadonlyArray<PeerBatch> =>
  [...Map.groupBy(vouched, ({ signed }) => signed.batch)].map(([{ key, size, signature }, results]) => {
    const inOrder = results.toSorted((a, b) => a.signed.index - b.signed.index)
    const leaves = inOrder.map(({ signed }) => signed)
    const peers = inOrder.map(({ claims, digest, signed }) => ({
      node: claims.node,
      dh_key: claims.dh_key,
      result: digest,
      index: signed.index,
    }))
    return { key, size, signature, proof: joinPaths(size, leaves), peers }
  })

/** @throws MakeError NOT_VOUCHED unless the result speaks of this node of this workflow. */
export const expectResultOf = (
  crypto: Crypto,
  field: string,
  { claims }: VouchedResult,
  wanted: WantedResult,
): void => {
  if (claims.domain !== wanted.domain)
    throw new MakeError("NOT_VOUCHED", `${field}.domain`, "is another domain's")
  if (!crypto.equalConstantTime(claims.workflow, wanted.workflow))
    throw new MakeError("NOT_VOUCHED", `${field}.workflow`, "was appraised against another workflow")
  if (claims.node !== wanted.node) throw new MakeError("NOT_VOUCHED", `${field}.node`, "is another node's")
}

/**
 * Traffic keys. The two ends of an edge derive the same ones from their Diffie-Hellman secret, which the releaser can't
 * compute, and the release secret, which nobody gets without having been vouched for:
 *
 *   ikm  = X25519(own, peer) || release secret
 *   salt = SHA-256(result-pair, digest of the initiator's result, digest of the responder's)
 *   okm  = HKDF-SHA-256(ikm, salt, (edge-keys, suite, workflow digest, edge instance, term, n, initiator, responder,
 *                                   list of SPIs to the responder, list of SPIs to the initiator))
 *
 * cut, in this order, into 36 bytes for each lane to the responder, as much for each to the initiator (a ChaCha20-Poly1305
 * key and the salt of RFC 7634, section 2), and the exporter.
 */
import { type Crypto, CryptoError } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import type { Epoch } from "./epoch.ts"
import { expectBytes, MakeError } from "./errors.ts"
import { labels } from "./labels.ts"
import { type SuiteId, suites } from "./suites.ts"
import { digest, withFields } from "./transcript.ts"

export const EXPORTER_BYTES = 16
export const RELEASE_SECRET_BYTES = 32

/** One edge in one epoch, the same at both ends: `initiator` and `responder` are the edge's order, not who asks. */
export interface EdgeEpoch {
  readonly suite: SuiteId
  readonly workflowDigest: Uint8Array
  /** `edge:initiator:responder`. */
  readonly instance: string
  readonly epoch: Epoch
  readonly initiator: string
  readonly responder: string
  /** Digests of the Attestation Results in force, 32 bytes each. */
  readonly initiatorResult: Uint8Array
  readonly responderResult: Uint8Array
  /** Per lane, the index that the receiving end knows the association by. */
  readonly spisToResponder: ReadonlyArray<number>
  readonly spisToInitiator: ReadonlyArray<number>
}

export interface TrafficKey {
  readonly lane: number
  readonly spi: number
  /** 32 bytes. */
  readonly key: Uint8Array
  /** 4 bytes. */
  readonly salt: Uint8Array
}

export interface EdgeKeys {
  readonly toResponder: ReadonlyArray<TrafficKey>
  readonly toInitiator: ReadonlyArray<TrafficKey>
  /** 16 bytes that tell two ends, and the releaser, whether they agree on all of the above, and nothing else. */
  readonly exporter: Uint8Array
}

/**
 * X25519 of the own key and the peer's, 32 bytes. Costs more than everything else here; it may be kept as long as both
 * keys live.
 * @throws MakeError KEY for a peer key that gives an all-zero secret, MALFORMED for one of a wrong length
 */
export const pairSecret = (crypto: Crypto, own: SecretKey, peerDhKey: Uint8Array): Uint8Array => {
  expectBytes("dhKey", peerDhKey, 32)
  try {
    return crypto.x25519.sharedSecret(own, peerDhKey)
  } catch (error) {
    if (error instanceof CryptoError && error.code === "weak-point")
      throw new MakeError("KEY", "dhKey", "gives an all-zero shared secret")
    throw error
  }
}

/** The salt: which two appraisals these keys rest on, in the edge's order. */
export const resultPairDigest = (
  crypto: Crypto,
  initiator: Uint8Array,
  responder: Uint8Array,
): Uint8Array => {
  expectBytes("initiatorResult", initiator, 32)
  expectBytes("responderResult", responder, 32)
  return digest(crypto, labels.resultPair, initiator, responder)
}

/**
 * @param shared from `pairSecret`; it is not changed
 * @param releaseSecret 32 bytes from the releaser, fresh for this epoch
 * @throws MakeError MALFORMED for wrong lengths
 */
export const deriveEdgeKeys = (
  crypto: Crypto,
  edge: EdgeEpoch,
  shared: Uint8Array,
  releaseSecret: Uint8Array,
): EdgeKeys => {
  expectBytes("shared", shared, 32)
  expectBytes("secret", releaseSecret, RELEASE_SECRET_BYTES)
  expectBytes("workflowDigest", edge.workflowDigest, 32)
  const { keyBytes, saltBytes } = suites[edge.suite]
  const laneBytes = keyBytes + saltBytes
  const { spisToResponder, spisToInitiator } = edge
  const lanes = spisToResponder.length + spisToInitiator.length
  const ikm = new Uint8Array(64)
  ikm.set(shared)
  ikm.set(releaseSecret, 32)
  const salt = resultPairDigest(crypto, edge.initiatorResult, edge.responderResult)
  const okm = withEdgeInfo(edge, (info) =>
    crypto.hkdfSha256(ikm, salt, info, lanes * laneBytes + EXPORTER_BYTES),
  )
  ikm.fill(0)
  // Views: who zeroes the keys zeroes these bytes.
  const cut = (spi: number, lane: number, at: number): TrafficKey => {
    const [from, to] = [at * laneBytes, (at + 1) * laneBytes]
    return { lane, spi, key: okm.subarray(from, from + keyBytes), salt: okm.subarray(from + keyBytes, to) }
  }
  return {
    toResponder: spisToResponder.map((spi, lane) => cut(spi, lane, lane)),
    toInitiator: spisToInitiator.map((spi, lane) => cut(spi, lane, spisToResponder.length + lane)),
    exporter: okm.slice(lanes * laneBytes),
  }
}

/** What the keys are for. At most 16 lanes and ids of 64 characters: it stays below 1,024 bytes. */
const withEdgeInfo = <A>(edge: EdgeEpoch, use: (info: Uint8Array) => A): A =>
  withFields(
    labels.edgeKeys,
    [
      edge.suite,
      edge.workflowDigest,
      edge.instance,
      edge.epoch.term,
      edge.epoch.n,
      edge.initiator,
      edge.responder,
      edge.spisToResponder,
      edge.spisToInitiator,
    ],
    use,
  )

/** The second half of the run: from the results to the keys of an edge. */
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js"
import { AttestationResult, Challenge } from "../../../schemas/messages/attestation.ts"
import { Order } from "../../../schemas/messages/order.ts"
import { Ack, Leave, Pull, Release, ReleasePayload } from "../../../schemas/messages/release.ts"
import { Withdrawal } from "../../../schemas/messages/withdrawal.ts"
import { decode, encode, type MessageSchema } from "../../../services/common/codec/index.ts"
import { native as crypto } from "../../../services/common/crypto/index.ts"
import { sign } from "../../../services/make/envelope.ts"
import { MakeError } from "../../../services/make/errors.ts"
import { dhkemX25519, keySchedule } from "../../../services/make/hpke.ts"
import { deriveEdgeKeys, type EdgeEpoch, pairSecret, resultPairDigest } from "../../../services/make/keys.ts"
import { labels, type SignatureLabel } from "../../../services/make/labels.ts"
import { buildTree, hashLeaf } from "../../../services/make/merkle.ts"
import { joinPaths } from "../../../services/make/multi-proof.ts"
import {
  type ReleaseHeader,
  renewalDigest,
  sealRelease,
  stateDigest,
} from "../../../services/make/release.ts"
import { type PeerBatch, peerBatches, vouchPeers, vouchResult } from "../../../services/make/result.ts"
import { type SuiteId, suites } from "../../../services/make/suites.ts"
import { encodeFields } from "../../../services/make/transcript.ts"
import { xwing } from "../../../services/make/xwing.ts"
import { keysOf, nonces, resultOf, results, workflow } from "./attestation.ts"
import { domain, drawn, session, term, type Vectors, vector, withCoins } from "./inputs.ts"

const proofs = (size: number, sets: Readonly<Record<string, ReadonlyArray<number>>>) => {
  const leaves = Array.from({ length: size }, (_, i) => drawn(`leaf ${i}`))
  const tree = buildTree(crypto, leaves)
  const paths = (of: ReadonlyArray<number>) => of.map((index) => tree.inclusion(index))
  const found = Object.entries(sets).map(([name, of]) => [name, joinPaths(size, paths(of))])
  const hashes = leaves.map((leaf) => hashLeaf(crypto, leaf))
  return vector("proofs", { hashes, sets }, { root: tree.root, ...Object.fromEntries(found) })
}

const verifiers = results.slice(0, 1).map(({ batch }) => batch.key)
const decodeResult = (body: Uint8Array): AttestationResult => {
  const decoded = decode(AttestationResult, body, { subject: "result" })
  if (!decoded.ok) throw decoded.error
  return decoded.value
}
const batchOf = (...nodes: ReadonlyArray<string>): PeerBatch => {
  const vouched = results.map((signed) => vouchResult(crypto, verifiers, signed, decodeResult))
  const named = vouched.filter(({ claims }) => nodes.includes(claims.node))
  // Each was verified by itself: the batch of the first stands for all.
  const together = named.map((one) => ({ ...one, signed: { ...one.signed, batch: named[0]?.signed.batch } }))
  const [batch] = peerBatches(together as typeof named)
  if (batch === undefined) throw new Error("no such peers")
  return batch
}

const isBelieved = (scope: { domain: string; workflow: Uint8Array }, batch: PeerBatch): boolean => {
  try {
    return vouchPeers(crypto, verifiers, scope, batch).length === batch.peers.length
  } catch (error) {
    if (error instanceof MakeError) return false
    throw error
  }
}

const flipped = (bytes: Uint8Array): Uint8Array => bytes.with(-1, (bytes.at(-1) ?? 0) ^ 1)
const peers = (batches: Readonly<Record<string, PeerBatch>>, change: { readonly domain?: string } = {}) => {
  const scope = { domain, workflow, ...change }
  const found = Object.entries(batches).map(([name, batch]) => [name, isBelieved(scope, batch)])
  return vector("peers", { scope: { ...scope, verifiers }, batches }, Object.fromEntries(found))
}
const peersVector = () => {
  const all = batchOf("source", "relay", "sink")
  const two = batchOf("relay", "sink")
  const one = batchOf("sink")
  const of = (
    change: (peer: PeerBatch["peers"][number]) => Partial<PeerBatch["peers"][number]>,
  ): PeerBatch => ({
    ...two,
    peers: two.peers.map((peer, i) => (i === 0 ? { ...peer, ...change(peer) } : peer)),
  })
  return peers({
    all,
    two,
    one,
    "another proof": { ...one, proof: flipped(one.proof) },
    "a hash less": { ...one, proof: new Uint8Array(0) },
    "a hash more": { ...all, proof: drawn("a hash") },
    "another size": { ...all, size: 4 },
    "another order": { ...two, peers: two.peers.toReversed() },
    "another key": of(({ dh_key }) => ({ dh_key: flipped(dh_key) })),
    "another node": of(() => ({ node: "source" })),
    "another result": of(({ result }) => ({ result: flipped(result) })),
    "another index": of(() => ({ index: 0 })),
    "another verifier": { ...all, key: drawn("another verifier") },
    "another signature": { ...all, signature: flipped(all.signature) },
  })
}

const signed = <S extends MessageSchema>(
  message: string,
  schema: S,
  label: SignatureLabel,
  secret: Uint8Array,
  fields: S["Type"],
) => {
  const { body, signature } = sign(crypto, label, crypto.ed25519.fromSecret(secret), encode(schema, fields))
  return vector("signed-message", { message, secret, body: fields as object }, { body, signature })
}

const header = (node: string, suite: SuiteId): ReleaseHeader => ({
  domain,
  workflow,
  node,
  session: session(node),
  releaser: "r1",
  term,
  sequence: 2n,
  nonce: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 9, ...drawn("request", 24)),
  suite,
})
const payload: ReleasePayload = {
  v: 1,
  lease_ms: 30_000,
  batches: [batchOf("relay", "sink")].map((batch) => ({ ...batch, peers: [...batch.peers] })),
  edges: [
    {
      instance: "raw:source:relay",
      term,
      epoch: 3n,
      state: "install",
      peer: "relay",
      inbound: [256, 65_536],
      outbound: [4_294_967_295, 1_000],
      secret: drawn("release secret"),
    },
    {
      instance: "raw:source:relay",
      term,
      epoch: 2n,
      state: "active",
      peer: "relay",
      inbound: [300, 301],
      outbound: [302, 303],
    },
  ],
  ended: [{ instance: "packed:source:sink", term: term - 1n }],
}

const sealFor = (node: string, suite: SuiteId) => {
  const { dh, kem } = keysOf(node)
  const recipient = { dhKey: dh.publicKey, kemKey: kem.publicKey, result: resultOf(node) }
  const outer = header(node, suite)
  const packed = encode(ReleasePayload, payload)
  const sealed = sealRelease(withCoins(suite), recipient, outer, packed)
  return { ...outer, v: 1 as const, ...sealed }
}

/** What is named of a payload that lasts, and the name of the release that names it. */
const renewal = (node: string) => {
  const outer = header(node, "xwing-chacha20-poly1305")
  const edges = payload.edges.filter(({ state }) => state === "active")
  const packed = encode(ReleasePayload, { v: 1, lease_ms: 30_000, batches: [], edges })
  const state = stateDigest(crypto, outer, resultOf(node), packed)
  return vector(
    "renewal",
    { header: { ...outer }, result: resultOf(node), packed },
    { state, digest: renewalDigest(crypto, outer, state) },
  )
}

/** What the seal's own code makes on the way, held against what was sealed by opening it under these. */
const releaseVector = (node: string, suite: SuiteId) => {
  const release = sealFor(node, suite)
  const { dh, kem, seed } = keysOf(node)
  const isHybrid = suites[suite].kemKeyBytes > 0
  const info = encodeFields(labels.releaseSeal, suite, workflow, node, session(node), resultOf(node))
  const { domain: d, workflow: w, session: s, releaser, sequence, nonce } = release
  const aad = encodeFields(labels.releaseHeader, d, w, node, s, releaser, term, sequence, nonce, suite)
  const shared = isHybrid
    ? xwing(crypto).decapsulate(release.enc, { kem, dh })
    : dhkemX25519(crypto).decapsulate(release.enc, dh)
  const { key, baseNonce } = keySchedule(crypto, suites[suite].seal.kem, shared, info)
  const opened = crypto.chacha20poly1305.open(key, baseNonce, release.ciphertext, aad)
  const own = isHybrid
    ? { seed, mlkem_secret: crypto.mlkem768.decapsulate(release.enc.subarray(0, 1_088), kem) }
    : { dh_secret: crypto.shake256(seed, 96).subarray(64) }
  return vector(
    "release",
    { ...own, result: resultOf(node), release },
    { info, aad, shared_secret: shared, key, base_nonce: baseNonce, payload: opened },
  )
}

const xwingKey = (node: string) => {
  const { seed, kem, dh } = keysOf(node)
  const expanded = crypto.shake256(seed, 96)
  const [d, z, x] = [expanded.slice(0, 32), expanded.slice(32, 64), expanded.slice(64)]
  // The halves of the key are those of the expansion.
  const { publicKey } = ml_kem768.keygen(expanded.subarray(0, 64))
  if (!crypto.equalConstantTime(publicKey, kem.publicKey)) throw new Error("another ML-KEM key")
  return vector("xwing-key", { seed }, { d, z, x, dh_key: dh.publicKey })
}

const edgeKeys = (change: Partial<EdgeEpoch> = {}) => {
  const edge: EdgeEpoch = {
    suite: "xwing-chacha20-poly1305",
    workflowDigest: workflow,
    instance: "raw:source:relay",
    epoch: { term, n: 3n },
    initiator: "source",
    responder: "relay",
    initiatorResult: resultOf("source"),
    responderResult: resultOf("relay"),
    spisToResponder: [4_294_967_295, 1_000],
    spisToInitiator: [256, 65_536],
    ...change,
  }
  const [initiator, responder] = [keysOf("source"), keysOf("relay")]
  const secret = drawn("release secret")
  const shared = pairSecret(crypto, initiator.dh, responder.dh.publicKey)
  const { toResponder, toInitiator, exporter } = deriveEdgeKeys(crypto, edge, shared, secret)
  const keys = (lanes: typeof toResponder) => lanes.map(({ key, salt }) => ({ key, salt }))
  const { suite, instance, epoch, spisToResponder, spisToInitiator } = edge
  const names = [suite, workflow, instance, epoch.term, epoch.n, edge.initiator, edge.responder] as const
  return vector(
    "edge-keys",
    {
      suite,
      workflow,
      edge: "raw",
      initiator: edge.initiator,
      responder: edge.responder,
      ...epoch,
      own_dh_secret: crypto.shake256(responder.seed, 96).subarray(64),
      peer_dh_key: initiator.dh.publicKey,
      release_secret: secret,
      initiator_result: edge.initiatorResult,
      responder_result: edge.responderResult,
      spis_to_responder: spisToResponder,
      spis_to_initiator: spisToInitiator,
    },
    {
      ikm: Buffer.concat([shared, secret]),
      salt: resultPairDigest(crypto, edge.initiatorResult, edge.responderResult),
      info: encodeFields(labels.edgeKeys, ...names, spisToResponder, spisToInitiator),
      to_responder: keys(toResponder),
      to_initiator: keys(toInitiator),
      exporter,
    },
  )
}

const signedVectors = (): Vectors => {
  const node = "source"
  const { signing, kem } = keysOf(node)
  const { verifier_nonce, beacon } = nonces(node)
  const at = { v: 1, node, session: session(node) } as const
  const [result] = results
  if (result === undefined) throw new Error("no result")
  const releaser = drawn("releaser")
  const verifier = drawn("verifier")
  const credential = { blob: drawn("blob", 40), secret: drawn("encrypted secret", 50) }
  const asked = { v: 1, domain, node, session: session(node), verifier: "v1" } as const
  const challenge = { ...asked, verifier_nonce, beacon, workflow, credential }
  const { nonce } = header(node, "chacha20-poly1305")
  const pull = { ...at, nonce, result: { ...result, path: [...result.path] }, kem_key: kem.publicKey }
  const held = { instance: "raw:source:relay", term, epoch: 3n, state: "install" as const }
  const exporter = drawn("exporter", 16)
  const ack = { ...at, term, sequence: 2n, boot_ns: 2n ** 53n + 1n, edges: [{ ...held, exporter }] }
  const order = { v: 1, domain, order: "rotate", edge: "raw", issued_ms: 1_790_000_000_000 } as const
  const back = { node, session: session(node), result: resultOf(node), beacon }
  const withdrawal = { v: 1, domain, workflow, verifier: "v1", sequence: 7n } as const
  const code = { code: "ASK_REVOKED", field: "genuine" }
  return {
    challenge: signed("challenge", Challenge, labels.signedChallenge, verifier, challenge),
    request: signed("pull", Pull, labels.signedPull, signing, pull),
    release: signed(
      "release",
      Release,
      labels.signedRelease,
      releaser,
      sealFor("relay", "chacha20-poly1305"),
    ),
    acknowledgement: signed("ack", Ack, labels.signedAck, signing, ack),
    leave: signed("leave", Leave, labels.signedLeave, signing, at),
    order: signed("order", Order, labels.signedOrder, drawn("operator"), {
      ...order,
      nonce: drawn("order"),
    }),
    withdrawal: signed("withdrawal", Withdrawal, labels.signedWithdrawal, verifier, {
      ...withdrawal,
      results: [
        { ...back, ...code },
        { node: "relay", session: session("relay"), ...code },
      ],
    }),
  }
}

export const releaseVectors = (): Vectors => ({
  "proofs of one leaf": proofs(1, { all: [0] }),
  "proofs of six leaves": proofs(6, {
    first: [0],
    last: [5],
    "odd pair": [1, 4],
    "all but one": [0, 1, 2, 4, 5],
  }),
  "proofs of eleven leaves": proofs(11, {
    ends: [0, 10],
    "odd last": [10],
    spread: [2, 3, 7],
    right: [8, 9, 10],
    all: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  }),
  peers: peersVector(),
  "peers in another domain": peers({ all: batchOf("source", "relay", "sink") }, { domain: "bank" }),
  ...Object.fromEntries(Object.entries(signedVectors()).map(([name, one]) => [`signed ${name}`, one])),
  "key of X-Wing": xwingKey("source"),
  "release by X-Wing": releaseVector("source", "xwing-chacha20-poly1305"),
  "release by X25519": releaseVector("source", "chacha20-poly1305"),
  "renewal by name": renewal("source"),
  "payload of both": vector(
    "read",
    { message: "release-payload", packed: encode(ReleasePayload, payload) },
    { message: payload },
  ),
  "keys of an edge": edgeKeys(),
  "keys of an edge with other lanes": edgeKeys({ spisToResponder: [256], spisToInitiator: [257, 258, 259] }),
})

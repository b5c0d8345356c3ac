/**
 * Releases and their acknowledgements: what they say, and how one is sealed to a node. A release is the node's full
 * desired state. Field names are those of the messages.
 */
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { expectBytes, MakeError } from "./errors.ts"
import {
  dhkemX25519,
  type Encapsulated,
  KEM_X25519_HKDF_SHA256,
  open,
  type Sealed,
  sealUnder,
  withUsableKey,
} from "./hpke.ts"
import { labels } from "./labels.ts"
import type { PeerBatch } from "./result.ts"
import { isSuiteId, type SuiteId, suites } from "./suites.ts"
import { digest, encodeFields } from "./transcript.ts"
import { KEM_XWING, xwing, xwingPublicKey } from "./xwing.ts"

/** What stands outside the seal, and is bound by it. */
export interface ReleaseHeader {
  readonly domain: string
  /** Digest, 32 bytes. */
  readonly workflow: Uint8Array
  readonly node: string
  /** 16 bytes. */
  readonly session: Uint8Array
  readonly releaser: string
  readonly term: bigint
  /** Rises with each release of the term to the session. */
  readonly sequence: bigint
  /** Of the request that this answers. */
  readonly nonce: Uint8Array
  readonly suite: string
}

/**
 * `install`: both directions are put into the kernel, nothing is sent under them yet. `active`: both ends have confirmed
 * that they hold the same keys; sending switches. `retire`: only what is still on its way is received.
 */
export type EdgeState = "install" | "active" | "retire"

/** One epoch of one edge, for one of its ends. */
export interface EdgeRelease {
  readonly instance: string
  readonly term: bigint
  readonly epoch: bigint
  readonly state: EdgeState
  readonly peer: string
  /** Per lane: the indices that this node receives under, and those that the peer does. */
  readonly inbound: ReadonlyArray<number>
  readonly outbound: ReadonlyArray<number>
  /** Only with `install`, and until the node has confirmed: keys are derived then or never. 32 bytes. */
  readonly secret?: Uint8Array
}

export interface ReleasePayload {
  readonly lease_ms: number
  /** What verifiers signed of each peer that an epoch to install needs: each once. */
  readonly batches: ReadonlyArray<PeerBatch>
  /** Of what isn't here, and of this term, nothing may stay. */
  readonly edges: ReadonlyArray<EdgeRelease>
  /** Of terms before: by edge, up to which nothing may stay either. Absent: nothing is known to be bad. */
  readonly ended?: ReadonlyArray<EndedEdge>
}

/** All epochs of the edge up to and with this term are to end. */
export interface EndedEdge {
  readonly instance: string
  readonly term: bigint
}

export interface OpenedRelease {
  readonly header: ReleaseHeader
  /** See `releaseDigest`, `renewalDigest`. */
  readonly digest: Uint8Array
  readonly payload: ReleasePayload
  /** See `stateDigest`: by this name the releaser may say the payload again. Only of one that lasts. */
  readonly state?: Uint8Array
}

export interface AckEdge {
  readonly instance: string
  readonly term: bigint
  readonly epoch: bigint
  readonly state: "install" | "active"
  /** 16 bytes; zeros for keys that the kernel holds but this loader never saw. */
  readonly exporter: Uint8Array
}

/** What a node holds of what the release with that sequence told it to hold. What is missing here is not there. */
export interface Ack {
  readonly node: string
  readonly session: Uint8Array
  readonly term: bigint
  readonly sequence: bigint
  /** What the node's boot clock showed after it had taken the release; ns. */
  readonly boot_ns?: bigint
  readonly edges: ReadonlyArray<AckEdge>
}

/** Epochs of one edge that a release may name: a new one, the one in use, one in its grace time. */
export const GENERATIONS_MAX = 3

/** A node's public keys as its Attestation Result vouches for them. */
export interface RecipientKeys {
  readonly dhKey: Uint8Array
  /** ML-KEM-768; looked at only where the suite has use for it. */
  readonly kemKey: Uint8Array
}

/** What opens for them. */
export interface RecipientSecrets {
  readonly dhSecret: SecretKey
  readonly kemSecret: SecretKey
}

export interface Recipient extends RecipientKeys {
  /** Digest of that result: a release made for another appraisal of the same node doesn't open. */
  readonly result: Uint8Array
  /** For these keys and the suite of the workflow; the first release to them uses it. */
  readonly ahead?: Ahead
}

/** HPKE's info: what kind of thing is sealed, to whom, on the strength of which result. */
const sealInfo = (header: ReleaseHeader, result: Uint8Array): Uint8Array => {
  expectBytes("result", result, 32)
  return encodeFields(labels.releaseSeal, header.suite, header.workflow, header.node, header.session, result)
}

/** HPKE's aad: every field of the header. */
const headerBytes = (header: ReleaseHeader): Uint8Array =>
  encodeFields(
    labels.releaseHeader,
    header.domain,
    header.workflow,
    header.node,
    header.session,
    header.releaser,
    header.term,
    header.sequence,
    header.nonce,
    header.suite,
  )

const expectSuite = (suite: string): SuiteId => {
  if (!isSuiteId(suite)) throw new MakeError("MALFORMED", "suite", "is not a suite of this version")
  return suite
}

const isHybrid = (suite: SuiteId): boolean => suites[suite].kemKeyBytes > 0

const hybridKey = (suite: SuiteId, { kemKey, dhKey }: RecipientKeys): Uint8Array => {
  expectBytes("kemKey", kemKey, suites[suite].kemKeyBytes)
  expectBytes("dhKey", dhKey, 32)
  return xwingPublicKey(kemKey, dhKey)
}

const encapsulate = (crypto: Crypto, suite: SuiteId, keys: RecipientKeys): Encapsulated =>
  withUsableKey("keys", () =>
    isHybrid(suite)
      ? xwing(crypto).encapsulate(hybridKey(suite, keys))
      : dhkemX25519(crypto).encapsulate(keys.dhKey),
  )

/** Made ahead for one release to a node: a second one under the same secret would use a key and nonce twice. */
export class Ahead {
  #made: Encapsulated | undefined

  /** @throws MakeError as `expectSealable` */
  constructor(crypto: Crypto, suite: SuiteId, keys: RecipientKeys) {
    this.#made = encapsulate(crypto, suite, keys)
  }

  /** Once; then undefined. */
  take(): Encapsulated | undefined {
    const made = this.#made
    this.#made = undefined
    return made
  }

  /** Nothing will be sealed under it. */
  wipe(): void {
    this.take()?.sharedSecret.fill(0)
  }
}

/**
 * Whether releases of the suite can be sealed to these keys: tried, since that is the only test that cannot differ from
 * the sealing itself.
 * @throws MakeError MALFORMED for wrong lengths, KEY for a key that the suite's KEM refuses
 */
export const expectSealable = (crypto: Crypto, suite: SuiteId, keys: RecipientKeys): void =>
  new Ahead(crypto, suite, keys).wipe()

/**
 * @param payload the packed ReleasePayload
 * @throws MakeError as `expectSealable`
 */
export const sealRelease = (
  crypto: Crypto,
  recipient: Recipient,
  header: ReleaseHeader,
  payload: Uint8Array,
): Sealed => {
  const suite = expectSuite(header.suite)
  const info = sealInfo(header, recipient.result)
  const aad = headerBytes(header)
  const made = recipient.ahead?.take() ?? encapsulate(crypto, suite, recipient)
  return sealUnder(crypto, isHybrid(suite) ? KEM_XWING : KEM_X25519_HKDF_SHA256, made, info, aad, payload)
}

/** What a node knows by itself when it opens a release. */
export interface Opener extends RecipientSecrets {
  /** Of the workflow that the node has verified: the bus has no say in it. */
  readonly suite: string
  /** Digest of the result that vouches for its keys. */
  readonly result: Uint8Array
}

/**
 * @returns the packed ReleasePayload
 * @throws MakeError MISDIRECTED for another suite than the workflow's; NOT_AUTHENTIC when key, result or any byte of the
 *   header differ from what it was sealed for
 */
export const openRelease = (
  crypto: Crypto,
  own: Opener,
  header: ReleaseHeader,
  sealed: Sealed,
): Uint8Array => {
  const suite = expectSuite(header.suite)
  if (suite !== own.suite)
    throw new MakeError("MISDIRECTED", "suite", "is not the one that the workflow names")
  const { dhSecret, kemSecret, result } = own
  const info = sealInfo(header, result)
  const aad = headerBytes(header)
  return isHybrid(suite)
    ? open(crypto, xwing(crypto), { kem: kemSecret, dh: dhSecret }, info, aad, sealed)
    : open(crypto, dhkemX25519(crypto), dhSecret, info, aad, sealed)
}

/**
 * Whether a payload may be named when it is said again: nothing in it is to be installed, and nothing else is to happen but
 * once. So no release secret is behind a name, and no name can put a key anywhere.
 */
export const isLasting = ({ batches, edges, ended }: ReleasePayload): boolean =>
  ended === undefined &&
  batches.length === 0 &&
  edges.every(({ state, secret }) => state !== "install" && secret === undefined)

/**
 * The name of a payload that lasts: of the desired state of one node, in one session, of one releaser's term.
 * @param result digest of the node's result, 32 bytes
 * @param packed the payload as it was sealed
 */
export const stateDigest = (
  crypto: Crypto,
  { domain, workflow, node, session, releaser, term }: ReleaseHeader,
  result: Uint8Array,
  packed: Uint8Array,
): Uint8Array => {
  expectBytes("result", result, 32)
  return digest(crypto, labels.releaseState, domain, workflow, node, session, releaser, term, result, packed)
}

/** As `releaseDigest`, of a release that names its payload. */
export const renewalDigest = (crypto: Crypto, header: ReleaseHeader, state: Uint8Array): Uint8Array =>
  digest(crypto, labels.releaseNamed, headerBytes(header), state)

/** Tells two releases with one sequence number apart. @param packed the payload as it was sealed */
export const releaseDigest = (crypto: Crypto, header: ReleaseHeader, packed: Uint8Array): Uint8Array =>
  digest(crypto, labels.releasePacked, headerBytes(header), packed)

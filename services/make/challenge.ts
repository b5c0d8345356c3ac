/**
 * Challenges. V joins a nonce of the verifier instance with the newest beacon of the releaser, so that each of them can
 * tell on its own clock how old the answer may be. A challenge lives once, for one session of one node, at one instance.
 */
import { limits } from "../../schemas/limits.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { expectBytes, MakeError } from "./errors.ts"
import { labels } from "./labels.ts"
import { digest } from "./transcript.ts"

/** V, 32 bytes: SHA-256(label, verifier's nonce, releaser's beacon). */
export const challengeValue = (crypto: Crypto, verifierNonce: Uint8Array, beacon: Uint8Array): Uint8Array => {
  expectBytes("verifierNonce", verifierNonce, 32)
  expectBytes("beacon", beacon, 32)
  return digest(crypto, labels.challenge, verifierNonce, beacon)
}

export interface Challenge {
  readonly nodeId: string
  readonly session: Uint8Array
  readonly verifierNonce: Uint8Array
  readonly beacon: Uint8Array
  /** V. */
  readonly value: Uint8Array
}

/** A verifier instance's outstanding challenges: at most one per node, the newest; never more than limits.nodes. */
export class ChallengeBook {
  readonly #crypto: Crypto
  readonly #live = new Map<string, Challenge & { readonly untilMs: number }>()

  constructor(crypto: Crypto) {
    this.#crypto = crypto
  }

  get size(): number {
    return this.#live.size
  }

  /**
   * @param nowMs the instance's own monotonic clock
   * @throws MakeError LIMIT when too many nodes have a challenge outstanding
   */
  issue(nodeId: string, session: Uint8Array, beacon: Uint8Array, nowMs: number): Challenge {
    expectBytes("session", session, 16)
    this.expire(nowMs)
    if (!this.#live.has(nodeId) && this.#live.size >= limits.nodes)
      throw new MakeError("LIMIT", "challenges", `more than ${limits.nodes} outstanding`)
    const verifierNonce = this.#crypto.randomBytes(32)
    const value = challengeValue(this.#crypto, verifierNonce, beacon)
    const challenge = { nodeId, session, verifierNonce, beacon, value }
    this.#live.set(nodeId, { ...challenge, untilMs: nowMs + limits.challengeMs })
    return challenge
  }

  /**
   * Takes the challenge that an answer names. A right name uses it up, whatever becomes of the answer; a wrong one
   * doesn't, or anybody could use up another's.
   * @throws MakeError STALE when none is outstanding for this node and session, or its time is over
   */
  take(nodeId: string, session: Uint8Array, verifierNonce: Uint8Array, nowMs: number): Challenge {
    const challenge = this.use(nodeId, verifierNonce, nowMs)
    this.expectSession(challenge, session)
    return challenge
  }

  /** As `take`, for who hasn't read the session yet: `expectSession` must follow. */
  use(nodeId: string, verifierNonce: Uint8Array, nowMs: number): Challenge {
    const challenge = this.#live.get(nodeId)
    if (challenge === undefined || !this.#crypto.equalConstantTime(challenge.verifierNonce, verifierNonce))
      throw new MakeError("STALE", "challenge", "is not outstanding for this node")
    this.#live.delete(nodeId)
    if (nowMs >= challenge.untilMs)
      throw new MakeError("STALE", "challenge", `is older than ${limits.challengeMs} ms`)
    return challenge
  }

  /** @throws MakeError STALE */
  expectSession(challenge: Challenge, session: Uint8Array): void {
    if (!this.#crypto.equalConstantTime(challenge.session, session))
      throw new MakeError("STALE", "session", "is not the one that was challenged")
  }

  expire(nowMs: number): void {
    for (const [nodeId, { untilMs }] of this.#live) if (nowMs >= untilMs) this.#live.delete(nodeId)
  }
}

/** The releaser's side: which beacons of this term it issued, and when by its own clock. */
export class BeaconBook {
  readonly #crypto: Crypto
  #issued: Array<{ readonly beacon: Uint8Array; readonly atMs: number }> = []

  constructor(crypto: Crypto) {
    this.#crypto = crypto
  }

  /** The beacon to publish now; a new one every limits.beaconEveryMs. */
  current(nowMs: number): Uint8Array {
    const newest = this.#issued.at(-1)
    if (newest !== undefined && nowMs - newest.atMs < limits.beaconEveryMs) return newest.beacon
    const beacon = this.#crypto.randomBytes(32)
    this.#issued = this.#issued.filter(({ atMs }) => nowMs - atMs < limits.beaconMs)
    this.#issued.push({ beacon, atMs: nowMs })
    return beacon
  }

  /**
   * @returns when the beacon was issued: nothing that contains it is older than that
   * @throws MakeError STALE for one that this releaser didn't issue in this term, or that is too old
   */
  issuedAt(beacon: Uint8Array, nowMs: number): number {
    const known = this.knownAt(beacon, nowMs)
    if (known === undefined)
      throw new MakeError("STALE", "beacon", `was not issued here within ${limits.beaconMs} ms`)
    return known
  }

  /** As `issuedAt`; undefined for any other. */
  knownAt(beacon: Uint8Array, nowMs: number): number | undefined {
    const known = this.#issued.find((each) => this.#crypto.equalConstantTime(each.beacon, beacon))
    return known === undefined || nowMs - known.atMs >= limits.beaconMs ? undefined : known.atMs
  }
}

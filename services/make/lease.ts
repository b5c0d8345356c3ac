/**
 * Leases. A node asks with a fresh nonce at t0 of its own boot clock (CLOCK_BOOTTIME, which goes on in suspend); whatever
 * answers that nonce is good until t0 + duration, however late it arrives. So a bus that hoards answers has hoarded
 * nothing: each of them was dying since it was asked for.
 */
import { limits } from "../../schemas/limits.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { expectBytes, MakeError } from "./errors.ts"

const NS_PER_MS = 1_000_000n
const NONCE_BYTES = 32
const REMEMBERED = 8

/** A request's nonce: a u64 (big-endian) that rises within the session, then 24 random bytes. */
export const nonceCounter = (nonce: Uint8Array): bigint => {
  expectBytes("nonce", nonce, NONCE_BYTES)
  return new DataView(nonce.buffer, nonce.byteOffset, nonce.byteLength).getBigUint64(0)
}

/**
 * @returns when the lease is over, in ns of the boot clock
 * @throws MakeError LIMIT for a duration that isn't 1..limits.leaseMsMax whole ms: refused, not trimmed
 */
export const leaseDeadline = (requestedBootNs: bigint, durationMs: number): bigint => {
  if (!Number.isInteger(durationMs) || durationMs < 1 || durationMs > limits.leaseMsMax)
    throw new MakeError("LIMIT", "lease_ms", `must be 1..${limits.leaseMsMax}`)
  return requestedBootNs + BigInt(durationMs) * NS_PER_MS
}

/** A node's standing request: the newest nonce is the only one that gets an answer, as often as the releaser likes. */
export class StandingRequest {
  readonly #crypto: Crypto
  #counter = 0n
  #newest: { readonly nonce: Uint8Array; readonly bootNs: bigint } | undefined
  #superseded: ReadonlyArray<Uint8Array> = []

  constructor(crypto: Crypto) {
    this.#crypto = crypto
  }

  /** Makes the nonce of a new request at t0 = `nowBootNs`; from now on nothing else is an answer. */
  ask(nowBootNs: bigint): Uint8Array {
    if (this.#newest !== undefined)
      this.#superseded = [this.#newest.nonce, ...this.#superseded].slice(0, REMEMBERED)
    this.#counter += 1n
    const nonce = this.#crypto.randomBytes(NONCE_BYTES)
    new DataView(nonce.buffer, nonce.byteOffset).setBigUint64(0, this.#counter)
    this.#newest = { nonce, bootNs: nowBootNs }
    return nonce
  }

  /**
   * @returns t0 of the request that `nonce` belongs to
   * @throws MakeError STALE for an older request's nonce, and for one that was never asked with
   */
  answeredBy(nonce: Uint8Array): bigint {
    if (this.#newest !== undefined && this.#crypto.equalConstantTime(this.#newest.nonce, nonce))
      return this.#newest.bootNs
    const older = this.#superseded.some((each) => this.#crypto.equalConstantTime(each, nonce))
    throw new MakeError("STALE", "nonce", older ? "answers an older request" : "was never asked with")
  }
}

/**
 * The results that nodes' requests were accepted with. Each request brings the whole result; as a rule the one of the last,
 * which is not verified again.
 */
import { AttestationResult } from "../../schemas/messages/attestation.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { decodeBody } from "../guest/refusals.ts"
import { KnownBatches, type SignedResult, type VouchedResult, vouchResult } from "../make/result.ts"

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/** To the last byte: what was verified of one holds for the other. */
const isSame = (a: SignedResult, b: SignedResult): boolean =>
  same(a.body, b.body) &&
  same(a.subject, b.subject) &&
  a.index === b.index &&
  a.batch.size === b.batch.size &&
  same(a.batch.key, b.batch.key) &&
  same(a.batch.root, b.batch.root) &&
  same(a.batch.signature, b.batch.signature) &&
  a.path.length === b.path.length &&
  a.path.every((step, i) => same(step, b.path[i] ?? new Uint8Array(0)))

export class KnownResults {
  readonly #crypto: Crypto
  readonly #batches: KnownBatches
  /** By node, those that the core has accepted: no more than the workflow has nodes. */
  readonly #accepted = new Map<string, VouchedResult>()

  constructor(crypto: Crypto) {
    this.#crypto = crypto
    this.#batches = new KnownBatches(crypto)
  }

  /**
   * @param keys the verifiers that are believed now
   * @throws MakeError NOT_AUTHENTIC when none of them signed it; MALFORMED, NOT_VOUCHED: see `vouchResult`
   */
  vouch(keys: ReadonlyArray<Uint8Array>, node: string, signed: SignedResult): VouchedResult {
    const known = this.#accepted.get(node)
    const believed = keys.some((key) => this.#crypto.equalConstantTime(key, signed.batch.key))
    if (known !== undefined && believed && isSame(known.signed, signed)) return known
    const decode = (bytes: Uint8Array) => decodeBody(AttestationResult, bytes, "result")
    return vouchResult(this.#crypto, keys, signed, decode, this.#batches)
  }

  accepted(result: VouchedResult): void {
    this.#accepted.set(result.claims.node, result)
  }

  /** What the node signs with; undefined without a result. */
  signingKey(node: string): Uint8Array | undefined {
    return this.#accepted.get(node)?.claims.signing_key
  }

  forget(node: string): void {
    this.#accepted.delete(node)
  }
}

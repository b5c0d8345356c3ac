/** Attestation Results as relying parties hold them: signed by a verifier they know, named by a digest. */
import type { Crypto } from "../common/crypto/port.ts"
import { type Signed, verify } from "./envelope.ts"
import { expectBytes, MakeError } from "./errors.ts"
import { labels } from "./labels.ts"
import { digest } from "./transcript.ts"

/** What of a result's body decides; named as in the message. */
export interface ResultClaims {
  readonly domain: string
  readonly workflow: Uint8Array
  readonly node: string
  readonly session: Uint8Array
  readonly stage: string
  readonly chip: Uint8Array
  readonly boot: Uint8Array
  readonly signing_key: Uint8Array
  readonly dh_key: Uint8Array
  /** See `kemKeyDigest`: peers have no use for the key itself, which is large. */
  readonly kem_key_digest: Uint8Array
  readonly beacon: Uint8Array
}

declare const vouched: unique symbol

/** Only `vouchResult` makes these. */
export interface VouchedResult {
  readonly [vouched]: true
  readonly claims: ResultClaims
  /** SHA-256(label, signed body), 32 bytes: what traffic keys rest on. */
  readonly digest: Uint8Array
  readonly signed: Signed
}

/** Of the body that the verifier signed. */
export const resultDigest = (crypto: Crypto, body: Uint8Array): Uint8Array =>
  digest(crypto, labels.resultDigest, body)

/** Of a node's ML-KEM-768 key, or of none (no bytes). 32 bytes. */
export const kemKeyDigest = (crypto: Crypto, kemKey: Uint8Array): Uint8Array =>
  digest(crypto, labels.kemKeyDigest, kemKey)

/**
 * @param verifierKeys those that accepted control-plane Evidence binds
 * @param decode from body to claims; throws its own errors
 * @throws MakeError NOT_AUTHENTIC when no such verifier signed it
 */
export const vouchResult = (
  crypto: Crypto,
  verifierKeys: ReadonlyArray<Uint8Array>,
  signed: Signed,
  decode: (body: Uint8Array) => ResultClaims,
): VouchedResult => {
  const body = verify(crypto, labels.signedResult, verifierKeys, signed)
  const claims = decode(body)
  expectBytes("result.dh_key", claims.dh_key, 32)
  expectBytes("result.signing_key", claims.signing_key, 32)
  expectBytes("result.kem_key_digest", claims.kem_key_digest, 32)
  return { claims, digest: resultDigest(crypto, body), signed } as VouchedResult
}

/** @throws MakeError NOT_VOUCHED unless the result speaks of this node of this workflow. */
export const expectResultOf = (
  crypto: Crypto,
  field: string,
  { claims }: VouchedResult,
  wanted: { readonly domain: string; readonly workflow: Uint8Array; readonly node: string },
): void => {
  if (claims.domain !== wanted.domain)
    throw new MakeError("NOT_VOUCHED", `${field}.domain`, "is another domain's")
  if (!crypto.equalConstantTime(claims.workflow, wanted.workflow))
    throw new MakeError("NOT_VOUCHED", `${field}.workflow`, "was appraised against another workflow")
  if (claims.node !== wanted.node) throw new MakeError("NOT_VOUCHED", `${field}.node`, "is another node's")
}

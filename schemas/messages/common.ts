import { Schema } from "effect"
import { bytesMax, list, Signature, SigningKey, Token, text, Version } from "../fields.ts"
import { limits } from "../limits.ts"

/** Bytes and their Ed25519 signature. The body is verified as it is and only then decoded. */
export const Signed = Schema.Struct({
  v: Version,
  key: SigningKey,
  body: bytesMax(limits.messageBytes),
  signature: Signature,
})
export type Signed = typeof Signed.Type

/** Why a service says no: a code for programs, the field that was wrong, a sentence for people. */
export const Refusal = Schema.Struct({
  v: Version,
  kind: Schema.Literal("refused"),
  by: Token,
  code: Schema.String.check(Schema.isPattern(/^[A-Z][A-Z0-9_]{1,63}$/)),
  field: text(128),
  message: text(512),
})
export type Refusal = typeof Refusal.Type

/** Evidence (RFC 9334): an attestation report and the certificates that end at its signing key, leaf first, in DER. */
export const Evidence = Schema.Struct({
  kind: Schema.Literal("snp"),
  report: bytesMax(4_096),
  certificates: list(bytesMax(limits.certificateBytes), limits.certificatesPerChain),
})
export type Evidence = typeof Evidence.Type

/** One check of an appraisal, as results, events and screens carry it. */
export const Check = Schema.Struct({
  name: text(64),
  result: Schema.Literals(["passed", "failed", "not-applicable"]),
  found: text(256),
  wanted: text(512),
})
export type Check = typeof Check.Type

/** Every check of one appraisal, in its order. */
export const Checks = list(Check, 64)
export type Checks = typeof Checks.Type

export const Assurance = Schema.Literals(["hardware", "tpm-only", "emulated"])
export type Assurance = typeof Assurance.Type

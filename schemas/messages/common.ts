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

/** DER, leaf first. */
const certificates = (most: number) => list(bytesMax(limits.certificateBytes), most)
const log = Schema.optionalKey(bytesMax(limits.evidenceBytes))

/** AMD SEV-SNP: ATTESTATION_REPORT, and VCEK or VLEK, ASK or ASVK, ARK. */
export const SnpPiece = Schema.Struct({
  kind: Schema.Literal("snp"),
  report: bytesMax(4_096),
  certificates: certificates(limits.certificatesPerChain),
})
export type SnpPiece = typeof SnpPiece.Type

/** Intel TDX: a quote; PCK, CA and root only where the quote doesn't hold them itself; the CCEL without its padding. */
export const TdxPiece = Schema.Struct({
  kind: Schema.Literal("tdx"),
  quote: bytesMax(32_768),
  certificates: certificates(limits.certificatesPerChain),
  event_log: log,
})
export type TdxPiece = typeof TdxPiece.Type

/** One register as it was when the quote was made. */
export const PcrValue = Schema.Struct({
  bank: Schema.Literals(["sha256", "sha384", "sha512"]),
  index: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 23 })),
  value: bytesMax(64),
})
export type PcrValue = typeof PcrValue.Type

/** TPM 2.0: a quote, the key that made it, what binds that key to a machine, and what led to the registers. */
export const TpmPiece = Schema.Struct({
  kind: Schema.Literal("tpm"),
  /** TPMS_ATTEST. Its extraData: `tpmExtraData` in `services/evidence/appraisal/report-data.ts`. */
  attest: bytesMax(1_024),
  /** TPMT_SIGNATURE, or an RSA signature alone. */
  signature: bytesMax(1_024),
  /** TPMT_PUBLIC, TPM2B_PUBLIC, or SubjectPublicKeyInfo in DER. */
  ak: bytesMax(1_024),
  /** Of the attestation key, leaf first, where an issuer certified it; else empty. */
  certificates: certificates(limits.certificatesPerChain + 1),
  /** Azure: the paravisor's blob, whose runtime data names the key and is hashed in the hardware's report. */
  hcl_report: Schema.optionalKey(bytesMax(8_192)),
  pcrs: list(PcrValue, 72),
  /** The firmware's TCG log, and IMA's measurement list. */
  boot_log: log,
  ima_log: log,
})
export type TpmPiece = typeof TpmPiece.Type

/** AWS Nitro: an attestation document whose user data is the report data. */
export const NitroPiece = Schema.Struct({
  kind: Schema.Literal("nitro"),
  document: bytesMax(16_384),
})
export type NitroPiece = typeof NitroPiece.Type

export const Piece = Schema.Union([SnpPiece, TdxPiece, TpmPiece, NitroPiece])
export type Piece = typeof Piece.Type

const bytesIn = (value: unknown): number => {
  if (value instanceof Uint8Array) return value.length
  if (typeof value !== "object" || value === null) return 0
  return Object.values(value).reduce((sum: number, inner) => sum + bytesIn(inner), 0)
}

/** Evidence (RFC 9334): one or several pieces of one machine, all over the same report data; all bytes of them bounded. */
export const Evidence = Schema.Struct({
  pieces: list(Piece, 4)
    .check(Schema.isMinLength(1))
    .check(
      Schema.makeFilter<readonly Piece[]>(
        (pieces) => {
          const bytes = bytesIn(pieces)
          return bytes <= limits.evidenceBytes
            ? undefined
            : `at most ${limits.evidenceBytes} bytes in all, not ${bytes}`
        },
        {
          representation: { id: "vouchsafe/bytes-in-all", payload: { maximum: limits.evidenceBytes } },
        },
      ),
    ),
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
export const Checks = list(Check, 96)
export type Checks = typeof Checks.Type

export { Assurance } from "../platforms.ts"

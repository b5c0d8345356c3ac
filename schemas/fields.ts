/** The building blocks of every message: each has a bound, so that no decoded value is larger than its meaning needs. */
import { Schema } from "effect"
import { limits } from "./limits.ts"

/** One subject token: node ids, instances, identities. Also what keeps wildcards and line breaks out of subjects. */
export const TOKEN = /^[A-Za-z0-9_-]{1,64}$/
export const Token = Schema.String.check(Schema.isPattern(TOKEN))

/** An edge instance: `edge:from:to`, three tokens. */
export const InstanceId = Schema.String.check(
  Schema.isPattern(/^[A-Za-z0-9_-]{1,64}(:[A-Za-z0-9_-]{1,64}){2}$/),
)

export const text = (charactersMax: number) => Schema.String.check(Schema.isMaxLength(charactersMax))

/** Bounds of byte fields, kept where the generator of JSON Schema finds them. */
const length = (minimum: number, maximum: number) => ({
  representation: { id: "vouchsafe/bytes", payload: { minimum, maximum } },
})
const ofLength = (wanted: number) =>
  Schema.makeFilter<Uint8Array>(
    (b) => (b.length === wanted ? undefined : `${wanted} bytes, not ${b.length}`),
    length(wanted, wanted),
  )
const upTo = (most: number) =>
  Schema.makeFilter<Uint8Array>(
    (b) => (b.length <= most ? undefined : `at most ${most} bytes, not ${b.length}`),
    length(0, most),
  )

/** Exactly `length` bytes. */
export const bytes = (length: number) => Schema.Uint8Array.check(ofLength(length))
/** At most `length` bytes. */
export const bytesMax = (length: number) => Schema.Uint8Array.check(upTo(length))

export const Nonce = bytes(32)
export const Digest = bytes(32)
export const Session = bytes(16)
export const BootId = bytes(16)
export const SigningKey = bytes(32)
export const DhKey = bytes(32)
/** ML-KEM-768's 1,184 bytes; empty where only the classical suite is offered. */
export const KemKey = Schema.Uint8Array.check(
  Schema.makeFilter(
    (b) => (b.length === 0 || b.length === 1_184 ? undefined : `0 or 1184 bytes, not ${b.length}`),
    length(0, 1_184),
  ),
)
/** SHA-384 of the programs found in the kernel, and of a launched guest. */
export const Measurement = bytes(48)
/** SNP: 64 bytes; TDX: 16; TPM: SHA-256 of the attestation key; Nitro: the module id in UTF-8. */
export const ChipId = Schema.Uint8Array.check(
  Schema.makeFilter(
    (b) => (b.length >= 1 && b.length <= 64 ? undefined : `1 to 64 bytes, not ${b.length}`),
    length(1, 64),
  ),
)
export const Signature = bytes(64)

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))
export const U16 = between(0, 0xffff)
export const U32 = between(0, 0xffff_ffff)
/** Whole numbers that JavaScript holds exactly: counters, milliseconds. */
export const Count = between(0, Number.MAX_SAFE_INTEGER)
export const U64 = Schema.BigInt.check(
  Schema.isBetweenBigInt({ minimum: 0n, maximum: 0xffff_ffff_ffff_ffffn }),
)
/** A security parameter index; values below 256 are reserved (RFC 4303, section 2.1). */
export const Spi = between(256, 0xffff_ffff)

export const Version = Schema.Literal(1)
export const LeaseMs = between(1, limits.leaseMsMax)

export const list = <S extends Schema.Constraint>(of: S, most: number) =>
  Schema.Array(of).check(Schema.isMaxLength(most))

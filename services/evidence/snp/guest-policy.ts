/** The two 64-bit fields of flags in a report: what the guest's owner allowed, and what the platform is. */

/** Guest policy (AMD 56860, table 9). */
export interface GuestPolicy {
  readonly raw: bigint
  readonly abiMajor: number
  readonly abiMinor: number
  readonly smt: boolean
  readonly migrationAgent: boolean
  readonly debug: boolean
  readonly singleSocket: boolean
  readonly cxl: boolean
  readonly aes256Xts: boolean
  readonly raplDisabled: boolean
  readonly ciphertextHiding: boolean
  readonly pageSwapDisabled: boolean
}

/** Bit 17 must be one, and bits 26 and up zero. */
export const policyMustBeOne = 1n << 17n
export const policyMustBeZero = ~((1n << 26n) - 1n) & 0xffff_ffff_ffff_ffffn

const bit = (raw: bigint, n: number): boolean => ((raw >> BigInt(n)) & 1n) === 1n

export const decodeGuestPolicy = (raw: bigint): GuestPolicy => ({
  raw,
  abiMinor: Number(raw & 0xffn),
  abiMajor: Number((raw >> 8n) & 0xffn),
  smt: bit(raw, 16),
  migrationAgent: bit(raw, 18),
  debug: bit(raw, 19),
  singleSocket: bit(raw, 20),
  cxl: bit(raw, 21),
  aes256Xts: bit(raw, 22),
  raplDisabled: bit(raw, 23),
  ciphertextHiding: bit(raw, 24),
  pageSwapDisabled: bit(raw, 25),
})

export interface GuestPolicyBits {
  readonly abiMajor?: number
  readonly abiMinor?: number
  readonly smt?: boolean
  readonly migrationAgent?: boolean
  readonly debug?: boolean
  readonly singleSocket?: boolean
}

/** The policy field for a guest to be launched with; bit 17 is set as it must be. */
export const encodeGuestPolicy = (bits: GuestPolicyBits): bigint =>
  policyMustBeOne |
  BigInt((bits.abiMinor ?? 0) & 0xff) |
  (BigInt((bits.abiMajor ?? 0) & 0xff) << 8n) |
  (bits.smt ? 1n << 16n : 0n) |
  (bits.migrationAgent ? 1n << 18n : 0n) |
  (bits.debug ? 1n << 19n : 0n) |
  (bits.singleSocket ? 1n << 20n : 0n)

/** PLATFORM_INFO (AMD 56860, table 24). What later firmware may add is kept in `unknown`, for the appraisal to judge. */
export interface PlatformInfo {
  readonly raw: bigint
  readonly smtEnabled: boolean
  readonly tsmeEnabled: boolean
  readonly eccEnabled: boolean
  readonly raplDisabled: boolean
  readonly ciphertextHidingEnabled: boolean
  readonly aliasCheckComplete: boolean
  /** Bit 6, set on Turin by recent firmware. */
  readonly iommuWriteSafe: boolean
  readonly tioEnabled: boolean
  readonly unknown: bigint
}

export const decodePlatformInfo = (raw: bigint): PlatformInfo => ({
  raw,
  smtEnabled: bit(raw, 0),
  tsmeEnabled: bit(raw, 1),
  eccEnabled: bit(raw, 2),
  raplDisabled: bit(raw, 3),
  ciphertextHidingEnabled: bit(raw, 4),
  aliasCheckComplete: bit(raw, 5),
  iommuWriteSafe: bit(raw, 6),
  tioEnabled: bit(raw, 7),
  unknown: raw & ~0xffn,
})

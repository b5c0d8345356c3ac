/**
 * AMD's ATTESTATION_REPORT (SEV Secure Nested Paging Firmware ABI, publication 56860, table 23): 1,184 bytes,
 * little-endian. Versions 2, 3, 4 and 5; 3 added CPUID, 5 the mitigation vectors. Of version 4 AMD has published nothing,
 * and no sample is public. Who has met it reads it as version 3, but that on Turin it fills the bytes of version 5's
 * mitigation vectors: so they are read there too, and anything else that it may add makes a reserved byte non-zero.
 */
import { toHex } from "../text.ts"
import { SnpError } from "./error.ts"
import {
  decodeGuestPolicy,
  decodePlatformInfo,
  type GuestPolicy,
  type PlatformInfo,
  policyMustBeOne,
  policyMustBeZero,
} from "./guest-policy.ts"
import type { Cpuid } from "./product.ts"

export const reportBytes = 1_184
/** The signature covers what stands before it. */
export const signedBytes = 0x2a0

/** Where each field begins. */
export const at = {
  version: 0x000,
  guestSvn: 0x004,
  policy: 0x008,
  familyId: 0x010,
  imageId: 0x020,
  vmpl: 0x030,
  signatureAlgorithm: 0x034,
  currentTcb: 0x038,
  platformInfo: 0x040,
  signer: 0x048,
  reportData: 0x050,
  measurement: 0x090,
  hostData: 0x0c0,
  idKeyDigest: 0x0e0,
  authorKeyDigest: 0x110,
  reportId: 0x140,
  reportIdMa: 0x160,
  reportedTcb: 0x180,
  cpuid: 0x188,
  chipId: 0x1a0,
  committedTcb: 0x1e0,
  currentFirmware: 0x1e8,
  committedFirmware: 0x1ec,
  launchTcb: 0x1f0,
  launchMitigations: 0x1f8,
  currentMitigations: 0x200,
  signatureR: 0x2a0,
  signatureS: 0x2e8,
} as const

/** r and s have 72 bytes each in the report; P-384 fills 48. */
export const signatureComponentBytes = 72

export type SigningKeyKind = "VCEK" | "VLEK"

export interface Firmware {
  readonly major: number
  readonly minor: number
  readonly build: number
}

/** Every field of a report. TCBs are the raw 8 bytes: which byte means what depends on the product. */
export interface SnpReport {
  readonly version: 2 | 3 | 4 | 5
  readonly guestSvn: number
  readonly policy: GuestPolicy
  readonly familyId: Uint8Array
  readonly imageId: Uint8Array
  readonly vmpl: number
  readonly currentTcb: Uint8Array
  readonly platformInfo: PlatformInfo
  readonly authorKeyEnabled: boolean
  readonly maskChipKey: boolean
  readonly signingKey: SigningKeyKind
  readonly reportData: Uint8Array
  readonly measurement: Uint8Array
  readonly hostData: Uint8Array
  readonly idKeyDigest: Uint8Array
  readonly authorKeyDigest: Uint8Array
  readonly reportId: Uint8Array
  readonly reportIdMa: Uint8Array
  readonly reportedTcb: Uint8Array
  /** From version 3 on. */
  readonly cpuid?: Cpuid
  readonly chipId: Uint8Array
  readonly committedTcb: Uint8Array
  readonly currentFirmware: Firmware
  readonly committedFirmware: Firmware
  readonly launchTcb: Uint8Array
  /** From version 4 on. */
  readonly launchMitigations?: bigint
  readonly currentMitigations?: bigint
  /** r || s, big-endian, 96 bytes. */
  readonly signature: Uint8Array
  /** The bytes that were signed. */
  readonly signed: Uint8Array
}

/**
 * @param bytes the report, exactly 1,184 bytes
 * @throws SnpError REPORT_LENGTH, REPORT_VERSION, REPORT_RESERVED, REPORT_VALUE, REPORT_BY_HOST, REPORT_UNSIGNED
 */
export const parseReport = (bytes: Uint8Array): SnpReport => {
  if (bytes.length !== reportBytes)
    throw new SnpError("REPORT_LENGTH", "report", `${bytes.length} bytes`, `${reportBytes} bytes`)
  const own = Uint8Array.from(bytes)
  const view = new DataView(own.buffer)
  const take = (offset: number, length: number): Uint8Array => own.slice(offset, offset + length)
  const u32 = (offset: number): number => view.getUint32(offset, true)
  const u64 = (offset: number): bigint => view.getBigUint64(offset, true)

  const version = parseVersion(u32(at.version))
  expectZeros(own, version)
  const firmware = (offset: number): Firmware => ({
    build: view.getUint8(offset),
    minor: view.getUint8(offset + 1),
    major: view.getUint8(offset + 2),
  })

  return {
    version,
    guestSvn: u32(at.guestSvn),
    policy: parsePolicy(u64(at.policy)),
    familyId: take(at.familyId, 16),
    imageId: take(at.imageId, 16),
    vmpl: parseVmpl(u32(at.vmpl)),
    currentTcb: take(at.currentTcb, 8),
    platformInfo: decodePlatformInfo(u64(at.platformInfo)),
    ...parseSigner(u32(at.signer), u32(at.signatureAlgorithm)),
    reportData: take(at.reportData, 64),
    measurement: take(at.measurement, 48),
    hostData: take(at.hostData, 32),
    idKeyDigest: take(at.idKeyDigest, 48),
    authorKeyDigest: take(at.authorKeyDigest, 48),
    reportId: take(at.reportId, 32),
    reportIdMa: take(at.reportIdMa, 32),
    reportedTcb: take(at.reportedTcb, 8),
    ...(version >= 3 && {
      cpuid: {
        family: view.getUint8(at.cpuid),
        model: view.getUint8(at.cpuid + 1),
        stepping: view.getUint8(at.cpuid + 2),
      },
    }),
    chipId: take(at.chipId, 64),
    committedTcb: take(at.committedTcb, 8),
    currentFirmware: firmware(at.currentFirmware),
    committedFirmware: firmware(at.committedFirmware),
    launchTcb: take(at.launchTcb, 8),
    ...(version >= 4 && {
      launchMitigations: u64(at.launchMitigations),
      currentMitigations: u64(at.currentMitigations),
    }),
    signature: parseSignature(own),
    signed: take(0, signedBytes),
  }
}

const parseVersion = (version: number): SnpReport["version"] => {
  if (version === 2 || version === 3 || version === 4 || version === 5) return version
  throw new SnpError("REPORT_VERSION", "report.version", `${version}`, "2, 3, 4 or 5")
}

/** Reserved ranges, ends exclusive, that are zero in every version we read. */
const reservedAlways: readonly (readonly [number, number])[] = [
  [0x04c, 0x050],
  [0x18b, 0x1a0],
  [0x1eb, 0x1ec],
  [0x1ef, 0x1f0],
  [0x208, 0x2a0],
  [0x330, reportBytes],
]

const expectZeros = (bytes: Uint8Array, version: number): void => {
  const ranges = [...reservedAlways]
  if (version < 3) ranges.push([at.cpuid, at.cpuid + 3])
  if (version < 4) ranges.push([at.launchMitigations, at.currentMitigations + 8])
  for (const [from, to] of ranges)
    for (let i = from; i < to; i++)
      if (bytes[i] !== 0)
        throw new SnpError(
          "REPORT_RESERVED",
          `report[0x${i.toString(16)}]`,
          `0x${bytes[i]?.toString(16)}`,
          `zero: reserved in version ${version}`,
        )
}

const parsePolicy = (raw: bigint): GuestPolicy => {
  if ((raw & policyMustBeOne) === 0n || (raw & policyMustBeZero) !== 0n)
    throw new SnpError(
      "REPORT_RESERVED",
      "report.policy",
      `0x${raw.toString(16)}`,
      "bit 17 set, bits 26 to 63 clear",
    )
  return decodeGuestPolicy(raw)
}

const parseVmpl = (vmpl: number): number => {
  if (vmpl === 0xffff_ffff)
    throw new SnpError("REPORT_BY_HOST", "report.vmpl", "0xffffffff", "a report that the guest asked for")
  if (vmpl > 3) throw new SnpError("REPORT_VALUE", "report.vmpl", `${vmpl}`, "0 to 3")
  return vmpl
}

const parseSigner = (signer: number, algorithm: number) => {
  if (signer >>> 5 !== 0)
    throw new SnpError("REPORT_RESERVED", "report.signer", `0x${signer.toString(16)}`, "bits 5 to 31 clear")
  const key = (signer >>> 2) & 7
  if (key === 7) throw new SnpError("REPORT_UNSIGNED", "report.signer", "no key", "VCEK or VLEK")
  if (key > 1) throw new SnpError("REPORT_VALUE", "report.signer", `key ${key}`, "0 (VCEK) or 1 (VLEK)")
  if (algorithm !== 1)
    throw new SnpError(
      "REPORT_VALUE",
      "report.signatureAlgorithm",
      `${algorithm}`,
      "1 (ECDSA P-384, SHA-384)",
    )
  const signingKey: SigningKeyKind = key === 0 ? "VCEK" : "VLEK"
  return { authorKeyEnabled: (signer & 1) !== 0, maskChipKey: (signer & 2) !== 0, signingKey }
}

/** From two little-endian numbers of 72 bytes to r || s, big-endian, 48 bytes each. */
const parseSignature = (bytes: Uint8Array): Uint8Array => {
  const signature = new Uint8Array(96)
  for (const [i, offset] of [at.signatureR, at.signatureS].entries()) {
    const component = bytes.slice(offset, offset + signatureComponentBytes).reverse()
    const excess = component.subarray(0, signatureComponentBytes - 48)
    if (excess.some((byte) => byte !== 0))
      throw new SnpError("REPORT_VALUE", "report.signature", toHex(component), "numbers of at most 48 bytes")
    signature.set(component.subarray(excess.length), i * 48)
  }
  return signature
}

/**
 * What a quote says of a trust domain: Intel's TD report body (TDX DCAP Quoting Library API, appendix 3), version 1.0
 * with 584 bytes, or 1.5 with 64 more. Numbers are little-endian.
 */

export type TdReportVersion = "1.0" | "1.5"

export const tdReportBytes: Readonly<Record<TdReportVersion, number>> = { "1.0": 584, "1.5": 648 }

/** Where each field begins. */
export const bodyAt = {
  teeTcbSvn: 0,
  mrSeam: 16,
  mrSignerSeam: 64,
  seamAttributes: 112,
  tdAttributes: 120,
  xfam: 128,
  mrTd: 136,
  mrConfigId: 184,
  mrOwner: 232,
  mrOwnerConfig: 280,
  rtmrs: 328,
  reportData: 520,
  teeTcbSvn2: 584,
  mrServiceTd: 600,
} as const

export interface TdReport {
  readonly version: TdReportVersion
  /** Security versions of the TDX module (byte 0), its major version (1), microcode (2) and others, when the TD was built. */
  readonly teeTcbSvn: Uint8Array
  readonly mrSeam: Uint8Array
  readonly mrSignerSeam: Uint8Array
  readonly seamAttributes: Uint8Array
  readonly tdAttributes: TdAttributes
  readonly xfam: Xfam
  readonly mrTd: Uint8Array
  readonly mrConfigId: Uint8Array
  readonly mrOwner: Uint8Array
  readonly mrOwnerConfig: Uint8Array
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array]
  readonly reportData: Uint8Array
  /** 1.5 only: the same versions as `teeTcbSvn`, of now. */
  readonly teeTcbSvn2?: Uint8Array
  /** 1.5 only: the service TDs that are bound to this one. */
  readonly mrServiceTd?: Uint8Array
}

/** ATTRIBUTES (TDX Module 1.5 ABI, TD_ATTRIBUTES). Bit 0 gives the host access to all of the TD. */
export interface TdAttributes {
  readonly raw: bigint
  readonly debug: boolean
  readonly lass: boolean
  /** The host can't turn accesses to pages that aren't there into exceptions inside of the TD. */
  readonly septVeDisable: boolean
  readonly migratable: boolean
  readonly pks: boolean
  readonly keyLocker: boolean
  readonly tpa: boolean
  readonly perfmon: boolean
  /** Set bits that have none of the meanings above. */
  readonly unknown: bigint
}

const attributeBit = {
  debug: 0n,
  lass: 27n,
  septVeDisable: 28n,
  migratable: 29n,
  pks: 30n,
  keyLocker: 31n,
  tpa: 62n,
  perfmon: 63n,
} as const

const bit = (raw: bigint, at: bigint): boolean => ((raw >> at) & 1n) === 1n

const withoutBits = (raw: bigint, known: readonly bigint[]): bigint =>
  known.reduce((rest, at) => rest & ~(1n << at), raw)

const decodeTdAttributes = (raw: bigint): TdAttributes => ({
  raw,
  debug: bit(raw, attributeBit.debug),
  lass: bit(raw, attributeBit.lass),
  septVeDisable: bit(raw, attributeBit.septVeDisable),
  migratable: bit(raw, attributeBit.migratable),
  pks: bit(raw, attributeBit.pks),
  keyLocker: bit(raw, attributeBit.keyLocker),
  tpa: bit(raw, attributeBit.tpa),
  perfmon: bit(raw, attributeBit.perfmon),
  unknown: withoutBits(raw, Object.values(attributeBit)),
})

/** XFAM: which parts of the extended processor state the TD may use, by the bits of XCR0 and IA32_XSS. */
export interface Xfam {
  readonly raw: bigint
  /** Names of the set bits that are known: `x87`, `sse`, `avx`, ... */
  readonly features: readonly string[]
  readonly unknown: bigint
}

const xfamBits: readonly (readonly [name: string, bits: readonly bigint[]])[] = [
  ["x87", [0n]],
  ["sse", [1n]],
  ["avx", [2n]],
  ["avx512", [5n, 6n, 7n]],
  ["pt", [8n]],
  ["pkru", [9n]],
  ["pasid", [10n]],
  ["cet", [11n, 12n]],
  ["hdc", [13n]],
  ["uintr", [14n]],
  ["lbr", [15n]],
  ["hwp", [16n]],
  ["amx", [17n, 18n]],
]

const decodeXfam = (raw: bigint): Xfam => ({
  raw,
  features: xfamBits.filter(([, bits]) => bits.some((at) => bit(raw, at))).map(([name]) => name),
  unknown: withoutBits(
    raw,
    xfamBits.flatMap(([, bits]) => bits),
  ),
})

/** @param body exactly as many bytes as `tdReportBytes` says */
export const decodeTdReport = (version: TdReportVersion, body: Uint8Array): TdReport => {
  const view = new DataView(body.buffer, body.byteOffset, body.length)
  const take = (at: number, length: number): Uint8Array => body.slice(at, at + length)
  const register = (i: number): Uint8Array => take(bodyAt.rtmrs + 48 * i, 48)
  return {
    version,
    teeTcbSvn: take(bodyAt.teeTcbSvn, 16),
    mrSeam: take(bodyAt.mrSeam, 48),
    mrSignerSeam: take(bodyAt.mrSignerSeam, 48),
    seamAttributes: take(bodyAt.seamAttributes, 8),
    tdAttributes: decodeTdAttributes(view.getBigUint64(bodyAt.tdAttributes, true)),
    xfam: decodeXfam(view.getBigUint64(bodyAt.xfam, true)),
    mrTd: take(bodyAt.mrTd, 48),
    mrConfigId: take(bodyAt.mrConfigId, 48),
    mrOwner: take(bodyAt.mrOwner, 48),
    mrOwnerConfig: take(bodyAt.mrOwnerConfig, 48),
    rtmrs: [register(0), register(1), register(2), register(3)],
    reportData: take(bodyAt.reportData, 64),
    ...(version === "1.5" && {
      teeTcbSvn2: take(bodyAt.teeTcbSvn2, 16),
      mrServiceTd: take(bodyAt.mrServiceTd, 48),
    }),
  }
}

/**
 * AMD's product lines as attestation knows them: each has a root of its own, a layout of TCB_VERSION and a length of the
 * hardware id. Bergamo and Siena are endorsed as Genoa.
 */
import { toHex } from "../text.ts"
import { SnpError } from "./error.ts"

export type SnpProduct = "Milan" | "Genoa" | "Turin"

/** The security version numbers of a platform's parts, 0..255 each. `fmc` exists from Turin on. */
export interface Tcb {
  readonly fmc?: number
  readonly bootloader: number
  readonly tee: number
  readonly snp: number
  readonly microcode: number
}

/** A part of TCB_VERSION, or the extension of a certificate for a byte that is reserved. */
export type TcbPart = keyof Tcb | "spl4" | "spl5" | "spl6" | "spl7"

interface ProductFacts {
  /** What stands in each of the eight bytes of TCB_VERSION (AMD 56860, table 3). */
  readonly tcbLayout: readonly TcbPart[]
  /** Bytes of CHIP_ID that the certificate's HWID covers; the others are zero. */
  readonly hardwareIdBytes: number
  /** structVersion in VCEK and VLEK certificates (AMD 57230). */
  readonly certificateVersion: number
  /** CPUID family, and lowest and highest model of each range, extended parts included. */
  readonly family: number
  readonly models: readonly (readonly [number, number])[]
}

const layoutUntilGenoa: readonly TcbPart[] = [
  "bootloader",
  "tee",
  "spl4",
  "spl5",
  "spl6",
  "spl7",
  "snp",
  "microcode",
]
const layoutFromTurin: readonly TcbPart[] = [
  "fmc",
  "bootloader",
  "tee",
  "snp",
  "spl5",
  "spl6",
  "spl7",
  "microcode",
]

export const products: Readonly<Record<SnpProduct, ProductFacts>> = {
  Milan: {
    tcbLayout: layoutUntilGenoa,
    hardwareIdBytes: 64,
    certificateVersion: 0,
    family: 0x19,
    models: [[0x00, 0x0f]],
  },
  Genoa: {
    tcbLayout: layoutUntilGenoa,
    hardwareIdBytes: 64,
    certificateVersion: 0,
    family: 0x19,
    models: [
      [0x10, 0x1f],
      [0xa0, 0xaf],
    ],
  },
  Turin: {
    tcbLayout: layoutFromTurin,
    hardwareIdBytes: 8,
    certificateVersion: 1,
    family: 0x1a,
    models: [[0x00, 0x1f]],
  },
}

export const productNames = ["Milan", "Genoa", "Turin"] as const satisfies readonly SnpProduct[]

export interface Cpuid {
  readonly family: number
  readonly model: number
  readonly stepping: number
}

export const productOfCpuid = (cpuid: Cpuid): SnpProduct | undefined =>
  productNames.find((name) => {
    const { family, models } = products[name]
    return family === cpuid.family && models.some(([low, high]) => low <= cpuid.model && cpuid.model <= high)
  })

/**
 * The parts of a TCB_VERSION of 8 bytes.
 * @throws SnpError REPORT_RESERVED when a reserved byte isn't zero.
 */
export const decodeTcb = (product: SnpProduct, raw: Uint8Array, field: string): Tcb => {
  const parts: Partial<Record<TcbPart, number>> = {}
  products[product].tcbLayout.forEach((part, i) => {
    const value = raw[i] ?? 0
    if (part.startsWith("spl") && value !== 0)
      throw new SnpError("REPORT_RESERVED", field, toHex(raw), `zero in byte ${i} on ${product}`)
    parts[part] = value
  })
  const { bootloader = 0, tee = 0, snp = 0, microcode = 0, fmc } = parts
  return fmc === undefined ? { bootloader, tee, snp, microcode } : { fmc, bootloader, tee, snp, microcode }
}

/** The 8 bytes of TCB_VERSION from its parts; those not given are zero. */
export const encodeTcb = (product: SnpProduct, parts: Partial<Record<TcbPart, number>>): Uint8Array =>
  Uint8Array.from(products[product].tcbLayout, (part) => parts[part] ?? 0)

/** For people: the parts in a fixed order. */
export const describeTcb = (tcb: Tcb): string =>
  (["fmc", "bootloader", "tee", "snp", "microcode"] as const)
    .filter((part) => tcb[part] !== undefined)
    .map((part) => `${part} ${tcb[part]}`)
    .join(", ")

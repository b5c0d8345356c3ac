/**
 * The state in which a virtual processor of an SNP guest begins: its save area (AMD64 Architecture Programmer's Manual,
 * volume 2, table B-4), as KVM and the VMM above it fill it in.
 */
import { pageBytes } from "./snp-firmware.ts"

/** Who started the guest. EC2's and GCE's own VMMs fill in other values than QEMU. */
export const vmms = ["qemu", "ec2", "gce"] as const
export type Vmm = (typeof vmms)[number]

/** Family, model and stepping of QEMU's processor models (`-cpu`). */
const models = {
  EPYC: [23, 1, 2],
  "EPYC-v1": [23, 1, 2],
  "EPYC-v2": [23, 1, 2],
  "EPYC-v3": [23, 1, 2],
  "EPYC-v4": [23, 1, 2],
  "EPYC-v5": [23, 1, 2],
  "EPYC-IBPB": [23, 1, 2],
  "EPYC-Rome": [23, 49, 0],
  "EPYC-Rome-v1": [23, 49, 0],
  "EPYC-Rome-v2": [23, 49, 0],
  "EPYC-Rome-v3": [23, 49, 0],
  "EPYC-Rome-v4": [23, 49, 0],
  "EPYC-Rome-v5": [23, 49, 0],
  "EPYC-Milan": [25, 1, 1],
  "EPYC-Milan-v1": [25, 1, 1],
  "EPYC-Milan-v2": [25, 1, 1],
  "EPYC-Milan-v3": [25, 1, 1],
  "EPYC-Genoa": [25, 17, 0],
  "EPYC-Genoa-v1": [25, 17, 0],
  "EPYC-Genoa-v2": [25, 17, 0],
  "EPYC-Turin": [26, 0, 0],
  "EPYC-Turin-v1": [26, 0, 0],
} as const satisfies Record<string, readonly [number, number, number]>

export const vcpuTypes: readonly string[] = Object.keys(models)

/**
 * EAX of CPUID 1: family above 15 in bits 20 to 27, model in 4 to 7 and 16 to 19, stepping in 0 to 3 (AMD's CPUID
 * Specification, publication 25481).
 * @param type a name of `vcpuTypes`, or numbers for another processor (`-cpu host`): `25.17.1`
 * @returns undefined for anything else
 */
export const vcpuSignature = (type: string): number | undefined => {
  const numbers = Object.hasOwn(models, type) ? models[type as keyof typeof models] : written(type)
  if (numbers === undefined) return undefined
  const [family, model, stepping] = numbers
  const extended = Math.max(0, family - 15)
  return (
    (extended << 20) | ((model >> 4) << 16) | (Math.min(family, 15) << 8) | ((model & 15) << 4) | stepping
  )
}

const written = (type: string): readonly [number, number, number] | undefined => {
  const [, family, model, stepping] = /^(\d{1,3})\.(\d{1,3})\.(\d{1,2})$/.exec(type) ?? []
  const numbers = [Number(family), Number(model), Number(stepping)] as const
  return numbers[0] <= 270 && numbers[1] <= 255 && numbers[2] <= 15 ? numbers : undefined
}

export interface VcpuState {
  /** Where it begins, linear. */
  readonly start: number
  /** SEV_FEATURES: what the guest was started with; bit 0 is SNP itself. */
  readonly features: bigint
  /** See `vcpuSignature`; QEMU leaves it in RDX. */
  readonly signature: number
  readonly vmm: Vmm
}

/** The first processor begins where every x86 processor does. */
export const resetVector = 0xffff_fff0

const at = {
  es: 0x00,
  cs: 0x10,
  ss: 0x20,
  ds: 0x30,
  fs: 0x40,
  gs: 0x50,
  gdtr: 0x60,
  ldtr: 0x70,
  idtr: 0x80,
  tr: 0x90,
  efer: 0xd0,
  cr4: 0x148,
  cr0: 0x158,
  dr7: 0x160,
  dr6: 0x168,
  rflags: 0x170,
  rip: 0x178,
  pat: 0x268,
  rdx: 0x310,
  features: 0x3b0,
  xcr0: 0x3e8,
  mxcsr: 0x408,
  x87Control: 0x410,
} as const

/** Attributes of segments, the PAT and the registers that VMMs differ in. RDX after a reset is 0x600 by the manual. */
const ofVmm = (vmm: Vmm, start: number, signature: number) => {
  switch (vmm) {
    case "qemu":
      return {
        cs: 0x9b,
        ss: 0x93,
        tr: 0x8b,
        pat: 0x0007_0406_0007_0406n,
        rdx: signature,
        mxcsr: 0x1f80,
        x87: 0x37f,
      }
    case "ec2":
      return {
        cs: start === resetVector ? 0x9a : 0x9b,
        ss: 0x92,
        tr: 0x83,
        pat: 0x0007_0406_0007_0406n,
        rdx: 0x600,
        mxcsr: 0,
        x87: 0,
      }
    case "gce":
      return { cs: 0x9b, ss: 0x93, tr: 0x8b, pat: 0x0007_0106n, rdx: 0x600, mxcsr: 0, x87: 0 }
  }
}

/** The save area, one page. */
export const vcpuPage = ({ start, features, signature, vmm }: VcpuState): Uint8Array => {
  const page = new Uint8Array(pageBytes)
  const view = new DataView(page.buffer)
  const segment = (offset: number, selector: number, attributes: number, base = 0) => {
    view.setUint16(offset, selector, true)
    view.setUint16(offset + 2, attributes, true)
    view.setUint32(offset + 4, 0xffff, true)
    view.setBigUint64(offset + 8, BigInt(base), true)
  }
  const word = (offset: number, value: number | bigint) => view.setBigUint64(offset, BigInt(value), true)
  const own = ofVmm(vmm, start, signature)
  for (const data of [at.es, at.ds, at.fs, at.gs]) segment(data, 0, 0x93)
  segment(at.cs, 0xf000, own.cs, (start & 0xffff_0000) >>> 0)
  segment(at.ss, 0, own.ss)
  segment(at.gdtr, 0, 0)
  segment(at.idtr, 0, 0)
  segment(at.ldtr, 0, 0x82)
  segment(at.tr, 0, own.tr)
  // KVM turns on SVME in EFER and MCE in CR4.
  word(at.efer, 0x1000)
  word(at.cr4, 0x40)
  word(at.cr0, 0x10)
  word(at.dr7, 0x400)
  word(at.dr6, 0xffff_0ff0)
  word(at.rflags, 2)
  word(at.rip, start & 0xffff)
  word(at.pat, own.pat)
  word(at.rdx, own.rdx)
  word(at.features, features)
  word(at.xcr0, 1)
  view.setUint32(at.mxcsr, own.mxcsr, true)
  view.setUint16(at.x87Control, own.x87, true)
  return page
}

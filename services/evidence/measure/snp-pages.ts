/**
 * The launch digest of an SNP guest: 48 bytes that every page added at launch is hashed into (SEV Secure Nested Paging
 * Firmware ABI Specification, AMD publication 56860, 8.17 SNP_LAUNCH_UPDATE, PAGE_INFO).
 */
import { Running, zeros48 } from "./digests.ts"
import { pageBytes } from "./snp-firmware.ts"

/** PAGE_TYPE. Only the contents of normal and VMSA pages count. */
const types = { normal: 1, vmsa: 2, zero: 3, unmeasured: 4, secrets: 5, cpuid: 6 } as const

/** VMSAs have no address of the guest's: the firmware takes all ones, cut to 48 bits and to a page. */
const vmsaAddress = 0xffff_ffff_f000

const infoBytes = 0x70
const sha384 = (...parts: readonly Uint8Array[]): Uint8Array => new Running("sha384").add(...parts).end()

export class LaunchDigest {
  #value: Uint8Array

  /** @param start what pages before gave; zeros at first */
  constructor(start: Uint8Array = zeros48) {
    this.#value = Uint8Array.from(start)
  }

  get value(): Uint8Array {
    return Uint8Array.from(this.#value)
  }

  /** @param content whole pages */
  normal(address: number, content: Uint8Array): void {
    for (let at = 0; at < content.length; at += pageBytes)
      this.#add(types.normal, address + at, sha384(content.subarray(at, at + pageBytes)))
  }

  vmsa(page: Uint8Array): void {
    this.#add(types.vmsa, vmsaAddress, sha384(page))
  }

  /** Pages whose contents don't count: zeros, what the firmware fills in, and what the guest must check itself. */
  without(kind: "zero" | "unmeasured" | "secrets" | "cpuid", address: number, size: number): void {
    for (let at = 0; at < size; at += pageBytes) this.#add(types[kind], address + at, zeros48)
  }

  #add(type: number, address: number, contents: Uint8Array): void {
    const info = new Uint8Array(infoBytes)
    const view = new DataView(info.buffer)
    info.set(this.#value, 0)
    info.set(contents, 48)
    view.setUint16(96, infoBytes, true)
    view.setUint8(98, type)
    // 99 to 103: no migration image, and no rights of higher VMPLs.
    view.setBigUint64(104, BigInt(address), true)
    this.#value = sha384(info)
  }
}

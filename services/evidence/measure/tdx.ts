/** MRTD and the runtime registers of a TD, as far as they follow from files. */
import { Running } from "./digests.ts"
import { type DirectBoot, directLoadOptions, directSteps, kernelStep, stubSteps } from "./linux.ts"
import { actions, type Step, textStep } from "./steps.ts"
import { pageBytes, readTdxFirmware, type TdxSection } from "./tdx-firmware.ts"

/**
 * In which order a VMM adds pages and extends the measurement by their contents: page by page, or first all pages of a
 * section. Upstream QEMU does the former, QEMU 8.2 as Ubuntu 24.04's TDX hosts have it the latter.
 */
export const pageOrders = ["page", "section"] as const
export type PageOrder = (typeof pageOrders)[number]

const recordBytes = 128
const chunkBytes = 256

/** TDH.MEM.PAGE.ADD and TDH.MR.EXTEND hash their name and the address, then zeros (Intel TDX Module ABI, 348551). */
const record = (name: string, address: bigint): Uint8Array => {
  const bytes = Buffer.alloc(recordBytes)
  bytes.write(name, 0, "ascii")
  bytes.writeBigUInt64LE(address, 16)
  return bytes
}

/**
 * SHA-384 over one record for each page of the TD and, of sections that count, over each 256 bytes.
 * @param image the firmware, at most 64 MiB
 * @returns 48 bytes
 * @throws MeasureError FIRMWARE_LENGTH, FIRMWARE_TABLE, FIRMWARE_METADATA
 */
export const measureTdx = (image: Uint8Array, order: PageOrder = "page"): Uint8Array => {
  const hash = new Running("sha384")
  for (const section of readTdxFirmware(image)) {
    if (section.augmented) continue
    const pages = section.size / pageBytes
    for (let page = 0; page < pages; page++) {
      addPage(hash, section, page)
      if (order === "page") extendPage(hash, section, page)
    }
    for (let page = 0; order === "section" && page < pages; page++) extendPage(hash, section, page)
  }
  return hash.end()
}

const addPage = (hash: Running, { address }: TdxSection, page: number): void => {
  hash.add(record("MEM.PAGE.ADD", address + BigInt(page * pageBytes)))
}

const extendPage = (hash: Running, { address, data, extended }: TdxSection, page: number): void => {
  if (!extended) return
  for (let at = page * pageBytes; at < (page + 1) * pageBytes; at += chunkBytes) {
    const held = data.subarray(at, at + chunkBytes)
    hash.add(record("MR.EXTEND", address + BigInt(at)), held, new Uint8Array(chunkBytes - held.length))
  }
}

/**
 * RTMRs 1 and 2 of a kernel that the VMM gives to TDVF directly: RTMR 1 takes what PCRs 4 and 5 take, RTMR 2 what PCRs 8
 * to 15 take (UEFI 2.10, 38.4.1). RTMR 0 depends on the VMM's own tables and memory map and is not here.
 * @param boot initrd with a SHA-384 digest
 * @throws MeasureError IMAGE, KERNEL, MEMORY, COMMAND_LINE
 */
export const directRtmrSteps = (boot: DirectBoot): ReadonlyMap<1 | 2, readonly Step[]> =>
  new Map([
    [1, directRtmr1Steps(kernelStep("sha384", boot))],
    [2, stubSteps("sha384", directLoadOptions(boot), boot.initrd)],
  ])

export const directRtmr1Steps = (kernel: Step): readonly Step[] => [
  ...directSteps("sha384", kernel),
  textStep("sha384", actions.exitInvoked),
  textStep("sha384", actions.exitReturned),
]

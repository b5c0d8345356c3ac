/**
 * A Linux kernel that a VMM gives to its firmware directly (QEMU's -kernel): how its bytes are when the firmware sees
 * them, and what its own EFI stub measures.
 */
import { type Bank, digest } from "../eventlog/bank.ts"
import { digestIn, type FileDigests } from "./digests.ts"
import { MeasureError, refuser } from "./error.ts"
import { imageDigest, readImage } from "./pe.ts"
import { commandLineBytes } from "./snp-hashes.ts"
import { actions, type Step, separator, textStep } from "./steps.ts"

const refuse = refuser("KERNEL")

export interface QemuLoad {
  /** The guest's memory (-m), in bytes. */
  readonly memoryBytes: number
  readonly initrdBytes: number
}

/** Offsets in the setup header (Linux, Documentation/arch/x86/boot.rst). */
const header = {
  magic: 0x202,
  version: 0x206,
  loader: 0x210,
  loadFlags: 0x211,
  initrdAddress: 0x218,
  initrdBytes: 0x21c,
  heapEnd: 0x224,
  commandLine: 0x228,
  initrdMost: 0x22c,
  moreFlags: 0x236,
} as const

/** Q35 keeps memory below a hole: 2 GiB of it once there are 2.75 GiB. */
const belowHole = (memory: number): number => (memory >= 0xb000_0000 ? 0x8000_0000 : memory)
/** What QEMU leaves free at the end of low memory for ACPI tables. */
const acpiBytes = 0x28000

/**
 * The kernel as QEMU before 10.0 hands it over on a q35 machine: it fills in the setup header's loader, heap, command line
 * and where the initrd would be, and so changes what is measured with the amount of memory and the initrd's length.
 * Confidential SEV guests get the file as it is.
 * @throws MeasureError KERNEL, MEMORY
 */
export const asQemuLoads = (kernel: Uint8Array, load: QemuLoad): Uint8Array => {
  if (kernel.length < 0x238) throw refuse("kernel", `${kernel.length} bytes`, "a bzImage")
  const copy = Uint8Array.from(kernel)
  const view = new DataView(copy.buffer)
  if (view.getUint32(header.magic, true) !== 0x5372_6448)
    throw refuse("kernel.magic", "something else", "HdrS")
  const version = view.getUint16(header.version, true)
  if (version < 0x20c) throw refuse("kernel.version", version, "boot protocol 2.12 or later")
  const { memoryBytes, initrdBytes } = load
  if (!Number.isSafeInteger(memoryBytes) || memoryBytes < 0x400_0000)
    throw new MeasureError("MEMORY", "memory", `${memoryBytes} bytes`, "at least 64 MiB")
  view.setUint8(header.loader, 0xb0)
  view.setUint8(header.loadFlags, view.getUint8(header.loadFlags) | 0x80)
  view.setUint16(header.heapEnd, 0xfe00, true)
  view.setUint32(header.commandLine, 0x20000, true)
  if (initrdBytes > 0) {
    const above = (view.getUint16(header.moreFlags, true) & 2) !== 0
    const most = above ? 0xffff_ffff : view.getUint32(header.initrdMost, true)
    const free = belowHole(memoryBytes) - acpiBytes
    const address = (most >= free ? free - 1 : most) - initrdBytes
    if (address < 0) throw new MeasureError("MEMORY", "memory", `${memoryBytes} bytes`, "room for the initrd")
    view.setUint32(header.initrdAddress, (address & ~4095) >>> 0, true)
    view.setUint32(header.initrdBytes, initrdBytes, true)
  }
  return copy
}

/**
 * What a kernel with an EFI stub (6.1 and later) measures of how it was started: its load options in UTF-16 with a zero,
 * then the initrd that it loaded by LoadFile2. PCR 9, or RTMR 2.
 * @param loadOptions as the kernel gets them
 * @param initrd with a digest in `bank`; absent where there is none
 * @throws MeasureError COMMAND_LINE
 */
export const stubSteps = (bank: Bank, loadOptions: string, initrd?: FileDigests): readonly Step[] => {
  const text = Buffer.from(commandLineBytes(loadOptions)).toString("latin1")
  return [
    { what: "load options", digest: digest(bank, Buffer.from(`${text}\0`, "utf16le")) },
    ...(initrd === undefined ? [] : [{ what: "initrd", digest: digestIn(initrd, bank) }]),
  ]
}

export interface DirectBoot {
  readonly kernel: Uint8Array
  /** With a digest in the bank. */
  readonly initrd?: FileDigests
  readonly commandLine: string
  /** Given for a VMM that changes the kernel's header, see `asQemuLoads`. */
  readonly memoryBytes?: number
}

/** The kernel's own digest, as the firmware measures it. @throws MeasureError IMAGE, KERNEL, MEMORY */
export const kernelStep = (bank: Bank, boot: DirectBoot): Step => {
  const { kernel, initrd, memoryBytes } = boot
  const seen =
    memoryBytes === undefined ? kernel : asQemuLoads(kernel, { memoryBytes, initrdBytes: initrd?.bytes ?? 0 })
  return { what: "kernel", digest: imageDigest(readImage(seen, "kernel"), bank, "kernel") }
}

/** OVMF adds the name of the initrd's file, which it calls `initrd`, to the command line. */
export const directLoadOptions = ({ commandLine, initrd }: DirectBoot): string =>
  initrd === undefined ? commandLine : `${commandLine} initrd=initrd`

/** OVMF loads and measures a kernel given directly before it says that it boots something. PCR 4. */
export const directSteps = (bank: Bank, kernel: Step): readonly Step[] => [
  kernel,
  textStep(bank, actions.calling),
  separator(bank),
]

/** PCRs 4 and 9. @throws MeasureError IMAGE, KERNEL, MEMORY, COMMAND_LINE */
export const directBootSteps = (bank: Bank, boot: DirectBoot): ReadonlyMap<number, readonly Step[]> =>
  new Map([
    [4, directSteps(bank, kernelStep(bank, boot))],
    [9, stubSteps(bank, directLoadOptions(boot), boot.initrd)],
  ])

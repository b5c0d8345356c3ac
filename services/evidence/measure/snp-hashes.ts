/**
 * The table by which OVMF checks what the VMM loads beside it: SHA-256 of command line, initrd and kernel, each under a
 * GUID (QEMU, target/i386/sev.c; edk2, OvmfPkg/AmdSev/BlobVerifierLibSevHashes).
 */
import { digestIn, digestsOf, type FileDigests } from "./digests.ts"
import { MeasureError, measureLimits } from "./error.ts"
import { guidBytes } from "./guid.ts"
import { pageBytes } from "./snp-firmware.ts"

const guids = {
  table: "9438d606-4f22-4cc9-b479-a793d411fd21",
  commandLine: "97d02dd8-bd20-4c94-aa78-e7714d36ab2a",
  initrd: "44baf731-3a2f-4bd7-9af1-41e29169781d",
  kernel: "4de79437-abd2-427f-b835-d5b172d2045b",
} as const

export interface KernelLoad {
  /** With SHA-256. */
  readonly kernel: FileDigests
  /** With SHA-256. Absent counts as empty. */
  readonly initrd?: FileDigests
  readonly commandLine: string
}

/** A command line in ASCII without a zero. @throws MeasureError COMMAND_LINE */
export const commandLineBytes = (text: string): Uint8Array => {
  if (!/^[\x20-\x7e]*$/.test(text) || text.length > measureLimits.commandLineBytes)
    throw new MeasureError(
      "COMMAND_LINE",
      "commandLine",
      text.length > measureLimits.commandLineBytes ? `${text.length} characters` : "other characters",
      `at most ${measureLimits.commandLineBytes} printable characters of ASCII`,
    )
  return Uint8Array.from(Buffer.from(text, "latin1"))
}

/**
 * @param offset where in its page the table begins
 * @throws MeasureError COMMAND_LINE, FIRMWARE_SUPPORT
 */
export const kernelHashesPage = (load: KernelLoad, offset: number): Uint8Array => {
  const commandLine = Buffer.concat([commandLineBytes(load.commandLine), Uint8Array.of(0)])
  const initrd = load.initrd ?? digestsOf(new Uint8Array(0), ["sha256"])
  const entries = [
    [guids.commandLine, digestIn(digestsOf(commandLine, ["sha256"]), "sha256")],
    [guids.initrd, digestIn(initrd, "sha256")],
    [guids.kernel, digestIn(load.kernel, "sha256")],
  ] as const
  const body = entries.flatMap(([guid, digest]) => [guidBytes(guid), u16(50), digest])
  const table = Buffer.concat([guidBytes(guids.table), u16(18 + entries.length * 50), ...body])
  if (offset + table.length > pageBytes)
    throw new MeasureError(
      "FIRMWARE_SUPPORT",
      "firmware.hashesAddress",
      `${offset} bytes into its page`,
      `room for ${table.length} bytes`,
    )
  const page = new Uint8Array(pageBytes)
  page.set(table, offset)
  return page
}

const u16 = (value: number): Uint8Array => Uint8Array.of(value & 255, value >> 8)

/** The logs that the kernel of an attester keeps. */
import { open } from "node:fs/promises"
import { imaLimits, logLimits } from "../eventlog/index.ts"
import { TpmError } from "./error.ts"

export interface KernelLogs {
  /** The firmware's TCG log. */
  readonly firmware?: Uint8Array
  /** The IMA measurement list. */
  readonly ima?: Uint8Array
}

/**
 * @param directory where securityfs is mounted
 * @returns those that exist
 * @throws TpmError DEVICE_IO, or STRUCTURE_LENGTH for a log that is longer than any verifier would read
 */
export const readKernelLogs = async (directory = "/sys/kernel/security"): Promise<KernelLogs> => {
  const firmware = await readBounded(`${directory}/tpm0/binary_bios_measurements`, logLimits.bytes)
  const ima = await readBounded(`${directory}/ima/binary_runtime_measurements`, imaLimits.bytes)
  return { ...(firmware && { firmware }), ...(ima && { ima }) }
}

/** Files of securityfs say that they are empty: they are read to their end. */
const readBounded = async (path: string, most: number): Promise<Uint8Array | undefined> => {
  const parts: Uint8Array[] = []
  let length = 0
  try {
    const file = await open(path, "r")
    try {
      for await (const part of file.createReadStream({ autoClose: false })) {
        length += part.length
        if (length > most)
          throw new TpmError("STRUCTURE_LENGTH", path, `more than ${most} bytes`, `at most ${most} bytes`)
        parts.push(part)
      }
    } finally {
      await file.close()
    }
  } catch (error) {
    if (error instanceof TpmError) throw error
    const { code } = error as { code?: string }
    if (code === "ENOENT") return undefined
    throw new TpmError("DEVICE_IO", path, code ?? "an error", "a readable log")
  }
  return Uint8Array.from(Buffer.concat(parts))
}

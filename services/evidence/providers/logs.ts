/**
 * Event logs in Evidence. A log proves something only as a whole: cut short, it doesn't lead to the registers any more.
 * So one that doesn't fit is left out or refused, never trimmed.
 */
import { open } from "node:fs/promises"
import { errnoOf, ProviderError } from "./error.ts"
import { expectRoom } from "./provider.ts"

export interface LogChoice {
  /** The firmware's log. `fits`: where there is room for it. */
  readonly boot: "always" | "fits" | "never"
  /** IMA's list grows with every file that is opened first: sooner or later it no longer fits. */
  readonly ima: "always" | "never"
}

export const defaultLogs: LogChoice = { boot: "fits", ima: "never" }

/**
 * @param field the setting, for errors
 * @param text `auto`, `none`, `boot`, `ima` or `boot,ima`
 * @throws ProviderError INPUT
 */
export const parseLogChoice = (field: string, text: string): LogChoice => {
  switch (text) {
    case "auto":
      return defaultLogs
    case "none":
      return { boot: "never", ima: "never" }
    case "boot":
      return { boot: "always", ima: "never" }
    case "ima":
      return { boot: "never", ima: "always" }
    case "boot,ima":
      return { boot: "always", ima: "always" }
    default:
      throw new ProviderError(
        "INPUT",
        field,
        JSON.stringify(text.slice(0, 64)),
        "auto, none, boot, ima or boot,ima",
      )
  }
}

/**
 * A kernel's log, read to its end. Its files don't say how long they are.
 * @returns undefined where the kernel keeps no such log
 * @throws ProviderError IO, PERMISSION; TOO_LARGE beyond `most` bytes
 */
export const readLog = async (path: string, most: number): Promise<Uint8Array | undefined> => {
  const buffer = Buffer.alloc(most + 1)
  let length = 0
  try {
    const file = await open(path, "r")
    try {
      for (let read = 1; read > 0 && length < buffer.length; length += read)
        read = (await file.read(buffer, length, buffer.length - length, null)).bytesRead
    } finally {
      await file.close()
    }
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === "ENOENT") return undefined
    throw new ProviderError(
      errno === "EACCES" || errno === "EPERM" ? "PERMISSION" : "IO",
      path,
      errno,
      "a readable log",
    )
  }
  expectRoom(path, length, most, "")
  return Uint8Array.from(buffer.subarray(0, length))
}

export interface WantedLog {
  readonly path: string
  readonly choice: "always" | "fits" | "never"
  /** What stands in the file with padding is cut to this before it is counted. */
  readonly trim?: (bytes: Uint8Array) => Uint8Array
  /** How long the file may be, padding included. Default: the room. */
  readonly fileBytesMost?: number
}

/**
 * @param room bytes left for it
 * @returns undefined where there is none, or it isn't wanted, or (`fits`) doesn't fit
 * @throws ProviderError TOO_LARGE (`always`), IO, PERMISSION
 */
export const fittingLog = async (wanted: WantedLog, room: number): Promise<Uint8Array | undefined> => {
  const { path, choice, trim = (bytes) => bytes, fileBytesMost = Math.max(room, 0) } = wanted
  if (choice === "never") return undefined
  try {
    const file = await readLog(path, fileBytesMost)
    const log = file && trim(file)
    if (log === undefined || log.length === 0) return undefined
    expectRoom(path, log.length, room, "")
    return log
  } catch (error) {
    if (!(error instanceof ProviderError) || error.code !== "TOO_LARGE") throw error
    if (choice === "fits") return undefined
    throw new ProviderError(
      "TOO_LARGE",
      path,
      error.found,
      `${error.wanted}, for a part of a log proves nothing; VOUCHSAFE_EVENT_LOGS can leave it out`,
    )
  }
}

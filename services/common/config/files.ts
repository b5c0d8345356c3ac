/**
 * Small files that a guest's services exchange or are configured by: bounded, owned by root alone, parsed once.
 */
import { closeSync, constants, fstatSync, openSync, readSync, renameSync, writeFileSync } from "node:fs"
import { Result, Schema } from "effect"

export class FileError extends Error {
  override readonly name = "FileError"
  readonly code: "MISSING" | "UNSAFE" | "TOO_LARGE" | "BAD_FIELD"
  readonly path: string

  constructor(code: FileError["code"], path: string, message: string) {
    super(`${path}: ${message}`)
    this.code = code
    this.path = path
  }
}

const BYTES_MAX = 1_048_576

/**
 * Reads a file that only this process's user may have written.
 * @throws FileError MISSING, UNSAFE (another owner, writable or, if `secret`, readable by others, a link), TOO_LARGE
 */
export const readOwned = (path: string, options: { readonly secret: boolean }): Uint8Array => {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new FileError("MISSING", path, `cannot be opened: ${reason}`)
  }
  try {
    const stat = fstatSync(fd)
    const forbidden = options.secret ? 0o077 : 0o022
    if (!stat.isFile() || stat.uid !== process.getuid?.() || (stat.mode & forbidden) !== 0) {
      throw new FileError(
        "UNSAFE",
        path,
        "must be a plain file of this user that nobody else may write or, if secret, read",
      )
    }
    if (stat.size > BYTES_MAX) throw new FileError("TOO_LARGE", path, `${stat.size} bytes`)
    const buffer = Buffer.alloc(stat.size)
    let filled = 0
    while (filled < buffer.length) {
      const got = readSync(fd, buffer, filled, buffer.length - filled, filled)
      if (got === 0) break
      filled += got
    }
    return new Uint8Array(buffer.subarray(0, filled))
  } finally {
    closeSync(fd)
  }
}

/**
 * Reads a JSON file through a schema; unknown fields are errors.
 * @throws FileError
 */
export const readJson = <S extends Schema.ConstraintDecoder<unknown>>(
  schema: S,
  path: string,
  options: { readonly secret: boolean },
): S["Type"] => {
  const bytes = readOwned(path, options)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes))
  } catch {
    throw new FileError("BAD_FIELD", path, "is not JSON")
  }
  const decoded = Schema.decodeUnknownResult(schema)(value, { onExcessProperty: "error" })
  if (Result.isFailure(decoded)) throw new FileError("BAD_FIELD", path, decoded.failure.message.slice(0, 300))
  return decoded.success
}

/** Writes a JSON file that only this user can read, whole or not at all. */
export const writeJson = (path: string, value: unknown): void => {
  const temporary = `${path}.${process.pid}.new`
  writeFileSync(temporary, `${JSON.stringify(value)}\n`, { mode: 0o600 })
  renameSync(temporary, path)
}

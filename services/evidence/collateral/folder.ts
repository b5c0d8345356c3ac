/** Reads folders of collateral. Files are taken as they are; nothing of them is judged here. */
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync } from "node:fs"
import { join } from "node:path"
import { limits } from "../../../schemas/limits.ts"
import { CollateralError } from "./collateral.ts"
import { splitPem } from "./pem.ts"
import type { Offered } from "./snapshot.ts"

/** Contents by file name. */
export type CollateralFolder = ReadonlyMap<string, Uint8Array>

const mostFiles = 64
const wanted = /^[\w.-]+\.(?:json|der|pem|crl|crt|cer)$/

/**
 * @param path a folder; its `.json`, `.der`, `.pem`, `.crl`, `.crt` and `.cer` files count, others and folders don't
 * @throws CollateralError FOLDER_UNREADABLE, FILE_UNREADABLE, FILE_TOO_LARGE (65,536 bytes), FILES_TOO_MANY (64)
 */
export const readCollateralFolder = (path: string): CollateralFolder => {
  const names = listFolder(path)
  if (names.length > mostFiles)
    throw new CollateralError("FILES_TOO_MANY", path, `${names.length} files, at most ${mostFiles}`)
  return new Map(names.map((name) => [name, readBounded(join(path, name)).bytes]))
}

const mostTreeFiles = 4_096

/**
 * A folder and the folders in it, three deep, as an operator fills them: every certificate, list and document by itself, whatever the
 * files are called. A file's time says until when its content was known to be the newest.
 * @throws CollateralError FOLDER_UNREADABLE, FILE_UNREADABLE, FILE_TOO_LARGE (65,536 bytes), FILES_TOO_MANY (4,096)
 */
export const readCollateralTree = (path: string): readonly Offered[] => {
  const names = foldersIn(path, 3).flatMap((folder) =>
    listFolder(join(path, folder)).map((name) => join(folder, name)),
  )
  if (names.length > mostTreeFiles)
    throw new CollateralError("FILES_TOO_MANY", path, `${names.length} files, at most ${mostTreeFiles}`)
  return names.flatMap((name) => {
    const { bytes, asOf } = readBounded(join(path, name))
    return splitPem(bytes).map((one) => ({ name, source: join(path, name), bytes: one, asOf }))
  })
}

const mostFolders = 512

/** Paths below `path`, itself first as "". */
const foldersIn = (path: string, deep: number): readonly string[] => {
  const found = [""]
  let level = [""]
  for (let depth = 0; depth < deep; depth++) {
    level = level.flatMap((folder) =>
      listNames(join(path, folder), "folders").map((name) => join(folder, name)),
    )
    found.push(...level)
    if (found.length > mostFolders)
      throw new CollateralError("FILES_TOO_MANY", path, `more than ${mostFolders} folders`)
  }
  return found
}

const listFolder = (path: string): string[] => listNames(path, "files").filter((name) => wanted.test(name))

const listNames = (path: string, which: "files" | "folders"): string[] => {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() === (which === "folders"))
      .map(({ name }) => name)
      .sort()
  } catch (error) {
    throw new CollateralError("FOLDER_UNREADABLE", path, codeOf(error))
  }
}

/** Through one descriptor, without waiting on pipes, and never more than the bound, whatever size the file claims. */
const readBounded = (path: string): { readonly bytes: Uint8Array; readonly asOf: Date } => {
  let file: number
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw new CollateralError("FILE_UNREADABLE", path, codeOf(error))
  }
  try {
    const stat = fstatSync(file)
    if (!stat.isFile()) throw new CollateralError("FILE_UNREADABLE", path, "isn't a regular file")
    const bytes = new Uint8Array(limits.evidenceBytes + 1)
    let length = 0
    for (let read = -1; read !== 0 && length < bytes.length; length += read)
      read = readSync(file, bytes, length, bytes.length - length, null)
    if (length > limits.evidenceBytes)
      throw new CollateralError("FILE_TOO_LARGE", path, `more than ${limits.evidenceBytes} bytes`)
    return { bytes: bytes.slice(0, length), asOf: stat.mtime }
  } catch (error) {
    if (error instanceof CollateralError) throw error
    throw new CollateralError("FILE_UNREADABLE", path, codeOf(error))
  } finally {
    closeSync(file)
  }
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? `${error.code}` : "can't be read"

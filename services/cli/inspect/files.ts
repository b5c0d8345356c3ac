/** Files that were named, and those that lie about them: read once, bounded, regular files only. */
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, statSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { limits } from "../../../schemas/limits.ts"
import { UnusableError } from "./inspection.ts"

export interface Item {
  readonly path: string
  readonly bytes: Uint8Array
}

/** Event logs are the largest that is looked at. */
const bytesMost = 1 << 20
const entriesMost = 512

const unreadable = (path: string, error: unknown): UnusableError => {
  const code = error instanceof Error && "code" in error ? String(error.code) : "an error"
  const why = code === "ENOENT" ? "there is no such file" : `can't be read: ${code}`
  return new UnusableError("FILE_UNREADABLE", "file", `${path}: ${why}`)
}

/** Records hold evidence, its collateral and a workflow document. */
export const readRecordItem = (path: string): Item => readItem(path, limits.recordBytes)

/** @throws UnusableError FILE_UNREADABLE, FILE_TOO_LARGE */
export const readItem = (path: string, most: number = bytesMost): Item => {
  let file: number
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    throw unreadable(path, error)
  }
  try {
    const stat = fstatSync(file)
    if (!stat.isFile()) throw new UnusableError("FILE_UNREADABLE", "file", `${path}: isn't a regular file`)
    if (stat.size > most)
      throw new UnusableError("FILE_TOO_LARGE", "file", `${path}: ${stat.size} bytes, at most ${most}`)
    const bytes = new Uint8Array(stat.size)
    let length = 0
    for (let read = -1; read !== 0 && length < bytes.length; length += read)
      read = readSync(file, bytes, length, bytes.length - length, null)
    return { path, bytes: bytes.subarray(0, length) }
  } catch (error) {
    if (error instanceof UnusableError) throw error
    throw unreadable(path, error)
  } finally {
    closeSync(file)
  }
}

export const isFolder = (path: string): boolean => {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}

/** Names of files (or folders) in a folder, sorted; none where it can't be read. */
export const namesIn = (
  folder: string,
  wanted: "files" | "folders" = "files",
  most: number = entriesMost,
): readonly string[] => {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() === (wanted === "folders"))
      .map(({ name }) => name)
      .sort()
      .slice(0, most)
  } catch {
    return []
  }
}

/** The files of a folder whose names match; those that can't be read are passed over. */
export const itemsIn = (folder: string, name: RegExp): readonly Item[] =>
  namesIn(folder)
    .filter((each) => name.test(each))
    .flatMap((each) => {
      try {
        return [readItem(join(folder, each))]
      } catch (error) {
        if (error instanceof UnusableError) return []
        throw error
      }
    })

/** A file's name without what says of what kind it is: `a` of `a.report.bin`, `sha1` of `sha1.tpms-attest.bin`. */
export const stemOf = (path: string): string =>
  basename(path).replace(/(?:^|\.)(?:report|quote|cose|tpms-attest|attest)?\.?(?:bin|cbor|raw)$/, "")

export const folderOf = (path: string): string => dirname(path)

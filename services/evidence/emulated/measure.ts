/**
 * The launch measurement of an emulated guest: a digest over the files that it runs. Real hardware measures memory; what
 * both have in common is that the same bytes give the same 48 bytes, and any other bytes others.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, readFileSync } from "node:fs"
import { join, posix } from "node:path"
import { crypto } from "../../common/crypto/index.ts"
import { DeviceError } from "./error.ts"

const label = Buffer.from("vouchsafe emulated launch measurement 1")
const filesMax = 20_000
const fileBytesMax = 256 * 1_048_576

export interface MeasuredFile {
  /** Relative, with `/`. */
  readonly path: string
  readonly bytes: number
  /** SHA-384 of the content. */
  readonly digest: Uint8Array
}

/**
 * SHA-384 over the label, the number of files and, in the order of their paths' UTF-8 bytes, each file's path, length and
 * SHA-384. Texts are preceded by their length; numbers are big-endian, 8 bytes.
 * @throws DeviceError FILE_REFUSED when a path occurs twice
 */
export const measure = (files: readonly MeasuredFile[]): Uint8Array => {
  const sorted = files
    .map((file) => ({ ...file, name: Buffer.from(file.path, "utf8") }))
    .sort((a, b) => Buffer.compare(a.name, b.name))
  const parts: Uint8Array[] = [u64(label.length), label, u64(sorted.length)]
  let previous: Buffer | undefined
  for (const { path, name, bytes, digest } of sorted) {
    if (previous?.equals(name)) throw new DeviceError("FILE_REFUSED", path, "is named twice")
    previous = name
    parts.push(u64(name.length), name, u64(bytes), digest)
  }
  return crypto.sha384(Buffer.concat(parts))
}

const u64 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value))
  return bytes
}

/**
 * @param base the directory that paths are relative to
 * @param paths files, or directories with all that is below them
 * @returns 48 bytes
 * @throws DeviceError FILE_REFUSED for anything that is neither file nor directory (symbolic links too), for paths that
 * lead out of `base`, and for too many or too large files
 */
export const measureFiles = (base: string, paths: readonly string[]): Uint8Array => {
  const files: MeasuredFile[] = []
  const queue = paths.map(insideOf)
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    const full = join(base, path)
    const stat = statOf(full, path)
    if (stat.isDirectory()) queue.push(...listed(full, path))
    else if (stat.isFile()) files.push(readOne(full, path))
    else throw new DeviceError("FILE_REFUSED", path, "is neither a file nor a directory")
    if (files.length + queue.length > filesMax)
      throw new DeviceError("FILE_REFUSED", path, `is one of too many files`)
  }
  return measure(files)
}

const insideOf = (path: string): string => {
  const normal = posix.normalize(path)
  if (posix.isAbsolute(normal) || normal === ".." || normal.startsWith("../"))
    throw new DeviceError("FILE_REFUSED", path, "leads out of the base directory")
  return normal
}

/** Turns what the system refuses into a typed error that names the file. */
const attempt = <T>(path: string, act: () => T): T => {
  try {
    return act()
  } catch (error) {
    if (error instanceof DeviceError) throw error
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error"
    throw new DeviceError("FILE_REFUSED", path, `can't be read: ${code}`)
  }
}

const listed = (full: string, path: string): string[] =>
  attempt(path, () => readdirSync(full).map((name) => posix.join(path, name)))

const statOf = (full: string, path: string) => attempt(path, () => lstatSync(full))

/** Opened without following a link, so that what was looked at is what is read. */
const readOne = (full: string, path: string): MeasuredFile =>
  attempt(path, () => {
    const file = openSync(full, constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      if (fstatSync(file).size > fileBytesMax) throw new DeviceError("FILE_REFUSED", path, "is too large")
      const content = readFileSync(file)
      return { path, bytes: content.length, digest: crypto.sha384(content) }
    } finally {
      closeSync(file)
    }
  })

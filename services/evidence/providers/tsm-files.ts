/**
 * The five calls that configfs-tsm needs, on the kernel's terms: an attribute is written by one write(2), and a binary
 * one takes effect when the file is closed; blobs are read to their end, for their size isn't told before.
 */
import { constants } from "node:fs"
import { type FileHandle, mkdir, open, readdir, rmdir, stat } from "node:fs/promises"
import { ProviderError } from "./error.ts"

/** All of them reject with the system's error (`code` is the errno's name), or with what is said. */
export interface TsmFiles {
  readonly makeDirectory: (path: string) => Promise<void>
  readonly removeDirectory: (path: string) => Promise<void>
  /** Names in a directory, and how many milliseconds ago each was made. */
  readonly list: (path: string) => Promise<ReadonlyArray<{ readonly name: string; readonly ageMs: number }>>
  /** @throws ProviderError LENGTH when the kernel took only a part */
  readonly write: (path: string, bytes: Uint8Array) => Promise<void>
  /** @throws ProviderError LENGTH when there are more than `most` bytes */
  readonly read: (path: string, most: number) => Promise<Uint8Array>
}

const using = async <A>(path: string, flags: number, use: (file: FileHandle) => Promise<A>): Promise<A> => {
  const file = await open(path, flags)
  let result: A
  try {
    result = await use(file)
  } catch (error) {
    await file.close().catch(() => undefined)
    throw error
  }
  // The close is the write: its failure counts.
  await file.close()
  return result
}

const readToEnd = async (file: FileHandle, path: string, most: number): Promise<Uint8Array> => {
  const buffer = Buffer.alloc(most + 1)
  let length = 0
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, null)
    if (bytesRead === 0) return Uint8Array.from(buffer.subarray(0, length))
    length += bytesRead
  }
  throw new ProviderError("LENGTH", path, `more than ${most} bytes`, `at most ${most} bytes`)
}

export const tsmFiles: TsmFiles = {
  makeDirectory: async (path) => {
    await mkdir(path, { mode: 0o700 })
  },
  removeDirectory: (path) => rmdir(path),
  list: async (path) => {
    const now = Date.now()
    const names = (await readdir(path)).slice(0, 1_024)
    return Promise.all(
      names.map(async (name) => ({ name, ageMs: now - (await stat(`${path}/${name}`)).ctimeMs })),
    )
  },
  write: (path, bytes) =>
    using(path, constants.O_WRONLY, async (file) => {
      const { bytesWritten } = await file.write(bytes, 0, bytes.length, null)
      if (bytesWritten !== bytes.length)
        throw new ProviderError("LENGTH", path, `${bytesWritten} bytes taken`, `${bytes.length} bytes`)
    }),
  read: (path, most) => using(path, constants.O_RDONLY, (file) => readToEnd(file, path, most)),
}

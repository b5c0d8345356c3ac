/** Workflow documents on the operator's own disk, or from a pipe. */
import { isUtf8 } from "node:buffer"
import { readFileSync } from "node:fs"
import { limits } from "../../schemas/limits.ts"

const why: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EISDIR: "is a folder",
  EACCES: "may not be read by this user",
}

/** @throws Error that names the file: not there, too large, not UTF-8 */
export const readDocument = (path: string): Uint8Array => {
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "an error"
    throw new Error(`${path}: ${why[code] ?? `can't be read: ${code}`}`)
  }
  if (bytes.length > limits.workflowBytes)
    throw new Error(`${path}: ${bytes.length} bytes, at most ${limits.workflowBytes}`)
  if (!isUtf8(bytes)) throw new Error(`${path}: isn't text in UTF-8`)
  return Uint8Array.from(bytes)
}

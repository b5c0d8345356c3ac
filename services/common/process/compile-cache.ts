/**
 * Keeps what Node makes of this program's files between starts: removing types, parsing and compiling some 900 files is half
 * of a service's start.
 *
 * What such a cache holds is run without another look (Node compares lengths and CRC32s with the sources', against
 * accidents), so whoever may write there may run anything here. It is therefore used only where writing to it takes the
 * same right as changing the program: in the program's own directory, on the same file system (a guest's measured image
 * covers both or neither), belonging to the owner of the code or to root, writable by nobody else. Anywhere else the
 * program starts without it, only slower. NODE_DISABLE_COMPILE_CACHE=1 turns it off.
 */
import { lstatSync, mkdirSync, readdirSync, type Stats } from "node:fs"
import { enableCompileCache } from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const PROGRAM = fileURLToPath(new URL("../../../", import.meta.url))

const faultOf = (stats: Stats, code: Stats): string | undefined => {
  if (!stats.isDirectory()) return "is not a directory"
  if (stats.uid !== code.uid && stats.uid !== 0)
    return `belongs to user ${stats.uid}, the program to ${code.uid}`
  if ((stats.mode & 0o022) !== 0) return "may be written by others"
  return stats.dev === code.dev ? undefined : "is on another file system than the program"
}

/** Why Node must not use what lies there; undefined when it may. Makes the directory, for its owner alone, where it can. */
export const compileCacheFault = (directory: string, program = PROGRAM): string | undefined => {
  try {
    const code = lstatSync(join(program, "services"))
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    // Node keeps its files in a directory for each version and user.
    const kept = readdirSync(directory).map((name) => join(directory, name))
    for (const path of [join(directory, ".."), directory, ...kept]) {
      const fault = faultOf(lstatSync(path), code)
      if (fault !== undefined) return `${path} ${fault}`
    }
    return undefined
  } catch (cause) {
    return cause instanceof Error ? cause.message : String(cause)
  }
}

const directoryOf = (program: string): string => join(program, ".cache", "compile")

/** Where the cache lies, if it may be used. Never fails. */
export const compileCache = (program = PROGRAM): string | undefined => {
  const directory = directoryOf(program)
  return compileCacheFault(directory, program) === undefined ? directory : undefined
}

/** For people: why this program's starts take twice as long; nothing when they don't. */
export const compileCacheNotice = (program = PROGRAM): ReadonlyArray<string> => {
  const fault = compileCacheFault(directoryOf(program), program)
  return fault === undefined ? [] : [`starts without its cache of compiled code: ${fault}`]
}

/** For the first lines of a main file: what was loaded before isn't in the cache. Never fails. */
export const useCompileCache = (program = PROGRAM): void => {
  if (process.env.NODE_COMPILE_CACHE !== undefined || process.env.NODE_V8_COVERAGE !== undefined) return
  const directory = compileCache(program)
  if (directory !== undefined) enableCompileCache({ directory })
}

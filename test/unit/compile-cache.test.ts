import { execFileSync } from "node:child_process"
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { compileCacheFault, compileCacheNotice } from "../../services/common/process/compile-cache.ts"

const module = new URL("../../services/common/process/compile-cache.ts", import.meta.url).href
let program: string
let directory: string

beforeEach(() => {
  program = mkdtempSync(join(tmpdir(), "vouchsafe-cache-"))
  mkdirSync(join(program, "services"))
  directory = join(program, ".cache", "compile")
})
afterEach(() => rmSync(program, { recursive: true, force: true }))

/** Where Node keeps compiled code after a program's first lines; empty: nowhere. */
const used = (env: Record<string, string> = {}): string => {
  const script = `const { useCompileCache } = await import(${JSON.stringify(module)})
    useCompileCache(${JSON.stringify(program)})
    console.log((await import("node:module")).getCompileCacheDir() ?? "")`
  const flags = ["--input-type=module", "-e", script]
  return execFileSync(process.execPath, flags, { env: { PATH: process.env.PATH, ...env } })
    .toString()
    .trim()
}

describe("the cache of compiled code", () => {
  it("lies beside the code, for its owner alone", () => {
    expect(used()).toContain(directory)
    expect(lstatSync(directory).mode & 0o777).toBe(0o700)
    expect(compileCacheFault(directory, program)).toBeUndefined()
  })

  it("can be turned off", () => {
    expect(used({ NODE_DISABLE_COMPILE_CACHE: "1" })).toBe("")
  })

  const unsafe: ReadonlyArray<readonly [string, string, () => void]> = [
    ["others may write in it", "may be written by others", () => chmodSync(directory, 0o777)],
    ["a group may write in it", "may be written by others", () => chmodSync(directory, 0o770)],
    ["others may replace it", "may be written by others", () => chmodSync(join(directory, ".."), 0o777)],
    ["another user owns it", "belongs to user 65534", () => chownSync(directory, 65_534, 65_534)],
    [
      "another user's directory is in it",
      "belongs to user 65534",
      () => chownSync(join(directory, "v"), 65_534, 0),
    ],
    [
      "others may write a version's directory",
      "written by others",
      () => chmodSync(join(directory, "v"), 0o707),
    ],
    [
      "it is a link",
      "is not a directory",
      () => {
        rmSync(directory, { recursive: true })
        mkdirSync(join(program, "elsewhere"))
        symlinkSync(join(program, "elsewhere"), directory)
      },
    ],
    [
      "it has a link in it",
      "is not a directory",
      () => symlinkSync(join(program, "services"), join(directory, "w")),
    ],
  ]
  it.each(unsafe)("is not used where %s", (_what, fault, spoil) => {
    mkdirSync(join(directory, "v"), { recursive: true, mode: 0o700 })
    expect(compileCacheFault(directory, program)).toBeUndefined()
    spoil()
    expect(compileCacheFault(directory, program)).toContain(fault)
  })

  it("is not used, and the program starts, when it is unsafe", () => {
    mkdirSync(directory, { recursive: true })
    expect(compileCacheNotice(program)).toEqual([])
    chmodSync(directory, 0o777)
    expect(used()).toBe("")
    expect(compileCacheNotice(program).join()).toContain(`${directory} may be written by others`)
  })

  it("is not used on a file system of its own: that may be another's disk", () => {
    // /dev/shm is one on every Linux that the tests run on.
    rmSync(program, { recursive: true })
    const apart = mkdtempSync("/dev/shm/vouchsafe-cache-")
    program = mkdtempSync(join(tmpdir(), "vouchsafe-cache-"))
    mkdirSync(join(program, "services"))
    try {
      expect(compileCacheFault(join(apart, "compile"), program)).toContain("on another file system")
    } finally {
      rmSync(apart, { recursive: true })
    }
  })

  it("does without where none can be made", () => {
    rmSync(join(program, "services"), { recursive: true })
    expect(compileCacheFault(directory, program)).toContain("ENOENT")
    expect(used()).toBe("")
  })
})

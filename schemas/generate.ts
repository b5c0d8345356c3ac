/**
 * Writes everything that follows from the tables and schemas: `bpf/verdicts.h` and `schemas/generated`.
 *
 *   node schemas/generate.ts            writes what differs and removes what is no longer made
 *   node schemas/generate.ts --check    writes nothing; status 1 when something differs
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { DIRECTORY, outputs } from "./generate/outputs.ts"

const root = fileURLToPath(new URL("..", import.meta.url))

const present = (path: string): string | undefined => {
  try {
    return readFileSync(join(root, path), "utf8")
  } catch {
    return undefined
  }
}

const found = (): ReadonlyArray<string> => {
  try {
    return readdirSync(join(root, DIRECTORY), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name)))
  } catch {
    return []
  }
}

/** Paths whose text differs from what the tables say, or that should not be there. */
export const stale = (): {
  readonly changed: ReadonlyArray<string>
  readonly left: ReadonlyArray<string>
} => {
  const wanted = outputs(present("README.md") ?? "")
  return {
    changed: [...wanted].filter(([path, text]) => present(path) !== text).map(([path]) => path),
    left: found().filter((path) => !wanted.has(path)),
  }
}

const write = (): void => {
  const wanted = outputs(present("README.md") ?? "")
  const { changed, left } = stale()
  for (const path of left) rmSync(join(root, path))
  for (const path of changed) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), wanted.get(path) ?? "")
  }
  process.stdout.write(`${wanted.size} files, ${changed.length} written, ${left.length} removed\n`)
}

const check = (): void => {
  const { changed, left } = stale()
  for (const path of changed) process.stdout.write(`${path} is out of date\n`)
  for (const path of left) process.stdout.write(`${path} is no longer made\n`)
  if (changed.length + left.length > 0) {
    process.stdout.write("run: npm run generate\n")
    process.exitCode = 1
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === "--check") check()
  else write()
}

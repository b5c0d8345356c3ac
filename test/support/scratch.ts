/** What a test needs outside itself, gone when its process is, however that ends: directories, and programs. */
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { commandLine } from "../../infra/lab/processes.ts"

/** Whether there is a process of this id. */
export const lives = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"
  }
}

/** Directories carry their owner's process id: what one that was killed has left is removed by the next. */
const sweep = (parent: string, prefix: string): void => {
  for (const name of readdirSync(parent)) {
    const owner = name.startsWith(prefix) ? /^(\d+)-/.exec(name.slice(prefix.length))?.[1] : undefined
    if (owner !== undefined && !lives(Number(owner)))
      rmSync(join(parent, name), { recursive: true, force: true })
  }
}

/** A new directory `vouchsafe-<name>-...`, removed with all in it when this process ends, if not before. */
export const scratchDirectory = (name: string, parent = tmpdir()): string => {
  const prefix = `vouchsafe-${name}-`
  sweep(parent, prefix)
  const path = mkdtempSync(join(parent, `${prefix}${process.pid}-`))
  process.once("exit", () => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A program that the kernel kills when this process is gone. */
export const spawnMortal = (
  command: string,
  args: ReadonlyArray<string>,
  options: SpawnOptions,
): ChildProcess => {
  const [first = "", ...rest] = commandLine({ command, args })
  return spawn(first, rest, options)
}

/** Clears away what a run left that was killed before it could: its processes, namespaces, pins and files. */
import { execFileSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { removePins } from "../../services/common/kernel/bpffs.ts"
import { type RunNames, runNames } from "./names.ts"
import { removeNetwork } from "./network.ts"

const OWNER = "owner"

/**
 * When a process was started, in the kernel's ticks since boot; undefined when none with this id runs. One that has ended
 * and waits to be reaped counts as gone: in a container whose first process reaps nobody it waits for ever.
 */
export const startTime = (pid: number): string | undefined => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    // The name may hold blanks and brackets; field 22 is the 20th after its closing one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19]
  } catch {
    return undefined
  }
}

/** What a run writes about its owner, so that a later process of the same id isn't taken for it. */
export const ownerText = (pid: number): string => `${pid} ${startTime(pid) ?? ""}`
export const ownerPath = (names: RunNames): string => join(names.directory, OWNER)

const isAlive = (names: RunNames): boolean => {
  try {
    return readFileSync(ownerPath(names), "utf8") === ownerText(Number(names.id))
  } catch {
    return startTime(Number(names.id)) !== undefined
  }
}

const namespacesOf = (id: string): ReadonlyArray<string> =>
  existsSync("/run/netns") ? readdirSync("/run/netns").filter((name) => name.startsWith(`vs-${id}-`)) : []

const killIn = (ns: string): void => {
  const pids = execFileSync("ip", ["netns", "pids", ns], { encoding: "utf8" })
    .split("\n")
    .filter(Boolean)
    .map(Number)
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL")
    } catch {
      // Gone already.
    }
  }
}

const clear = async (names: RunNames): Promise<void> => {
  const namespaces = namespacesOf(names.id)
  for (const ns of namespaces) killIn(ns)
  await removeNetwork(namespaces, false)
  removePins(names.pinsRoot)
  rmSync(names.directory, { recursive: true, force: true })
}

/** Clears every run whose owner is gone; gives their ids. */
export const sweep = async (): Promise<ReadonlyArray<string>> => {
  const ids = new Set<string>()
  for (const name of readdirSync("/run")) {
    const id = /^vouchsafe-([1-9]\d{0,9})$/.exec(name)?.[1]
    if (id !== undefined) ids.add(id)
  }
  const stale = [...ids].map(runNames).filter((names) => !isAlive(names))
  for (const names of stale) await clear(names)
  return stale.map((names) => names.id)
}

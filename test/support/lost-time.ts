/**
 * What a loaded machine takes from a test that measures: the time in which this process or a child of it could have run and
 * had no processor, by the kernel's own account (the second field of /proc/PID/schedstat: of the first thread, which does the work of
 * a process of ours). Where one waits for the next, time lost on the way is at most the sum; a measured time without it is no more than
 * what an idle machine would have shown, and still holds all that the product waits for by itself: timers, answers, sleeps.
 */
import { readdirSync, readFileSync } from "node:fs"

/** Undefined: the process has ended. */
const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return undefined
  }
}

const isOurs = (pid: string): boolean => {
  if (Number(pid) === process.pid) return true
  const parent = /^PPid:\s+(\d+)$/m.exec(read(`/proc/${pid}/status`) ?? "")?.[1]
  return parent === String(process.pid)
}

const family = (): ReadonlyArray<string> =>
  readdirSync("/proc").filter((name) => /^\d+$/.test(name) && isOurs(name))

/** Since the process began. */
const waitedMs = (pid: string): number | undefined => {
  const waited = read(`/proc/${pid}/schedstat`)?.split(" ")[1]
  return waited === undefined ? undefined : Number(waited) / 1e6
}

/** In ms. */
export interface LostTime {
  /** Of the process that lost most: where only one was waited for. */
  readonly most: number
  /** Of all of them: where each may have waited for another. */
  readonly sum: number
}

/**
 * Begins to count; the function that it gives says what was lost since. Children that begin or end in between count for
 * nothing.
 */
export const countLostTime = (): (() => LostTime) => {
  const before = family().map((pid) => [pid, waitedMs(pid) ?? 0] as const)
  return () => {
    const each = before.map(([pid, then]) => Math.max(0, (waitedMs(pid) ?? then) - then))
    return { most: Math.max(...each), sum: each.reduce((all, one) => all + one, 0) }
  }
}

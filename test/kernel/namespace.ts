import { execFileSync } from "node:child_process"
import { closeSync, openSync } from "node:fs"
import koffi from "koffi"

/**
 * Network namespaces for tests of the kernel side: named after this process, with a pair of veths like a node's, and
 * entered by setns(2) on the main thread, as `nsenter --net` does before it starts a program (mounts stay).
 */
const CLONE_NEWNET = 0x40000000
const setns: (fd: number, kind: number) => number = koffi
  .load("libc.so.6")
  .func("int setns(int fd, int kind)")

const ip = (...args: ReadonlyArray<string>): void => void execFileSync("ip", args, { stdio: "pipe" })

export interface TestNamespace {
  readonly name: string
  /** Runs `use` inside; child processes that it starts are inside too. */
  readonly inside: <A>(use: () => A) => A
  readonly remove: () => void
}

let count = 0

const enter = (path: string): void => {
  const fd = openSync(path, "r")
  try {
    if (setns(fd, CLONE_NEWNET) !== 0) throw new Error(`setns ${path}: errno ${koffi.errno()}`)
  } finally {
    closeSync(fd)
  }
}

/** A namespace with `wire0` (its far end `far0` beside it), `m1` and `m0`, all up. */
export const makeNamespace = (): TestNamespace => {
  const name = `vskern-${process.pid}-${count++}`
  ip("netns", "add", name)
  for (const args of [
    ["link", "add", "wire0", "type", "veth", "peer", "name", "far0"],
    ["link", "add", "m1", "type", "veth", "peer", "name", "m0"],
    ...["lo", "wire0", "far0", "m1", "m0"].map((device) => ["link", "set", device, "up"]),
  ])
    ip("-n", name, ...args)
  return {
    name,
    inside: (use) => {
      const own = openSync("/proc/thread-self/ns/net", "r")
      enter(`/run/netns/${name}`)
      try {
        return use()
      } finally {
        if (setns(own, CLONE_NEWNET) !== 0) process.abort()
        closeSync(own)
      }
    },
    remove: () => ip("netns", "del", name),
  }
}

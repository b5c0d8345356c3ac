/** Runs a piece of this process inside a network namespace: for what has to be done by system calls there. */
import { closeSync, openSync } from "node:fs"
import koffi from "koffi"

const CLONE_NEWNET = 0x40000000
const setns: (fd: number, kind: number) => number = koffi
  .load("libc.so.6")
  .func("int setns(int fd, int kind)")

/** @param name as under /run/netns */
export const enterNetns = <A>(name: string, use: () => A): A => {
  const own = openSync("/proc/thread-self/ns/net", "r")
  const there = openSync(`/run/netns/${name}`, "r")
  try {
    if (setns(there, CLONE_NEWNET) !== 0) throw new Error(`setns ${name}: errno ${koffi.errno()}`)
    return use()
  } finally {
    // Nothing must go on in the wrong namespace.
    if (setns(own, CLONE_NEWNET) !== 0) process.abort()
    closeSync(there)
    closeSync(own)
  }
}

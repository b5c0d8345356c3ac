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

const insideOf =
  (name: string) =>
  <A>(use: () => A): A => {
    const own = openSync("/proc/thread-self/ns/net", "r")
    enter(`/run/netns/${name}`)
    try {
      return use()
    } finally {
      if (setns(own, CLONE_NEWNET) !== 0) process.abort()
      closeSync(own)
    }
  }

/** A namespace with `wire0` (its far end `far0` beside it), `m1` and `m0`, all up. */
export const makeNamespace = (): TestNamespace => {
  const name = `vskern-${process.pid}-${count++}`
  ip("netns", "add", name)
  for (const args of [
    // Indexes that nothing outside has: a test that leaves the namespace must not hit a device of the machine.
    ["link", "add", "wire0", "index", "77001", "type", "veth", "peer", "name", "far0", "index", "77002"],
    ["link", "add", "m1", "index", "77003", "type", "veth", "peer", "name", "m0", "index", "77004"],
    ...["lo", "wire0", "far0", "m1", "m0"].map((device) => ["link", "set", device, "up"]),
  ])
    ip("-n", name, ...args)
  return { name, inside: insideOf(name), remove: () => ip("netns", "del", name) }
}

export interface TestNode {
  /** The namespace of the wire, with wire0 and m1. */
  readonly wire: TestNamespace
  /** The namespace of the application, with m0. */
  readonly app: TestNamespace
}

const bare = (): TestNamespace => {
  const name = `vskern-${process.pid}-${count++}`
  ip("netns", "add", name)
  return { name, inside: insideOf(name), remove: () => ip("netns", "del", name) }
}

/**
 * Two nodes on one wire: node i has 192.0.2.i on wire0 and the workflow address 10.77.0.i on m0, whose offloads are off
 * as on a real node.
 */
export const makePair = (): readonly [TestNode, TestNode] => {
  const pair = [1, 2].map(() => ({ wire: bare(), app: bare() }))
  const [first, second] = pair
  if (first === undefined || second === undefined) throw new Error("unreachable")
  ip(
    "-n",
    first.wire.name,
    "link",
    "add",
    "wire0",
    "type",
    "veth",
    "peer",
    "name",
    "wire0",
    "netns",
    second.wire.name,
  )
  for (const [index, { wire, app }] of pair.entries()) {
    ip("-n", wire.name, "link", "add", "m1", "type", "veth", "peer", "name", "m0", "netns", app.name)
    ip("-n", wire.name, "addr", "add", `192.0.2.${index + 1}/24`, "dev", "wire0")
    app.inside(() => {
      execFileSync("ethtool", ["-K", "m0", "tso", "off", "gso", "off", "sg", "off", "tx", "off"], {
        stdio: "pipe",
      })
      ip("link", "set", "m0", "arp", "off", "mtu", "1438", "up")
      ip("link", "set", "lo", "up")
      ip("addr", "add", `10.77.0.${index + 1}/32`, "dev", "m0")
      ip("route", "add", "10.77.0.0/24", "dev", "m0")
    })
    for (const device of ["lo", "wire0", "m1"]) ip("-n", wire.name, "link", "set", device, "up")
  }
  return [first, second]
}

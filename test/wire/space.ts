/**
 * Nodes in namespaces of their own, as the lab and a real machine have them: the wire namespace with wire0 and m1, the
 * applications' with m0. On the other end of a node's wire is whatever a test puts there.
 */
import { execFileSync } from "node:child_process"
import { closeSync, mkdirSync, openSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import koffi from "koffi"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { openPinned } from "../../services/common/kernel/libbpf.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import { macOf } from "../../services/common/kernel/netdev.ts"
import { decodeConfig, indexKey, parseIpv4 } from "../../services/common/kernel/records.ts"
import { openPlane, type Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { realObject } from "../kernel/compile.ts"
import type { Association } from "../kernel/packets.ts"

const CLONE_NEWNET = 0x40000000
const setns: (fd: number, kind: number) => number = koffi
  .load("libc.so.6")
  .func("int setns(int fd, int kind)")

export const ip = (...args: ReadonlyArray<string>): string =>
  execFileSync("ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })

export interface Space {
  readonly name: string
  /** Runs `use` inside; processes that it starts are and stay inside. */
  readonly inside: <A>(use: () => A) => A
  readonly remove: () => void
}

const enter = (fd: number): void => {
  if (setns(fd, CLONE_NEWNET) !== 0) throw new Error(`setns: errno ${koffi.errno()}`)
}

let made = 0

/** A namespace without IPv6, whose own chatter would be counted. */
export const makeSpace = (): Space => {
  const name = `vswire-${process.pid}-${made++}`
  ip("netns", "add", name)
  const inside = <A>(use: () => A): A => {
    const own = openSync("/proc/thread-self/ns/net", "r")
    const there = openSync(`/run/netns/${name}`, "r")
    try {
      enter(there)
      return use()
    } finally {
      // Nothing must go on in the wrong namespace.
      if (setns(own, CLONE_NEWNET) !== 0) process.abort()
      closeSync(there)
      closeSync(own)
    }
  }
  inside(() => {
    for (const which of ["all", "default"])
      writeFileSync(`/proc/sys/net/ipv6/conf/${which}/disable_ipv6`, "1")
    ip("link", "set", "lo", "up")
  })
  return { name, inside, remove: () => ip("netns", "del", name) }
}

export interface Node {
  readonly wire: Space
  readonly app: Space
  readonly plane: Plane
  /** The mark that the programs tell each other's packets by: known to a test, and to nobody else. */
  readonly mark: () => number
  readonly counts: () => Readonly<Record<string, bigint>>
  /** How far each counter rose since `before`; those that did. */
  readonly since: (before: Readonly<Record<string, bigint>>) => Readonly<Record<string, number>>
  readonly remove: () => void
}

export const WIRE_MTU = 1500
export const INNER_MTU = 1438
export const ESP_PORT = 4500
export const BUS = { address: "192.0.2.200", port: 4222 } as const
/** Node or peer number i on the wire and in the workflow. */
export const wireAddress = (i: number): string => `192.0.2.${i}`
export const workflowAddress = (i: number): string => `10.77.0.${i}`

const plumb = (i: number, wire: Space, app: Space): void => {
  ip("-n", wire.name, "link", "add", "m1", "type", "veth", "peer", "name", "m0", "netns", app.name)
  ip("-n", wire.name, "addr", "add", `${wireAddress(i)}/24`, "dev", "wire0")
  for (const device of ["wire0", "m1"]) ip("-n", wire.name, "link", "set", device, "up")
  wire.inside(() => writeFileSync("/proc/sys/net/ipv4/ip_local_reserved_ports", String(ESP_PORT)))
  app.inside(() => {
    execFileSync("ethtool", ["-K", "m0", "tso", "off", "gso", "off", "sg", "off", "tx", "off"], {
      stdio: "pipe",
    })
    ip("link", "set", "m0", "arp", "off", "mtu", String(INNER_MTU), "up")
    ip("addr", "add", `${workflowAddress(i)}/32`, "dev", "m0")
    ip("route", "add", "10.77.0.0/24", "dev", "m0", "src", workflowAddress(i))
  })
}

const pinsRoot = join(BPFFS, `vswire-${process.pid}`)

/** Node number i with its plane loaded, attached and configured; `wire0` exists in `wire` and is taken over. */
export const makeNode = (i: number, wire: Space): Node => {
  const app = makeSpace()
  const pins = join(pinsRoot, `node${i}-${made++}`)
  try {
    plumb(i, wire, app)
    ensureBpffs()
    mkdirSync(pinsRoot, { recursive: true })
    const plane = wire.inside(() => openPlane({ pins, object: realObject, wire: "wire0", inner: "m1" }))
    plane.configure({
      innerAddress: parseIpv4(workflowAddress(i)),
      wireAddress: parseIpv4(wireAddress(i)),
      busAddress: parseIpv4(BUS.address),
      busPort: BUS.port,
      espPort: ESP_PORT,
      innerMac: app.inside(() => macOf("m0")),
    })
    const counts = () => plane.counters().verdicts
    return {
      wire,
      app,
      plane,
      counts,
      mark: () => {
        const fd = openPinned(join(pins, "live/maps/config"))
        if (fd === undefined) throw new Error("config is not pinned")
        const map = new BpfMap(fd)
        try {
          return decodeConfig(map.lookup(indexKey(0)) ?? new Uint8Array(0)).mark
        } finally {
          map.close()
        }
      },
      since: (before) =>
        Object.fromEntries(
          Object.entries(counts()).flatMap(([name, count]) => {
            const rise = Number(count - (before[name] ?? 0n))
            return rise === 0 ? [] : [[name, rise]]
          }),
        ),
      remove: () => {
        try {
          wire.inside(() => plane.teardown())
        } finally {
          app.remove()
        }
      },
    }
  } catch (error) {
    app.remove()
    throw error
  }
}

/** Removes what nodes of this process have pinned. */
export const removeAllPins = (): void => removePins(pinsRoot)

export interface Allowed {
  readonly port: number
  /** IP protocol number. */
  readonly protocol: number
  /** 0: the node begins; 1: its peer does. */
  readonly role: 0 | 1
}

/** Gives a node an edge with one lane to peer number `peer`, keys for both directions and what the edge allows. */
export const connect = (
  node: Node,
  peer: number,
  keys: { readonly out: Association; readonly in: Association },
  allowed: ReadonlyArray<Allowed>,
): void => {
  node.plane.setEdges({
    edges: [
      {
        index: 0,
        id: new Uint8Array(8).fill(peer),
        peerInner: parseIpv4(workflowAddress(peer)),
        peerWire: parseIpv4(wireAddress(peer)),
        peerPort: ESP_PORT,
        lanes: 1,
        mtu: WIRE_MTU,
      },
    ],
    policies: allowed.map((one) => ({
      peer: parseIpv4(workflowAddress(peer)),
      ...one,
      edge: 0,
      flags: 0,
    })),
  })
  const install = (sa: Association) => ({
    edge: 0,
    lane: 0,
    spi: sa.spi,
    epoch: { term: 1n, n: 1n },
    deadline: bootNow() + 600_000_000_000n,
    key: sa.key.slice(),
    salt: sa.salt.slice(),
    esn: sa.esn,
  })
  node.plane.installInbound(install(keys.in))
  node.plane.installOutbound(install(keys.out))
  node.plane.activate(0, 0, keys.out.spi)
}

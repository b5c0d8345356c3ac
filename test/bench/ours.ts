/** Our data plane between two nodes for the path bench. */
import { mkdirSync } from "node:fs"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { macOf } from "../../services/common/kernel/netdev.ts"
import { parseIpv4 } from "../../services/common/kernel/records.ts"
import { openPlane, type Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { makePair, type TestNode } from "../kernel/namespace.ts"
import { run, type System } from "./system.ts"

const LANES = 4
const HOUR = 3_600_000_000_000n
let count = 0

/** Node `i` of two under the real loader: everything to its peer is allowed, both ways. */
const openOurs = ({ wire, app }: TestNode, i: number, pins: string, object: string): Plane => {
  const plane = wire.inside(() => openPlane({ pins, object, wire: "wire0", inner: "m1" }))
  const [own, peer] = [i + 1, 2 - i]
  plane.configure({
    innerAddress: parseIpv4(`10.77.0.${own}`),
    wireAddress: parseIpv4(`192.0.2.${own}`),
    busAddress: parseIpv4("192.0.2.200"),
    busPort: 4222,
    espPort: 4500,
    innerMac: app.inside(() => macOf("m0")),
  })
  const peerInner = parseIpv4(`10.77.0.${peer}`)
  const edge = { index: 0, id: new Uint8Array(8).fill(9), peerInner, peerWire: parseIpv4(`192.0.2.${peer}`) }
  const rule = { peer: peerInner, port: 0, role: i === 0 ? 0 : 1, edge: 0, flags: 0 } as const
  plane.setEdges({
    edges: [{ ...edge, peerPort: 4500, lanes: LANES, mtu: 1500 }],
    policies: [1, 6, 17].map((protocol) => ({ ...rule, protocol })),
  })
  return plane
}

/** Keys for every lane, both ways, as a releaser would have sent them. */
const installKeys = (planes: readonly Plane[]): void => {
  for (let lane = 0; lane < LANES; lane++)
    for (const from of [0, 1]) {
      const spi = 0x1000 + 2 * lane + from
      const association = () => ({
        edge: 0,
        lane,
        spi,
        epoch: { term: 1n, n: 1n },
        deadline: bootNow() + HOUR,
        key: new Uint8Array(32).fill(spi),
        salt: Uint8Array.of(1, 2, 3, 4),
        esn: true,
      })
      planes[1 - from]?.installInbound(association())
      planes[from]?.installOutbound(association())
      planes[from]?.activate(0, lane, spi)
    }
}

/** Lets any core receive: packets of one flow stay on one, sealing and opening part. */
const spreadReceiving = (space: string): void => {
  const mask = (2 ** Math.min(availableParallelism(), 31) - 1).toString(16)
  for (const device of ["wire0", "m1"]) {
    const file = `/sys/class/net/${device}/queues/rx-0/rps_cpus`
    run("ip", "netns", "exec", space, "sh", "-c", `echo ${mask} >${file}`)
  }
}

/** Our data plane under its real loader, with the keys that a releaser would have sent. `object` may be without a cipher. */
export const ours = (name: string, object: string, spread: boolean): System => ({
  name,
  version: () => "this tree",
  make: async () => {
    ensureBpffs()
    const root = join(BPFFS, `vsbench-${process.pid}-ours${count++}`)
    mkdirSync(root)
    const nodes = makePair()
    const planes: Plane[] = []
    const close = async (): Promise<void> => {
      for (const [i, plane] of planes.entries()) nodes[i === 0 ? 0 : 1].wire.inside(() => plane.teardown())
      for (const { wire, app } of nodes) {
        wire.remove()
        app.remove()
      }
      removePins(root)
    }
    try {
      for (const [i, node] of nodes.entries()) planes.push(openOurs(node, i, join(root, `node${i}`), object))
      installKeys(planes)
      if (spread) for (const { wire } of nodes) spreadReceiving(wire.name)
    } catch (error) {
      await close()
      throw error
    }
    const [client, server] = nodes
    return {
      client: client.app.name,
      server: server.app.name,
      target: "10.77.0.2",
      listen: "10.77.0.2",
      udp: true,
      close,
    }
  },
})

/** NAT keepalives, where something is in the way of one lane. */
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { afterAll, beforeAll, expect, test } from "vitest"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { macOf } from "../../services/common/kernel/netdev.ts"
import { parseIpv4 } from "../../services/common/kernel/records.ts"
import { openPlane, type Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { realObject } from "./compile.ts"
import { makeNamespace, type TestNamespace } from "./namespace.ts"

const root = join(BPFFS, `vskern-${process.pid}-keepalive`)
const LANES = 3
const ESP_PORT = 4500
const HOUR_NS = 3_600_000_000_000n

let space: TestNamespace
let plane: Plane
beforeAll(() => {
  ensureBpffs()
  mkdirSync(root)
  space = makeNamespace()
  space.inside(() => {
    execFileSync("ip", ["address", "add", "192.0.2.1/24", "dev", "wire0"])
    plane = openPlane({ pins: join(root, "pins"), object: realObject, wire: "wire0", inner: "m1" })
    plane.configure({
      innerAddress: parseIpv4("10.77.0.1"),
      wireAddress: parseIpv4("192.0.2.1"),
      busAddress: parseIpv4("192.0.2.200"),
      busPort: 4222,
      espPort: ESP_PORT,
      innerMac: macOf("m0"),
    })
    plane.setEdges({
      edges: [
        {
          index: 0,
          id: new Uint8Array(8).fill(1),
          peerInner: parseIpv4("10.77.0.2"),
          peerWire: parseIpv4("192.0.2.2"),
          peerPort: ESP_PORT,
          lanes: LANES,
          mtu: 1500,
        },
      ],
      policies: [],
    })
    for (let lane = 0; lane < LANES; lane++) {
      plane.installOutbound({
        edge: 0,
        lane,
        spi: 0x1000 + lane,
        epoch: { term: 1n, n: 1n },
        deadline: bootNow() + HOUR_NS,
        key: new Uint8Array(32).fill(7),
        salt: new Uint8Array(4),
        esn: true,
      })
      plane.activate(0, lane, 0x1000 + lane)
    }
  })
})
afterAll(() => {
  space.inside(() => plane.teardown())
  space.remove()
  removePins(root)
})

const send = (): number => space.inside(() => plane.keepAlive(HOUR_NS))

/** Waits until somebody holds the port, however long the machine takes to start them. */
const bound = async (port: number): Promise<void> => {
  const sockets = () => space.inside(() => execFileSync("ss", ["-Huln"], { encoding: "utf8" }))
  while (!sockets().includes(`:${port} `)) await setTimeout(20)
}

test("a port that is somebody else's is told, and keeps no other lane waiting", {
  timeout: 30_000,
}, async () => {
  const port = ESP_PORT + 1
  const other = space.inside(() =>
    spawn("socat", ["-u", `UDP4-RECV:${port},bind=192.0.2.1`, "STDOUT"], { stdio: "ignore" }),
  )
  try {
    await bound(port)
    expect(send).toThrow(`keepalive port ${port}: EADDRINUSE`)
    expect(send).toThrow("EADDRINUSE")
  } finally {
    const ended = once(other, "exit")
    other.kill("SIGKILL")
    await ended
  }
  // The others had theirs within the hour.
  expect(send()).toBe(1)
  expect(send()).toBe(0)
})

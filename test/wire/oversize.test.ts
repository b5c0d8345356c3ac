/** Two nodes and real kernels: applications that send too much at once recover by what they are told. */
import { execFile } from "node:child_process"
import { createHash, randomBytes } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, expect, test } from "vitest"
import { TCP, UDP } from "../kernel/packets.ts"
import { connect, ip, type Node, type Space, wireAddress, workflowAddress } from "./space.ts"
import { makeWorld, newAssociation, type World } from "./world.ts"

const PORT = 7001
const worlds: Array<World> = []
afterEach(async () => {
  for (const world of worlds.splice(0)) await world.end()
})

const runIn = (where: Space, command: string, args: ReadonlyArray<string>): Promise<string> =>
  new Promise((resolve, reject) => {
    where.inside(() =>
      execFile(command, args, { timeout: 20_000, encoding: "utf8" }, (error, out, said) =>
        error === null ? resolve(out) : reject(new Error(`${command}: ${error.message} ${said}`)),
      ),
    )
  })

/** Two nodes with a router between them that answers ARP for both; its link to the second carries `mtu`. */
const routed = (mtu: number): { nodes: readonly [Node, Node]; directory: string } => {
  const world = makeWorld()
  worlds.push(world)
  const directory = mkdtempSync(join(tmpdir(), "vswire-"))
  world.later(() => rmSync(directory, { recursive: true, force: true }))
  const router = world.space()
  router.inside(() => {
    for (const setting of ["ip_forward", "conf/all/proxy_arp", "conf/default/proxy_arp"])
      writeFileSync(`/proc/sys/net/ipv4/${setting}`, "1")
    for (const which of ["all", "default"]) writeFileSync(`/proc/sys/net/ipv4/conf/${which}/rp_filter`, "0")
  })
  const plumb = (i: number): Space => {
    const wire = world.space()
    ip("-n", wire.name, "link", "add", "wire0", "type", "veth", "peer", "name", `r${i}`, "netns", router.name)
    ip("-n", router.name, "link", "set", `r${i}`, "up")
    router.inside(() => writeFileSync(`/proc/sys/net/ipv4/neigh/r${i}/proxy_delay`, "0"))
    ip("-n", router.name, "route", "add", `${wireAddress(i)}/32`, "dev", `r${i}`)
    return wire
  }
  const spaces = [plumb(1), plumb(2)]
  ip("-n", router.name, "addr", "add", "192.0.2.254/32", "dev", "r1")
  ip("-n", router.name, "link", "set", "r2", "mtu", String(mtu))
  const [first, second] = spaces.map((space, i) => world.node(i + 1, space))
  if (first === undefined || second === undefined) throw new Error("unreachable")
  const [forth, back] = [newAssociation(0x40_0001), newAssociation(0x40_0002)]
  const allowed = (role: 0 | 1) => [
    { port: PORT, protocol: TCP, role },
    { port: PORT, protocol: UDP, role },
  ]
  connect(first, 2, { out: forth, in: back }, allowed(0))
  connect(second, 1, { out: back, in: forth }, allowed(1))
  return { nodes: [first, second], directory }
}

/** Sends three megabytes by TCP from the first to the second; they arrive whole. */
const transfer = async (client: Node, server: Node, directory: string): Promise<void> => {
  const data = randomBytes(3 << 20)
  const [sent, got] = ["sent", "got"].map((name) => join(directory, name)) as [string, string]
  writeFileSync(sent, data)
  const serving = runIn(server.app, "sh", [
    "-c",
    `timeout 15 nc -l -N ${PORT} </dev/null >'${got}'; sha256sum <'${got}'`,
  ])
  const waiting = `for i in $(seq 100); do ss -Hltn sport = :${PORT} | grep -q . && exit 0; sleep 0.05; done; exit 1`
  await runIn(server.app, "sh", ["-c", waiting])
  await runIn(client.app, "sh", ["-c", `nc -N -w10 ${workflowAddress(2)} ${PORT} <'${sent}'`])
  expect((await serving).split(" ")[0]).toBe(createHash("sha256").update(data).digest("hex"))
}

test.each([1500, 9000, 30_000])(
  "a device MTU of %i where 1,438 is right: TCP finds it out and recovers",
  async (mtu) => {
    const { nodes, directory } = routed(1500)
    for (const { wire, app } of nodes) {
      ip("-n", wire.name, "link", "set", "m1", "mtu", String(mtu))
      ip("-n", app.name, "link", "set", "m0", "mtu", String(mtu))
    }
    await transfer(...nodes, directory)
    const [client, server] = nodes
    const { TOO_LONG, NOTIFIED } = client.counts()
    expect(TOO_LONG).toBeGreaterThan(0n)
    expect(NOTIFIED).toBeGreaterThan(0n)
    expect(TOO_LONG ?? 0n).toBeLessThan(200n)
    expect(await runIn(client.app, "ip", ["route", "get", workflowAddress(2)])).toMatch(/ mtu 1438 /)
    expect(server.counts().OPENED).toBe(client.counts().SEALED)
  },
)

test("a narrower link on the way: the router's word reaches the sealer, and the sealer's the application", async () => {
  const { nodes, directory } = routed(1300)
  const [client, server] = nodes
  await transfer(...nodes, directory)
  const counts = client.counts()
  expect(counts.PATH_MTU).toBeGreaterThan(0n)
  expect([counts.FORGED_ICMP, counts.FOREIGN_IN]).toEqual([0n, 0n])
  expect(counts.NOTIFIED).toBeGreaterThan(0n)
  expect(await runIn(client.app, "ip", ["route", "get", workflowAddress(2)])).toMatch(/ mtu 1238 /)
  expect(server.counts().OPENED).toBe(server.counts().DELIVERED)
})

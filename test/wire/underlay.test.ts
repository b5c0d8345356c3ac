/**
 * Two nodes on one wire with the kernel's own neighbours, IPv4 and IPv6 inside, over either family: applications on the node itself and
 * in a namespace behind it that forwards with all offloads on. Every inner checksum on the wire is judged by somebody else.
 */
import { execFile, execFileSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { readIpv6 } from "../../schemas/address.ts"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { macOf } from "../../services/common/kernel/netdev.ts"
import { parseIpv4 } from "../../services/common/kernel/records.ts"
import { openPlane, type Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { realObject } from "../kernel/compile.ts"
import { type Association, ICMP, TCP, UDP } from "../kernel/packets.ts"
import { keysOf, type Script } from "./python.ts"
import { ESP_PORT, ip, type Space, WIRE_MTU } from "./space.ts"
import { MARKER, makeWorld, newAssociation } from "./world.ts"

const six = (text: string): Uint8Array => {
  const address = readIpv6(text)
  if (address === undefined) throw new Error(text)
  return address
}
const inner = (i: number, family: 4 | 6): string => (family === 4 ? `10.77.0.${i}` : `fd77::${i}`)
const wire = (i: number, family: 4 | 6): string => (family === 4 ? `192.0.2.${i}` : `2001:db8::${i}`)
const PORTS = { tcp: 7001, udp: 7002, gso: 7003 } as const
type Kind = keyof typeof PORTS

interface Side {
  readonly wire: Space
  readonly app: Space
  readonly plane: Plane
}

const sysctl = (space: Space, name: string, value: string): void =>
  space.inside(() => writeFileSync(`/proc/sys/net/${name}`, value))

/** IPv6 on one device, saying nothing by itself. */
const quietIpv6 = (space: Space, device: string): void => {
  for (const [name, value] of [
    ["accept_dad", "0"],
    ["accept_ra", "0"],
    ["router_solicitations", "0"],
    ["disable_ipv6", "0"],
  ] as const)
    sysctl(space, `ipv6/conf/${device}/${name}`, value)
}

const runIn = (where: Space, command: string, args: ReadonlyArray<string>): Promise<string> =>
  new Promise((done, failed) => {
    where.inside(() =>
      execFile(command, args, { timeout: 60_000, encoding: "utf8" }, (error, out, said) =>
        error === null
          ? done(out)
          : failed(new Error(`${command} ${args.join(" ")}: ${error.message} ${out}${said}`)),
      ),
    )
  })
const ping = (where: Space, ...args: ReadonlyArray<string>) =>
  runIn(where, "ping", ["-n", "-c", "2", "-i", "0.2", "-W", "10", ...args])

describe.each([4, 6] as const)("over IPv%i", (underlay) => {
  const world = makeWorld()
  const sides: Array<Side> = []
  const boxes: Array<Space> = []
  const forth = newAssociation(0x51_0000 + underlay)
  const back = newAssociation(0x52_0000 + underlay)
  let watcher: Script
  const mtu = underlay === 4 ? 1438 : 1418
  const script = "test/wire/traffic.py"
  const root = `${BPFFS}/vsunderlay-${process.pid}-${underlay}`
  world.later(() => removePins(root))

  const makeSide = (i: number, space: Space, out: Association, into: Association): Side => {
    const app = world.space()
    ip("-n", space.name, "link", "add", "m1", "type", "veth", "peer", "name", "m0", "netns", app.name)
    quietIpv6(space, "wire0")
    for (const device of ["wire0", "m1"]) ip("-n", space.name, "link", "set", device, "up")
    ip("-n", space.name, "addr", "add", `${wire(i, 4)}/24`, "dev", "wire0")
    ip("-n", space.name, "addr", "add", `${wire(i, 6)}/64`, "dev", "wire0", "nodad")
    quietIpv6(app, "m0")
    ip("-n", app.name, "link", "set", "m0", "addrgenmode", "none")
    app.inside(() => {
      for (const feature of ["tso", "gso", "sg", "tx"]) ethtool("m0", feature)
      ip("link", "set", "m0", "arp", "off", "mtu", String(mtu), "up")
    })
    const pins = `${root}/${i}`
    ensureBpffs()
    mkdirSync(root, { recursive: true })
    const plane = space.inside(() => openPlane({ pins, object: realObject, wire: "wire0", inner: "m1" }))
    world.later(() => space.inside(() => plane.teardown()))
    plane.configure({
      innerAddress: parseIpv4(inner(i, 4)),
      innerAddress6: six(inner(i, 6)),
      wireAddress: parseIpv4(wire(i, 4)),
      wireAddress6: six(wire(i, 6)),
      busAddress6: six("2001:db8::fa"),
      busPort: 4222,
      espPort: ESP_PORT,
      innerMac: app.inside(() => macOf("m0")),
    })
    const peer = 3 - i
    plane.setEdges({
      edges: [
        {
          index: 0,
          id: new Uint8Array(8).fill(9),
          peerInner: parseIpv4(inner(peer, 4)),
          peerInner6: six(inner(peer, 6)),
          peerWire: underlay === 4 ? parseIpv4(wire(peer, 4)) : six(wire(peer, 6)),
          peerPort: ESP_PORT,
          lanes: 1,
          mtu: WIRE_MTU,
        },
      ],
      policies: [parseIpv4(inner(peer, 4)), six(inner(peer, 6))].flatMap((address) =>
        [TCP, UDP, ICMP].map((protocol) => ({
          peer: address,
          port: 0,
          protocol,
          role: i === 1 ? (0 as const) : (1 as const),
          edge: 0,
          flags: 0,
        })),
      ),
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
    plane.installInbound(install(into))
    plane.installOutbound(install(out))
    plane.activate(0, 0, out.spi)
    return { wire: space, app, plane }
  }

  beforeAll(async () => {
    const [one, two] = [world.space(), world.space()]
    ip("-n", one.name, "link", "add", "wire0", "type", "veth", "peer", "name", "wire0", "netns", two.name)
    sides.push(makeSide(1, one, forth, back), makeSide(2, two, back, forth))
    watcher = world.script(two, "families.py", ["wire0"])
    await watcher.ask({ ask: "ready" })
    const [first, second] = sides
    if (first === undefined || second === undefined) throw new Error("no sides")
    // Node 2's applications are on the node; node 1's are behind it, in a namespace whose device keeps its offloads.
    const box = world.space()
    boxes.push(box)
    ip("-n", first.app.name, "link", "add", "in0", "type", "veth", "peer", "name", "out0", "netns", box.name)
    quietIpv6(first.app, "in0")
    quietIpv6(box, "out0")
    for (const [space, device] of [
      [first.app, "in0"],
      [box, "out0"],
    ] as const)
      ip("-n", space.name, "link", "set", device, "up")
    ip("-n", first.app.name, "addr", "add", "172.31.0.1/30", "dev", "in0")
    ip("-n", first.app.name, "addr", "add", "fd31::1/64", "dev", "in0", "nodad")
    ip("-n", box.name, "addr", "add", "172.31.0.2/30", "dev", "out0")
    ip("-n", box.name, "addr", "add", "fd31::2/64", "dev", "out0", "nodad")
    ip("-n", box.name, "addr", "add", `${inner(1, 4)}/32`, "dev", "lo")
    sysctl(box, "ipv6/conf/lo/disable_ipv6", "0")
    ip("-n", box.name, "addr", "add", `${inner(1, 6)}/128`, "dev", "lo", "nodad")
    ip("-n", box.name, "route", "add", "10.77.0.0/24", "via", "172.31.0.1")
    ip("-n", box.name, "-6", "route", "add", "fd77::/64", "via", "fd31::1", "src", inner(1, 6))
    ip("-n", first.app.name, "route", "add", `${inner(1, 4)}/32`, "via", "172.31.0.2")
    ip("-n", first.app.name, "-6", "route", "add", `${inner(1, 6)}/128`, "via", "fd31::2")
    // A device whose last IPv4 address goes loses its routes.
    ip("-n", first.app.name, "addr", "add", "172.31.1.1/32", "dev", "m0")
    ip("-n", first.app.name, "route", "add", `${inner(2, 4)}/32`, "dev", "m0")
    ip("-n", first.app.name, "-6", "route", "add", `${inner(2, 6)}/128`, "dev", "m0")
    sysctl(first.app, "ipv4/ip_forward", "1")
    sysctl(first.app, "ipv6/conf/all/forwarding", "1")
    ip("-n", second.app.name, "addr", "add", `${inner(2, 4)}/32`, "dev", "m0")
    ip("-n", second.app.name, "addr", "add", `${inner(2, 6)}/128`, "dev", "m0", "nodad")
    ip("-n", second.app.name, "route", "add", "10.77.0.0/24", "dev", "m0", "src", inner(2, 4))
    ip("-n", second.app.name, "-6", "route", "add", "fd77::/64", "dev", "m0", "src", inner(2, 6))
  })
  afterAll(() => world.end())

  const report = async () => {
    const asked = {
      ask: "report",
      keys: [keysOf(forth), keysOf(back)],
      marker: Buffer.from(MARKER).toString("hex"),
    }
    return (await watcher.ask(asked)) as {
      sealed: Record<string, number>
      wrong: ReadonlyArray<unknown>
      other: ReadonlyArray<string>
      longest: number
      wrongOuter: number
      neighbour: number
    }
  }

  test.each([4, 6] as const)(
    "IPv%i: an echo is answered, once the kernels have found each other",
    async (family) => {
      const [box] = boxes
      if (box === undefined) throw new Error("no box")
      const said = await ping(box, "-I", inner(1, family), inner(2, family))
      expect(said).toContain("2 received")
      const seen = await report()
      expect(seen).toMatchObject({ wrong: [], wrongOuter: 0, other: [] })
      expect(seen.sealed[`${family} in ${underlay}`]).toBeGreaterThanOrEqual(4)
      if (family === 4) expect(seen.neighbour).toBeGreaterThan(0)
    },
  )

  const transfers = (["tcp", "udp", "gso"] as const).flatMap((kind) =>
    ([4, 6] as const).flatMap((family) =>
      (["forwarded", "local"] as const).map((how) => [kind, family, how] as const),
    ),
  )
  test.each(transfers)(
    "%s, IPv%i, %s: all arrives, and no checksum on the wire is unfinished",
    async (kind: Kind, family, how) => {
      const [first, second] = sides
      const [box] = boxes
      if (first === undefined || second === undefined || box === undefined) throw new Error("no sides")
      // The edge lets node 1 begin: forwarded it begins in the box, local it begins on the node itself.
      const from = how === "forwarded" ? box : first.app
      if (how === "local") {
        ip("-n", first.app.name, "addr", "add", `${inner(1, 4)}/32`, "dev", "m0")
        ip("-n", first.app.name, "addr", "add", `${inner(1, 6)}/128`, "dev", "m0", "nodad")
      }
      try {
        await report()
        const port = String(PORTS[kind])
        const serving = runIn(second.app, "/usr/bin/python3", [
          "-B",
          script,
          "serve",
          String(family),
          kind,
          port,
        ])
        await runIn(second.app, "sh", [
          "-c",
          `for i in $(seq 200); do ss -Hln${kind === "tcp" ? "t" : "u"} sport = :${port} | grep -q . && exit 0; sleep 0.05; done; exit 1`,
        ])
        const args = [
          "-B",
          script,
          "send",
          String(family),
          kind,
          port,
          inner(2, family),
          inner(1, family),
          "300000",
        ]
        const sent = JSON.parse(await runIn(from, "/usr/bin/python3", args)) as {
          sha256: string
          answer: string
        }
        const got = JSON.parse((await serving).split("\n")[1] ?? "") as { sha256: string; bytes: number }
        expect(got).toEqual({ bytes: 300_000, sha256: sent.sha256 })
        expect(sent.answer).toBe("done")
        const seen = await report()
        expect(seen).toMatchObject({ wrong: [], wrongOuter: 0, other: [] })
        expect(Object.keys(seen.sealed)).toEqual([`${family} in ${underlay}`])
        expect(seen.sealed[`${family} in ${underlay}`]).toBeGreaterThan(200)
        expect(seen.longest).toBeLessThanOrEqual(WIRE_MTU)
        if (kind === "tcp") expect(seen.longest).toBe(WIRE_MTU)
        expect(first.plane.counters().verdicts).toMatchObject({
          SUPER_PACKET: 0n,
          TOO_LONG: 0n,
          INTERNAL: 0n,
        })
      } finally {
        if (how === "local") {
          ip("-n", first.app.name, "addr", "del", `${inner(1, 4)}/32`, "dev", "m0")
          ip("-n", first.app.name, "addr", "del", `${inner(1, 6)}/128`, "dev", "m0")
        }
      }
    },
    120_000,
  )

  test.each([4, 6] as const)(
    "IPv%i: a shorter path is found by the application's own kernel",
    async (family) => {
      const [first] = sides
      const [box] = boxes
      if (first === undefined || box === undefined) throw new Error("no sides")
      const state = first.plane.edges()
      first.plane.setEdges({ ...state, edges: state.edges.map((edge) => ({ ...edge, mtu: 1400 })) })
      try {
        const size = underlay === 4 ? 1338 : 1318
        const text = family === 4 ? size - 28 : size - 48
        const asked = ["-M", "do", "-I", inner(1, family)]
        await expect(ping(box, ...asked, "-s", String(text + 4), inner(2, family))).rejects.toThrow()
        expect(
          ip(
            "-n",
            box.name,
            family === 4 ? "-4" : "-6",
            "route",
            "get",
            inner(2, family),
            "from",
            inner(1, family),
          ),
        ).toMatch(new RegExp(`mtu ${size}\\b`))
        expect(await ping(box, ...asked, "-s", String(text), inner(2, family))).toContain("2 received")
        expect(first.plane.counters().verdicts.NOTIFIED).toBeGreaterThan(0n)
      } finally {
        first.plane.setEdges(state)
      }
    },
  )

  test("a keepalive goes out where nothing was sent for the interval, and the peer knows it", async () => {
    const [first, second] = sides
    if (first === undefined || second === undefined) throw new Error("no sides")
    const counted = (side: Side, verdict: string) => Number(side.plane.counters().verdicts[verdict] ?? 0n)
    const before = counted(second, "KEEPALIVE")
    const send = (idleNs: bigint) => first.wire.inside(() => first.plane.keepAlive(idleNs))
    expect(send(3_600_000_000_000n), "nobody knows how long it was silent").toBe(1)
    expect(send(3_600_000_000_000n)).toBe(0)
    expect(send(0n)).toBe(1)
    await expect.poll(() => counted(second, "KEEPALIVE") - before, { timeout: 10_000 }).toBe(2)
    expect(counted(first, "KEEPALIVE_OUT")).toBe(2)
  })

  test("nothing but sealed packets and neighbours was ever let through", () => {
    for (const { plane } of sides)
      expect(plane.counters().verdicts).toMatchObject({
        CONTROL: 0n,
        NOT_OPENED: 0n,
        BAD_TAG: 0n,
        REPLAYED: 0n,
      })
  })
})

const ethtool = (device: string, feature: string): void => {
  execFileSync("ethtool", ["-K", device, feature, "off"], { stdio: "pipe" })
}

/** A node on a real wire: its unmodified programs talk to a peer that is nothing but scapy on a packet socket. */
import { execFile } from "node:child_process"
import { createHash, randomBytes } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { ICMP, TCP, UDP } from "../kernel/packets.ts"
import { keysOf, type Script } from "./python.ts"
import { connect, ip, type Node, type Space, WIRE_MTU, workflowAddress } from "./space.ts"
import { MARKER, makePair, makeWorld, newAssociation, type Report, type SealedFrame } from "./world.ts"

/** Runs a program in a namespace; gives what it printed. */
const runIn = (where: Space, command: string, args: ReadonlyArray<string>, input = ""): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = where.inside(() =>
      execFile(
        command,
        args,
        { timeout: 20_000, encoding: "utf8", maxBuffer: 1 << 26 },
        (error, out, said) =>
          error === null ? resolve(out) : reject(new Error(`${command}: ${error.message} ${said}`)),
      ),
    )
    child.stdin?.end(input)
  })

describe("a node and a peer made of scapy", () => {
  const world = makeWorld()
  let node: Node
  let peer: Script
  let actor: Script
  const everSealed: Array<SealedFrame> = []
  const toPeer = newAssociation(0x10_0001)
  const toNode = newAssociation(0x20_0001)

  const report = async (): Promise<ReadonlyArray<SealedFrame>> => {
    const { all, other, marked, lost } = (await peer.ask({ do: "report" })) as Report
    expect({ other, marked, lost }).toEqual({ other: [], marked: 0, lost: 0 })
    const sealed = all.filter((one): one is SealedFrame => one.kind === "sealed")
    everSealed.push(...sealed)
    for (const one of sealed) {
      expect(one).toMatchObject({ udpSum: 0, flags: 2, wrong: [] })
      expect(one.total).toBeLessThanOrEqual(WIRE_MTU)
    }
    return sealed
  }

  beforeAll(async () => {
    const pair = await makePair(world, toPeer, toNode)
    node = pair.node
    peer = pair.peer
    connect(node, 2, { out: toPeer, in: toNode }, [
      { port: 7000, protocol: UDP, role: 0 },
      { port: 7001, protocol: TCP, role: 0 },
      { port: 0, protocol: ICMP, role: 0 },
      { port: 7002, protocol: UDP, role: 1 },
    ])
    actor = world.script(node.app, "actor.py")
  })
  afterAll(() => world.end())

  test("an echo request is answered", async () => {
    const payload = Buffer.from(`${MARKER} ping`).toString("hex")
    expect(await actor.ask({ do: "ping", to: workflowAddress(2), id: 77, payload, wait: 5 })).toEqual({
      ok: true,
      answer: payload,
    })
    expect((await report()).map((one) => [one.protocol, one.low])).toEqual([[ICMP, 1]])
  })

  test("nc sends a datagram and prints the answer", async () => {
    const said = await runIn(node.app, "nc", ["-u", "-w1", workflowAddress(2), "7000"], MARKER)
    expect(said).toBe(`scapy got: ${MARKER}`)
    expect((await report()).map((one) => one.protocol)).toEqual([UDP])
  })

  test("the longest datagram fills the wire's MTU to the byte and comes back", async () => {
    const payload = MARKER.repeat(50).slice(0, 1410)
    const hex = Buffer.from(payload).toString("hex")
    expect(
      await actor.ask({ do: "udp", to: workflowAddress(2), port: 7000, payload: hex, answer: true, wait: 5 }),
    ).toEqual({ ok: true, answer: hex })
    expect((await report()).map((one) => [one.inner, one.total])).toEqual([[1438, WIRE_MTU]])
  })

  test("one byte more is cut into fragments by the application's kernel; none of them is sealed", async () => {
    const before = node.counts()
    await actor.ask({ do: "udp", to: workflowAddress(2), port: 7000, payload: "61".repeat(1411) })
    expect(await report()).toEqual([])
    expect(node.since(before)).toEqual({ FRAGMENT: 2 })
  })

  test("nc sends a stream; scapy, which decrypts, counts and answers, got every byte of it", async () => {
    const text = Array.from({ length: 1500 }, (_, i) => `${i} ${MARKER}`).join("\n")
    const said = await runIn(node.app, "nc", ["-N", "-w5", workflowAddress(2), "7001"], text)
    const digest = createHash("sha256").update(text).digest("hex")
    expect(said).toBe(`scapy got ${text.length} bytes ${digest}`)
    const sealed = await report()
    expect(sealed.every((one) => one.protocol === TCP)).toBe(true)
    expect(Math.max(...sealed.map((one) => one.total))).toBe(WIRE_MTU)
    expect(Math.max(...sealed.map((one) => one.inner))).toBe(1438)
  })

  test("the peer begins: an allowed datagram is answered, others are dropped and counted", async () => {
    await actor.ask({ do: "listen", port: 7002 })
    await actor.ask({ do: "listen", port: 7003 })
    const before = node.counts()
    const ask = async (dport: number, text: string): Promise<string> => {
      const payload = Buffer.from(text).toString("hex")
      const sent = (await peer.ask({ do: "udp", to: workflowAddress(1), sport: 9000, dport, payload })) as {
        frame: string
      }
      return sent.frame
    }
    const frame = await ask(7002, MARKER)
    expect(await peer.ask({ do: "inbox", seconds: 5 })).toEqual({
      datagrams: [Buffer.from(`the node got: ${MARKER}`).toString("hex")],
    })
    // A port without a policy, then a wire that repeats what it saw and forges what it didn't.
    await ask(7003, "not allowed")
    const flipped = `${frame.slice(0, -2)}${frame.endsWith("00") ? "01" : "00"}`
    const unknown = `${frame.slice(0, 84)}00abcdef${frame.slice(92)}`
    const cut = [14, 20, 33, 34, 41, 42, 50, 60, frame.length / 2 - 1].map((length) =>
      frame.slice(0, 2 * length),
    )
    await peer.ask({ do: "raw", frames: [frame, frame, flipped, unknown, ...cut] })
    expect((await report()).map((one) => one.protocol)).toEqual([UDP])
    expect(await actor.ask({ do: "heard" })).toEqual({
      ok: true,
      datagrams: [Buffer.from(MARKER).toString("hex")],
    })
    // Frames without a whole UDP header are not told from foreign ones; the others contradict their own length.
    expect(node.since(before)).toEqual({
      OPENED: 1,
      DELIVERED: 1,
      SEALED: 1,
      SEALED_OUT: 1,
      NO_POLICY: 1,
      REPLAYED: 3,
      UNKNOWN_SPI: 1,
      FOREIGN_IN: 5,
      BAD_IPV4: 4,
    })
  })

  test("all that the wire ever carried: each number once, from 1, as many as were counted", () => {
    expect(everSealed.map((one) => one.low)).toEqual(everSealed.map((_, i) => i + 1))
    expect(everSealed.map((one) => BigInt(`0x${one.iv}`))).toEqual(everSealed.map((_, i) => BigInt(i + 1)))
    const counts = node.counts()
    expect([counts.SEALED, counts.SEALED_OUT]).toEqual(Array(2).fill(BigInt(everSealed.length)))
    expect(counts.OPENED).toBe(counts.DELIVERED)
    expect([counts.FOREIGN_OUT, counts.NOT_OPENED, counts.CONTROL]).toEqual([0n, 0n, 0n])
  })
})

describe("a stream between two nodes over a bridge", () => {
  const forth = newAssociation(0x30_0001)
  const back = newAssociation(0x30_0002, false)
  const world = makeWorld()
  const directory = mkdtempSync(join(tmpdir(), "vswire-"))
  let nodes: ReadonlyArray<Node> = []
  let watcher: Script

  beforeAll(async () => {
    world.later(() => rmSync(directory, { recursive: true, force: true }))
    const middle = world.space()
    ip("-n", middle.name, "link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
    ip("-n", middle.name, "link", "set", "br0", "up")
    nodes = [1, 2].map((i) => {
      const wire = world.space()
      const port = `port${i}`
      ip("-n", wire.name, "link", "add", "wire0", "type", "veth", "peer", "name", port, "netns", middle.name)
      ip("-n", middle.name, "link", "set", port, "master", "br0", "up")
      return world.node(i, wire)
    })
    for (const [i, node] of nodes.entries())
      connect(node, 2 - i, i === 0 ? { out: forth, in: back } : { out: back, in: forth }, [
        { port: 7001, protocol: TCP, role: i === 0 ? 0 : 1 },
      ])
    const order = {
      device: "port1",
      association: [keysOf(forth), keysOf(back)],
      marker: Buffer.from(MARKER).toString("hex"),
    }
    watcher = world.script(middle, "peer.py", [JSON.stringify(order)])
    await watcher.ask({ do: "ready" })
  })
  afterAll(() => world.end())

  test("every byte arrives, nothing else is on the wire, every inner checksum is right in user space", async () => {
    const [client, server] = nodes
    if (client === undefined || server === undefined) throw new Error("unreachable")
    const megabytes = 6
    const data = Buffer.concat([Buffer.alloc(1 << 20, MARKER), randomBytes((megabytes - 1) << 20)])
    const [sent, got] = ["sent", "got"].map((name) => join(directory, name)) as [string, string]
    writeFileSync(sent, data)
    const serving = runIn(server.app, "sh", [
      "-c",
      `timeout 20 nc -l -N 7001 </dev/null >'${got}'; sha256sum <'${got}'`,
    ])
    const waiting =
      "for i in $(seq 100); do ss -Hltn sport = :7001 | grep -q . && exit 0; sleep 0.05; done; exit 1"
    await runIn(server.app, "sh", ["-c", waiting])
    await runIn(client.app, "sh", ["-c", `nc -N -w5 ${workflowAddress(2)} 7001 <'${sent}'`])
    expect((await serving).split(" ")[0]).toBe(createHash("sha256").update(data).digest("hex"))

    const seen = (await watcher.ask({ do: "report", summary: true, quiet: 0.3 })) as Record<string, unknown>
    expect(seen).toMatchObject({
      other: [],
      marked: 0,
      lost: 0,
      wrong: [],
      repeatedIvs: 0,
      longest: WIRE_MTU,
    })
    const counts = nodes.map((node) => node.counts())
    const total = (name: string): number => counts.reduce((sum, one) => sum + Number(one[name] ?? 0n), 0)
    expect(total("SEALED_OUT")).toBe(seen.sealed)
    expect(total("SEALED")).toBe(seen.sealed)
    expect(total("OPENED")).toBe(seen.sealed)
    expect(total("DELIVERED")).toBe(seen.sealed)
    expect(seen.innerBytes).toBeGreaterThan(data.length)
  })
})

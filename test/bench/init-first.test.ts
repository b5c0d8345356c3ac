/** What the init bench does about edges that came into use and went before their first packet: two nodes, real maps and programs. */
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { exampleWorkflow } from "../../infra/lab/domain.ts"
import { CHECKOUT, emulatedRoot } from "../../infra/lab/hardware.ts"
import { readIpv4 } from "../../schemas/address.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import * as records from "../../services/common/kernel/records.ts"
import { compileRules, type Rules } from "../../services/dataplane-loader/rules.ts"
import { FirstExchange, NotInUse } from "./init-first.ts"
import type { ForPeers } from "./init-messages.ts"
import { type MapSets, mapSets, type NodePlane, planeOver } from "./init-plane.ts"

const LEASE_NS = 60_000_000_000n
const DATAPLANE = "cd".repeat(48)

let sets: MapSets
beforeAll(() => {
  sets = mapSets(join(CHECKOUT, "bpf/build/vouchsafe.bpf.o"))
}, 60_000)
afterAll(() => sets.close())

interface End {
  readonly id: string
  readonly plane: NodePlane
  readonly rules: Rules
}

const open: End[] = []
afterEach(() => {
  for (const { plane } of open.splice(0)) plane.close()
})

/** a initiates an edge to b. */
const twoNodes = (): readonly [End, End] => {
  const example = exampleWorkflow({
    root: emulatedRoot().hardwareRoot,
    nodes: [],
    measurement: "ab".repeat(48),
    dataplane: DATAPLANE,
    notAfter: new Date(Date.now() + 86_400_000),
  })
  const document = {
    ...example,
    nodes: ["a", "b"].map((id, i) => ({
      id,
      stage: "source",
      chip: "any" as const,
      address: `10.77.0.${i + 1}`,
      wire: `10.99.0.${i + 1}`,
    })),
    edges: [
      {
        id: "e",
        from: "source",
        to: "source",
        protocol: "tcp" as const,
        port: 5_000,
        lanes: 1,
        pairs: [["a", "b"] as [string, string]],
      },
    ],
  }
  const end = (nodeId: string): End => {
    const rules = compileRules(
      { document, digest: new Uint8Array(32) },
      {
        crypto,
        nodeId,
        wireMtu: 1500,
        wireFamilies: [4],
        espPort: 4_500,
        present: { edges: [], policies: [] },
      },
    )
    const plane = planeOver(sets.make(true), Buffer.from(DATAPLANE, "hex"))
    plane.setEdges({
      edges: rules.edges.map(({ record }) => record),
      policies: rules.edges.flatMap(({ policies }) => policies),
    })
    plane.configure({
      innerAddress: readIpv4(rules.node.address ?? ""),
      innerAddress6: undefined,
      wireAddress: readIpv4(rules.node.wire),
      wireAddress6: undefined,
      busAddress: 0xff_ff_ff_ff,
      busAddress6: undefined,
      busPort: 1,
      espPort: 4_500,
      innerMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    })
    const made = { id: nodeId, plane, rules }
    open.push(made)
    return made
  }
  return [end("a"), end("b")]
}

const spiOf = (epoch: number): number => 0x1_0000 + epoch

/** Puts an epoch of the edge into use, from a to b. */
const begin = ([a, b]: readonly [End, End], n: number, leaseNs = LEASE_NS): void => {
  const association = () => ({
    edge: 0,
    lane: 0,
    spi: spiOf(n),
    epoch: { term: 1n, n: BigInt(n) },
    key: new Uint8Array(32).fill(n),
    salt: new Uint8Array(4).fill(n),
    esn: true,
    deadline: bootNow() + leaseNs,
  })
  b.plane.installInbound(association())
  a.plane.installOutbound(association())
  a.plane.activate(0, 0, spiOf(n))
}

const endOutbound = ([a]: readonly [End, End], n: number): void =>
  void a.plane.retire({ direction: "out", edge: 0, spi: spiOf(n) })
const endInbound = ([, b]: readonly [End, End], n: number): void =>
  void b.plane.retire({ direction: "in", edge: 0, spi: spiOf(n) })

const BRIEF = { pauseMs: 5, forMs: 60_000, tries: 3 }
const PATIENT = { pauseMs: 5, forMs: 60_000, tries: 10_000 }

/** One process with both, or one for each: then what one has for the other is carried. */
const exchangeOf = (ends: readonly [End, End], patience: typeof BRIEF) => {
  const done: string[] = []
  const exchange = new FirstExchange(
    sets.object,
    () => {},
    (id) => void done.push(id),
    patience,
  )
  exchange.begin(ends)
  return { exchange, done }
}

const apart = ([a, b]: readonly [End, End], patience: typeof BRIEF) => {
  const done: string[] = []
  const carried: ForPeers["kind"][] = []
  const sides: FirstExchange[] = []
  for (const end of [a, b]) {
    const at = sides.length
    const side = new FirstExchange(
      sets.object,
      (message) => {
        carried.push(message.kind)
        sides[1 - at]?.receive(message)
      },
      (id) => void done.push(id),
      patience,
    )
    side.begin([end])
    sides.push(side)
  }
  return { sides, done, carried }
}

describe("first packets of the init bench", () => {
  it("go over an edge in use at once", async () => {
    const ends = twoNodes()
    const { exchange, done } = exchangeOf(ends, BRIEF)
    begin(ends, 1)
    for (const { id } of ends) exchange.inUse(id)
    await expect.poll(() => done).toEqual(["a", "b"])
    expect(exchange.tried).toMatchObject({ packets: 1, again: 0 })
  })

  it("wait for the next keys of an edge that was taken back", async () => {
    const ends = twoNodes()
    const { exchange, done } = exchangeOf(ends, PATIENT)
    begin(ends, 1)
    endOutbound(ends, 1)
    endInbound(ends, 1)
    for (const { id } of ends) exchange.inUse(id)
    await expect.poll(() => exchange.tried.again).toBeGreaterThan(1)
    expect(done).toEqual([])
    begin(ends, 2)
    await expect.poll(() => done).toEqual(["a", "b"])
    expect(exchange.tried.packets).toBe(1)
  })

  it("wait for a lease that lasts", async () => {
    const ends = twoNodes()
    const { exchange, done } = exchangeOf(ends, PATIENT)
    begin(ends, 1, 0n)
    for (const { id } of ends) exchange.inUse(id)
    await expect.poll(() => exchange.tried.again).toBeGreaterThan(1)
    expect(done).toEqual([])
    const deadline = bootNow() + LEASE_NS
    ends[0].plane.setLease({ direction: "out", edge: 0, spi: spiOf(1) }, deadline)
    ends[1].plane.setLease({ direction: "in", edge: 0, spi: spiOf(1) }, deadline)
    await expect.poll(() => done).toEqual(["a", "b"])
  })

  it("are asked for again, also of another process, when their keys went before they were let in", async () => {
    const ends = twoNodes()
    const { sides, done, carried } = apart(ends, PATIENT)
    begin(ends, 1)
    sides[0]?.inUse("a")
    expect([done, carried]).toEqual([["a"], ["open"]])
    begin(ends, 2)
    endInbound(ends, 1)
    sides[1]?.inUse("b")
    await expect.poll(() => done).toEqual(["a", "b"])
    expect(carried).toEqual(["open", "seal", "open"])
    expect(sides[1]?.tried).toMatchObject({ packets: 1, again: 1 })
  })

  it("end the bench with a sentence about an edge that doesn't come back", async () => {
    const ends = twoNodes()
    const { exchange } = exchangeOf(ends, { ...BRIEF, tries: 0 })
    expect(() => exchange.inUse("a")).toThrow(NotInUse)
    expect(() => exchange.inUse("a")).toThrow(
      /^a: edge e:a:b was in use and is no more: its lane has no key \(tried 2 times in \d+\.\d s\)$/,
    )
  })

  it("don't wait for what should be there: a lane's association, the rest of an association", () => {
    const ends = twoNodes()
    const { sides } = apart(ends, PATIENT)
    begin(ends, 1)
    ends[1].plane.maps.sa_in.delete(records.inSaKey(spiOf(1)))
    sides[1]?.inUse("b")
    expect(() => sides[0]?.inUse("a")).toThrow("sa_in: the node holds no such record")
    ends[0].plane.maps.sa_out.delete(records.outSaKey(0, spiOf(1)))
    expect(() => sides[0]?.inUse("a")).toThrow("sa_out: the node holds no such record")
  })

  it("are refused, and not tried again, when the ends' keys differ", () => {
    const ends = twoNodes()
    const { sides } = apart(ends, PATIENT)
    begin(ends, 1)
    const key = records.inSaKey(spiOf(1))
    const other = ends[1].plane.maps.sa_in.lookup(key)
    if (other === undefined) throw new Error("no association")
    other[8] = 0xff
    ends[1].plane.maps.sa_in.update(key, other)
    sides[1]?.inUse("b")
    expect(() => sides[0]?.inUse("a")).toThrow("vs_open refused the first packet of e:a:b")
  })
})

/** Where nodes are: keepalives for a NAT on the way, an address that changes under way, a node that lost everything. */
import { execFileSync } from "node:child_process"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { untilReleased } from "../../infra/lab/job.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { removePinnedPlane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { countLostTime } from "../support/lost-time.ts"
import { enterNetns } from "./netns.ts"
import { makeLivingPair, type Pair, UDP_PORT } from "./pair.ts"
import {
  allocated,
  countVerdicts,
  difference,
  endTestLab,
  eventsOf,
  LAB_START_MS,
  sleep,
  startTestLab,
  statsOf,
  type TestLab,
  until,
} from "./support.ts"

const HOUR_NS = 3_600_000_000_000n

describe("keepalives", () => {
  let pair: Pair
  beforeAll(async () => {
    pair = await makeLivingPair(100)
  }, 60_000)
  afterAll(() => pair?.end(), 30_000)

  const verdict = (index: 0 | 1, name: string): number =>
    Number(pair.members[index].plane.counters().verdicts[name] ?? 0n)

  const QUARTER_NS = 250_000_000n

  it("a keepalive goes out on every lane, is let through by the guard, and known by the peer as one", async () => {
    const [first] = pair.members
    const before = {
      out: verdict(0, "KEEPALIVE_OUT"),
      known: verdict(1, "KEEPALIVE"),
      foreign: verdict(0, "FOREIGN_OUT"),
    }
    // Two edges with two lanes each.
    expect(first.space.wire.inside(() => first.plane.keepAlive(HOUR_NS))).toBe(4)
    await expect.poll(() => verdict(1, "KEEPALIVE") - before.known, { timeout: 5_000 }).toBe(4)
    expect(verdict(0, "KEEPALIVE_OUT") - before.out).toBe(4)
    expect(verdict(0, "FOREIGN_OUT") - before.foreign).toBe(0)
  })

  it("only where nothing was sent for the interval", async () => {
    const [first] = pair.members
    const keepAlive = (idle: bigint) => first.space.wire.inside(() => first.plane.keepAlive(idle))
    expect(keepAlive(HOUR_NS), "sent just now").toBe(0)
    await sleep(300)
    expect(keepAlive(QUARTER_NS), "silent on all four").toBe(4)
    await sleep(300)
    // One datagram makes one lane busy; the three others were silent for those 300 ms before it already.
    const sealed = verdict(0, "SEALED")
    const fromNs = bootNow()
    first.space.app.inside(() =>
      execFileSync("socat", ["-u", "-", `UDP4:10.77.0.2:${UDP_PORT}`], { input: "busy" }),
    )
    await expect.poll(() => verdict(0, "SEALED") - sealed, { timeout: 5_000 }).toBe(1)
    expect(keepAlive(bootNow() - fromNs + QUARTER_NS)).toBe(3)
    await sleep(300)
    expect(keepAlive(QUARTER_NS)).toBe(4)
  })

  it("without keys there is nothing to keep alive", () => {
    const [first] = pair.members
    first.plane.revokeAll()
    expect(first.space.wire.inside(() => first.plane.keepAlive(0n))).toBe(0)
  })
})

describe("a whole lab", () => {
  const INSTANCE = "beat:n1:n2"
  const LEASE_SECONDS = 20
  let lab: TestLab
  const app = (node: string) => lab.agent(lab.appNetns(node))
  const wireNetns = (node: string) => lab.names.netns(lab.place(node).wireNs)
  const got = async (): Promise<number> => (await app("n2").ask({ op: "received" })).datagrams
  /** Milliseconds until datagrams come again. */
  const untilFlow = async (timeoutMs: number): Promise<number> => {
    const began = performance.now()
    await got()
    while (performance.now() - began < timeoutMs) {
      await sleep(50)
      if ((await got()) > 0) return performance.now() - began
    }
    throw new Error(`the stream does not flow within ${timeoutMs / 1_000} s`)
  }
  const epochOf = (node: string): bigint =>
    statsOf(lab, node).edges.find(({ instance }) => instance === INSTANCE)?.epoch ?? 0n

  beforeAll(async () => {
    const edges = [
      { id: "beat", from: "source", to: "transform", protocol: "udp", port: 6000, lanes: 1 },
    ] as const
    lab = await startTestLab({ leaseSeconds: LEASE_SECONDS, edges })
    await untilReleased(lab)
    await app("n2").ask({ op: "udp-listen", port: 6000 })
    await app("n1").ask({ op: "stream", address: "10.77.0.2", port: 6000, perSecond: 200, text: lab.marker })
    await untilFlow(10_000)
  }, LAB_START_MS)
  afterAll(() => endTestLab(lab), 30_000)

  it("another address on the wire under way: the loader follows, the peer learns, the bus connects anew", async () => {
    const { wire } = lab.place("n1")
    const other = wire.replace(/\d+$/, "211")
    const before = countVerdicts(lab, "n2")
    const netns = wireNetns("n1")
    lab.exec(netns, ["ip", "addr", "del", `${wire}/24`, "dev", "wire0"])
    lab.exec(netns, ["ip", "addr", "add", `${other}/24`, "dev", "wire0"])
    const ms = await untilFlow(20_000)
    console.info(`another address: the stream flows ${Math.round(ms)} ms after the change`)
    const [moved] = await until("the node tells of it", 20_000, () => {
      const found = eventsOf(lab, "dataplane.moved", "n1")
      return found.length > 0 ? found : undefined
    })
    expect(moved?.event.data.message).toContain(other)
    // Keys are renewed from there too: the node is in touch with everybody.
    const accepted = eventsOf(lab, "release.sent", "n1").length
    await until("a release reaches it", 2 * LEASE_SECONDS * 1_000, () =>
      eventsOf(lab, "release.sent", "n1").length > accepted ? true : undefined,
    )
    const { BAD_TAG, UNKNOWN_SPI, REPLAYED } = difference(before, countVerdicts(lab, "n2"))
    expect([BAD_TAG, UNKNOWN_SPI, REPLAYED]).toEqual([undefined, undefined, undefined])
    expect(lab.capture.counts()).toMatchObject({ marker_hits: 0, unexpected_frames: 0 })
  }, 120_000)

  it("a peer that lost its kernel's state is noticed long before the lease ends: stale keys go, new ones come", async () => {
    const before = epochOf("n2")
    await lab.kill("loader-n1")
    enterNetns(wireNetns("n1"), () =>
      removePinnedPlane({ pins: lab.names.pins("n1"), wire: "wire0", inner: "m1" }),
    )
    const began = performance.now()
    lab.startLoader("n1")
    // From here on the new process is among those that are counted.
    const lost = countLostTime()
    await until("n2 uses new keys", LEASE_SECONDS * 1_000, () => (epochOf("n2") > before ? true : undefined))
    const noticed = performance.now() - began
    const { sum } = lost()
    await untilFlow(10_000)
    // The beat's and the raw edge's own, one lane each, and n3's: nothing stale is left after the grace time.
    await until("n2 holds nothing stale", 10_000, () =>
      allocated(lab, "n2", "sa_in") === 3 ? true : undefined,
    )
    const clean = performance.now() - began
    console.info(
      `a peer that began anew: new keys ${Math.round(noticed)} ms after its loader's start, stale ones gone after ${Math.round(clean)} ms; the lease is ${LEASE_SECONDS} s`,
    )
    expect(noticed - sum).toBeLessThan((LEASE_SECONDS * 1_000) / 2)
  }, 60_000)
})

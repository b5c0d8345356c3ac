/**
 * Services that die, in a whole lab with a short lease: traffic goes on in the kernel without them, stops by itself when the
 * lease is over, and comes back when they do, without a hand from anybody.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { untilReleased } from "../../infra/lab/job.ts"
import type { EdgeStats } from "../../schemas/messages/stats.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { decodeDeadline } from "../../services/common/kernel/records.ts"
import { countLostTime, type LostTime } from "../support/lost-time.ts"
import {
  type Counted,
  countVerdicts,
  difference,
  dropsIn,
  endTestLab,
  eventsOf,
  LAB_START_MS,
  plumbing,
  sleep,
  startTestLab,
  statsOf,
  type TestLab,
  until,
  withMap,
} from "./support.ts"

const LEASE_SECONDS = 6
const LEASE_MS = LEASE_SECONDS * 1_000
const INSTANCE = "beat:n1:n2"
const PER_SECOND = 400
/** A gap in the stream that the scheduler of a busy machine doesn't make. */
const STILL_MS = 700
/** How much later than it was sent a packet may be seen there. */
const SLACK_MS = 400

let lab: TestLab
const app = (node: string) => lab.agent(lab.appNetns(node))

/** The stream as the receiver has seen it: numbers with the ms of CLOCK_MONOTONIC when they came. */
const came = new Map<number, number>()
let latest = Number.NEGATIVE_INFINITY
const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6

const collect = async (): Promise<void> => {
  const { numbers } = await app("n2").ask({ op: "received" })
  for (const [number, at] of numbers) {
    const ms = Number(BigInt(at)) / 1e6
    came.set(number, ms)
    latest = Math.max(latest, ms)
  }
}

/** Collects until more than so many have come since; gives how many did. */
const flowOf = async (wanted: number, timeoutMs = 10_000): Promise<number> => {
  await collect()
  const before = came.size
  for (
    const deadline = nowMs() + timeoutMs;
    came.size - before <= wanted && nowMs() < deadline;
    await collect()
  )
    await sleep(50)
  return came.size - before
}

/** Collects for a while; gives how many came in it. */
const flowFor = async (ms: number): Promise<number> => {
  await collect()
  const before = came.size
  await sleep(ms)
  await collect()
  return came.size - before
}

const untilFlow = async (what: string, sinceMs: number, timeoutMs: number): Promise<number> => {
  const deadline = nowMs() + timeoutMs
  while (nowMs() < deadline) {
    await collect()
    const first = [...came.values()].filter((at) => at > sinceMs).sort((a, b) => a - b)[0]
    if (first !== undefined) return first - sinceMs
    await sleep(50)
  }
  throw new Error(`${what}: no packet within ${timeoutMs / 1_000} s`)
}

const untilStill = async (timeoutMs: number): Promise<number> => {
  const deadline = nowMs() + timeoutMs
  while (nowMs() < deadline) {
    await collect()
    if (nowMs() - latest > STILL_MS) return latest
    await sleep(50)
  }
  throw new Error(`the stream goes on after ${timeoutMs / 1_000} s`)
}

/** Not before the lease's end and not after it, but for what the machine took from whoever sends, or from whoever looks. */
const expectAtEnd = (stoppedMs: number, leftMs: number, lost: LostTime): void => {
  expect(stoppedMs).toBeGreaterThan(leftMs - SLACK_MS - lost.most)
  expect(stoppedMs).toBeLessThan(leftMs + SLACK_MS + lost.most)
}

/** A loader that has just started has not read the workflow yet and tells of no edge. */
const edgeOf = (node: string): EdgeStats | undefined =>
  statsOf(lab, node).edges.find(({ instance }) => instance === INSTANCE)
const epochOf = (node: string): readonly [bigint, bigint] => {
  const { term = 0n, epoch = 0n } = edgeOf(node) ?? {}
  return [term, epoch]
}
const isHigher = ([term, n]: readonly [bigint, bigint], than: readonly [bigint, bigint]): boolean =>
  term > than[0] || (term === than[0] && n > than[1])

const untilHigher = (than: readonly [bigint, bigint], timeoutMs: number): Promise<true> =>
  until(`both ends send under a higher epoch than ${than.join(".")}`, timeoutMs, () =>
    ["n1", "n2"].every((node) => isHigher(epochOf(node), than) && edgeOf(node)?.state === "active")
      ? true
      : undefined,
  )

/** How long the last lease in a node's kernel still runs, whoever granted it. */
const leaseLeftMs = (node: string): number =>
  Math.max(
    ...(["lease_in", "lease_out"] as const).flatMap((name) =>
      withMap(lab, node, name, (map) =>
        map.keys().flatMap((key) => {
          const value = map.lookup(key)
          return value === undefined ? [] : [Number((decodeDeadline(value) - bootNow()) / 1_000_000n)]
        }),
      ),
    ),
  )

/** Right after a renewal, so that as much of the lease as possible is ahead. */
const untilRenewed = (node: string): Promise<true> =>
  until(`${node} has renewed its lease`, 2 * LEASE_MS, () =>
    leaseLeftMs(node) > LEASE_MS - 600 ? true : undefined,
  )

/** Runs of numbers that didn't come, as "first-last". */
const lost = (from: number, to: number): ReadonlyArray<string> => {
  const runs: Array<[number, number]> = []
  for (let number = from; number <= to; number++) {
    if (came.has(number)) continue
    const run = runs.at(-1)
    if (run !== undefined && run[1] === number - 1) run[1] = number
    else runs.push([number, number])
  }
  return runs.map((run) => run.join("-"))
}
const highest = (): number => Math.max(0, ...came.keys())

const dropsOfBoth = (): Counted => {
  const [a, b] = [countVerdicts(lab, "n1"), countVerdicts(lab, "n2")]
  return Object.fromEntries(Object.keys(a).map((name) => [name, (a[name] ?? 0) + (b[name] ?? 0)]))
}

interface Tried {
  readonly tookMs: number
  /** What the leases had left when it began. */
  readonly leftMs: number
  readonly judge: () => void
}

/**
 * Tries until what an attempt sets going is done before the leases are over, three times at most, and judges that attempt. On a machine that
 * takes longer the kernel stops the stream, as it must, and nothing is shown.
 */
const inTime = async (attempt: () => Promise<Tried>): Promise<void> => {
  for (let i = 0; i < 2; i++) {
    const { tookMs, leftMs, judge } = await attempt()
    if (tookMs < leftMs) return judge()
    console.info(`took ${Math.round(tookMs)} ms of the ${Math.round(leftMs)} ms that the leases had left`)
    await untilFlow("after an attempt that took too long", nowMs(), 30_000)
  }
  return (await attempt()).judge()
}

beforeAll(async () => {
  const edges = [
    { id: "beat", from: "source", to: "transform", protocol: "udp", port: 6000, lanes: 1 },
  ] as const
  lab = await startTestLab({ leaseSeconds: LEASE_SECONDS, edges })
  await untilReleased(lab)
  await app("n2").ask({ op: "udp-listen", port: 6000 })
  const stream = { op: "stream", address: "10.77.0.2", port: 6000, text: lab.marker } as const
  await app("n1").ask({ ...stream, perSecond: PER_SECOND })
  await untilFlow("the stream", 0, 30_000)
}, LAB_START_MS)
afterAll(() => endTestLab(lab), 30_000)

describe("a loader that is killed and comes back within the lease", () => {
  it("loses nothing: the old keys carry on, the new ones are in place before they are used", async () => {
    await inTime(async () => {
      const before = { epoch: epochOf("n1"), plumbing: plumbing(lab, "n1"), drops: dropsOfBoth() }
      const accepted = eventsOf(lab, "attestation.accepted", "n1").length
      await untilRenewed("n1")
      await collect()
      const first = highest()
      const [leftMs, killedMs] = [leaseLeftMs("n1"), nowMs()]
      await lab.kill("loader-n1")
      // Nobody is there to help, and the packets flow.
      const flown = await flowOf(PER_SECOND / 4, LEASE_MS / 3)
      lab.startLoader("n1")
      await untilHigher(before.epoch, 30_000)
      const tookMs = nowMs() - killedMs
      // The old generation goes after a grace time: until then, and a little longer.
      await flowFor(3_000)
      const last = highest()
      const judge = (): void => {
        expect(flown).toBeGreaterThan(PER_SECOND / 4)
        expect(last - first).toBeGreaterThan(3 * PER_SECOND)
        expect(lost(first, last)).toEqual([])
        expect(dropsIn(difference(before.drops, dropsOfBoth()))).toEqual({})
        expect(plumbing(lab, "n1")).toEqual(before.plumbing)
        expect(eventsOf(lab, "attestation.accepted", "n1").length).toBeGreaterThan(accepted)
      }
      return { tookMs, leftMs, judge }
    })
  })
})

describe("a loader that is killed and doesn't come back in time", () => {
  let before: { epoch: readonly [bigint, bigint]; plumbing: ReturnType<typeof plumbing>; accepted: number }

  it("its packets flow until the lease is over, then the kernel stops them, and counts", async () => {
    before = {
      epoch: epochOf("n1"),
      plumbing: plumbing(lab, "n1"),
      accepted: eventsOf(lab, "attestation.accepted", "n1").length,
    }
    await lab.kill("loader-n1")
    const counted = countVerdicts(lab, "n1")
    const lost = countLostTime()
    const killedMs = nowMs()
    const leftMs = leaseLeftMs("n1")
    expect(leftMs).toBeGreaterThan(LEASE_MS / 3)
    expect(await flowFor(leftMs - 1_000)).toBeGreaterThan(((leftMs - 1_000) / 1_000) * PER_SECOND * 0.5)
    const early = difference(counted, countVerdicts(lab, "n1")).LEASE_OVER
    // Whoever stood still for the second that was left has looked too late.
    if (nowMs() - killedMs < leftMs) expect(early).toBeUndefined()
    expectAtEnd((await untilStill(5_000)) - killedMs, leftMs, lost())
    await sleep(500)
    const { LEASE_OVER = 0 } = difference(counted, countVerdicts(lab, "n1"))
    expect(LEASE_OVER).toBeGreaterThan(PER_SECOND / 4)
    expect(await flowFor(300)).toBe(0)
  })

  it("started again it takes up the plane that is there, is attested anew, gets new keys, and the stream flows", async () => {
    const startedMs = nowMs()
    lab.startLoader("n1")
    const resumedMs = await untilFlow("after the restart", startedMs, 45_000)
    console.info(`loader: ${Math.round(resumedMs)} ms from its start to the first packet`)
    await untilHigher(before.epoch, 30_000)
    expect(await flowOf(PER_SECOND / 2)).toBeGreaterThan(PER_SECOND / 2)
    expect(plumbing(lab, "n1")).toEqual(before.plumbing)
    expect(eventsOf(lab, "attestation.accepted", "n1").length).toBeGreaterThan(before.accepted)
    expect(statsOf(lab, "n1").state).toBe("released")
  })
})

describe("a control plane that is killed", () => {
  it("a new key-releaser begins a new term, and within the lease the stream loses nothing", async () => {
    await inTime(async () => {
      const epoch = epochOf("n1")
      await collect()
      const first = highest()
      const [leftMs, killedMs] = [Math.min(leaseLeftMs("n1"), leaseLeftMs("n2")), nowMs()]
      await lab.kill("releaser-r1")
      lab.startService("releaser-r1")
      const startedMs = nowMs()
      await untilHigher(epoch, 30_000)
      const tookMs = nowMs() - killedMs
      console.info(`releaser: ${Math.round(nowMs() - startedMs)} ms from its start to new keys at both ends`)
      const judge = (): void => {
        expect(epochOf("n1")[0]).toBeGreaterThan(epoch[0])
        expect(lost(first, highest())).toEqual([])
      }
      await flowFor(500)
      return { tookMs, leftMs, judge }
    })
  })

  it("leases go by without a verifier and nothing is lost; a new one is believed by every later session", async () => {
    const epoch = epochOf("n1")
    await collect()
    const first = highest()
    await lab.kill("verifier-v1")
    await flowFor(LEASE_MS + 500)
    lab.startService("verifier-v1")
    await untilRenewed("n1")
    await collect()
    const last = highest()
    expect(last - first).toBeGreaterThan(LEASE_SECONDS * PER_SECOND)
    expect(lost(first, last)).toEqual([])
    // Its peers' results are still by the old key, which the new session can't vouch for: they have to be attested too.
    await lab.kill("loader-n1")
    const startedMs = nowMs()
    lab.startLoader("n1")
    await untilHigher(epoch, 30_000)
    const tookMs = Math.round(nowMs() - startedMs)
    expect(await flowOf(PER_SECOND / 4)).toBeGreaterThan(PER_SECOND / 4)
    console.info(`verifier: ${tookMs} ms from a loader's start to new keys; lost: ${lost(last, highest())}`)
  })

  it("gone for longer than a lease, traffic stops; when it is back, everything resumes by itself", async () => {
    const epoch = epochOf("n1")
    await Promise.all([lab.kill("releaser-r1"), lab.kill("verifier-v1")])
    const lost = countLostTime()
    const killedMs = nowMs()
    const leftMs = Math.min(leaseLeftMs("n1"), leaseLeftMs("n2"))
    expectAtEnd((await untilStill(LEASE_MS + 5_000)) - killedMs, leftMs, lost())
    expect(await flowFor(500)).toBe(0)
    const startedMs = nowMs()
    lab.startService("releaser-r1")
    lab.startService("verifier-v1")
    const resumedMs = await untilFlow("after the restart", startedMs, 45_000)
    console.info(`control plane: ${Math.round(resumedMs)} ms from its start to the first packet`)
    await untilHigher(epoch, 30_000)
    await untilReleased(lab)
    expect(await flowOf(PER_SECOND / 2)).toBeGreaterThan(PER_SECOND / 2)
  })
})

describe("SIGTERM", () => {
  it("ends every service with status 0, and leaves the data plane at work", async () => {
    const names = [
      ...["loader-n1", "loader-n2", "loader-n3", "loader-n4"],
      ...["attester-cp", "attester-n1", "attester-n2", "attester-n3", "attester-n4"],
      ...["verifier-v1", "releaser-r1"],
    ]
    await untilRenewed("n1")
    const began = nowMs()
    const ended = await Promise.all(
      names.map(async (name) => {
        const running = lab.service(name)
        await running.stop(30_000)
        const { code, signal } = await running.ended
        return [name, code, signal]
      }),
    )
    console.info(`SIGTERM: all ended after ${Math.round(nowMs() - began)} ms`)
    expect(ended).toEqual(names.map((name) => [name, 0, null]))
    expect(await flowOf(PER_SECOND / 4)).toBeGreaterThan(PER_SECOND / 4)
  })
})

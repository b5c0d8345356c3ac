/** A lab with two control planes: the leading one is killed while ordinary programs move a file tree through the workflow. */
import { statSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { moveData, untilReleased } from "../../infra/lab/job.ts"
import type { SeenEvent } from "../../infra/lab/watch.ts"
import { endTestLab, LAB_START_MS, sleep, startTestLab, type TestLab, until } from "./support.ts"

let lab: TestLab
beforeAll(async () => {
  lab = await startTestLab({ controlPlanes: 2 })
  await untilReleased(lab)
}, LAB_START_MS)
afterAll(() => endTestLab(lab), 30_000)

const reigns = () =>
  lab.watch.events.flatMap(({ identity, event }) =>
    event.type === "vouchsafe.leader.began" && event.data.term !== undefined
      ? [{ identity, term: event.data.term }]
      : [],
  )

const leader = (): { readonly identity: string; readonly term: bigint } => {
  const last = reigns().at(-1)
  if (last === undefined) throw new Error("nobody leads")
  return last
}

const CONTROL = ["attester-cp", "verifier-v1", "releaser-r1", "attester-cp2", "verifier-v2", "releaser-r2"]

const isReady = (events: ReadonlyArray<SeenEvent>, name: string): boolean =>
  events.some(({ identity, event }) => identity === name && event.type === "vouchsafe.service.ready")

/** What the sink has, of data that is compressed. */
const arrivedBytes = (): number =>
  statSync(join(lab.names.directory, "arrived.gz"), { throwIfNoEntry: false })?.size ?? 0

/** The term that every end of every edge tells of; undefined while they differ. */
const inUse = (): bigint | undefined => {
  const terms = ["n1", "n2", "n3"].flatMap((id) => {
    const edges = lab.watch.stats.get(id)?.edges.filter(({ peer }) => !lab.tampered.has(peer)) ?? []
    return edges.length === 0 ? [undefined] : edges.map(({ term }) => term)
  })
  return new Set(terms).size === 1 ? terms[0] : undefined
}

const untilTerm = (above: bigint): Promise<bigint> =>
  lab.watch.until(
    () => `every edge above term ${above}`,
    30_000,
    () => {
      const term = inUse()
      return term !== undefined && term > above ? term : undefined
    },
  )

describe("with two control planes", () => {
  it("the pipeline's data arrives while the leading key-releaser, and then all of a guest, is killed", {
    timeout: 150_000,
  }, async () => {
    await lab.watch.until(
      () => "both guests of the control plane",
      30_000,
      ({ events }) => (CONTROL.every((name) => isReady(events, name)) ? true : undefined),
    )
    const first = leader()
    const moving = moveData(lab, lab.machine.netcat)
    // What fails before the data arrives is told where it is waited for.
    moving.catch(() => undefined)
    await until("data that arrives", 30_000, () => (arrivedBytes() > 0 ? true : undefined))
    await lab.kill(first.identity)
    const killedMs = performance.now()
    const arrivedWhenKilled = arrivedBytes()
    const since = (): number => Math.round(performance.now() - killedMs)
    const [[moved, movedMs], [term, termMs]] = await Promise.all([
      moving.then((result) => [result, since()] as const),
      untilTerm(first.term).then((found) => [found, since()] as const),
    ])
    expect(moved.sha256).toBe(moved.sha256_local)
    expect(moved.bytes).toBeGreaterThan(1 << 20)
    // It was under way then.
    expect(arrivedWhenKilled).toBeLessThan(moved.compressed)
    console.info(
      `every edge told of the new term ${termMs} ms after the kill; of ${moved.compressed} bytes ${arrivedWhenKilled} had arrived before it, all after ${movedMs} ms`,
    )
    const second = leader()
    expect(second.identity).not.toBe(first.identity)
    expect(term).toBe(second.term)

    lab.startService(first.identity)
    await sleep(5_000)
    expect(leader()).toEqual(second)
    const own =
      second.identity === "releaser-r1" ? ["verifier-v1", "attester-cp"] : ["verifier-v2", "attester-cp2"]
    await Promise.all([second.identity, ...own].map((identity) => lab.kill(identity)))
    const third = await untilTerm(second.term)
    expect(leader()).toEqual({ identity: first.identity, term: third })
  })
})

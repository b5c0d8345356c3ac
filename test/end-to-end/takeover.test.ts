/** A lab with two control planes: the leading one is killed while ordinary programs move a file tree through the workflow. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { moveData, untilReleased } from "../../infra/lab/job.ts"
import { endTestLab, LAB_START_MS, sleep, startTestLab, type TestLab } from "./support.ts"

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
    // Both releasers have appraised both verifiers.
    await sleep(3_000)
    const first = leader()
    const moving = moveData(lab, lab.machine.netcat)
    await sleep(200)
    await lab.kill(first.identity)
    const killedMs = performance.now()
    const since = (): number => Math.round(performance.now() - killedMs)
    const [[moved, movedMs], [term, termMs]] = await Promise.all([
      moving.then((result) => [result, since()] as const),
      untilTerm(first.term).then((found) => [found, since()] as const),
    ])
    expect(moved.sha256).toBe(moved.sha256_local)
    expect(moved.bytes).toBeGreaterThan(1 << 20)
    console.info(
      `every edge told of the new term ${termMs} ms after the kill; the data had arrived after ${movedMs} ms`,
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

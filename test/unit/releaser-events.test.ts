import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { EVENT_LIST_MAX, Event } from "../../schemas/messages/event.ts"
import type { EventDraft } from "../../services/common/bus/types.ts"
import { encode } from "../../services/common/codec/index.ts"
import { eventsOf, makeRecord, sentEvents } from "../../services/key-releaser/events.ts"
import type { ReleaseOutput, ReleaserEvent } from "../../services/make/releaser.ts"
import { attest, filled, newReleaser, releasesIn } from "../support/make-lab.ts"

const active = (count: number, term = 5n): ReadonlyArray<ReleaserEvent> =>
  Array.from({ length: count }, (_, i) => ({
    kind: "event",
    event: "edge-active",
    instance: `e:a${i}:b${i}`,
    epoch: { term, n: BigInt(i + 1) },
  }))

const releaseTo = (node: string): ReleaseOutput => {
  const releaser = newReleaser()
  const { result, kemSecret } = attest(node, releaser.beacon(0))
  releaser.accept(result, 0)
  const nonce = filled(32, 0)
  nonce[7] = 1
  const request = { node, session: result.claims.session, nonce, kem_key: kemSecret.publicKey }
  const [release] = releasesIn(releaser.pull(request, 1))
  if (release === undefined) throw new Error("no release")
  return release
}

const asEvent = (draft: ReturnType<typeof eventsOf>[number]) =>
  encode(Event, { v: 1, specversion: "1.0", id: "x", source: "/x", time: "now", ...draft })

describe("what the releaser puts on record", () => {
  it("is an event for each thing while they are few", () => {
    const events = eventsOf([...active(7), { kind: "event", event: "node-accepted", node: "n1" }])
    expect(events).toHaveLength(8)
    expect(events[0]).toEqual({
      type: "vouchsafe.edge.active",
      subject: "e:a0:b0",
      data: { edge: "e:a0:b0", term: 5n, epoch: 1n },
    })
    expect(events[7]).toEqual({ type: "vouchsafe.node.accepted", subject: "n1", data: { node: "n1" } })
  })

  it("shares events when they are many, by kind and term, and names every edge once", () => {
    const all = [
      ...active(1_000),
      ...active(10, 6n),
      ...active(2).map((one) => ({ ...one, event: "edge-retired" as const })),
    ]
    const events = eventsOf(all)
    for (const event of events) expect(asEvent(event).length).toBeLessThan(65_536)
    expect(events).toHaveLength(Math.ceil(1_000 / EVENT_LIST_MAX) + 1 + 2)
    const named = events
      .filter(({ type }) => type === "vouchsafe.edge.active")
      .flatMap(({ data }) => (data.edges ?? []).map(({ edge, epoch }) => `${data.term} ${edge} ${epoch}`))
    expect(new Set(named)).toEqual(
      new Set(
        [...active(1_000), ...active(10, 6n)].map(
          ({ instance, epoch }) => `${epoch?.term} ${instance} ${epoch?.n}`,
        ),
      ),
    )
    expect(named).toHaveLength(1_010)
  })

  it("names the nodes of many releases with their numbers", () => {
    const release = releaseTo("alpha")
    const { node, header, payload } = release
    const sent = { node, term: header.term, sequence: header.sequence, epochs: payload.edges.length }
    expect(sentEvents([sent])).toEqual([
      {
        type: "vouchsafe.release.sent",
        subject: "alpha",
        data: { node: "alpha", term: 5n, message: "release 1 with 0 edge epochs" },
      },
    ])
    const [together, ...more] = sentEvents(new Array(20).fill(sent))
    expect(more).toEqual([])
    expect(together?.data.releases).toHaveLength(20)
    expect(together?.data.releases?.[0]).toEqual({ node: "alpha", sequence: 1n, epochs: 0 })
    expect(together === undefined ? 0 : asEvent(together).length).toBeGreaterThan(0)
  })

  it("waits a moment for more of its kind, and is told to the last when the service ends", async () => {
    const told: Array<EventDraft> = []
    const event = (draft: EventDraft) => Effect.sync(() => void told.push(draft))
    const release = releaseTo("alpha")
    const typesAfter = (ms: number, gatherMs: { happened: number; sent: number }) =>
      Effect.gen(function* () {
        const record = yield* makeRecord({ event }, gatherMs)
        for (const one of active(20)) record.happened(one)
        record.sent(release)
        record.sent(release)
        yield* Effect.sleep(ms)
        return told.splice(0).map(({ type }) => type)
      }).pipe(Effect.scoped, Effect.runPromise)
    // In the end, what is left.
    expect(await typesAfter(0, { happened: 60_000, sent: 60_000 })).toEqual([])
    expect(
      told
        .splice(0)
        .map(({ type }) => type)
        .sort(),
    ).toEqual(["vouchsafe.edge.active", "vouchsafe.release.sent", "vouchsafe.release.sent"])
    expect(await typesAfter(500, { happened: 5, sent: 60_000 })).toEqual(["vouchsafe.edge.active"])
    expect(told.splice(0)).toHaveLength(2)
  })
})

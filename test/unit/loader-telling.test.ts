import { describe, expect, it } from "vitest"
import type { EdgeStats, Stats } from "../../schemas/messages/stats.ts"
import { TELL_LOOK_MS, Telling } from "../../services/dataplane-loader/telling.ts"

const edge = (more: Partial<EdgeStats> = {}): EdgeStats => ({
  instance: "e:n1:n2",
  from: "n1",
  to: "n2",
  peer: "n2",
  role: "initiator",
  state: "active",
  term: 1n,
  epoch: 1n,
  lease_left_ms: 20_000,
  sealed_packets: 0,
  sealed_bytes: 0,
  opened_packets: 0,
  opened_bytes: 0,
  rekeys: 1,
  drops: {},
  ...more,
})

const stats = (packets: number, more: Partial<Stats> = {}, ofEdge: Partial<EdgeStats> = {}): Stats => ({
  v: 1,
  node: "n1",
  stage: "source",
  state: "released",
  backend: "test",
  dataplane: "00",
  edges: [edge({ sealed_packets: packets, ...ofEdge })],
  verdicts: packets === 0 ? {} : { SEALED: packets },
  ...more,
})

/** One look after the other; gives at which of them there was something to tell. */
const looks = (each: readonly Stats[]): readonly number[] => {
  const telling = new Telling()
  return each.flatMap((one, i) => (telling.due(one, i * TELL_LOOK_MS) ? [i] : []))
}

describe("statistics", () => {
  it("of a node at rest are told every two seconds, though its leases run", () => {
    const rest = Array.from({ length: 10 }, (_, i) => stats(0, {}, { lease_left_ms: 20_000 - 500 * i }))
    expect(looks(rest)).toEqual([0, 4, 8])
  })

  it("of moving counters are told when they begin, every two seconds, and when they stand", () => {
    const counts = [0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7]
    expect(looks(counts.map((count) => stats(count)))).toEqual([0, 2, 6, 9, 13])
  })

  it("of a burst between two looks are told at once, and only once", () => {
    expect(looks([0, 9, 9, 9, 9, 9].map((count) => stats(count)))).toEqual([0, 1, 5])
  })

  it("are told at once when the node, or an edge, is in another state", () => {
    expect(looks([stats(0), stats(0, { state: "tampered" }), stats(0, { state: "tampered" })])).toEqual([
      0, 1,
    ])
    expect(looks([stats(0), stats(0, {}, { epoch: 2n }), stats(0, {}, { epoch: 2n })])).toEqual([0, 1])
    expect(looks([stats(0), stats(0, {}, { state: "none" }), stats(0, { edges: [] })])).toEqual([0, 1, 2])
  })

  it("of what passes to the bus and back move nothing", () => {
    const looked = [0, 1, 2, 3, 4].map((n) => stats(0, { verdicts: { CONTROL: n, NEIGHBOUR: n } }))
    expect(looks(looked)).toEqual([0, 4])
  })

  it("of drops are told as those of other packets are", () => {
    const dropped = stats(0, {}, { drops: { REPLAY: 1 } })
    expect(looks([stats(0), dropped, dropped, dropped])).toEqual([0, 1])
  })
})

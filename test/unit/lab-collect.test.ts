/** From events and statistics to the summary's parts; waiting for them; the workflow that the lab's operator signs. */
import { afterEach, describe, expect, it } from "vitest"
import type { Client } from "../../infra/lab/client.ts"
import {
  activeEdges,
  addDrops,
  collectDropsByNode,
  collectEdges,
  collectNodes,
  collectRefused,
  trafficFingerprint,
  wasAccepted,
} from "../../infra/lab/collect.ts"
import { DOMAIN, exampleWorkflow, signWorkflow, workflowText } from "../../infra/lab/domain.ts"
import { nodePlace } from "../../infra/lab/names.ts"
import { type Seen, type SeenEvent, startWatch, type Watch } from "../../infra/lab/watch.ts"
import type { Event } from "../../schemas/messages/event.ts"
import type { EdgeStats, Stats } from "../../schemas/messages/stats.ts"
import type { StoredEvent } from "../../services/common/bus/types.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { verifyWorkflow } from "../../services/make/workflow-document.ts"

const event = (type: Event["type"], data: Event["data"]): Event => ({
  v: 1,
  specversion: "1.0",
  id: "1",
  source: "/vouchsafe/verifier-v1",
  type,
  time: "2026-11-23T00:00:00.000Z",
  data,
})
const seenEvent = (type: Event["type"], data: Event["data"]): SeenEvent => ({
  identity: "verifier-v1",
  event: event(type, data),
  at: 0,
})
const edge = (instance: string, change: Partial<EdgeStats> = {}): EdgeStats => ({
  instance,
  from: instance.split(":")[1] ?? "",
  to: instance.split(":")[2] ?? "",
  peer: "n2",
  role: "initiator",
  state: "active",
  term: 7n,
  epoch: 1n,
  lease_left_ms: 1_000,
  sealed_packets: 10,
  sealed_bytes: 1_000,
  opened_packets: 5,
  opened_bytes: 200,
  rekeys: 1,
  drops: {},
  ...change,
})
const stats = (
  node: string,
  edges: ReadonlyArray<EdgeStats>,
  verdicts: Record<string, number> = {},
): Stats => ({
  v: 1,
  node,
  stage: "source",
  state: "released",
  backend: "bpf/tcx",
  dataplane: "aa",
  edges,
  verdicts,
})
const seen = (events: ReadonlyArray<SeenEvent>, ...all: ReadonlyArray<Stats>): Seen => ({
  events,
  stats: new Map(all.map((one) => [one.node, one])),
})

describe("collect", () => {
  const accepted = seenEvent("vouchsafe.attestation.accepted", {
    node: "n1",
    stage: "source",
    platform: "sev-snp Milan",
    emulated: true,
    dataplane: "bb",
  })
  const refused = seenEvent("vouchsafe.attestation.refused", {
    node: "n4",
    stage: "sink",
    emulated: true,
    code: "DATAPLANE",
    field: "dataplane",
    message: "found x, wanted y",
  })

  it("tells each node by the verifier's last word", () => {
    const again = seenEvent("vouchsafe.attestation.refused", {
      node: "n1",
      code: "X",
      field: "x",
      message: "later",
    })
    const stages = new Map([
      ["n1", "source"],
      ["n2", "transform"],
      ["n4", "sink"],
    ])
    const nodes = collectNodes(seen([accepted, refused], stats("n1", [])), stages)
    expect(nodes.map((n) => [n.id, n.verdict, n.platform, n.dataplane, n.backend])).toEqual([
      ["n1", "accepted", "sev-snp Milan (emulated)", "bb", "bpf/tcx"],
      ["n2", "none", "", "", ""],
      ["n4", "refused", "sev-snp (emulated)", "", ""],
    ])
    expect(collectNodes(seen([accepted, again]), stages)[0]?.verdict).toBe("refused")
    expect(wasAccepted(seen([refused]), "n4")).toBeUndefined()
  })

  it("gives the reason of a refusal", () => {
    expect(collectRefused(seen([accepted, refused]), ["n1", "n4"])).toEqual([
      { id: "n4", code: "DATAPLANE", reason: "dataplane: found x, wanted y" },
    ])
  })

  it("adds up both ends of an edge, leaves out what has no keys, and keeps the workflow's order", () => {
    const none = { state: "none", epoch: 0n } as const
    const edges = collectEdges(
      seen(
        [],
        stats("n2", [
          edge("packed:n2:n3"),
          edge("raw:n1:n2", { sealed_packets: 3 }),
          edge("packed:n2:n4", none),
        ]),
        stats("n1", [edge("raw:n1:n2")]),
      ),
      ["raw", "packed"],
    )
    expect(
      edges.map((e) => [e.id, e.from, e.to, e.term, e.epoch, e.sealed_packets, e.opened_packets]),
    ).toEqual([
      ["raw", "n1", "n2", 7, 1, 13, 10],
      ["packed", "n2", "n3", 7, 1, 10, 5],
    ])
  })

  it("calls an edge active only when both ends do", () => {
    const one = stats("n1", [edge("raw:n1:n2")])
    expect([...activeEdges(seen([], one))]).toEqual([])
    expect([...activeEdges(seen([], one, stats("n2", [edge("raw:n1:n2", { state: "install" })])))]).toEqual(
      [],
    )
    expect([...activeEdges(seen([], one, stats("n2", [edge("raw:n1:n2")])))]).toEqual(["raw:n1:n2"])
  })

  it("counts drops, not what passed", () => {
    const byNode = collectDropsByNode(
      seen(
        [],
        stats("n2", [], { SEALED: 9, NO_KEY: 2, BAD_TAG: 0 }),
        stats("n1", [], { NO_KEY: 1, REPLAYED: 4 }),
        stats("n3", []),
      ),
    )
    expect(byNode).toEqual({ n1: { NO_KEY: 1, REPLAYED: 4 }, n2: { NO_KEY: 2 } })
    expect(Object.keys(byNode)).toEqual(["n1", "n2"])
    expect(addDrops(byNode)).toEqual({ NO_KEY: 3, REPLAYED: 4 })
  })

  it("sees every counter of traffic move, and no other", () => {
    const base = trafficFingerprint(seen([], stats("n1", [edge("raw:n1:n2")], { SEALED: 1, CONTROL: 1 })))
    const at = (change: Partial<EdgeStats>, verdicts: Record<string, number> = { SEALED: 1, CONTROL: 1 }) =>
      trafficFingerprint(seen([], stats("n1", [edge("raw:n1:n2", change)], verdicts)))
    expect(at({})).toBe(base)
    expect(at({ opened_packets: 6 })).not.toBe(base)
    expect(at({}, { SEALED: 1, CONTROL: 1, BAD_TAG: 1 })).not.toBe(base)
    expect(at({ lease_left_ms: 5 }, { SEALED: 1, CONTROL: 99 })).toBe(base)
  })
})

describe("watch", () => {
  let watch: Watch | undefined
  afterEach(() => watch?.stop())

  const clientOf = (read: (after: number) => Promise<ReadonlyArray<StoredEvent>>): Client => ({
    ensureStreams: async () => undefined,
    apply: async () => undefined,
    events: read,
    close: async () => undefined,
  })
  const stored = (sequence: number): StoredEvent => ({
    sequence,
    identity: "loader-n1",
    event: event("vouchsafe.release.accepted", { node: `n${sequence}` }),
  })

  it("reads every event once, in order, and wakes who waits", async () => {
    const all = [1, 2, 3, 4].map(stored)
    const told: string[] = []
    watch = startWatch(
      clientOf(async (after) => all.filter(({ sequence }) => sequence > after).slice(0, 2)),
      new Map(),
      ({ event: { data } }) => told.push(data.node ?? ""),
    )
    const found = await watch.until(
      () => "n4",
      2_000,
      ({ events }) => events.find((e) => e.event.data.node === "n4"),
    )
    expect(found.at).toBe(Date.parse("2026-11-23T00:00:00Z"))
    expect(told).toEqual(["n1", "n2", "n3", "n4"])
  })

  it("asks again when an answer did not come", async () => {
    let asked = 0
    const flaky = clientOf(async () => {
      asked += 1
      if (asked < 3) throw new Error("no answer in time")
      return asked === 3 ? [stored(1)] : []
    })
    watch = startWatch(flaky, new Map(), () => undefined)
    await watch.until(
      () => "an event",
      2_000,
      ({ events }) => events[0],
    )
    expect(asked).toBeGreaterThanOrEqual(3)
  })

  it("says what was missing when time is up, and fails every wait once broken", async () => {
    watch = startWatch(
      clientOf(async () => []),
      new Map(),
      () => undefined,
    )
    await expect(
      watch.until(
        () => "keys for raw",
        60,
        () => undefined,
      ),
    ).rejects.toThrow("not within 0.06 s: keys for raw")
    const waiting = watch.until(
      () => "ever",
      10_000,
      () => undefined,
    )
    watch.fail(new Error("loader-n1 ended by SIGSEGV"))
    await expect(waiting).rejects.toThrow("SIGSEGV")
    await expect(
      watch.until(
        () => "ever",
        10_000,
        () => 1,
      ),
    ).rejects.toThrow("SIGSEGV")
    await expect(watch.untilBroken).rejects.toThrow("SIGSEGV")
  })
})

describe("the lab's workflow", () => {
  const operator = crypto.ed25519.generate()
  const nodes = ["source", "transform", "sink"].map((stage, i) => ({
    ...nodePlace(`n${i + 1}`, i + 1),
    stage,
    chip: `${i}${"0".repeat(127)}`,
  }))
  const workflow = exampleWorkflow({
    root: { vendor: "amd", product: "Milan", key_digest: "ab".repeat(32), emulated: true },
    nodes,
    measurement: "cd".repeat(48),
    dataplane: "ef".repeat(48),
    notAfter: new Date(Date.now() + 60_000),
  })
  const trust = { domain: DOMAIN, operatorKeys: [operator.publicKey], threshold: 1 }

  it("is one that its nodes obey, and pins each node to its chip", () => {
    const verified = verifyWorkflow(crypto, signWorkflow(workflowText(workflow), operator), trust, Date.now())
    expect(verified.document).toEqual(workflow)
    expect(verified.document.nodes.every(({ chip }) => chip !== "any")).toBe(true)
    expect(Object.values(verified.document.stages).every(({ assurance }) => assurance === "emulated")).toBe(
      true,
    )
  })
  it("is obeyed from this operator only, and not after its end", () => {
    const signed = signWorkflow(workflowText(workflow), crypto.ed25519.generate())
    expect(() => verifyWorkflow(crypto, signed, trust, Date.now())).toThrow()
    const own = signWorkflow(workflowText(workflow), operator)
    expect(() => verifyWorkflow(crypto, own, trust, Date.now() + 120_000)).toThrow(/not_after/)
  })
})

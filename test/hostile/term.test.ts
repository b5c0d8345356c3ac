import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { signWorkflow, workflowText } from "../../infra/lab/domain.ts"
import { emulatedRoot } from "../../infra/lab/hardware.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import { Bus } from "../../services/common/bus/bus.ts"
import { loadTrust } from "../../services/common/config/anchors.ts"
import { readReleaserKey } from "../../services/common/config/guest-keys.ts"
import { serveReleaser } from "../../services/key-releaser/service.ts"
import { nextTerm } from "../../services/make/term.ts"
import { withBuses } from "../support/buses.ts"
import { startNats, type TestNats } from "../support/nats.ts"
import { anchorsOf, chipOf, crypto, workflowOf } from "./support.ts"

let nats: TestNats
let directory: string

beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "releaser", instance: "r1" },
    { role: "verifier", instance: "v1" },
  ])
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-term-"))
})
afterAll(async () => {
  vi.restoreAllMocks()
  await nats?.stop()
  rmSync(directory, { recursive: true, force: true })
})

describe("a releaser's term", () => {
  it("rises with each document within one second, also across one that doesn't compile", async () => {
    const root = emulatedRoot()
    const operator = crypto.ed25519.generate()
    const anchorsPath = join(directory, "anchors.json")
    writeFileSync(anchorsPath, JSON.stringify(anchorsOf(operator, root, chipOf(root))), { mode: 0o600 })
    const first = workflowOf(root, [{ id: "n1", stage: "source", chip: "any" }], 30)
    const [edge] = first.edges
    if (edge === undefined) throw new Error("no edge")
    const documents: ReadonlyArray<Workflow> = [
      first,
      // Two edges that allow the same: whose keys would be used?
      { ...first, version: 2, edges: [edge, { ...edge, id: "again" }] },
      { ...first, version: 3 },
    ]
    vi.spyOn(Date, "now").mockReturnValue(Date.now())
    await withBuses(
      nats,
      [
        ["operator", "lab"],
        ["releaser", "r1"],
      ],
      (operatorBus, releaserBus) =>
        Effect.gen(function* () {
          yield* operatorBus.ensureStreams
          const seen = { applied: 0, refused: 0 }
          yield* operatorBus.subscribe("event", {}, ({ type }) =>
            Effect.sync(() => {
              if (type === "vouchsafe.workflow.applied") seen.applied++
              if (type === "vouchsafe.workflow.refused") seen.refused++
            }),
          )
          const releaser = serveReleaser({
            crypto,
            trust: loadTrust(anchorsPath),
            instance: "r1",
            control: "cp",
            runDirectory: directory,
          })
          yield* Effect.forkScoped(releaser.pipe(Effect.provideService(Bus, releaserBus)))
          const terms: bigint[] = []
          for (const [i, document] of documents.entries()) {
            yield* operatorBus.workflows.put("lab", signWorkflow(workflowText(document), operator))
            for (let waits = 0; waits < 300 && (seen.applied <= i || seen.refused < (i > 0 ? 1 : 0)); waits++)
              yield* Effect.sleep("10 millis")
            // The key's file is written after the event was queued, in the same turn.
            yield* Effect.sleep("50 millis")
            terms.push(readReleaserKey(directory).term)
          }
          expect(seen).toEqual({ applied: 3, refused: 1 })
          const [one = 0n, two, three = 0n] = terms
          expect(two).toBe(one)
          expect(three).toBeGreaterThan(one)
        }),
    )
  })
})

describe("a node that drove the term as far as the document in force lets it", () => {
  it("locks no releaser out by a later document that ends earlier", async () => {
    vi.restoreAllMocks()
    const root = emulatedRoot()
    const operator = crypto.ed25519.generate()
    const anchorsPath = join(directory, "anchors-driven.json")
    writeFileSync(anchorsPath, JSON.stringify(anchorsOf(operator, root, chipOf(root))), { mode: 0o600 })
    const day = 86_400_000
    const ending = (version: number, days: number): Workflow => ({
      ...workflowOf(root, [{ id: "n1", stage: "source", chip: "any" }], 30),
      version,
      not_after: new Date(Date.now() + days * day).toISOString().replace(/\.\d+Z$/, "Z"),
    })
    const driven = nextTerm({
      last: undefined,
      heard: undefined,
      wallMs: Date.now() + 100.5 * day,
      random: 0,
    })
    await withBuses(
      nats,
      [
        ["operator", "lab"],
        ["releaser", "r1"],
        ["verifier", "v1"],
      ],
      (operatorBus, releaserBus, verifierBus) =>
        Effect.gen(function* () {
          let term = 0n
          yield* verifierBus.subscribe("beacon", {}, (beacon) =>
            Effect.sync(() => {
              term = beacon.term
            }),
          )
          const paced = new Map<string, unknown>()
          const watched = {
            ...releaserBus,
            subscribe: ((name, tokens, handler, options) => {
              paced.set(name, options?.pace)
              return releaserBus.subscribe(name, tokens, handler, options)
            }) as typeof releaserBus.subscribe,
          }
          yield* operatorBus.ensureStreams
          let versions = 100
          const store = (days: number) =>
            operatorBus.workflows.put("lab", signWorkflow(workflowText(ending(++versions, days)), operator))
          yield* store(100)
          const releaser = serveReleaser({
            crypto,
            trust: loadTrust(anchorsPath),
            instance: "r1",
            control: "cp",
            runDirectory: directory,
          })
          yield* Effect.forkScoped(releaser.pipe(Effect.provideService(Bus, watched)))
          const reigns = (above: bigint) =>
            Effect.gen(function* () {
              for (let waits = 0; waits < 2_000 && term <= above; waits++) yield* Effect.sleep("10 millis")
              expect(term).toBeGreaterThan(above)
            })
          yield* reigns(0n)
          yield* store(10)
          yield* reigns(term)
          // Nobody says a word of the driven term before the shorter document is in force.
          const said = verifierBus.publish(
            "presence",
            { instance: "v1" },
            { v: 1, role: "verifier", control: "cp", key: operator.publicKey, term: driven },
          )
          yield* said
          yield* reigns(driven)
          // Whoever has a place on the bus can say a withdrawal; none of what is signed may come without bound.
          for (const name of ["pull", "ack", "leave", "withdraw"]) expect(paced.get(name), name).toBeDefined()
        }),
    )
  }, 90_000)
})

describe("a releaser whose workflow's own end has come", () => {
  it("reigns no more: it sends no beacons, so that nobody can be vouched for", async () => {
    vi.restoreAllMocks()
    const root = emulatedRoot()
    const operator = crypto.ed25519.generate()
    const anchorsPath = join(directory, "anchors-end.json")
    writeFileSync(anchorsPath, JSON.stringify(anchorsOf(operator, root, chipOf(root))), { mode: 0o600 })
    const document = workflowOf(root, [{ id: "n1", stage: "source", chip: "any" }], 30)
    await withBuses(
      nats,
      [
        ["operator", "lab"],
        ["releaser", "r1"],
        ["verifier", "v1"],
      ],
      (operatorBus, releaserBus, verifierBus) =>
        Effect.gen(function* () {
          let beacons = 0
          yield* verifierBus.subscribe("beacon", {}, () => Effect.sync(() => void beacons++))
          yield* operatorBus.ensureStreams
          yield* operatorBus.workflows.put("lab", signWorkflow(workflowText(document), operator))
          const releaser = serveReleaser({
            crypto,
            trust: loadTrust(anchorsPath),
            instance: "r1",
            control: "cp",
            runDirectory: directory,
          })
          yield* Effect.forkScoped(releaser.pipe(Effect.provideService(Bus, releaserBus)))
          for (let waits = 0; waits < 1_000 && beacons === 0; waits++) yield* Effect.sleep("10 millis")
          expect(beacons).toBeGreaterThan(0)
          vi.spyOn(Date, "now").mockReturnValue(Date.parse(document.not_after))
          // What was on its way may still arrive.
          yield* Effect.sleep("300 millis")
          const before = beacons
          yield* Effect.sleep("2500 millis")
          expect(beacons).toBe(before)
        }),
    )
  })
})

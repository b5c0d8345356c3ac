/** What verifiers keep of each node, and what a changed document would do to a fleet of them. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { Workflow } from "../../schemas/workflow.ts"
import { fleetLines, fleetStatus, type Outcome, tryFleet } from "../../services/cli/fleet.ts"
import { unpackRecord } from "../../services/evidence/record/index.ts"
import { makeRecords } from "../../services/verifier/records.ts"
import {
  attested,
  documentOf,
  type Fleet,
  filled,
  type Given,
  type Known,
  known,
  makeFleet,
  nodeName,
  vouchsafe,
} from "./appraise-support.ts"
import { hexOf, now } from "./evidence-support.ts"

const size = 6
let folder: string
let fleet: Fleet
let workflow: Known

const keepAll = (path: string, all: readonly Given[]) =>
  Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const keep = yield* makeRecords(path)
        for (const given of all) yield* keep(given)
        // The writer works behind: its last file says that it is done.
        const last = all.at(-1)
        if (last === undefined) return
        const name = `${last.asked.nodeId}${last.verdict.accepted ? "" : ".refused"}.record`
        const file = join(path, hexOf(last.asked.workflow.digest), name)
        for (let i = 0; i < 500 && !exists(file, last); i++) yield* Effect.sleep(20)
      }),
    ),
  )

const exists = (file: string, { at }: Given): boolean => {
  try {
    return statSync(file).isFile() && at !== undefined
  } catch {
    return false
  }
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "vouchsafe-fleet-"))
  fleet = makeFleet(size)
  workflow = known(documentOf(fleet))
  const all = fleet.chips.map((_, i) => attested(fleet, i, workflow)).slice(0, size - 1)
  const impostor = attested(fleet, 1, workflow, { measurement: filled(48, 9) })
  await keepAll(folder, [...all, { ...impostor, at: new Date(now.getTime() + 1_000) }])
}, 120_000)
afterAll(() => rmSync(folder, { recursive: true }))

const tried = (change: (w: Workflow) => Workflow, at = now) =>
  tryFleet([folder], known(documentOf(fleet, change)), { at })
const outcomes = (change: (w: Workflow) => Workflow, at = now): Record<string, Outcome> =>
  Object.fromEntries(tried(change, at).nodes.map(({ node, outcome }) => [node, outcome]))

/** The sinks' measurement becomes another. */
const changed = (w: Workflow): Workflow => {
  const { sink } = w.stages
  if (sink?.sev_snp === undefined) throw new Error("no sink")
  const sev_snp = { ...sink.sev_snp, measurements: ["77".repeat(48)] }
  return { ...w, version: 2, stages: { ...w.stages, sink: { ...sink, sev_snp } } }
}

describe("records of a verifier", () => {
  it("are the last acceptance and the last refusal of each node, for root alone, beside their document", () => {
    const own = join(folder, hexOf(workflow.digest))
    const wanted = [0, 1, 2, 3, 4].map((i) => `${nodeName(i)}.record`)
    expect(readdirSync(own).sort()).toEqual([...wanted, "n2.refused.record", "workflow.yaml"].sort())
    expect(statSync(own).mode & 0o777).toBe(0o700)
    expect(statSync(join(own, "n1.record")).mode & 0o777).toBe(0o600)
  })

  it("are kept for a few documents only", async () => {
    const path = mkdtempSync(join(tmpdir(), "vouchsafe-documents-"))
    try {
      for (let version = 1; version <= 6; version++)
        await keepAll(path, [attested(fleet, 0, known(documentOf(fleet, (w) => ({ ...w, version }))))])
      const kept = readdirSync(path)
      expect(kept).toHaveLength(4)
      expect(kept).toContain(hexOf(known(documentOf(fleet, (w) => ({ ...w, version: 6 }))).digest))
    } finally {
      rmSync(path, { recursive: true })
    }
  }, 60_000)

  it("don't keep a verifier from its work when they can't be written", async () => {
    const path = join(folder, "a-file")
    writeFileSync(path, "")
    const given = attested(fleet, 0, workflow)
    await Effect.runPromise(
      Effect.scoped(
        Effect.gen(function* () {
          const keep = yield* makeRecords(path)
          for (let i = 0; i < 3; i++) yield* keep(given)
          yield* Effect.sleep(100)
        }),
      ),
    )
    rmSync(path)
  }, 60_000)
})

describe("a document tried on a fleet", () => {
  it("changes nothing when it is the same", () => {
    const found = outcomes((w) => w)
    expect(found).toEqual({
      n1: "accepted",
      n2: "accepted",
      n3: "accepted",
      n4: "accepted",
      n5: "accepted",
      n6: "no evidence",
    })
  })

  it("names those that it would refuse, and why, before anybody has signed it", () => {
    const fleetOf = tried(changed)
    expect(fleetOf.nodes.filter(({ outcome }) => outcome === "refused by the change")).toMatchObject([
      {
        node: "n2",
        stage: "sink",
        code: "MEASUREMENT",
        check: { name: "measurement", wanted: "77".repeat(48) },
      },
      { node: "n4", stage: "sink", code: "MEASUREMENT" },
    ])
    expect(fleetStatus(fleetOf)).toBe(3)
    const [first = "", second = ""] = fleetLines(fleetOf)
    expect(first).toBe("2 of 6 nodes would be refused by the change, for measurement (2).")
    expect(second).toBe("3 accepted as before; 1 no evidence.")
  })

  it("tells what time has done from what the change does", () => {
    const later = new Date("2099-01-01T00:00:00Z")
    const { n1, n2 } = outcomes(changed, later)
    expect([n1, n2]).toEqual(["refused anyway", "refused anyway"])
  })

  it("finds nodes that it no longer names, machines that it moves, and nodes that it lets in", () => {
    const without = outcomes((w) => ({ ...w, nodes: w.nodes.filter(({ id }) => id !== "n1") }))
    expect(without.n1).toBe("not named")
    const swapped = outcomes((w) => ({
      ...w,
      nodes: w.nodes.map((node) =>
        node.id === "n1" || node.id === "n3"
          ? {
              ...node,
              chip: { sev_snp: hexOf(fleet.chips[node.id === "n1" ? 2 : 0]?.chipId ?? filled(64, 0)) },
            }
          : node,
      ),
    }))
    expect([swapped.n1, swapped.n2, swapped.n3]).toEqual([
      "refused by the change",
      "accepted",
      "refused by the change",
    ])
  })

  it("prefers what a node was accepted for: whoever speaks as it can't hide it behind a refusal", () => {
    const own = join(folder, hexOf(workflow.digest))
    expect(unpackRecord(new Uint8Array(readFileSync(join(own, "n2.refused.record")))).at_ms).toBe(
      now.getTime() + 1_000,
    )
    expect(outcomes((w) => w).n2).toBe("accepted")
  })

  it("is said by the tool, in text and in JSON, with files that are no records named", async () => {
    const path = join(folder, "next.yaml")
    writeFileSync(path, known(documentOf(fleet, changed)).bytes)
    const stray = join(folder, "stray.record")
    writeFileSync(stray, "verdict-record, or so")
    const args = ["appraise", "--workflow", path, "--fleet", folder, "--at", now.toISOString()]
    const ran = await vouchsafe(args)
    expect(ran).toMatchObject({ status: 3, err: "" })
    expect(ran.out).toContain("2 of 6 nodes would be refused by the change, for measurement (2).")
    expect(ran.out).toContain(`unusable  ${stray}: RECORD_MALFORMED`)
    const told = JSON.parse((await vouchsafe([...args, "--json"])).out)
    expect(told.nodes).toHaveLength(6)
    expect(told.unusable).toMatchObject([{ file: stray, code: "RECORD_MALFORMED" }])
    rmSync(stray)
    const nowhere = await vouchsafe(["appraise", "--workflow", path, "--fleet", join(folder, "none")])
    expect(nowhere).toMatchObject({ status: 2 })
  }, 120_000)
})

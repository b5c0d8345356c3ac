/** A real verifier keeps what it has decided by; the operator's tool gives it again, and finds it in the signed result. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import { vouchsafe } from "../unit/appraise-support.ts"
import { attested, playNode, prepare, submit } from "./nodes.ts"
import { filled, machine, startWorld, until, type World } from "./support.ts"

let world: World
let records: string

beforeAll(async () => {
  records = mkdtempSync(join(tmpdir(), "vouchsafe-records-"))
  world = await startWorld({
    nodes: [
      { id: "n1", stage: "source" },
      { id: "n2", stage: "transform" },
    ],
    verifier: { VOUCHSAFE_RECORDS: records },
  })
}, 120_000)
afterAll(async () => {
  await world?.stop()
  rmSync(records, { recursive: true })
}, 60_000)

const kept = (name: string) =>
  until(`${name} is kept`, () => {
    const [document] = readdirSync(records)
    if (document === undefined) return undefined
    const folder = join(records, document)
    return readdirSync(folder).includes(name) ? join(folder, name) : undefined
  })

it("an acceptance and a refusal, as they were decided over the bus", async () => {
  await attested(world, await playNode(world, "n1"))
  const wrong = await playNode(world, "n2", {
    machine: machine(world.chip("n2"), { measurement: filled(48, 9) }),
  })
  const { evidence } = await prepare(world, wrong)
  expect(await submit(world, wrong, evidence)).toMatchObject({ kind: "refused", code: "MEASUREMENT" })

  await kept("n1.result")
  const good = await vouchsafe(["appraise", "--replay", await kept("n1.record"), "--json"])
  const told = JSON.parse(good.out)
  expect([good.status, told.same, told.recorded.verdict, told.result]).toMatchObject([
    0,
    true,
    "accepted",
    { matches: true, differs: [] },
  ])
  const bad = await vouchsafe(["appraise", "--replay", await kept("n2.refused.record"), "--json"])
  expect([bad.status, JSON.parse(bad.out)]).toMatchObject([
    0,
    { same: true, recorded: { verdict: "refused", code: "MEASUREMENT" }, result: null },
  ])
}, 120_000)

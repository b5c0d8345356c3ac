import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { verdicts } from "../../schemas/verdicts.ts"
import { VS_LAYOUT } from "../../services/common/kernel/records.ts"
import { arrivingCases } from "./arriving-cases.ts"
import { closeAfterEach, keep } from "./fresh-planes.ts"
import { guardCases } from "./guard-cases.ts"
import { openCases } from "./open-cases.ts"
import { arpFrame, frame } from "./packets.ts"
import { DROP, PASS, Plane, type Program, REDIRECT, readyPlane } from "./plane.ts"
import { sealCases } from "./seal-cases.ts"
import { request } from "./traffic.ts"
import { type Case, guard, inner, open, seal } from "./verdict-case.ts"

closeAfterEach()

const unconfigured = (): Plane => new Plane()
const otherLayout = (): Plane => readyPlane({ layout: VS_LAYOUT + 1 })
const noMark = (): Plane => readyPlane({ mark: 0 })
const allMark = (): Plane => readyPlane({ mark: 0xffffffff })
const everyProgram: ReadonlyArray<Program> = [seal, open, guard, inner]

const unconfiguredCases = everyProgram.flatMap((program): ReadonlyArray<Case> => {
  const packet = (): Uint8Array => (program === open || program === guard ? arpFrame() : frame(request()))
  return [
    { name: "before configuration", program, plane: unconfigured, packet, verdict: "NOT_CONFIGURED" },
    { name: "another layout", program, plane: otherLayout, packet, verdict: "NOT_CONFIGURED" },
    { name: "a mark of zero", program, plane: noMark, packet, verdict: "NOT_CONFIGURED" },
    { name: "a mark of all ones", program, plane: allMark, packet, verdict: "NOT_CONFIGURED" },
  ]
})

const cases = [...unconfiguredCases, ...sealCases, ...openCases, ...arrivingCases, ...guardCases]

const expectedAction = (verdict: string): number => {
  // What is too long is dropped; what goes to the application in its place is a message about it.
  if (verdict === "TOO_LONG") return REDIRECT
  if (verdicts.find((row) => row.name === verdict)?.outcome !== "pass") return DROP
  return verdict === "SEALED" || verdict === "OPENED" ? REDIRECT : PASS
}

describe("one packet, one verdict", () => {
  // Loading takes 90 ms, most of it for the memory of the maps: cases that change nothing by hand share one plane.
  let shared: Plane
  beforeAll(() => {
    shared = readyPlane()
  })
  afterAll(() => shared.close())
  const alone = (one: Case): Plane => {
    const plane = keep((one.plane ?? readyPlane)())
    one.given?.(plane)
    return plane
  }

  for (const one of cases)
    test(`${one.program}: ${one.name}: ${one.verdict}`, () => {
      const plane = one.plane === undefined && one.given === undefined ? shared.forget() : alone(one)
      const out = plane.run(one.program, one.packet(), {
        mark: one.mark ?? 0,
        gsoSegs: one.gsoSegs ?? 0,
        gsoSize: one.gsoSize ?? 0,
      })
      expect(out.verdict).toBe(one.verdict)
      expect(out.retval).toBe(expectedAction(one.verdict))
    })

  // Those of flows have tests in flows.test.ts, of path MTUs in oversize.test.ts, of ECN in tos.test.ts, SEQUENCE_END below; INTERNAL needs a kernel without memory.
  test("no verdict of the table is without a case", () => {
    const covered = new Set([
      ...cases.map((one) => one.verdict),
      "FLOW_TABLE_FULL",
      "FLOW_QUOTA",
      "CONGESTED",
      "PATH_MTU",
      "FORGED_ICMP",
      "SEQUENCE_END",
      "INTERNAL",
    ])
    expect(verdicts.map((verdict) => verdict.name).filter((name) => !covered.has(name))).toEqual([])
  })
})

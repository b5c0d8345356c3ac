import { describe, expect, it } from "vitest"
import { workflowText } from "../../infra/lab/domain.ts"
import { emulatedRoot } from "../../infra/lab/hardware.ts"
import type { EventData } from "../../schemas/messages/event.ts"
import { askersIn, denial, pin } from "../../services/cli/enroll.ts"
import { reviseText } from "../../services/cli/revise.ts"
import type { StoredEvent } from "../../services/common/bus/types.ts"
import { workflowOf } from "../hostile/support.ts"

const chip = (byte: string) => ({ sev_snp: byte.repeat(64) })
const workflow = workflowOf(
  emulatedRoot(),
  [
    { id: "alpha", stage: "source", chip: chip("01") },
    { id: "beta", stage: "transform", chip: "any" },
  ],
  30,
)
const text = workflowText({
  ...workflow,
  nodes: workflow.nodes.map((node) => (node.id === "beta" ? { ...node, chip: "pending" } : node)),
})

const failed = (name: string) => ({ name, result: "failed" as const, found: "a", wanted: "b" })
let sequence = 0
const event = (data: EventData, change: Partial<StoredEvent> = {}): StoredEvent => ({
  sequence: ++sequence,
  identity: "verifier-v1",
  event: {
    v: 1,
    specversion: "1.0",
    id: "x",
    source: "y",
    type: "vouchsafe.attestation.refused",
    time: `2026-11-01T00:00:0${sequence % 10}Z`,
    data,
  },
  ...change,
})

describe("who asks for a node's place", () => {
  it("is told from verifiers' refusals that name a genuine machine", () => {
    const asks = { node: "beta", chip: chip("02"), platform: "sev-snp", checks: [failed("chip-id")] }
    const askers = askersIn([
      event(asks),
      event({ ...asks, checks: [failed("chip-id"), failed("measurement")] }),
      event({ ...asks, chip: chip("03") }),
      // Not genuine, not about the chip, or not a verifier's word.
      event({ node: "beta", checks: [failed("chip-id")] }),
      event({ ...asks, chip: chip("04"), checks: [failed("measurement")] }),
      event({ ...asks, chip: chip("05") }, { identity: "loader-beta" }),
    ])
    expect(askers.map(({ chip, times, lacks }) => ({ chip, times, lacks }))).toEqual([
      { chip: chip("02"), times: 2, lacks: ["measurement"] },
      { chip: chip("03"), times: 1, lacks: [] },
    ])
  })
})

describe("an enrolment", () => {
  const id = `sev_snp:${"02".repeat(64)}`
  it("gives a pending node its machine, another one only when it is replaced", () => {
    const approved = reviseText(text, pin("beta", [id], false))
    expect(approved.workflow.nodes[1]?.chip).toEqual(chip("02"))
    expect(approved.diff.filter((line) => line.startsWith("-"))).toEqual([
      "- version: 1",
      "-     chip: pending",
    ])
    expect(() => reviseText(text, pin("alpha", [id], false))).toThrow("has a machine already")
    expect(() => reviseText(text, pin("beta", [id], true))).toThrow("no machine yet")
    expect(() => reviseText(text, pin("gamma", [id], false))).toThrow("no node")
    expect(reviseText(text, pin("alpha", [id], true)).workflow.nodes[0]?.chip).toEqual(chip("02"))
    // One machine in two places.
    expect(() => reviseText(approved.text, pin("alpha", [id], true))).toThrow("there twice")
  })

  it("denied is a machine revoked", () => {
    expect(reviseText(text, denial([id])).workflow.revoked).toEqual({ chips: [chip("02")] })
  })
})

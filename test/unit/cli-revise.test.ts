import { describe, expect, it } from "vitest"
import { workflowText } from "../../infra/lab/domain.ts"
import { emulatedRoot } from "../../infra/lab/hardware.ts"
import { earlierEnd } from "../../services/cli/earlier-end.ts"
import { reviseText } from "../../services/cli/revise.ts"
import { chipFrom, revocation } from "../../services/cli/revoke.ts"
import { diffLines } from "../../services/cli/text-diff.ts"
import { parseWorkflow } from "../../services/make/workflow-document.ts"
import { workflowOf } from "../hostile/support.ts"

const chip = (byte: string) => ({ sev_snp: byte.repeat(64) })
const text = workflowText(
  workflowOf(
    emulatedRoot(),
    [
      { id: "alpha", stage: "source", chip: chip("01") },
      { id: "beta", stage: "transform", chip: chip("02") },
    ],
    30,
  ),
)
  .replace("version: 1", "version: 1 # the first")
  .replace("edges:", "# Who may talk to whom.\nedges:")

const values = (change: object) => ({ json: false, help: false, yes: true, ...change }) as never

describe("the next version of a document", () => {
  it("changes what was asked for and its number, and keeps comments", () => {
    const { text: after, workflow, diff } = reviseText(text, revocation(values({ node: ["beta"] })))
    expect(workflow.version).toBe(2)
    expect(workflow.revoked).toEqual({ nodes: ["beta"] })
    expect(after).toContain("# the first")
    expect(after).toContain("# Who may talk to whom.")
    expect(diff).toEqual([
      "- version: 1 # the first",
      "+ version: 2 # the first",
      "+ revoked:",
      "+   nodes:",
      "+     - beta",
    ])
    const again = reviseText(
      after,
      revocation(values({ chip: ["01".repeat(64)], measurement: ["ab".repeat(48)] })),
    )
    expect(again.workflow.revoked).toEqual({
      nodes: ["beta"],
      chips: [chip("01")],
      measurements: ["ab".repeat(48)],
    })
    expect(again.workflow.version).toBe(3)
  })

  it("is none when nothing changes, or nothing like that is there", () => {
    const { text: after } = reviseText(text, revocation(values({ node: ["beta"] })))
    expect(() => reviseText(after, revocation(values({ node: ["beta"] })))).toThrow("revoked already")
    expect(() => reviseText(text, revocation(values({ node: ["gamma"] })))).toThrow("no node")
    expect(() => reviseText(text, revocation(values({ measurement: ["xyz"] })))).toThrow()
    expect(() => chipFrom("ffff", parseWorkflow(text))).toThrow("of which kind")
    expect(chipFrom("nitro:i-0a:b", parseWorkflow(text))).toEqual({ nitro: "i-0a:b" })
  })
})

describe("a document that ends before the one that is stored", () => {
  it("is warned of; one that ends with it or later is not", () => {
    const before = parseWorkflow(text)
    const ending = (not_after: string) => ({ ...before, version: 2, not_after })
    expect(earlierEnd(before, ending(before.not_after))).toBeUndefined()
    expect(earlierEnd(before, ending("2099-01-01T00:00:00Z"))).toBeUndefined()
    expect(earlierEnd(before, ending("2026-01-01T00:00:00Z"))).toMatch(
      /^warning: version 2 ends at 2026-01-01T00:00:00Z, version 1/,
    )
  })
})

describe("lines that two texts don't share", () => {
  it("are found in order", () => {
    expect(diffLines("a\nb\nc\nd", "a\nx\nc\ny\nd")).toEqual(["- b", "+ x", "+ y"])
    expect(diffLines("a", "a")).toEqual([])
    expect(diffLines("", "a")).toEqual(["- ", "+ a"])
    const long = Array.from({ length: 5_000 }, (_, i) => `${i}`).join("\n")
    expect(diffLines(long, "x")).toHaveLength(5_001)
  })
})

/** `vouchsafe workflow check`: what a person learns of a document before signing it. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import { exampleWorkflow, workflowText } from "../../infra/lab/domain.ts"
import { nodePlace } from "../../infra/lab/names.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import { checkWorkflow } from "../../services/cli/local-commands.ts"

let directory = ""
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-check-"))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))
afterEach(() => vi.restoreAllMocks())

const example = exampleWorkflow({
  root: { vendor: "amd", product: "Milan", key_digest: "ab".repeat(32), emulated: true },
  nodes: ["source", "transform", "sink"].map((stage, i) => ({
    ...nodePlace(`n${i + 1}`, i + 1),
    stage,
    chip: `${i}${"0".repeat(127)}`,
  })),
  measurement: "cd".repeat(48),
  dataplane: "ef".repeat(48),
  notAfter: new Date(Date.now() + 60_000),
})

type Node = Workflow["nodes"][number]
const families = (...each: ReadonlyArray<Pick<Node, "address" | "address6"> & Partial<Node>>): Workflow => ({
  ...example,
  nodes: example.nodes.map(({ address: _, address6: __, ...node }, i) => ({ ...node, ...each[i] })),
})

const check = (workflow: Workflow) => {
  const path = join(directory, "workflow.yaml")
  writeFileSync(path, workflowText(workflow))
  const said: string[] = []
  vi.spyOn(process.stderr, "write").mockImplementation((text) => said.push(String(text)) > 0)
  let shown: { readonly value: unknown; readonly lines: ReadonlyArray<string> } | undefined
  let failure = ""
  try {
    checkWorkflow({ json: false, result: (value, lines) => (shown = { value, lines }), item: () => {} }, path)
  } catch (error) {
    failure = String(error)
  }
  return { ...shown, said, failure }
}

const four = (i: number) => ({ address: `10.77.0.${i}` })
const six = (i: number) => ({ address6: `fd77::${i}` })

describe("workflow check", () => {
  it("shows the addresses of both families, and by which an edge goes", () => {
    const {
      value,
      lines = [],
      said,
    } = check(families({ ...four(1), ...six(1) }, { ...four(2), ...six(2) }, six(3)))
    expect(said).toEqual([])
    expect(lines.find((line) => line.includes("n1 "))).toMatch(
      /10\.77\.0\.1 fd77::1 +on the wire 10\.99\.0\.11/,
    )
    expect(lines.find((line) => line.startsWith("edge  raw"))).toMatch(
      /n1 -> n2 {2}tcp\/5000 by IPv4 and IPv6$/,
    )
    expect(lines.find((line) => line.startsWith("edge  packed"))).toMatch(/n2 -> n3 {2}tcp\/5001 by IPv6$/)
    expect(value).toMatchObject({
      addresses: [{ id: "n1", address: "10.77.0.1", address6: "fd77::1" }, {}, { address: null }],
      edges: [{ families: [6] }, { families: [4, 6] }],
    })
  })

  it("names every pair that can't reach each other, and fails", () => {
    const { lines, said, failure } = check(families(four(1), six(2), { ...six(3), wire: "2001:db8::13" }))
    expect(said).toEqual([
      "unreachable: edge raw from n1 to n2: n1 has workflow addresses of IPv4 only and n2 of IPv6 only\n",
      "unreachable: edge packed from n2 to n3: n2 is on the wire by IPv4 and n3 by IPv6\n",
    ])
    expect(failure).toMatch(/edges\.raw: n1 has workflow addresses of IPv4 only/)
    expect(lines).toBeUndefined()
  })

  it("refuses by name an endorsement key that peers can't have proven to them", () => {
    const [first, ...others] = example.nodes
    const { source } = example.stages
    if (first === undefined || source === undefined) throw new Error("no source")
    const sev_snp = `0${"0".repeat(127)}`
    const endorsed: Workflow = {
      ...example,
      roots: [...example.roots, { vendor: "tpm", use: "ek", key_digest: "08".repeat(32), emulated: false }],
      stages: {
        ...example.stages,
        source: {
          ...source,
          platforms: ["sev-snp", "sev-snp+tpm"],
          tpm: { bank: "sha256", pcrs: { 7: ["07".repeat(32)] } },
        },
      },
      nodes: [{ ...first, chip: { sev_snp, tpm_ek: "08".repeat(32) } }, ...others],
    }
    expect(check(endorsed).failure).toBe("")
    const { failure, lines } = check({ ...endorsed, peers: "evidence" })
    expect(failure).toMatch(/nodes\.n1\.chip\.tpm_ek: peers of edge "raw" can't prove an endorsement key/)
    expect(lines).toBeUndefined()
  })
})

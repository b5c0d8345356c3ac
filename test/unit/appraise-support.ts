/** For the tests of records: a fleet of emulated machines, a document that names them, and what a verifier finds of each. */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { stringify } from "yaml"
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { HardwareRoot } from "../../schemas/platforms.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import {
  type EmulatedChip,
  type EmulatedRoot,
  EvidenceCaches,
  launchGuest,
} from "../../services/evidence/index.ts"
import { appraiseNode, type Outstanding, type Verdict } from "../../services/guest/appraise-node.ts"
import { workflowDigest } from "../../services/make/transcript.ts"
import { parseWorkflow, type VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import { answerTo, askedOf } from "../support/node-evidence.ts"
import { dataplane, hexOf, makeChip, makeRoot, measurement, now } from "./evidence-support.ts"

export const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
export const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"))

export interface Fleet {
  readonly root: EmulatedRoot
  readonly chips: readonly EmulatedChip[]
}

export const makeFleet = (count: number): Fleet => {
  const root = makeRoot()
  return { root, chips: Array.from({ length: count }, () => makeChip(root)) }
}

export const nodeName = (i: number) => `n${i + 1}`

/** Even nodes are of stage `source`, odd ones of `sink`. */
export const documentOf = (
  { root, chips }: Fleet,
  change: (w: Workflow) => Workflow = (w) => w,
): Workflow => {
  const stage = {
    assurance: "emulated",
    platforms: ["sev-snp"],
    sev_snp: {
      measurements: [hexOf(measurement)],
      policy: { debug: false, migration_agent: false, vmpl_max: 0 },
    },
    dataplane: [dataplane],
  } as const
  const roots: readonly HardwareRoot[] = [root.hardwareRoot]
  return change({
    workflow: "example",
    domain: "lab",
    version: 1,
    not_after: "2030-01-01T00:00:00Z",
    suite: "chacha20-poly1305",
    lease_seconds: 30,
    roots,
    stages: { source: stage, sink: stage },
    nodes: chips.map((chip, i) => ({
      id: nodeName(i),
      stage: i % 2 === 0 ? "source" : "sink",
      chip: { sev_snp: hexOf(chip.chipId) },
      address: `10.77.0.${i + 1}`,
      wire: `10.99.0.${i + 1}`,
    })),
    edges: [],
  })
}

export type Known = VerifiedWorkflow & { readonly bytes: Uint8Array }

export const known = (document: Workflow): Known => {
  const bytes = new TextEncoder().encode(stringify(document, { aliasDuplicateObjects: false }))
  return {
    document: parseWorkflow(new TextDecoder().decode(bytes)),
    digest: workflowDigest(crypto, bytes),
    bytes,
  }
}

export interface Given {
  readonly verdict: Verdict
  readonly evidence: NodeEvidence
  readonly asked: Outstanding
  readonly at: Date
}

/** What a verifier finds of a node's answer to its challenge. */
export const attested = (
  { chips }: Fleet,
  i: number,
  workflow: Known,
  launch: Partial<Parameters<typeof launchGuest>[1]> = {},
): Given => {
  const chip = chips[i]
  if (chip === undefined) throw new Error(`no chip ${i}`)
  const asked = askedOf(workflow, { nodeId: nodeName(i) })
  const evidence = answerTo(asked, (reportData) => [
    {
      kind: "snp",
      report: launchGuest(chip, { measurement, ...launch }).report(reportData),
      certificates: [...chip.certificates],
    },
  ])
  const verdict = appraiseNode(
    { crypto, instance: "v1", control: "cp", caches: new EvidenceCaches() },
    evidence,
    asked,
    now,
  )
  return { verdict, evidence, asked, at: now }
}

export interface Ran {
  readonly status: number
  readonly out: string
  readonly err: string
}

const main = fileURLToPath(new URL("../../services/cli/main.ts", import.meta.url))

/** The tool as a process of its own; `moved` sets its clock on by so many milliseconds. */
export const vouchsafe = (args: readonly string[], moved = 0): Promise<Ran> => {
  const clock = `const D=Date;globalThis.Date=class extends D{constructor(...a){a.length===0?super(D.now()+${moved}):super(...a)}static now(){return D.now()+${moved}}}`
  const before = moved === 0 ? [] : ["--import", `data:text/javascript,${encodeURIComponent(clock)}`]
  return new Promise((done) => {
    const options = { timeout: 120_000, maxBuffer: 1 << 24 }
    execFile(process.execPath, [...before, main, ...args], options, (error, out, err) =>
      done({ status: error === null ? 0 : Number(error.code), out, err }),
    )
  })
}

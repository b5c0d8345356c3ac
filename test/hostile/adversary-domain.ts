/** What a simulated domain is made of before a run: anchors, workflows, machines. Made once in a process: keys cost. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { signWorkflow, workflowText } from "../../infra/lab/domain.ts"
import { emulatedRoot } from "../../infra/lab/hardware.ts"
import type { SnpPiece } from "../../schemas/messages/common.ts"
import type { SignedWorkflow, Workflow } from "../../schemas/workflow.ts"
import { DeviceQueue } from "../../services/attester/device-queue.ts"
import { loadTrust, type Trust } from "../../services/common/config/anchors.ts"
import { native } from "../../services/common/crypto/index.ts"
import { createEmulatedChip, type EmulatedChip, launchGuest } from "../../services/evidence/index.ts"
import { at, signedBytes } from "../../services/evidence/snp/report.ts"
import { defaultSuite } from "../../services/make/suites.ts"
import { scratchDirectory } from "../support/scratch.ts"
import { hardwareSignature } from "./adversary-crypto.ts"

/** Guests write their public keys into files, thousands of times. */
const MEMORY = "/dev/shm"
export const LEASE_MS = 6_000
export const DATAPLANE = new Uint8Array(48).fill(0xd5)
const CONTROL_IMAGE = new Uint8Array(48).fill(0xc0)
const NODE_IMAGE = new Uint8Array(48).fill(0xa1)
/** Of every machine's launch. */
export const REPORT_ID = new Uint8Array(32).fill(7)
export const nodes = [
  { id: "alpha", stage: "source" },
  { id: "beta", stage: "transform" },
  { id: "gamma", stage: "sink" },
] as const

/** Guests of the control plane, each with a verifier and a releaser. */
export const guests = [
  { control: "cp", verifier: "v1", releaser: "r1" },
  { control: "cp2", verifier: "v2", releaser: "r2" },
] as const

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

/** A guest on a chip: a report of the layout that real ones have, and the signature that an ideal chip gives. */
export interface Machine {
  readonly report: (reportData: Uint8Array) => SnpPiece
}

const machineOf = (chip: EmulatedChip, measurement: Uint8Array): Machine => {
  const template = launchGuest(chip, { measurement, reportId: REPORT_ID }).report(new Uint8Array(64))
  return {
    report: (reportData) => {
      const report = Uint8Array.from(template)
      report.set(reportData, at.reportData)
      const signature = hardwareSignature(chip.key.publicKey, report.subarray(0, signedBytes))
      report.set(signature.slice(0, 48).reverse(), at.signatureR)
      report.set(signature.slice(48).reverse(), at.signatureS)
      return { kind: "snp", report, certificates: [...chip.certificates] }
    },
  }
}

export const deviceOf = (machine: Machine, onReport: (reportData: Uint8Array) => void): DeviceQueue =>
  new DeviceQueue(
    {
      platform: "sev-snp",
      emulated: true,
      about: "a simulated machine",
      attest: async (data) => {
        onReport(data)
        return [machine.report(data)]
      },
      close: async () => undefined,
    },
    { everyMs: 0 },
  )

/** By what its ends know each other: verifiers' results, their own appraisal of each other's Evidence, or one edge each. */
export type PeersBy = "results" | "evidence" | "mixed"

/** The first version has all nodes, the second has lost gamma. */
export type Versions = readonly [SignedWorkflow, SignedWorkflow]

export interface Domain {
  readonly name: string
  readonly trust: Trust
  readonly workflows: Readonly<Record<PeersBy, Versions>>
  readonly control: (guest: string) => Machine
  readonly machine: (node: string) => Machine
  /** Genuine hardware that nobody has enrolled, with the right software; and the node's own with wrong software. */
  readonly stranger: Machine
  readonly altered: (node: string) => Machine
  readonly directory: string
}

export const createDomain = (name: string): Domain => {
  const root = emulatedRoot()
  const operator = native.ed25519.generate()
  const made = new Date()
  const chip = () => createEmulatedChip(root, { now: made })
  const controlChips = new Map(guests.map(({ control }) => [control as string, chip()]))
  const chips = new Map(nodes.map(({ id }) => [id as string, chip()]))
  const directory = scratchDirectory("adversary", existsSync(MEMORY) ? MEMORY : undefined)
  const snp = (image: Uint8Array) => ({
    measurements: [hex(image)],
    policy: { debug: false, migration_agent: false, vmpl_max: 0 },
    tcb: { minimum: [{ bootloader: 3, tee: 0, snp: 8, microcode: 115 }] },
  })
  const anchors = join(directory, "anchors.json")
  writeFileSync(
    anchors,
    JSON.stringify({
      domain: name,
      operator_keys: [hex(operator.publicKey)],
      operator_threshold: 1,
      control_plane: {
        roots: [root.hardwareRoot],
        assurance: "emulated",
        platforms: ["sev-snp"],
        sev_snp: snp(CONTROL_IMAGE),
        chips: [...controlChips.values()].map(({ chipId }) => ({ sev_snp: hex(chipId) })),
      },
    }),
    { mode: 0o600 },
  )
  const stage = {
    assurance: "emulated" as const,
    platforms: ["sev-snp" as const],
    sev_snp: snp(NODE_IMAGE),
    dataplane: [hex(DATAPLANE)],
  }
  const document = (by: PeersBy, version: number, without?: string): Workflow => ({
    workflow: "simulated",
    domain: name,
    version,
    not_after: new Date(made.getTime() + 30 * 86_400_000).toISOString().replace(/\.\d+Z$/, "Z"),
    suite: defaultSuite,
    lease_seconds: LEASE_MS / 1_000,
    roots: [root.hardwareRoot],
    stages: { source: stage, transform: stage, sink: stage },
    nodes: nodes.flatMap(({ id, stage: at }, i) =>
      id === without
        ? []
        : [
            {
              id,
              stage: at,
              chip: { sev_snp: hex(chips.get(id)?.chipId ?? new Uint8Array()) },
              address: `10.77.0.${i + 1}`,
              wire: `10.99.0.${i + 11}`,
            },
          ],
    ),
    ...(by === "evidence" && { peers: "evidence" as const }),
    edges: [
      {
        id: "raw",
        from: "source",
        to: "transform",
        protocol: "tcp" as const,
        port: 5_000,
        lanes: 1,
        ...(by === "mixed" && { peers: "evidence" as const }),
      },
      { id: "packed", from: "transform", to: "sink", protocol: "tcp" as const, port: 5_001, lanes: 2 },
    ],
  })
  const versions = (by: PeersBy): Versions => [
    signWorkflow(workflowText(document(by, 1)), operator),
    signWorkflow(workflowText(document(by, 2, "gamma")), operator),
  ]
  const running = (on: ReadonlyMap<string, EmulatedChip>, image: Uint8Array) =>
    new Map([...on].map(([id, each]) => [id, machineOf(each, image)]))
  const [controls, machines, wrong] = [
    running(controlChips, CONTROL_IMAGE),
    running(chips, NODE_IMAGE),
    running(chips, CONTROL_IMAGE),
  ]
  const found = <T>(all: ReadonlyMap<string, T>, id: string): T => {
    const one = all.get(id)
    if (one === undefined) throw new Error(id)
    return one
  }
  return {
    name,
    trust: loadTrust(anchors),
    workflows: { results: versions("results"), evidence: versions("evidence"), mixed: versions("mixed") },
    control: (guest) => found(controls, guest),
    machine: (id) => found(machines, id),
    altered: (id) => found(wrong, id),
    stranger: machineOf(chip(), NODE_IMAGE),
    directory,
  }
}

/** What guests have written belongs to one run. */
export const forgetGuests = (domain: Domain): void => {
  for (const each of readdirSync(domain.directory, { withFileTypes: true }))
    if (each.isDirectory()) rmSync(join(domain.directory, each.name), { recursive: true })
}

export const newDirectory = (domain: Domain, name: string): string => {
  const path = join(domain.directory, name)
  mkdirSync(path, { recursive: true, mode: 0o700 })
  return path
}

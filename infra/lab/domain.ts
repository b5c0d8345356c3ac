/** The lab's operator: its keys, the anchors that guests are launched with, and the workflow that it signs. */
import { join } from "node:path"
import { stringify } from "yaml"
import type { SevSnp } from "../../schemas/platforms.ts"
import type { Anchors, HardwareRoot, SignedWorkflow, Workflow } from "../../schemas/workflow.ts"
import { crypto, type SecretKey } from "../../services/common/crypto/index.ts"
import { toHex } from "../../services/common/hex.ts"
import { defaultSuite } from "../../services/make/suites.ts"
import { workflowSigningBytes } from "../../services/make/workflow-document.ts"
import type { NodePlace } from "./names.ts"

export const DOMAIN = "lab"
export const RAW_PORT = 5000
export const PACKED_PORT = 5001
export const LEASE_SECONDS = 30

export interface LabNode extends NodePlace {
  readonly stage: string
  /** Hex, 64 bytes. */
  readonly chip: string
}

export interface ControlPlane {
  readonly root: HardwareRoot
  /** Hex, 48 and 64 bytes. */
  readonly measurement: string
  readonly chip: string
  /** Chips of more guests of it. */
  readonly others?: ReadonlyArray<string>
}

/** No debugging, no migration, and not below the firmware of a while ago. */
const snpOf = (measurement: string): SevSnp => ({
  measurements: [measurement],
  policy: { debug: false, migration_agent: false, vmpl_max: 0 },
  tcb: { minimum: [{ bootloader: 3, tee: 0, snp: 8, microcode: 115 }] },
})

export const anchorsOf = (operatorKey: Uint8Array, control: ControlPlane): Anchors => ({
  domain: DOMAIN,
  operator_keys: [toHex(operatorKey)],
  operator_threshold: 1,
  control_plane: {
    roots: [control.root],
    assurance: "emulated",
    platforms: ["sev-snp"],
    sev_snp: snpOf(control.measurement),
    chips: [control.chip, ...(control.others ?? [])].map((chip) => ({ sev_snp: chip })),
  },
})

export interface WorkflowOrder {
  readonly root: HardwareRoot
  readonly nodes: ReadonlyArray<LabNode>
  /** Hex, 48 bytes each: the guest's image, and the data plane in its kernel. */
  readonly measurement: string
  readonly dataplane: string
  readonly notAfter: Date
}

/** source -> transform -> sink, one TCP port each. */
export const exampleWorkflow = (order: WorkflowOrder): Workflow => {
  const stage = {
    assurance: "emulated",
    platforms: ["sev-snp"],
    sev_snp: snpOf(order.measurement),
    dataplane: [order.dataplane],
  } as const
  return {
    workflow: "example",
    domain: DOMAIN,
    version: 1,
    not_after: order.notAfter.toISOString().replace(/\.\d+Z$/, "Z"),
    suite: defaultSuite,
    lease_seconds: LEASE_SECONDS,
    roots: [order.root],
    stages: { source: stage, transform: stage, sink: stage },
    nodes: order.nodes.map(({ id, stage: taken, chip, address, address6, wire }) => ({
      id,
      stage: taken,
      chip: { sev_snp: chip },
      address,
      address6,
      wire,
    })),
    edges: [
      { id: "raw", from: "source", to: "transform", protocol: "tcp", port: RAW_PORT, lanes: 1 },
      { id: "packed", from: "transform", to: "sink", protocol: "tcp", port: PACKED_PORT, lanes: 1 },
    ],
  }
}

/** The document as an operator would keep it. */
export const workflowText = (workflow: Workflow): string =>
  stringify(workflow, { aliasDuplicateObjects: false })

/** Signs the bytes of a document; what is signed is the text, not what it means. */
export const signWorkflow = (text: string, operator: SecretKey): SignedWorkflow => {
  const document = new TextEncoder().encode(text)
  return {
    v: 1,
    document,
    signatures: [
      { key: operator.publicKey, signature: crypto.ed25519.sign(workflowSigningBytes(document), operator) },
    ],
  }
}

/** Files of one guest: a root-only directory each. */
export const guestDirectory = (runDirectory: string, guest: string): string =>
  join(runDirectory, "guests", guest)

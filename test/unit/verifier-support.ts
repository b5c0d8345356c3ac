/** One node on a lab's TDX machine: its document, a challenge, and its answers. */
import { stringify } from "yaml"
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import type { Outstanding } from "../../services/guest/appraise-node.ts"
import { parseWorkflow, type VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import { answerTo, askedOf, claimsFor, type NodeClaims } from "../support/node-evidence.ts"
import { Hierarchy, serials } from "../support/tdx-lab.ts"
import { tdxPiece } from "./appraisal-support.ts"
import { dataplane } from "./evidence-support.ts"

export const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
export const intel = new Hierarchy()
export const good = intel.collateral()
/** The next list of the same issuer names the machine's certificate. */
export const revoking = { ...good, pckCrl: intel.crl("ca", { revoked: [serials.pck] }) }

export const workflowWith = (
  change: { mrtd?: string; until?: string } = {},
  digest = 4,
): VerifiedWorkflow => ({
  digest: filled(32, digest),
  document: parseWorkflow(
    stringify({
      workflow: "example",
      domain: "lab",
      version: 1,
      not_after: "2030-01-01T00:00:00Z",
      suite: "chacha20-poly1305",
      lease_seconds: 30,
      roots: [intel.root],
      stages: {
        source: {
          assurance: "emulated",
          platforms: ["tdx"],
          tdx: {
            mrtd: [change.mrtd ?? "00".repeat(48)],
            rtmrs: { 1: ["00".repeat(48)], 2: ["00".repeat(48)] },
            tcb: {
              statuses: ["UpToDate"],
              advisories: [{ id: "INTEL-SA-00001", until: change.until ?? "2029-01-01" }],
            },
          },
          dataplane: [dataplane],
        },
      },
      nodes: [
        {
          id: "n1",
          stage: "source",
          chip: { tdx: "9d".repeat(16) },
          address: "10.77.0.1",
          wire: "10.99.0.11",
        },
      ],
      edges: [],
    }),
  ),
})

export const workflow = workflowWith()
const keys = { dh: crypto.x25519.generate(), signing: crypto.ed25519.generate() }

export const askedFor = (session: number): Outstanding => askedOf(workflow, { session: filled(16, session) })

/** `quoted`: what the hardware vouches for, when that is something else than what is claimed. */
export const answer = (
  asked: Outstanding,
  change: Partial<NodeClaims> = {},
  quoted: Partial<NodeClaims> = change,
): NodeEvidence => {
  const plain = claimsFor(asked, { signing_key: keys.signing.publicKey, dh_key: keys.dh.publicKey })
  const pieces = (reportData: Uint8Array) => [tdxPiece(intel, { reportData })]
  return answerTo(asked, pieces, { ...plain, ...change }, { ...plain, ...quoted })
}

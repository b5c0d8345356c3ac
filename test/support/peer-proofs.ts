/**
 * A peer that is appraised by its Evidence, without a bus: genuine emulated machines, and a verifier that says what the test
 * wants of them. Each step can be bent; what isn't bent is right.
 */
import { stringify } from "yaml"
import { AttestationResult, type ControlEvidence, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { ControlProof, NodeProof } from "../../schemas/messages/peer.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import { encode } from "../../services/common/codec/index.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { toHex } from "../../services/common/hex.ts"
import {
  type EmulatedChip,
  type EmulatedRoot,
  EvidenceCaches,
  launchGuest,
} from "../../services/evidence/index.ts"
import { appraiseNode } from "../../services/guest/appraise-node.ts"
import type { PeerAppraiser, WantedPeer } from "../../services/guest/appraise-peer.ts"
import { controlEvidenceDigest } from "../../services/make/control-plane.ts"
import { LaunchBook } from "../../services/make/launch.ts"
import { hashLeaf, helloLeaf, rootOf } from "../../services/make/merkle.ts"
import { OwnNonces } from "../../services/make/own-nonces.ts"
import { evidenceDigest } from "../../services/make/proof.ts"
import { kemKeyDigest, resultDigest } from "../../services/make/result.ts"
import { workflowDigest } from "../../services/make/transcript.ts"
import { parseWorkflow, type VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import { dataplane, hexOf, measurement, now } from "../unit/evidence-support.ts"
import { snpEvidence } from "./evidence-pieces.ts"
import { answerTo, askedOf, claimsFor } from "./node-evidence.ts"

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)

/** n1 (source) -> n2 (transform), peers by Evidence. */
export const peerWorkflow = (
  root: EmulatedRoot,
  chips: ReadonlyArray<EmulatedChip>,
  change: (document: Workflow) => Workflow = (same) => same,
): VerifiedWorkflow => {
  const stage = {
    assurance: "emulated",
    platforms: ["sev-snp"],
    sev_snp: {
      measurements: [hexOf(measurement)],
      policy: { debug: false, migration_agent: false, vmpl_max: 0 },
    },
    dataplane: [dataplane],
  } as const
  const written = change({
    workflow: "example",
    domain: "lab",
    version: 1,
    not_after: "2030-01-01T00:00:00Z",
    suite: "chacha20-poly1305",
    lease_seconds: 30,
    peers: "evidence",
    roots: [root.hardwareRoot],
    stages: { source: stage, transform: stage },
    nodes: chips.map(({ chipId }, i) => ({
      id: `n${i + 1}`,
      stage: i === 0 ? "source" : "transform",
      chip: { sev_snp: hexOf(chipId) },
      address: `10.77.0.${i + 1}`,
      wire: `10.99.0.${i + 11}`,
    })),
    edges: [{ id: "raw", from: "source", to: "transform", protocol: "tcp", port: 5_000, lanes: 1 }],
  })
  const text = stringify(written, { aliasDuplicateObjects: false })
  const bytes = new TextEncoder().encode(text)
  return { document: parseWorkflow(text), digest: workflowDigest(crypto, bytes), bytes } as VerifiedWorkflow
}

export interface PeerBend {
  /** Nodes whose nonces stand under the control plane's root. */
  readonly leaves?: ReadonlyArray<Uint8Array>
  /** What the machine is made to vouch for. */
  readonly claims?: Partial<NodeEvidence["claims"]>
  /** What is told beside the report, which vouches for something else. */
  readonly told?: Partial<NodeEvidence["claims"]>
  /** What the verifier says. */
  readonly result?: Partial<AttestationResult>
  /** What stands in the bucket. */
  readonly proof?: (proof: NodeProof) => NodeProof
  readonly control?: (proof: ControlProof) => ControlProof
  /** The machine, and the image that was launched there. */
  readonly chip?: EmulatedChip
  readonly launched?: Uint8Array
  readonly reportId?: Uint8Array
}

export interface PeerSaid {
  readonly wanted: WantedPeer
  readonly proof: Uint8Array
  readonly control: Uint8Array
  readonly evidence: NodeEvidence
}

/** A nonce's hashed leaf. */
export const leafOf = (node: string, nonce: Uint8Array): Uint8Array =>
  hashLeaf(crypto, helloLeaf("node", node, nonce))

/** A node's answer to a challenge, by a genuine machine. */
const answerOf = (
  workflow: VerifiedWorkflow,
  node: string,
  control: Uint8Array,
  chip: EmulatedChip,
  bend: PeerBend,
): NodeEvidence => {
  const asked = askedOf(workflow, {
    nodeId: node,
    session: crypto.randomBytes(16),
    verifierNonce: crypto.randomBytes(32),
    beacon: crypto.randomBytes(32),
    nonce: crypto.randomBytes(32),
    controlDigest: control,
  })
  const { chip: machine = chip, launched = measurement, reportId = filled(32, 0x1d) } = bend
  const guest = launchGuest(machine, { measurement: launched, reportId })
  const piecesOf = (reportData: Uint8Array) =>
    snpEvidence({ report: guest.report(reportData), certificates: machine.certificates }).pieces
  const claims = claimsFor(asked, bend.claims)
  return answerTo(asked, piecesOf, { ...claims, ...bend.told }, claims)
}

const honest = new WeakMap<VerifiedWorkflow, Map<string, AttestationResult>>()

/** What a verifier says that tells the truth: the fields that no test changes are taken from it. */
const honestResult = (workflow: VerifiedWorkflow, node: string, chip: EmulatedChip): AttestationResult => {
  const known = honest.get(workflow) ?? new Map<string, AttestationResult>()
  honest.set(workflow, known)
  const found = known.get(node)
  if (found !== undefined) return found
  const evidence = answerOf(workflow, node, filled(32, 1), chip, {})
  const { claims, verifier_nonce: verifierNonce, beacon } = evidence
  const verdict = appraiseNode(
    { crypto, instance: "v1", control: "cp", caches: new EvidenceCaches() },
    evidence,
    {
      nodeId: node,
      session: claims.session,
      verifierNonce,
      beacon,
      value: claims.challenge,
      nonce: claims.nonce,
      controlDigest: claims.control,
      workflow,
    },
    now,
  )
  if (!verdict.accepted) throw new Error(`${verdict.code}: ${verdict.reason.found}`)
  known.set(node, verdict.result)
  return verdict.result
}

/** All that a release and the bucket say of a node that was just vouched for. */
export const vouchedPeer = (
  workflow: VerifiedWorkflow,
  node: string,
  chip: EmulatedChip,
  bend: PeerBend = {},
): PeerSaid => {
  const leaves = bend.leaves ?? [leafOf(node, filled(32, 5))]
  const control: ControlEvidence = {
    v: 1,
    kind: "control-evidence",
    control: "cp",
    claims: {
      domain: "lab",
      operators: filled(32, 0x21),
      roots: filled(32, 0x22),
      workflow: workflow.digest,
      verifier_key: filled(32, 0x23),
      verifiers: [],
      releaser_key: filled(32, 0x24),
      term: 7n,
      merkle_root: rootOf(crypto, leaves),
      leaves: leaves.length,
    },
    // No node looks at the control plane's own report here: the peer has, before it answered.
    evidence: snpEvidence({ report: filled(1_184, 0x25), certificates: [filled(1_500, 0x26)] }),
  }
  const evidence = answerOf(workflow, node, controlEvidenceDigest(crypto, control), chip, bend)
  const { claims: told, verifier_nonce: verifierNonce, beacon } = evidence
  const { chip: machine = chip } = bend
  const packed = encode(NodeEvidence, evidence)
  const stage = workflow.document.nodes.find(({ id }) => id === node)?.stage ?? "none"
  const result: AttestationResult = {
    ...honestResult(workflow, node, chip),
    session: told.session,
    stage,
    chip: machine.chipId,
    boot: told.boot,
    signing_key: told.signing_key,
    dh_key: told.dh_key,
    kem_key_digest: kemKeyDigest(crypto, told.kem_key),
    dataplane: told.dataplane,
    verifier_nonce: verifierNonce,
    beacon,
    evidence: evidenceDigest(crypto, packed),
    ...bend.result,
  }
  const body = encode(AttestationResult, result)
  const proof: NodeProof = { v: 1, kind: "node", body, evidence: packed }
  const controlled: ControlProof = { v: 1, kind: "control", control, leaves: [...leaves] }
  return {
    wanted: { node, dhKey: result.dh_key, result: resultDigest(crypto, body) },
    proof: encode(NodeProof, bend.proof?.(proof) ?? proof),
    control: encode(ControlProof, bend.control?.(controlled) ?? controlled),
    evidence,
  }
}

export const appraiserOf = (
  workflow: VerifiedWorkflow,
  node: string,
  change: Partial<PeerAppraiser> = {},
): PeerAppraiser => ({
  crypto,
  workflow,
  caches: new EvidenceCaches(),
  nonces: new OwnNonces(crypto, node),
  launches: new LaunchBook(crypto),
  ...change,
})

export { crypto, toHex }

/**
 * Step 2 of MAKE, seen by whoever relies on the control plane (a node, its attester, a releaser that wants to know which
 * verifier is genuine): does this Evidence speak of *my* domain, operators, workflow and nonce, and which keys and term
 * does it vouch for?
 *
 * Genuine hardware is not enough: the same image under somebody else's configuration binds other operators, and fails.
 */
import type { ControlEvidence } from "../../schemas/messages/attestation.ts"
import type { Evidence } from "../../schemas/messages/common.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { MakeError } from "./errors.ts"
import { helloLeaf, type Inclusion, verifyInclusion } from "./merkle.ts"
import { type ControlBinding, controlDigest, controlReportData } from "./transcript.ts"

/** What the relying party knows by itself. Digests have 32 bytes. */
export interface ControlExpectation {
  readonly domain: string
  readonly operatorKeysDigest: Uint8Array
  readonly rootsDigest: Uint8Array
  readonly workflowDigest: Uint8Array
  /** Who asked, as in the Merkle leaf. */
  readonly asker: {
    readonly role: "node" | "releaser" | "verifier"
    readonly id: string
    readonly nonce: Uint8Array
  }
  readonly inclusion: Omit<Inclusion, "size">
}

/** Verifies signature chain and reference values of the Evidence against the guest's anchors; throws when it fails. */
export type EvidenceCheck = (evidence: Evidence, reportData: Uint8Array) => void

export interface AcceptedControl {
  /** Of everything that was accepted; enters the node's own report data. */
  readonly digest: Uint8Array
  readonly control: string
  readonly verifierKey: Uint8Array
  /** All whose challenges and results count while this Evidence is believed: that guest's own, and those it vouches for. */
  readonly verifierKeys: ReadonlyArray<Uint8Array>
  readonly releaserKey: Uint8Array
  readonly term: bigint
}

/** The claims of a message as the transcript wants them. */
export const controlBinding = (claims: ControlEvidence["claims"]): ControlBinding => ({
  role: "control-plane",
  domain: claims.domain,
  operatorKeysDigest: claims.operators,
  rootsDigest: claims.roots,
  workflowDigest: claims.workflow,
  verifierKey: claims.verifier_key,
  verifiers: claims.verifiers,
  releaserKey: claims.releaser_key,
  term: claims.term,
  merkleRoot: claims.merkle_root,
  leafCount: claims.leaves,
})

/** What a verifier hashes of the control Evidence that it sent with a challenge. */
export const controlEvidenceDigest = (crypto: Crypto, control: ControlEvidence): Uint8Array =>
  controlDigest(crypto, controlBinding(control.claims), control.evidence)

/**
 * Cheap checks first, then the inclusion path, then the hardware's signature.
 * @throws MakeError MISDIRECTED, STALE or NOT_AUTHENTIC; whatever `check` throws
 */
export const acceptControl = (
  crypto: Crypto,
  control: ControlEvidence,
  wanted: ControlExpectation,
  check: EvidenceCheck,
): AcceptedControl => {
  const { claims } = control
  if (claims.domain !== wanted.domain) {
    throw new MakeError("MISDIRECTED", "control.domain", "is another domain's")
  }
  const pinned: ReadonlyArray<readonly [string, Uint8Array, Uint8Array]> = [
    ["control.operators", claims.operators, wanted.operatorKeysDigest],
    ["control.roots", claims.roots, wanted.rootsDigest],
    ["control.workflow", claims.workflow, wanted.workflowDigest],
  ]
  for (const [field, found, expected] of pinned) {
    if (!crypto.equalConstantTime(found, expected)) {
      throw new MakeError("MISDIRECTED", field, "is not what this guest's configuration expects")
    }
  }
  const leaf = helloLeaf(wanted.asker.role, wanted.asker.id, wanted.asker.nonce)
  const inclusion: Inclusion = { ...wanted.inclusion, size: claims.leaves }
  if (!verifyInclusion(crypto, claims.merkle_root, leaf, inclusion)) {
    throw new MakeError("STALE", "control.merkle_root", "does not contain the nonce that was asked with")
  }
  const binding = controlBinding(control.claims)
  check(control.evidence, controlReportData(crypto, binding))
  return {
    digest: controlEvidenceDigest(crypto, control),
    control: control.control,
    verifierKey: claims.verifier_key,
    verifierKeys: [claims.verifier_key, ...claims.verifiers],
    releaserKey: claims.releaser_key,
    term: claims.term,
  }
}

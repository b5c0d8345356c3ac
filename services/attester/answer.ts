/**
 * Evidence, made from what this guest holds and has checked itself. From the bus come only nonces, and a challenge of a
 * control plane that has been verified here: otherwise anyone on the bus could have a foreign key attested.
 */
import type {
  AttestControl,
  AttestNode,
  ControlEvidence,
  NodeEvidence,
} from "../../schemas/messages/attestation.ts"
import type { Trust } from "../common/config/anchors.ts"
import { readNodeKeys, readReleaserKey, readVerifierKey } from "../common/config/guest-keys.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { type ControlCheckOptions, controlCheck, controlTrust } from "../guest/control-check.ts"
import { activationProof } from "../make/activation.ts"
import { controlBinding } from "../make/control-plane.ts"
import { acceptOffer } from "../make/offer.ts"
import { controlReportData, nodeReportData } from "../make/transcript.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import type { DeviceQueue } from "./device-queue.ts"

export interface Guest {
  readonly crypto: Crypto
  readonly trust: Trust
  /** The node's or control plane's id: from the measured configuration, never from a request. */
  readonly id: string
  readonly runDirectory: string
  readonly device: DeviceQueue
  readonly now: () => Date
  /** What vendors say of the control plane's hardware. */
  readonly collateral?: ControlCheckOptions["collateral"]
}

/** What only a node's guest has. */
export interface NodeGuest extends Guest {
  /** SHA-384 of the programs, maps and hooks that are really in the kernel. */
  readonly measureDataplane: () => Uint8Array
  readonly bootId: () => Uint8Array
}

/**
 * The control plane's Evidence over a Merkle root of nonces.
 * @throws FileError while the verifier or releaser of this guest has not left its key; what the device throws
 */
export const answerControl = async (
  guest: Guest,
  workflow: VerifiedWorkflow,
  request: AttestControl,
): Promise<ControlEvidence> => {
  const { crypto } = guest
  const verifier = readVerifierKey(guest.runDirectory)
  const releaser = readReleaserKey(guest.runDirectory)
  const trust = controlTrust(crypto, guest.trust, workflow)
  const claims: ControlEvidence["claims"] = {
    domain: trust.domain,
    operators: trust.operatorKeysDigest,
    roots: trust.rootsDigest,
    workflow: trust.workflowDigest,
    verifier_key: verifier.key,
    verifiers: releaser.verifiers,
    releaser_key: releaser.key,
    term: releaser.term,
    merkle_root: request.merkle_root,
    leaves: request.leaves,
  }
  const evidence = await guest.device.attest(controlReportData(crypto, controlBinding(claims)))
  return {
    v: 1,
    kind: "control-evidence",
    control: guest.id,
    claims,
    evidence,
  }
}

/**
 * A node's Evidence in answer to an offer.
 * @throws MakeError when the offer is not to be believed, FileError or KernelError when this guest isn't in order; what
 *   the device throws
 */
export const answerNode = async (
  guest: NodeGuest,
  workflow: VerifiedWorkflow,
  request: AttestNode,
): Promise<NodeEvidence> => {
  const { crypto } = guest
  const keys = readNodeKeys(guest.runDirectory)
  const asker = { node: guest.id, session: keys.session, nonce: keys.nonce }
  const trust = controlTrust(crypto, guest.trust, workflow)
  const accepted = acceptOffer(
    crypto,
    request.offer,
    asker,
    trust,
    controlCheck(crypto, guest.trust, guest.now, { collateral: guest.collateral }),
  )
  const dataplane = guest.measureDataplane()
  const boot = guest.bootId()
  const reportData = nodeReportData(crypto, {
    role: "node",
    suites: keys.suites,
    domain: guest.trust.domain,
    workflowDigest: workflow.digest,
    controlDigest: accepted.control.digest,
    nonce: keys.nonce,
    challenge: accepted.value,
    nodeId: guest.id,
    session: keys.session,
    signingKey: keys.signingKey,
    dhKey: keys.dhKey,
    kemKey: keys.kemKey,
    dataplane,
    bootId: boot,
  })
  const { credential } = accepted.challenge
  const secret = credential && (await guest.device.activate(credential))
  const activation = secret && activationProof(crypto, secret, reportData)
  secret?.fill(0)
  const evidence = await guest.device.attest(reportData)
  return {
    v: 1,
    kind: "node-evidence",
    verifier_nonce: accepted.challenge.verifier_nonce,
    beacon: accepted.challenge.beacon,
    claims: {
      suites: [...keys.suites],
      domain: guest.trust.domain,
      workflow: workflow.digest,
      control: accepted.control.digest,
      nonce: keys.nonce,
      challenge: accepted.value,
      node: guest.id,
      session: keys.session,
      signing_key: keys.signingKey,
      dh_key: keys.dhKey,
      kem_key: keys.kemKey,
      dataplane,
      boot,
    },
    evidence,
    ...(activation && { activation }),
  }
}

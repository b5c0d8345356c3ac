/**
 * Evidence, made from what this guest holds and has checked itself: a node's loader has believed control plane and
 * challenge before it leaves them here. From the bus come only nonces: otherwise anyone on it could have a foreign key attested.
 */
import type {
  AttestControl,
  AttestNode,
  ControlEvidence,
  NodeEvidence,
} from "../../schemas/messages/attestation.ts"
import type { Trust } from "../common/config/anchors.ts"
import {
  type AcceptedNode,
  readAcceptedNode,
  readReleaserKey,
  readVerifierKey,
} from "../common/config/guest-keys.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { controlTrust } from "../guest/control-check.ts"
import { reportDataFor } from "../guest/node-claims.ts"
import { activationProof } from "../make/activation.ts"
import { challengeValue } from "../make/challenge.ts"
import { controlBinding } from "../make/control-plane.ts"
import { MakeError } from "../make/errors.ts"
import { controlReportData } from "../make/transcript.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import type { DeviceQueue } from "./device-queue.ts"

export interface Guest {
  readonly crypto: Crypto
  readonly trust: Trust
  /** The node's or control plane's id: from the measured configuration, never from a request. */
  readonly id: string
  readonly runDirectory: string
  readonly device: DeviceQueue
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
 * What the loader accepted last, if it is what the request names and was accepted under the document that is known here.
 * @returns with V
 * @throws MakeError, FileError
 */
const acceptedFor = (guest: NodeGuest, workflow: VerifiedWorkflow, request: AttestNode) => {
  const { crypto } = guest
  const accepted = readAcceptedNode(guest.runDirectory)
  const { node, session, control, verifierNonce, beacon } = accepted
  if (node !== guest.id) throw new MakeError("MISDIRECTED", "node", "is not the one that this guest is")
  const value = challengeValue(crypto, verifierNonce, beacon)
  const named: ReadonlyArray<readonly [string, Uint8Array, Uint8Array]> = [
    ["session", request.session, session],
    ["control", request.control, control],
    ["challenge", request.challenge, value],
  ]
  for (const [field, found, wanted] of named)
    if (!crypto.equalConstantTime(found, wanted))
      throw new MakeError("STALE", field, "is not what this node's loader has accepted last")
  if (!crypto.equalConstantTime(accepted.workflow, workflow.digest))
    throw new MakeError("MISDIRECTED", "workflow", "is not the document that this guest's attester knows")
  return { accepted, value }
}

/**
 * A node's Evidence of what its loader has accepted.
 * @throws MakeError when the request is about anything else, FileError or KernelError when this guest isn't in order; what
 *   the device throws
 */
export const answerNode = async (
  guest: NodeGuest,
  workflow: VerifiedWorkflow,
  request: AttestNode,
): Promise<NodeEvidence> => {
  const { crypto } = guest
  const { accepted, value } = acceptedFor(guest, workflow, request)
  const claims: NodeEvidence["claims"] = {
    suites: [...accepted.suites],
    domain: guest.trust.domain,
    workflow: workflow.digest,
    control: accepted.control,
    nonce: accepted.nonce,
    challenge: value,
    node: guest.id,
    session: accepted.session,
    signing_key: accepted.signingKey,
    dh_key: accepted.dhKey,
    kem_key: accepted.kemKey,
    dataplane: guest.measureDataplane(),
    boot: guest.bootId(),
  }
  const reportData = reportDataFor(crypto, claims)
  const activation = await activated(guest, accepted, reportData)
  const evidence = await guest.device.attest(reportData)
  return {
    v: 1,
    kind: "node-evidence",
    verifier_nonce: accepted.verifierNonce,
    beacon: accepted.beacon,
    claims,
    evidence,
    ...(activation && { activation }),
  }
}

/** Where the challenge has a credential: that this guest's TPM has opened it. */
const activated = async (
  { crypto, device }: NodeGuest,
  { credential }: AcceptedNode,
  reportData: Uint8Array,
): Promise<Uint8Array | undefined> => {
  if (credential === undefined) return undefined
  const secret = await device.activate(credential)
  try {
    return activationProof(crypto, secret, reportData)
  } finally {
    secret.fill(0)
  }
}

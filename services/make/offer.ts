/**
 * What a node and its attester do with a verifier's offer, each for itself: believe the control plane, then the challenge
 * that it vouches for. The Evidence comes first, since it says which key may have signed the challenge.
 */
import { Challenge, type Offer } from "../../schemas/messages/attestation.ts"
import { decode } from "../common/codec/index.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { challengeValue } from "./challenge.ts"
import {
  type AcceptedControl,
  acceptControl,
  type ControlExpectation,
  type EvidenceCheck,
} from "./control-plane.ts"
import { verify } from "./envelope.ts"
import { MakeError } from "./errors.ts"
import { labels } from "./labels.ts"

export interface AcceptedOffer {
  readonly control: AcceptedControl
  readonly challenge: Challenge
  /** V, 32 bytes. */
  readonly value: Uint8Array
}

/** Who was asking, by its own knowledge. */
export interface Asker {
  readonly node: string
  readonly session: Uint8Array
  readonly nonce: Uint8Array
}

/**
 * @param trust what this guest knows by itself
 * @throws MakeError; whatever `check` throws
 */
export const acceptOffer = (
  crypto: Crypto,
  offer: Offer,
  asker: Asker,
  trust: Omit<ControlExpectation, "asker" | "inclusion">,
  check: EvidenceCheck,
): AcceptedOffer => {
  const control = acceptControl(
    crypto,
    offer.control,
    {
      ...trust,
      asker: { role: "node", id: asker.node, nonce: asker.nonce },
      inclusion: { index: offer.index, path: offer.path },
    },
    check,
  )
  if (control.term === 0n)
    throw new MakeError("NOT_VOUCHED", "control.term", "belongs to a releaser that stands by")
  const body = verify(crypto, labels.signedChallenge, control.verifierKeys, offer.challenge)
  const decoded = decode(Challenge, body, { subject: "challenge" })
  if (!decoded.ok) throw new MakeError("MALFORMED", `challenge.${decoded.error.field}`, decoded.error.message)
  const challenge = decoded.value
  const meantForUs =
    challenge.domain === trust.domain &&
    challenge.node === asker.node &&
    crypto.equalConstantTime(challenge.session, asker.session) &&
    crypto.equalConstantTime(challenge.workflow, trust.workflowDigest)
  if (!meantForUs) {
    throw new MakeError("MISDIRECTED", "challenge", "is for another domain, node, session or workflow")
  }
  return { control, challenge, value: challengeValue(crypto, challenge.verifier_nonce, challenge.beacon) }
}

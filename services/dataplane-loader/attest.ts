/** Steps 1 to 4 of MAKE as the node's loader takes them: hello, offer, Evidence of the own attester, result. */
import { Effect } from "effect"
import type { Offer } from "../../schemas/messages/attestation.ts"
import type { Refusal } from "../../schemas/messages/common.ts"
import type { SignedResult } from "../../schemas/messages/result.ts"
import type { Bus } from "../common/bus/bus.ts"
import type { BusError } from "../common/bus/types.ts"
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { type ControlCheckOptions, controlCheck, controlTrust } from "../guest/control-check.ts"
import { attempt, refuse } from "../guest/refusals.ts"
import { MakeError } from "../make/errors.ts"
import { type AcceptedOffer, acceptOffer } from "../make/offer.ts"
import { KnownBatches, kemKeyDigest, type VouchedResult, vouchResult } from "../make/result.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { inTurn } from "./in-turn.ts"
import { decodeResult } from "./open-release.ts"
import { stepMs } from "./patience.ts"
import { type Attested, leaveForAttester, type Session } from "./session.ts"

/** What `attest` fails with when an answer stayed out. */
export const UNANSWERED = "BUS_TIMEOUT"

const fromBus = (step: string) => (error: BusError) =>
  refuse(`BUS_${error.reason.toUpperCase()}`, step, error.message)

const fromRefusal = ({ code, field, message }: Refusal) => refuse(code, field, message)

export interface AttestOptions {
  readonly crypto: Crypto
  readonly trust: Trust
  readonly workflow: VerifiedWorkflow
  readonly session: Session
  /** The highest term that this node has followed: a hint. */
  readonly term?: bigint | undefined
  /** Patience with whoever doesn't answer is short. */
  readonly hurried?: boolean
  /** How many attempts in a row before this one failed with `UNANSWERED`. */
  readonly unanswered?: number
  readonly collateral?: ControlCheckOptions["collateral"]
}

/** Fails with the reason that the verifier, the own attester or this node's own checks gave. */
export const attest = Effect.fnUntraced(function* (bus: Bus["Service"], options: AttestOptions) {
  const { trust, session } = options
  const { node } = session
  const timeoutMs = stepMs(options.hurried === true, options.unanswered ?? 0)
  /** What this guest refuses by itself, nobody else can put on record; the verifier records its own. */
  const recorded =
    (type: "vouchsafe.control.refused" | "vouchsafe.attestation.refused") =>
    ({ code, field, message }: Pick<Refusal, "code" | "field" | "message">) =>
      bus.event({ type, subject: node, data: { node, code, field, message } })

  const offer = yield* bus
    .request(
      "hello",
      { node },
      {
        v: 1,
        domain: trust.domain,
        node,
        session: session.id,
        nonce: session.nonce,
        term: options.term ?? 0n,
        ...(session.endorsement && { endorsement: session.endorsement }),
      },
      { timeoutMs },
    )
    .pipe(Effect.mapError(fromBus("hello")), inTurn)
  if (offer.kind === "refused") return yield* fromRefusal(offer)

  const accepted = yield* attempt(() => believe(options, offer)).pipe(
    Effect.tapError(recorded("vouchsafe.control.refused")),
  )
  yield* bus.event({
    type: "vouchsafe.control.accepted",
    subject: node,
    data: {
      node,
      term: accepted.control.term,
      emulated: trust.controlPlane.roots.some((root) => root.emulated),
      message: `control plane ${accepted.control.control}`,
    },
  })

  const evidence = yield* bus
    .request(
      "attest",
      { node, identity: bus.identity.name },
      leaveForAttester(session, options.workflow.digest, accepted),
      { timeoutMs },
    )
    .pipe(Effect.mapError(fromBus("attest")))
  if (evidence.kind === "refused") {
    // An attester that hasn't heard of the workflow yet has decided nothing.
    if (evidence.code !== "NO_WORKFLOW") yield* recorded("vouchsafe.attestation.refused")(evidence)
    return yield* fromRefusal(evidence)
  }
  if (evidence.kind !== "node-evidence") return yield* refuse("WRONG_KIND", "evidence", evidence.kind)

  const reply = yield* bus
    .request("evidence", { instance: accepted.challenge.verifier, node }, evidence, { timeoutMs })
    .pipe(Effect.mapError(fromBus("evidence")))
  if (reply.kind === "refused") return yield* fromRefusal(reply)
  const batches = new KnownBatches(options.crypto)
  const result = yield* attempt(() => ownResult(options, accepted, reply.result, batches)).pipe(
    Effect.tapError(recorded("vouchsafe.attestation.refused")),
  )
  const attested: Attested = { session, control: accepted.control, result, batches }
  return attested
})

/**
 * For the whole guest: the attester asks no more questions about what was accepted here.
 * @throws MakeError
 */
export const believe = (
  { crypto, trust, workflow, session, collateral }: AttestOptions,
  offer: Offer,
): AcceptedOffer =>
  acceptOffer(
    crypto,
    offer,
    { node: session.node, session: session.id, nonce: session.nonce },
    controlTrust(crypto, trust, workflow),
    controlCheck(crypto, trust, () => new Date(), { collateral }),
  )

/** The result must speak of this very session and key, or a release could be sealed to somebody else's. */
const ownResult = (
  { crypto, session }: AttestOptions,
  { control }: AcceptedOffer,
  signed: SignedResult,
  batches: KnownBatches,
): VouchedResult => {
  const result = vouchResult(crypto, control.verifierKeys, signed, decodeResult, batches)
  const { claims } = result
  const ours =
    claims.node === session.node &&
    crypto.equalConstantTime(claims.session, session.id) &&
    crypto.equalConstantTime(claims.signing_key, session.signing.publicKey) &&
    crypto.equalConstantTime(claims.dh_key, session.dh.publicKey) &&
    crypto.equalConstantTime(claims.kem_key_digest, kemKeyDigest(crypto, session.kem.publicKey))
  if (!ours) throw new MakeError("MISDIRECTED", "result", "is not about this session's keys")
  return result
}

/**
 * Hears `pull.*`, `ack.*` and `leave.*` of nodes and `withdraw.*` of verifiers: each is verified and read, and the reign's
 * core told of it.
 */
import { Effect } from "effect"
import { limits } from "../../schemas/limits.ts"
import type { Signed } from "../../schemas/messages/common.ts"
import { Ack, Leave, Pull } from "../../schemas/messages/release.ts"
import { Withdrawal } from "../../schemas/messages/withdrawal.ts"
import type { Bus } from "../common/bus/bus.ts"
import { refusalAllowances } from "../common/bus/counters.ts"
import { type BusError, Refused } from "../common/bus/types.ts"
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { attempt, decodeBody } from "../guest/refusals.ts"
import { verify } from "../make/envelope.ts"
import { MakeError } from "../make/errors.ts"
import { labels } from "../make/labels.ts"
import type { ReleaserOutput } from "../make/releaser.ts"
import type { makeKnownVerifiers } from "./known-verifiers.ts"
import type { Reign } from "./reign.ts"

/** Of one verifier. */
const WITHDRAWALS_WAITING = 64
const nowMs = () => performance.now()

export interface HearingOptions {
  readonly crypto: Crypto
  readonly trust: Trust
  readonly verifiers: Pick<ReturnType<typeof makeKnownVerifiers>, "keysFor" | "believes">
  /** Undefined while nobody gets keys from here: then nothing is answered. */
  readonly reigning: () => Reign | undefined
  readonly take: (outputs: ReadonlyArray<ReleaserOutput>) => Effect.Effect<unknown, BusError>
  /** A node that is vouched for says that it has followed this term, and wants no keys of the present reign. */
  readonly outgrown: (node: string, term: bigint) => Effect.Effect<void>
}

export const hearNodes = Effect.fn("hearNodes")(function* (bus: Bus["Service"], options: HearingOptions) {
  const { crypto, trust, verifiers, reigning, take, outgrown } = options

  /** Of each sender: one that sends what is refused as fast as it can must not push the others' events out. */
  const refusals = refusalAllowances(limits.nodes)
  /** The core's refusals are answers to hostile or late messages: recorded, and nothing else happens. */
  const guarded = <A, E>(
    type:
      | "vouchsafe.pull.refused"
      | "vouchsafe.ack.refused"
      | "vouchsafe.leave.refused"
      | "vouchsafe.withdrawal.refused",
    node: string,
    run: Effect.Effect<A, E>,
  ) =>
    run.pipe(
      Effect.catch((error) => {
        if (!(error instanceof Refused)) return Effect.fail(error)
        const { code, field, message } = error
        const unrecorded = refusals.take(node)
        if (unrecorded === undefined) return Effect.void
        const more = unrecorded === 0 ? {} : { unrecorded }
        return bus.event({ type, subject: node, data: { node, code, field, message, ...more } })
      }),
    )

  const onPull = Effect.fnUntraced(function* (signed: Signed, node: string) {
    const now = reigning()
    if (now === undefined) return
    const { workflow, core, results } = now
    const pull = yield* attempt(() => {
      const value = decodeBody(Pull, verify(crypto, labels.signedPull, [signed.key], signed), "pull")
      if (value.node !== node)
        throw new MakeError("MISDIRECTED", "pull.node", "is not the node of the subject")
      return value
    })
    const keys = yield* verifiers.keysFor(workflow, pull.result.batch.key)
    // The document may have changed meanwhile: a reign that is over gives no keys; the node asks again.
    if (reigning()?.core !== core) return
    const accepted = yield* attempt(() => {
      const result = results.vouch(keys, node, pull.result)
      if (result.claims.node !== node || !crypto.equalConstantTime(result.claims.signing_key, signed.key)) {
        throw new MakeError("NOT_VOUCHED", "pull.key", "is not the key that the result vouches for")
      }
      const outputs = core.accept(result, nowMs())
      results.accepted(result)
      return outputs
    })
    // What became known goes out even when the request itself is then refused.
    yield* take(accepted)
    if (pull.followed !== undefined) return yield* outgrown(node, pull.followed)
    yield* take(yield* attempt(() => core.pull(pull, nowMs())))
  })

  const onAck = Effect.fnUntraced(function* (signed: Signed, node: string) {
    const now = reigning()
    if (now === undefined) return
    const { core, results } = now
    const outputs = yield* attempt(() => {
      const signer = results.signingKey(node)
      if (signer === undefined) throw new MakeError("NOT_VOUCHED", "ack.node", "has no result in force")
      const ack = decodeBody(Ack, verify(crypto, labels.signedAck, [signer], signed), "ack")
      if (ack.node !== node) throw new MakeError("MISDIRECTED", "ack.node", "is not the node of the subject")
      return core.ack(ack, nowMs())
    })
    yield* take(outputs)
  })

  /**
   * A verifier may take back what it has signed itself: no more need be known of it. That it has refused a node counts
   * against the others' results too, when its results would be believed: then it could as well put another in their place.
   */
  const onWithdrawal = Effect.fnUntraced(function* (signed: Signed) {
    const now = reigning()
    if (now === undefined) return
    const { workflow, core } = now
    const withdrawal = yield* attempt(() =>
      decodeBody(Withdrawal, verify(crypto, labels.signedWithdrawal, [signed.key], signed), "withdrawal"),
    )
    if (withdrawal.domain !== trust.domain) return
    const own = withdrawal.results.flatMap(({ node, result }) =>
      result === undefined ? [] : [{ node, result }],
    )
    const outputs = [...core.withdraw(signed.key, own, nowMs())]
    // Another document asks for other things: only a refusal under this one says that the node is bad for it.
    if (
      crypto.equalConstantTime(withdrawal.workflow, workflow.digest) &&
      verifiers.believes(workflow, signed.key)
    ) {
      const refused = withdrawal.results.flatMap(({ node, beacon }) =>
        beacon === undefined ? [] : [{ node, beacon }],
      )
      outputs.push(...core.judged(refused, nowMs()))
    }
    if (outputs.length > 0) yield* take(outputs)
  })

  const onLeave = Effect.fnUntraced(function* (signed: Signed, node: string) {
    const now = reigning()
    if (now === undefined) return
    const { core, results } = now
    const outputs = yield* attempt(() => {
      const signer = results.signingKey(node)
      if (signer === undefined) throw new MakeError("NOT_VOUCHED", "leave.node", "has no result in force")
      const leave = decodeBody(Leave, verify(crypto, labels.signedLeave, [signer], signed), "leave")
      if (leave.node !== node)
        throw new MakeError("MISDIRECTED", "leave.node", "is not the node of the subject")
      return core.leave(node, leave.session, nowMs())
    })
    results.forget(node)
    yield* take(outputs)
  })

  // Each says all that there is to say: of one node the newest is enough.
  const newest = { perSenderMax: 1, pace: { burst: 128, aSecond: 50, senders: limits.nodes } }
  yield* bus.subscribe(
    "pull",
    {},
    (signed, { tokens }) => guarded("vouchsafe.pull.refused", tokens.node, onPull(signed, tokens.node)),
    newest,
  )
  yield* bus.subscribe(
    "ack",
    {},
    (signed, { tokens }) => guarded("vouchsafe.ack.refused", tokens.node, onAck(signed, tokens.node)),
    newest,
  )
  yield* bus.subscribe(
    "leave",
    {},
    (signed, { tokens }) => guarded("vouchsafe.leave.refused", tokens.node, onLeave(signed, tokens.node)),
    newest,
  )
  yield* bus.subscribe(
    "withdraw",
    {},
    (signed, { tokens }) => guarded("vouchsafe.withdrawal.refused", tokens.instance, onWithdrawal(signed)),
    // A verifier says many at once, each about other results; what comes too fast it says again later.
    {
      perSenderMax: WITHDRAWALS_WAITING,
      pace: { burst: 4 * WITHDRAWALS_WAITING, aSecond: 100, senders: limits.nodes },
    },
  )
})

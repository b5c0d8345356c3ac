/**
 * Which verifier's results this releaser believes: those whose key the control plane's Evidence vouches for, over a nonce
 * of the releaser's own, on hardware and with a configuration that its anchors name. Asked for anew from time to time.
 */
import { Effect } from "effect"
import type { Bus } from "../common/bus/bus.ts"
import type { BusError } from "../common/bus/types.ts"
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { type ControlCheckOptions, controlCheck, controlTrust } from "../guest/control-check.ts"
import { attempt, refuse } from "../guest/refusals.ts"
import { acceptControl } from "../make/control-plane.ts"
import { MakeError } from "../make/errors.ts"
import { buildTree, helloLeaf } from "../make/merkle.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"

const BELIEVED_MS = 60_000
const ASK_AGAIN_MS = 1_000
const TIMEOUT_MS = 3_000

export interface KnownVerifiersOptions {
  readonly crypto: Crypto
  readonly trust: Trust
  readonly instance: string
  readonly control: string
  /** This releaser's own public key: the same Evidence must bind it. */
  readonly ownKey: Uint8Array
  readonly collateral?: ControlCheckOptions["collateral"]
}

export const makeKnownVerifiers = (bus: Bus["Service"], options: KnownVerifiersOptions) => {
  const { crypto, trust, instance, control } = options
  let known: { readonly key: Uint8Array; readonly workflow: Uint8Array; readonly untilMs: number } | undefined
  let askedMs = Number.NEGATIVE_INFINITY

  const ask = Effect.fnUntraced(function* (workflow: VerifiedWorkflow) {
    const nonce = crypto.randomBytes(32)
    const tree = buildTree(crypto, [helloLeaf("releaser", instance, nonce)])
    const reply = yield* bus
      .request(
        "attest",
        { node: control, identity: bus.identity.name },
        { v: 1, kind: "attest-control", merkle_root: tree.root, leaves: tree.size },
        { timeoutMs: TIMEOUT_MS },
      )
      .pipe(Effect.mapError((error: BusError) => refuse("NO_CONTROL_EVIDENCE", "control", error.message)))
    if (reply.kind === "refused") return yield* refuse(reply.code, "control", reply.message)
    if (reply.kind !== "control-evidence") return yield* refuse("WRONG_KIND", "control", reply.kind)
    return yield* attempt(() => {
      const accepted = acceptControl(
        crypto,
        reply,
        {
          ...controlTrust(crypto, trust, workflow),
          asker: { role: "releaser", id: instance, nonce },
          inclusion: tree.inclusion(0),
        },
        controlCheck(crypto, trust, () => new Date(), { collateral: options.collateral }),
      )
      if (!crypto.equalConstantTime(accepted.releaserKey, options.ownKey)) {
        throw new MakeError("MISDIRECTED", "control.releaser_key", "is another releaser's")
      }
      return accepted.verifierKey
    })
  })

  /** The keys that may have signed results for this workflow; asks the control plane when none is known any more. */
  return Effect.fnUntraced(function* (workflow: VerifiedWorkflow, wanted: Uint8Array) {
    const now = performance.now()
    const usable =
      known !== undefined && now < known.untilMs && crypto.equalConstantTime(known.workflow, workflow.digest)
    const believed = usable && known !== undefined ? known.key : undefined
    if (believed !== undefined && crypto.equalConstantTime(believed, wanted)) return [believed]
    // A flood of results under unknown keys must not become a flood of quotes.
    if (now - askedMs < ASK_AGAIN_MS)
      return yield* refuse("NOT_VOUCHED", "result.key", "is no known verifier's")
    askedMs = now
    const key = yield* ask(workflow)
    known = { key, workflow: workflow.digest, untilMs: performance.now() + BELIEVED_MS }
    return [key]
  })
}

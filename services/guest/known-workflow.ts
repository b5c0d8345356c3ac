/**
 * The workflow that this guest obeys: the newest of its domain that enough operators have signed. Versions only rise
 * while the process lives; what a cold start can't know is bounded by the document's own end.
 */
import { Deferred, Effect } from "effect"
import type { SignedWorkflow } from "../../schemas/workflow.ts"
import { Bus } from "../common/bus/bus.ts"
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { toHex } from "../common/hex.ts"
import { isInForce, type VerifiedWorkflow, verifyWorkflow, WorkflowError } from "../make/workflow-document.ts"

export interface KnownWorkflow {
  /** Undefined before the first, and when the end of the newest has come. */
  readonly current: () => VerifiedWorkflow | undefined
  /** Waits for the first. */
  readonly first: Effect.Effect<VerifiedWorkflow>
}

export interface KnownWorkflowOptions {
  /** Called for each one that comes into force, the first included. */
  readonly onChange?: (workflow: VerifiedWorkflow) => Effect.Effect<void>
}

/** Follows the domain's workflow until the scope closes. One that can't be believed is an event and changes nothing. */
export const knowWorkflow = Effect.fn("knowWorkflow")(function* (
  crypto: Crypto,
  trust: Trust,
  options: KnownWorkflowOptions = {},
) {
  const bus = yield* Bus
  const first = yield* Deferred.make<VerifiedWorkflow>()
  let current: VerifiedWorkflow | undefined

  const take = Effect.fnUntraced(function* (signed: SignedWorkflow) {
    const verified = believe(crypto, signed, trust, current)
    if (verified === current) return
    if (verified instanceof WorkflowError) {
      const { code, field, message } = verified
      return yield* bus.event({
        type: "vouchsafe.workflow.refused",
        data: { code, field: field.slice(0, 128), message: message.slice(0, 512) },
      })
    }
    current = verified
    yield* bus.event({
      type: "vouchsafe.workflow.applied",
      data: {
        workflow: toHex(verified.digest),
        message: `${verified.document.workflow} version ${verified.document.version}`,
      },
    })
    yield* options.onChange?.(verified) ?? Effect.void
    yield* Deferred.succeed(first, verified)
  })

  yield* bus.workflows.watch(trust.domain, take)
  const known: KnownWorkflow = {
    current: () => (current !== undefined && isInForce(current.document, Date.now()) ? current : undefined),
    first: Deferred.await(first),
  }
  return known
})

/** The signed one if it is to be obeyed, the current one if it is the same, or why neither. */
const believe = (
  crypto: Crypto,
  signed: SignedWorkflow,
  trust: Trust,
  current: VerifiedWorkflow | undefined,
): VerifiedWorkflow | WorkflowError => {
  try {
    const next = verifyWorkflow(crypto, signed, trust, Date.now())
    if (current === undefined) return next
    if (crypto.equalConstantTime(next.digest, current.digest)) return current
    if (next.document.version > current.document.version) return next
    const rise = `${next.document.version} does not rise above ${current.document.version}, which is in force`
    return new WorkflowError("INCONSISTENT", "version", rise)
  } catch (error) {
    if (error instanceof WorkflowError) return error
    throw error
  }
}

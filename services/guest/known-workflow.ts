/**
 * The workflow that this guest obeys: the newest of its domain that enough operators have signed. Versions only rise
 * while the process lives; what a cold start can't know is bounded by the document's own end.
 */
import { Deferred, Effect, Latch, Semaphore } from "effect"
import type { SignedWorkflow } from "../../schemas/workflow.ts"
import { Bus } from "../common/bus/bus.ts"
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { toHex } from "../common/hex.ts"
import { surviving } from "../common/process/defects.ts"
import { isInForce, type VerifiedWorkflow, verifyWorkflow, WorkflowError } from "../make/workflow-document.ts"

/** While there is none, how long until what is stored is asked for again: whoever runs the bus may have hidden it. */
const NONE_LOOK_MS = 2_000
/** Control planes are few, and nodes can't tell them: how long until they ask for what is stored again. */
export const CONTROL_LOOK_MS = 1_000
/** Rest after each look, beside that: anybody on the bus can raise doubts. */
const DOUBT_MS = 1_000

export interface KnownWorkflow {
  /** Undefined before the first, and when the end of the newest has come. */
  readonly current: () => VerifiedWorkflow | undefined
  /**
   * The latest end of all that were ever in force here, ms since 1970; undefined before the first. A releaser may have reigned
   * until then, so that nodes may follow such a term, whatever end the newest has.
   */
  readonly latestEndMs: () => number | undefined
  /** Waits for the first. */
  readonly first: Effect.Effect<VerifiedWorkflow>
  /** Somebody may know another one: what is stored is asked for soon. */
  readonly doubt: () => void
}

export interface KnownWorkflowOptions {
  /** Called for each one that comes into force, the first included. */
  readonly onChange?: (workflow: VerifiedWorkflow) => Effect.Effect<void>
  /** Asks for what is stored this often, about; the bus itself does so rarely. */
  readonly lookMs?: number
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
  let latestEndMs: number | undefined
  const oneByOne = yield* Semaphore.make(1)
  const doubted = yield* Latch.make(false)

  const takeNow = Effect.fnUntraced(function* (signed: SignedWorkflow) {
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
    latestEndMs = Math.max(latestEndMs ?? 0, Date.parse(verified.document.not_after))
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
  const take = (signed: SignedWorkflow) => oneByOne.withPermit(takeNow(signed))

  let seen: SignedWorkflow | undefined
  const look = bus.workflows.get(trust.domain).pipe(
    Effect.flatMap((found) => {
      if (found === undefined || (seen !== undefined && isSame(seen, found.value))) return Effect.void
      seen = found.value
      return take(found.value)
    }),
    Effect.catch(({ reason }) => Effect.logDebug("the stored workflow cannot be read", { reason })),
  )
  /** Not all at once, though all began at once. */
  const patience = () => {
    const mostMs = current === undefined ? NONE_LOOK_MS : options.lookMs
    const doubt = doubted.await
    return mostMs === undefined ? doubt : Effect.timeoutOption(doubt, mostMs * (0.8 + 0.4 * Math.random()))
  }
  const looking = Effect.suspend(patience).pipe(
    Effect.andThen(doubted.close),
    Effect.andThen(look),
    surviving("looking for another workflow"),
    Effect.andThen(Effect.sleep(DOUBT_MS)),
    Effect.forever,
  )

  yield* bus.workflows.watch(trust.domain, take)
  yield* Effect.forkScoped(looking)
  const known: KnownWorkflow = {
    current: () => (current !== undefined && isInForce(current.document, Date.now()) ? current : undefined),
    latestEndMs: () => latestEndMs,
    first: Deferred.await(first),
    doubt: () => doubted.openUnsafe(),
  }
  return known
})

const isSame = (a: SignedWorkflow, b: SignedWorkflow): boolean =>
  Buffer.compare(a.document, b.document) === 0 &&
  a.signatures.length === b.signatures.length &&
  a.signatures.every(({ key, signature }, i) => {
    const other = b.signatures[i]
    return (
      other !== undefined &&
      Buffer.compare(key, other.key) === 0 &&
      Buffer.compare(signature, other.signature) === 0
    )
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

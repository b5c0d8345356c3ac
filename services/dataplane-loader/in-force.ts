/** The document that this node's kernel follows: what was put there, or why nothing was, and when to try again. */
import { Effect } from "effect"
import { KernelError } from "../common/kernel/errors.ts"
import { MakeError } from "../make/errors.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import type { Rules } from "./rules.ts"

/** How long until a document that the kernel didn't take is tried again. */
export const AGAIN_MS = 1_000

export interface Followed {
  readonly workflow: VerifiedWorkflow
  readonly rules: Rules
}

export interface Refusal {
  readonly code: string
  readonly field: string
  readonly message: string
}

export interface InForceOptions {
  /** Compiles a document and puts it into the kernel. MakeError: it isn't for this node. KernelError: not now. */
  readonly put: (workflow: VerifiedWorkflow) => Rules
  /** Takes all edges out of the kernel, keys with them. KernelError. */
  readonly clear: () => void
  /** What is to be done besides, once a document is followed. */
  readonly followed: (followed: Followed) => Effect.Effect<void>
  readonly refused: (why: Refusal) => Effect.Effect<void>
  /** Told once for each document and reason. */
  readonly failed: (why: Refusal) => Effect.Effect<void>
}

export const makeInForce = ({ put, clear, followed, refused, failed }: InForceOptions) => {
  let known: Followed | undefined
  /** What the kernel has not taken. */
  let missed: { readonly workflow: VerifiedWorkflow; readonly message: string } | undefined

  /** What the kernel says to taking out what was put there in part. */
  const uncleared = (): KernelError | undefined => {
    try {
      clear()
      return undefined
    } catch (error) {
      if (error instanceof KernelError) return error
      throw error
    }
  }

  const fails = (
    workflow: VerifiedWorkflow,
    { code, subject, message }: KernelError,
  ): Effect.Effect<void> => {
    const isNew = missed?.workflow !== workflow || missed.message !== message
    missed = { workflow, message }
    return isNew ? failed({ code, field: subject, message }) : Effect.void
  }

  /** The kernel follows a document before the node asks for keys: edges that vanished lose theirs here. */
  const take = (workflow: VerifiedWorkflow): Effect.Effect<void> =>
    Effect.suspend(() => {
      // Whatever happens below, the one before is not what the kernel holds any more.
      known = undefined
      try {
        known = { workflow, rules: put(workflow) }
        missed = undefined
        return followed(known)
      } catch (error) {
        // Before anybody is told: that may take its time.
        const left = uncleared()
        if (error instanceof KernelError) return fails(workflow, error)
        if (!(error instanceof MakeError)) throw error
        if (left !== undefined) return Effect.andThen(refused(error), fails(workflow, left))
        missed = undefined
        return refused(error)
      }
    })

  return {
    /** What keys are asked for by; undefined while the kernel follows no document. */
    known: () => known,
    take,
    /** Tries once more what the kernel didn't take, if it is still the document in force. */
    again: (current: VerifiedWorkflow | undefined): Effect.Effect<void> =>
      Effect.suspend(() =>
        missed === undefined || missed.workflow !== current ? Effect.void : take(missed.workflow),
      ),
  }
}

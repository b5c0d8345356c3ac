/** A warning before a document is stored that ends before the one in force. */
import { Effect } from "effect"
import type { Workflow } from "../../schemas/workflow.ts"
import type { Bus } from "../common/bus/bus.ts"
import { parseWorkflow, WorkflowError } from "../make/workflow-document.ts"
import { warn } from "./output.ts"

/** What a person is to know; undefined where it doesn't end earlier. */
export const earlierEnd = (before: Workflow, after: Workflow): string | undefined =>
  Date.parse(after.not_after) < Date.parse(before.not_after)
    ? `warning: version ${after.version} ends at ${after.not_after}, version ${before.version}, which is stored, at ` +
      `${before.not_after}: a releaser that starts later knows only the earlier end, and follows no term that is more than ` +
      "a day past it"
    : undefined

const parsed = (document: Uint8Array): Workflow | undefined => {
  try {
    return parseWorkflow(new TextDecoder().decode(document))
  } catch (error) {
    if (error instanceof WorkflowError) return undefined
    throw error
  }
}

/** Of what is stored, whoever has signed it: no more than a warning rests on that. One that can't be read has no end. */
export const warnOfEarlierEnd = (bus: Bus["Service"], after: Workflow): Effect.Effect<void> =>
  bus.workflows.get(after.domain).pipe(
    Effect.flatMap((stored) =>
      Effect.sync(() => {
        const before = stored && parsed(stored.value.document)
        const warning = before && earlierEnd(before, after)
        if (warning !== undefined) warn(warning)
      }),
    ),
    Effect.ignore,
  )

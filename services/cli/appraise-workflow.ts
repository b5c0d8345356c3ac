/** The workflow document that evidence is tried against: parsed as guests parse it; nobody asks who signed it. */
import { dirname, join } from "node:path"
import type { VerdictRecord } from "../../schemas/messages/record.ts"
import { crypto } from "../common/crypto/index.ts"
import { RecordError, workflowFile } from "../evidence/record/index.ts"
import { workflowDigest } from "../make/transcript.ts"
import { parseWorkflow, type VerifiedWorkflow, WorkflowError } from "../make/workflow-document.ts"
import { readItem } from "./inspect/files.ts"
import { UnusableError } from "./inspect/inspection.ts"

export type Document = VerifiedWorkflow & { readonly bytes: Uint8Array }

const parsed = (bytes: Uint8Array): Document => {
  const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes)
  return { document: parseWorkflow(text), digest: workflowDigest(crypto, bytes), bytes }
}

/** @throws UnusableError */
export const readWorkflow = (path: string): Document => {
  const { bytes } = readItem(path)
  try {
    return parsed(bytes)
  } catch (error) {
    if (error instanceof WorkflowError)
      throw new UnusableError(`WORKFLOW_${error.code}`, error.field, `${path}: ${error.message}`)
    if (error instanceof TypeError)
      throw new UnusableError("WORKFLOW_NOT_YAML", "document", `${path}: not UTF-8`)
    throw error
  }
}

/**
 * The document that a record's verdict went by: in it, named by the caller, or beside it. Only the one with its digest.
 * @throws RecordError WORKFLOW_MISSING, WORKFLOW_DIGEST, WORKFLOW_MALFORMED
 */
export const workflowOf = (
  { workflow }: VerdictRecord,
  recordPath: string,
  named: string | undefined,
): Document => {
  const bytes = workflow.document ?? besides(named ?? join(dirname(recordPath), workflowFile))
  if (!crypto.equalConstantTime(workflowDigest(crypto, bytes), workflow.digest))
    throw new RecordError("WORKFLOW_DIGEST", "workflow", "isn't the document that the record names")
  try {
    return parsed(bytes)
  } catch (error) {
    if (error instanceof WorkflowError || error instanceof TypeError)
      throw new RecordError("WORKFLOW_MALFORMED", "workflow", error.message)
    throw error
  }
}

const besides = (path: string): Uint8Array => {
  try {
    return readItem(path).bytes
  } catch (error) {
    if (error instanceof UnusableError)
      throw new RecordError(
        "WORKFLOW_MISSING",
        "workflow",
        `isn't in the record, and ${path} ${error.message}: name it with --workflow`,
      )
    throw error
  }
}

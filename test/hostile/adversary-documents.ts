/**
 * Stands in for `services/make/workflow-document.ts` in simulated runs: every guest of every run verifies the same few
 * documents, and what was found of one with a set of keys is found again.
 */
import type { SignedWorkflow } from "../../schemas/workflow.ts"
import type { Crypto } from "../../services/common/crypto/index.ts"
import {
  type VerifiedWorkflow,
  verifyWorkflow as verify,
  WorkflowError,
  type WorkflowTrust,
} from "../../services/make/workflow-document.ts"
import { hex } from "./adversary-messages.ts"

export * from "../../services/make/workflow-document.ts"

/** Runs last for minutes, documents for a month. */
const known = new WeakMap<ReadonlyArray<Uint8Array>, Map<string, VerifiedWorkflow | WorkflowError>>()
const MOST = 256

export const verifyWorkflow = (
  crypto: Crypto,
  signed: SignedWorkflow,
  trust: WorkflowTrust,
  nowMs: number,
): VerifiedWorkflow => {
  const of = known.get(trust.operatorKeys) ?? new Map<string, VerifiedWorkflow | WorkflowError>()
  known.set(trust.operatorKeys, of)
  const parts = signed.signatures.flatMap(({ key, signature }) => [key, signature])
  const name = hex(crypto.sha256(Buffer.concat([signed.document, ...parts])))
  const found = of.get(name) ?? attempt(() => verify(crypto, signed, trust, nowMs))
  if (of.size >= MOST) of.clear()
  of.set(name, found)
  if (found instanceof WorkflowError) throw found
  return found
}

const attempt = (run: () => VerifiedWorkflow): VerifiedWorkflow | WorkflowError => {
  try {
    return run()
  } catch (error) {
    if (error instanceof WorkflowError) return error
    throw error
  }
}

/** What a verifier and its threads tell each other: structured clones, nothing shared. */
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { CollateralSnapshot, StaleRules } from "../evidence/collateral/index.ts"
import type { Outstanding, Verdict } from "../guest/appraise-node.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"

/** For a thread's whole life. */
export interface ThreadSettings {
  readonly instance: string
  readonly control: string
  /** Only where collateral is looked up at all. */
  readonly stale?: StaleRules
}

export interface Job {
  readonly id: number
  readonly evidence: NodeEvidence
  readonly asked: Omit<Outstanding, "workflow">
  readonly atMs: number
  /** Since the last job of this thread these have changed. */
  readonly workflow?: VerifiedWorkflow
  readonly snapshot?: CollateralSnapshot
}

export type FromThread =
  | { readonly kind: "ready" }
  | { readonly kind: "verdict"; readonly id: number; readonly verdict: Verdict }

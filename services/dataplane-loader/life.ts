/** One session of a node, from the result that vouches for it to the next one's. */
import { limits } from "../../schemas/limits.ts"
import type { NodeState } from "../make/node-state.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import type { Rules } from "./rules.ts"
import { type Attested, endSession } from "./session.ts"

export interface Life {
  readonly workflow: VerifiedWorkflow
  readonly rules: Rules
  readonly attested: Attested
  readonly state: NodeState
  /** When the session began, when the last release was accepted, and by when the next must be; ns of the boot clock. */
  readonly sinceNs: bigint
  releasedNs: bigint
  expectedNs: bigint
}

export const MS = 1_000_000n
/** A node proves itself anew this often; its keys live no longer. */
const SESSION_NS = 300_000n * MS

export const leaseNs = ({ document }: VerifiedWorkflow): bigint =>
  BigInt(Math.min(document.lease_seconds * 1000, limits.leaseMsMax)) * MS

/**
 * Without an answer to its requests for this long, a node begins a new session: the releaser may have begun a new term, or
 * there is another verifier. A sixth of the lease leaves time for both ends of an edge to do so before their leases end.
 */
const unansweredNs = (lease: bigint): bigint => (lease / 6n < 6_000n * MS ? lease / 6n : 6_000n * MS)

export const beginLife = (
  parts: Pick<Life, "workflow" | "rules" | "attested" | "state">,
  nowBootNs: bigint,
): Life => ({
  ...parts,
  sinceNs: nowBootNs,
  releasedNs: nowBootNs,
  expectedNs: nowBootNs + unansweredNs(leaseNs(parts.workflow)),
})

/** A release was accepted. */
export const released = (life: Life, nowBootNs: bigint): void => {
  const lease = leaseNs(life.workflow)
  life.releasedNs = nowBootNs
  life.expectedNs = nowBootNs + lease / 3n + unansweredNs(lease)
}

/** Whether it is time for the next one, by its age or because requests stay unanswered. */
export const isOver = ({ sinceNs, expectedNs }: Life, nowBootNs: bigint): boolean =>
  nowBootNs - sinceNs > SESSION_NS || nowBootNs > expectedNs

/** Its keys and secrets are gone from here on. */
export const endLife = ({ state, attested }: Life): void => {
  state.dispose()
  endSession(attested.session)
}

import type { Workflow } from "../make/edges.ts"
import { revokedNodes } from "../make/standing.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"

const known = new WeakMap<VerifiedWorkflow, Workflow>()

/** What of the document the protocol works on: one object for each document. */
export const protocolWorkflow = (verified: VerifiedWorkflow): Workflow => {
  const { document, digest } = verified
  const made: Workflow = known.get(verified) ?? {
    domain: document.domain,
    digest,
    version: document.version,
    suite: document.suite,
    ...(document.peers && { peers: document.peers }),
    stages: Object.keys(document.stages).map((id) => ({ id })),
    nodes: document.nodes,
    edges: document.edges,
    revoked: revokedNodes(document),
  }
  known.set(verified, made)
  return made
}

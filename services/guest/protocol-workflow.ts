import type { Workflow } from "../make/edges.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"

/** What of the document the protocol works on. */
export const protocolWorkflow = ({ document, digest }: VerifiedWorkflow): Workflow => ({
  domain: document.domain,
  digest,
  version: document.version,
  suite: document.suite,
  stages: Object.keys(document.stages).map((id) => ({ id })),
  nodes: document.nodes,
  edges: document.edges,
})

/** One thread of the pool: appraises one answer after another. A defect ends it; the pool refuses the answer and begins another. */
import { parentPort, workerData } from "node:worker_threads"
import { crypto } from "../common/crypto/index.ts"
import { EvidenceCaches } from "../evidence/appraisal/verify-pieces.ts"
import { type CollateralSnapshot, collateralViewOf, emptySnapshot } from "../evidence/collateral/index.ts"
import { appraiseNode, type Verifier } from "../guest/appraise-node.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import type { FromThread, Job, ThreadSettings } from "./pool-messages.ts"

const port = parentPort
if (port === null) throw new Error("runs in a thread only")
const { instance, control, stale }: ThreadSettings = workerData

let snapshot: CollateralSnapshot = emptySnapshot
let workflow: VerifiedWorkflow | undefined

const verifier: Verifier = {
  crypto,
  instance,
  control,
  caches: new EvidenceCaches(),
  ...(stale && { collateral: (now: Date) => collateralViewOf(snapshot, now, stale) }),
}

const tell = (message: FromThread): void => port.postMessage(message)

port.on("message", (job: Job) => {
  snapshot = job.snapshot ?? snapshot
  workflow = job.workflow ?? workflow
  if (workflow === undefined) throw new Error("a job without a workflow")
  const verdict = appraiseNode(verifier, job.evidence, { ...job.asked, workflow }, new Date(job.atMs))
  tell({ kind: "verdict", id: job.id, verdict })
})
tell({ kind: "ready" })

/** One reign: a term over one workflow document. Its end is the end of all that is in here. */
import type { Crypto } from "../common/crypto/port.ts"
import { protocolWorkflow } from "../guest/protocol-workflow.ts"
import type { Inherited } from "../make/heritage.ts"
import type { LaunchBook } from "../make/launch.ts"
import { Releaser } from "../make/releaser.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { KnownResults } from "./known-results.ts"

export interface Reign {
  readonly workflow: VerifiedWorkflow
  readonly core: Releaser
  readonly results: KnownResults
}

export interface ReignOptions {
  readonly crypto: Crypto
  readonly workflow: VerifiedWorkflow
  readonly inherited: ReadonlyArray<Inherited>
  readonly launches: LaunchBook
  readonly instance: string
  readonly term: bigint
}

/** @throws MakeError for a workflow that doesn't compile */
export const newReign = ({ crypto, workflow, inherited, launches, instance, term }: ReignOptions): Reign => {
  const { lease_seconds: lease, rotate_seconds: rotate } = workflow.document
  const core = new Releaser({
    inherited,
    launches,
    crypto,
    workflow: protocolWorkflow(workflow),
    releaser: instance,
    term,
    leaseMs: lease * 1_000,
    // Without it, edges get new keys with each new session of one of their nodes.
    ...(rotate === undefined ? {} : { rotateMs: rotate * 1_000 }),
    gather: true,
  })
  return { workflow, core, results: new KnownResults(crypto) }
}

/** What a node looks up to judge its peers' Evidence: nothing, until a workflow has it appraise a stage that asks for it. */
import { Effect, Scope } from "effect"
import { Bus } from "../common/bus/bus.ts"
import type { CollateralLookup } from "../evidence/appraisal/verify-pieces.ts"
import { collateralViewOf, emptySnapshot } from "../evidence/collateral/index.ts"
import { evidencePeers } from "../make/edges.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { type CollateralCache, type CollateralSettings, makeCollateralCache } from "./collateral-cache.ts"
import { asksForCollateral } from "./control-collateral.ts"
import { protocolWorkflow } from "./protocol-workflow.ts"

const isNeeded = (verified: VerifiedWorkflow, node: string): boolean => {
  const { document } = verified
  const peers = evidencePeers(protocolWorkflow(verified), node)
  return document.nodes.some(({ id, stage }) => {
    const demands = document.stages[stage]
    return peers.has(id) && demands !== undefined && asksForCollateral(demands)
  })
}

/** A cache that is filled in the background from the first need until the scope closes. */
export const peerCollateral = Effect.fn("peerCollateral")(function* (settings: CollateralSettings) {
  const bus = yield* Bus
  const scope = yield* Effect.scope
  let cache: CollateralCache | undefined
  return {
    view: (now: Date): CollateralLookup =>
      cache?.view(now) ?? collateralViewOf(emptySnapshot, now, settings.stale),
    /** @param workflow one that compiles for the node */
    need: (workflow: VerifiedWorkflow, node: string) =>
      Effect.suspend(() =>
        cache !== undefined || !isNeeded(workflow, node)
          ? Effect.void
          : makeCollateralCache({ settings }).pipe(
              Effect.tap((made) =>
                Effect.sync(() => {
                  cache = made
                }),
              ),
              Effect.asVoid,
              Scope.provide(scope),
              Effect.provideService(Bus, bus),
            ),
      ),
  }
})

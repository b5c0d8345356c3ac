/** What a node tells of itself: events about its data plane and leases, and its statistics. No keys. */
import { Effect } from "effect"
import type { Stats } from "../../schemas/messages/stats.ts"
import type { Bus } from "../common/bus/bus.ts"
import { Pace } from "../common/bus/counters.ts"
import type { Refused } from "../common/bus/types.ts"
import type { EdgeAt } from "../make/held.ts"
import type { Drop } from "./dataplane/plane.ts"
import type { Failure } from "./kernel-actions.ts"
import type { Rules } from "./rules.ts"
import { Telling } from "./telling.ts"

/** @param nowMs of a monotonic clock */
export const makeReports = (bus: Bus["Service"], node: string, nowMs: () => number) => {
  const telling = new Telling()
  /** A hostile bus can send as many bad releases as it likes: fifty a second are enough for the record. */
  const refusals = new Pace(50, 1_000)
  const at = ({ instance, epoch }: EdgeAt) => ({ edge: instance, term: epoch.term, epoch: epoch.n })

  return {
    refused: ({ code, field, message }: Refused) =>
      refusals.take()
        ? bus.event({
            type: "vouchsafe.release.refused",
            subject: node,
            data: { node, code, field, message },
          })
        : Effect.void,

    /** The kernel refused an install. */
    failed: ({ error: { code, message }, ...edge }: Failure) =>
      bus.event({
        type: "vouchsafe.dataplane.failed",
        subject: node,
        data: { node, ...at(edge), code, message },
      }),

    leaseOver: (edge: EdgeAt) =>
      bus.event({ type: "vouchsafe.lease.over", subject: edge.instance, data: { node, ...at(edge) } }),

    /** A sample of what the kernel dropped: at most a handful with each telling. */
    dropped: (rules: Rules | undefined, { verdict, edge, text }: Drop) => {
      const instance = rules?.edges.find(({ record }) => record.index === edge)?.edge.id
      return bus.event({
        type: "vouchsafe.dataplane.drop",
        subject: instance ?? node,
        data: { node, ...(instance !== undefined && { edge: instance }), code: verdict, message: text },
      })
    },

    /** When there is something to tell. */
    stats: (stats: Stats) =>
      telling.due(stats, nowMs()) ? bus.publish("stats", { node }, stats) : Effect.void,
  }
}

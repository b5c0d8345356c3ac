/** Puts a run's parts together into its summary. */
import type { Expectations } from "./checks.ts"
import { judge } from "./checks.ts"
import { addDrops, collectDropsByNode, collectEdges, collectNodes, collectRefused } from "./collect.ts"
import type { WireCounts } from "./frames.ts"
import { type Intrusion, type Milestones, wantedEdges } from "./job.ts"
import type { Lab } from "./lab.ts"
import type { PipelineResult } from "./pipeline.ts"
import type { Summary } from "./summary.ts"

/** The code of a refusal because of what runs in the kernel: the name of the appraisal's check. */
const DATAPLANE_REFUSED = "DATAPLANE"

export interface Run {
  readonly lab: Lab
  /** When the program began, milliseconds of the Unix clock. */
  readonly began: number
  readonly milestones: Milestones
  readonly intrusion: Intrusion
  readonly pipeline: PipelineResult & { readonly began: number }
  readonly wire: WireCounts
}

const expectations = (lab: Lab): Expectations => ({
  nodes: lab.nodes.filter(({ id }) => !lab.tampered.has(id)).map(({ id, stage }) => ({ id, stage })),
  refused: [...lab.tampered].map((id) => ({ id, code: DATAPLANE_REFUSED })),
  edges: wantedEdges(lab),
  dataplane: lab.dataplane,
})

export const summarise = (run: Run): Summary => {
  const { lab, milestones, pipeline } = run
  const { times, watch } = lab
  const { first_esp_at, ...wire } = run.wire
  const { began, ms, ...moved } = pipeline
  const dropsByNode = collectDropsByNode(watch)
  const round = (value: number): number => Math.max(0, Math.round(value))
  return judge(
    {
      emulated: watch.events.some(({ event }) => event.data.emulated === true),
      workflow: lab.workflow.workflow,
      kernel: lab.machine.kernel,
      nats_server: lab.bus.version,
      underlay: lab.underlay,
      nodes: collectNodes(watch, new Map(lab.nodes.map(({ id, stage }) => [id, stage]))),
      edges: collectEdges(
        watch,
        lab.workflow.edges.map(({ id }) => id),
      ),
      refused: collectRefused(
        watch,
        lab.nodes.map(({ id }) => id),
      ),
      pipeline: moved,
      wire,
      intruder: run.intrusion,
      drops: addDrops(dropsByNode),
      drops_by_node: dropsByNode,
      timings_ms: {
        setup: round(times.networkUp - run.began),
        nats: round(times.busUp - times.networkUp),
        attest: round(milestones.attested - times.busUp),
        release: round(milestones.released - milestones.attested),
        first_packet: first_esp_at === null ? 0 : round(first_esp_at - began),
        pipeline: round(ms),
        total: round(Date.now() - run.began),
      },
    },
    expectations(lab),
  )
}

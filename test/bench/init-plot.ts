/** The init bench over the number of nodes: what an edge costs in each phase, and in CPU, as a picture. */
import type { InitResult } from "./init.ts"
import type { Topology } from "./init-topology.ts"
import { barPlot } from "./plot.ts"

export interface Size {
  readonly topology: Topology
  readonly nodes: number
}

export const plottedSizes: readonly Size[] = [
  ...[10, 20, 50, 100].map((nodes) => ({ topology: "mesh" as const, nodes })),
  ...[100, 300, 1_000].map((nodes) => ({ topology: "random-8" as const, nodes })),
]

const phases = ["hello", "evidence", "appraisal", "release", "install"] as const

export const plotOf = (results: readonly InitResult[]): string =>
  barPlot({
    title: "From told to start to every edge in use, for each edge",
    unit: "ms of time by phase and in all; ms of CPU of all processes",
    groups: results.map(({ topology, nodes }) => `${topology} ${nodes}`),
    series: [
      ...phases.map((phase) => ({
        name: phase,
        values: results.map((result) => (1_000 * result.phases[phase]) / result.edges),
      })),
      { name: "all phases", values: results.map(({ ms_per_edge }) => ms_per_edge) },
      { name: "CPU", values: results.map(({ cpu_ms_per_edge }) => cpu_ms_per_edge) },
    ],
  })

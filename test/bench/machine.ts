/** Under what circumstances something was measured: without it, figures say little. */
import { availableParallelism, cpus, loadavg, release } from "node:os"

export const machine = () => ({
  kernel: release(),
  node: process.version,
  cpu: cpus()[0]?.model ?? "unknown",
  cores: availableParallelism(),
  load: loadavg().map((each) => Number(each.toFixed(2))),
})

/** The value below which `part` of them lie; NaN of none. */
export const quantile = (values: readonly number[], part: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

/** `vouchsafe measure snp|tdx|tpm`: reference values from files, as a part of a workflow's stage. */
import { stringify } from "yaml"
import { snp } from "./measure-snp.ts"
import { tdx } from "./measure-tdx.ts"
import { tpm } from "./measure-tpm.ts"
import { type Measurable, measureUsage } from "./measure-usage.ts"
import { createOutput } from "./output.ts"

const parts = { snp, tdx, tpm } as const

/** @returns the exit status: 3 where a log has something else than was computed @throws UsageError, MeasureError, EventLogError */
export const measureCommand = (what: Measurable, args: readonly string[]): 0 | 3 => {
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(measureUsage[what])
    return 0
  }
  const { measured, json } = parts[what](args)
  const { values, stage, notes, agrees } = measured
  createOutput(json).result({ kind: what, ...values, agrees, workflow: stage, notes }, [
    ...stringify(stage, { lineWidth: 0 }).trimEnd().split("\n"),
    // A file's name may hold anything; a comment ends with its line.
    ...notes.map((note) => `# ${note.replaceAll(/\p{Cc}/gu, "?")}`),
  ])
  return agrees ? 0 : 3
}

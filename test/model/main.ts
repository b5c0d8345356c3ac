/** `npm run model`: every run and mutation with its figures, or those only whose name contains one of the arguments. */
import { endProcess } from "../../services/common/process/end.ts"
import { mutations, nameOf, type Run, sound } from "./runs.ts"
import { check, describeOutcome, missingTools } from "./spin.ts"

const missing = missingTools()
if (missing.length > 0) {
  process.stderr.write(`missing: ${missing.join(", ")} (Debian packages of the same names)\n`)
  process.exit(2)
}
const filters = process.argv.slice(2)
const wanted = (run: Run) => filters.length === 0 || filters.some((filter) => nameOf(run).includes(filter))

let surprises = 0
for (const run of [...sound, ...mutations].filter(wanted)) {
  const expected = "breaks" in run ? run.breaks : undefined
  const outcome = await check(run.model, run.flags, {
    quick: expected !== undefined || run.flags.includes("SMALL"),
  })
  const asExpected = outcome.broken === expected
  if (!asExpected) surprises += 1
  process.stdout.write(
    `${asExpected ? "ok  " : "FAIL"} ${describeOutcome(nameOf(run), outcome)}  ${run.says}\n`,
  )
}
endProcess(surprises === 0 ? 0 : 1)

/** The model of MAKE: all properties hold in every state within the bounds, and each mutation of it is caught. */
import { describe, expect, it } from "vitest"
import { mutations, nameOf, sound } from "./runs.ts"
import { check, describeOutcome, missingTools, type Outcome } from "./spin.ts"

const missing = missingTools()
if (missing.length > 0) {
  const skipped = sound.length + mutations.length + 1
  process.stderr.write(`*** ${skipped} checks of the model SKIPPED: no ${missing.join(", no ")} here ***\n`)
}

const TIMEOUT_MS = 300_000
const say = (line: string) => process.stdout.write(`${line}\n`)

describe.skipIf(missing.length > 0)("model of MAKE", () => {
  const unreached = new Map<string, ReadonlyArray<Outcome["unreached"]>>()

  it.each(sound.map((run) => [nameOf(run), run.says, run] as const))(
    "%s: %s",
    async (name, _says, { model, flags }) => {
      const outcome = await check(model, flags, { quick: true })
      say(describeOutcome(name, outcome))
      expect(outcome.broken).toBeUndefined()
      expect(outcome.states).toBeGreaterThan(1_000)
      unreached.set(model, [...(unreached.get(model) ?? []), outcome.unreached])
    },
    TIMEOUT_MS,
  )

  it("leaves no statement unreached in all runs of a model", () => {
    expect(unreached.size).toBe(5)
    for (const [model, runs] of unreached) {
      const [first = [], ...others] = runs
      const never = first.filter((statement) => others.every((other) => other.includes(statement)))
      expect(never, model).toEqual([])
    }
  })

  it.each(mutations.map((run) => [nameOf(run), run.says, run] as const))(
    "%s is caught: %s",
    async (name, _says, { model, flags, breaks }) => {
      const outcome = await check(model, flags, { quick: true })
      say(describeOutcome(name, outcome))
      expect(outcome.broken).toBe(breaks)
    },
    TIMEOUT_MS,
  )
})

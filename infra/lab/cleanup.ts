/** What was made must go again: steps that undo, run once, last made first. */

export interface Cleanup {
  /** Registers a step. `what` names it if it fails. */
  add(what: string, undo: () => void | Promise<void>): void
  /** Runs every step; a step that fails doesn't keep the others from running. Gives the failures. Again: waits for the same run. */
  run(): Promise<ReadonlyArray<string>>
}

export const createCleanup = (): Cleanup => {
  const steps: Array<{ readonly what: string; readonly undo: () => void | Promise<void> }> = []
  let running: Promise<ReadonlyArray<string>> | undefined
  const runAll = async (): Promise<ReadonlyArray<string>> => {
    const failures: string[] = []
    for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
      try {
        await step.undo()
      } catch (error) {
        failures.push(`${step.what}: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
    return failures
  }
  return {
    add: (what, undo) => {
      steps.push({ what, undo })
    },
    run: () => {
      running ??= runAll()
      return running
    },
  }
}

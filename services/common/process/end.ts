/** Exit statuses: 0 done or ended by our own signal. */
export const EXIT = { failed: 1, usage: 64, defective: 70, configuration: 78 } as const

/**
 * Ends the process with this status once everything it printed is with its readers: into a pipe, writing is asynchronous, and
 * `process.exit` alone cuts off whatever is beyond the pipe's 64 KiB.
 */
export const endProcess = (code: number): void => {
  process.stdout.write("", () => process.stderr.write("", () => process.exit(code)))
}

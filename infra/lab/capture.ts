/** The lab's side of the capture: starts the watcher on the wire and keeps its latest word. */
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type { CaptureLine, CaptureOrder } from "./capture-main.ts"
import type { WireCounts } from "./frames.ts"
import { lastLines, type Processes } from "./processes.ts"

export interface Capture {
  /** The latest counts; at most a third of a second old. */
  counts(): WireCounts
  /** Ends the capture and gives its last counts. */
  stop(): Promise<WireCounts>
}

const READY_MS = 10_000

/** Starts watching; resolves when every later frame will be seen. */
export const startCapture = async (
  processes: Processes,
  netns: string,
  order: CaptureOrder,
): Promise<Capture> => {
  const watcher = processes.start({
    name: "capture",
    command: process.execPath,
    args: [fileURLToPath(new URL("capture-main.ts", import.meta.url)), JSON.stringify(order)],
    netns,
    stdout: "pipe",
  })
  if (watcher.stdout === undefined) throw new Error("the capture has no stdout")
  let latest: CaptureLine | undefined
  let ready: () => void = () => undefined
  const started = new Promise<void>((resolve) => {
    ready = resolve
  })
  const lines = createInterface({ input: watcher.stdout })
  const drained = new Promise<void>((resolve) => lines.once("close", resolve))
  lines.on("line", (line) => {
    if (line === "ready") ready()
    else latest = JSON.parse(line) as CaptureLine
  })
  const timer = new AbortController()
  const tooLate = new Promise<never>((_, reject) => {
    const fail = (): void => reject(new Error(`the capture did not start: ${lastLines(watcher.log, 5)}`))
    const clock = setTimeout(fail, READY_MS)
    timer.signal.addEventListener("abort", () => clearTimeout(clock))
    void watcher.ended.then(fail)
  })
  await Promise.race([started, tooLate]).finally(() => timer.abort())
  tooLate.catch(() => undefined)
  const counts = (): CaptureLine => {
    if (latest === undefined) throw new Error("the capture has counted nothing yet")
    return latest
  }
  const withoutMark = ({ final: _, ...line }: CaptureLine): WireCounts => line
  return {
    counts: () => withoutMark(counts()),
    stop: async () => {
      await watcher.stop(5_000)
      await drained
      const last = counts()
      if (!last.final) throw new Error(`the capture ended early: ${lastLines(watcher.log, 5)}`)
      return withoutMark(last)
    },
  }
}

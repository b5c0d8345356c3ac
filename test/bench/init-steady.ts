/** The init bench's last part: what everything takes, and whether anything grows, while all is well. */
import { readFileSync } from "node:fs"
import type { Lab } from "./init-lab.ts"

const TICKS_PER_SECOND = 100
const CONTROL_PLANE = ["attester", "verifier", "key-releaser"]

const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6
const rounded = (value: number, digits: number): number => Number(value.toFixed(digits))
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** User and system time of a process so far, in seconds. */
export const cpuOf = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? []
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

const statusMb = (pid: number, field: "VmHWM" | "VmRSS"): number =>
  Number(
    new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0,
  ) / 1_024

/** Since the process began: setting up is in it. */
export const peakMbOf = (pid: number): number => statusMb(pid, "VmHWM")

/** What there is of everything that could grow. */
export interface Sizes {
  readonly rss_mb: Readonly<Record<string, number>>
  /** In JetStream, all streams and buckets: events are kept, up to their stream's limits. */
  readonly stored_messages: number
  readonly stored_bytes: number
}

const sizesOf = async (lab: Lab): Promise<Sizes> => {
  const stored = await lab.stored()
  return {
    rss_mb: Object.fromEntries([...lab.pids].map(([who, pid]) => [who, Math.round(statusMb(pid, "VmRSS"))])),
    stored_messages: stored.messages,
    stored_bytes: stored.bytes,
  }
}

/** While nothing happens but renewals, statistics and looks at the stored workflow. */
export interface Steady {
  readonly seconds: number
  /** By all nodes together, as their lease says: one in a third of it. */
  readonly renewals: number
  /** Of the control plane's processes together; the bus is not in it. */
  readonly control_plane_cores: number
  readonly cores: Readonly<Record<string, number>>
  /** That clients send the server. */
  readonly bus_messages_per_s: number
  /** After a tenth of the time, when what is filled once has been filled, and in the end. */
  readonly sizes: readonly [early: Sizes, late: Sizes]
}

/** What everything takes once nodes do all that they do when all is well, after a pause for what the start left to do. */
export const watchSteady = async (lab: Lab, renewalsPerSecond: number, seconds: number): Promise<Steady> => {
  for (const worker of lab.workers) worker.send({ kind: "steady" })
  await pause(5_000)
  const processes = [...lab.pids]
  const before = processes.map(([, pid]) => cpuOf(pid))
  const messages = await lab.messages()
  const from = nowMs()
  await pause(seconds * 100)
  const early = await sizesOf(lab)
  await pause(seconds * 900)
  const elapsed = (nowMs() - from) / 1_000
  const cores = Object.fromEntries(
    processes.map(([who, pid], i) => [who, rounded((cpuOf(pid) - (before[i] ?? 0)) / elapsed, 4)]),
  )
  return {
    seconds: rounded(elapsed, 1),
    renewals: Math.round(elapsed * renewalsPerSecond),
    control_plane_cores: rounded(
      CONTROL_PLANE.reduce((sum, who) => sum + (cores[who] ?? 0), 0),
      4,
    ),
    cores,
    bus_messages_per_s: rounded(((await lab.messages()) - messages) / elapsed, 1),
    sizes: [early, await sizesOf(lab)],
  }
}

const percent = (part: number): string => `${(100 * part).toFixed(2)} %`

export const steadyLines = (steady: Steady): readonly string[] => {
  const { control_plane_cores, bus_messages_per_s, renewals, seconds, cores, sizes } = steady
  const [early, late] = sizes
  return [
    `steady, ${renewals} renewals in ${seconds} s: control plane ${percent(control_plane_cores)} of a core, ${bus_messages_per_s} messages/s on the bus`,
    ...Object.entries(cores).map(
      ([who, part]) =>
        `steady: ${who} ${percent(part)} of a core, ${early.rss_mb[who]} MB after a tenth of the time, ${late.rss_mb[who]} MB in the end`,
    ),
    `steady: ${early.stored_messages} messages (${early.stored_bytes} bytes) in streams and buckets after a tenth of the time, ${late.stored_messages} (${late.stored_bytes}) in the end`,
  ]
}

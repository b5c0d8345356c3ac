/** What the parts of `vouchsafe measure` share: options, boots, logs, and the form of what they give. */
import { toHex } from "../common/hex.ts"
import { type EventLog, type EventLogBank, eventTypes, parseEventLog } from "../evidence/index.ts"
import { type DirectBoot, measureLimits, type Step } from "../evidence/measure/index.ts"
import { hashInitrd, readImageFile, readWhole } from "./measure-files.ts"
import { UsageError } from "./output.ts"

export const text = { type: "string" } as const
export const many = { type: "string", multiple: true } as const
export const shared = {
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
  kernel: text,
  initrd: text,
  cmdline: text,
} as const

/** What a measurement gives: values for scripts, the stage's part, and what must be known to rely on it. */
export interface Measured {
  /** What was computed is what the log has, as far as one was given. */
  readonly agrees: boolean
  readonly values: Readonly<Record<string, unknown>>
  readonly stage: Readonly<Record<string, unknown>>
  readonly notes: readonly string[]
}

/** What one of the parts was asked for, and how to print it. */
export interface Measurement {
  readonly measured: Measured
  readonly json: boolean
}

export const needed = (value: string | undefined, option: string): string => {
  if (value === undefined) throw new UsageError(`${option} is missing`)
  return value
}

export const oneOf = <T extends string>(value: string, option: string, known: readonly T[]): T => {
  const found = known.find((each) => each === value)
  if (found === undefined) throw new UsageError(`${option}: "${value}" is none of ${known.join(", ")}`)
  return found
}

export const whole = (value: string, option: string, most: number): number => {
  if (!/^\d{1,9}$/.test(value) || Number(value) > most)
    throw new UsageError(`${option} must be a whole number up to ${most}`)
  return Number(value)
}

const units = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 } as const

/** As QEMU's -m takes it, but bytes where no unit is written. */
export const memory = (value: string): number => {
  const [, count, unit] = /^(\d{1,12})([KMG]?)$/.exec(value) ?? []
  if (count === undefined) throw new UsageError(`--qemu-memory: "${value}" is no size such as 2048M`)
  return Number(count) * units[(unit ?? "") as keyof typeof units]
}

export const withoutKernel = ({
  initrd,
  cmdline,
}: {
  initrd?: string | undefined
  cmdline?: string | undefined
}): void => {
  if (initrd !== undefined || cmdline !== undefined)
    throw new UsageError("--initrd and --cmdline belong to a --kernel")
}

export const directBoot = (
  { kernel, initrd, cmdline }: Readonly<Record<"kernel" | "initrd" | "cmdline", string | undefined>>,
  qemuMemory: string | undefined,
  bank: EventLogBank,
): DirectBoot | undefined => {
  if (kernel === undefined) {
    withoutKernel({ initrd, cmdline })
    if (qemuMemory !== undefined) throw new UsageError("--qemu-memory belongs to a --kernel")
    return undefined
  }
  return {
    kernel: readImageFile(kernel, "kernel"),
    ...(initrd !== undefined && { initrd: hashInitrd(initrd, [bank]) }),
    commandLine: cmdline ?? "",
    ...(qemuMemory !== undefined && { memoryBytes: memory(qemuMemory) }),
  }
}

export const readLog = (path: string): EventLog =>
  parseEventLog(readWhole(path, "log", measureLimits.variableBytes))

export const shown = (steps: readonly Step[]) =>
  steps.map(({ what, digest }) => ({ what, digest: toHex(digest) }))

/** Where a log and what was computed part; undefined where they don't. */
export const difference = (log: EventLog, bank: EventLogBank, register: number, steps: readonly Step[]) => {
  const events = log.events.filter(
    (event) => event.register === register && event.type !== eventTypes.EV_NO_ACTION,
  )
  for (let i = 0; i < Math.max(events.length, steps.length); i++) {
    const [event, step] = [events[i], steps[i]]
    const digest = event?.digests.get(bank)
    if (digest !== undefined && step !== undefined && Buffer.compare(digest, step.digest) === 0) continue
    const found =
      event === undefined ? "nothing more" : `${event.typeName} ${toHex(digest ?? new Uint8Array(0))}`
    const computed = step === undefined ? "nothing more" : `${step.what} ${toHex(step.digest)}`
    return `step ${i}: the log has ${found}, computed is ${computed}`
  }
  return undefined
}

/** `vouchsafe measure snp|tdx|tpm`: reference values from files, as a part of a workflow's stage. */
import { X509Certificate } from "node:crypto"
import { parseArgs } from "node:util"
import { stringify } from "yaml"
import {
  type EventLog,
  type EventLogBank,
  eventTypes,
  parseEventLog,
  replayEventLog,
  rtmrsOf,
} from "../evidence/index.ts"
import {
  type Authority,
  authorityInDb,
  chainSteps,
  type DirectBoot,
  directBootSteps,
  directRtmrSteps,
  imageDigest,
  measureLimits,
  measureSnp,
  measureTdx,
  pageOrders,
  readImage,
  readUnifiedImage,
  registerOf,
  type SecureBootValues,
  type Step,
  secureBootSteps,
  unifiedImages,
  unifiedKernelSteps,
  unifiedSteps,
  vcpuTypes,
  vmms,
} from "../evidence/measure/index.ts"
import {
  hashFile,
  hashInitrd,
  readFirmware,
  readImageFile,
  readVariables,
  readWhole,
} from "./measure-files.ts"
import { measureUsage } from "./measure-usage.ts"
import { createOutput, UsageError } from "./output.ts"

export const measurable = ["snp", "tdx", "tpm"] as const
export type Measurable = (typeof measurable)[number]

const text = { type: "string" } as const
const many = { type: "string", multiple: true } as const
const shared = {
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
  kernel: text,
  initrd: text,
  cmdline: text,
} as const

/** What a measurement gives: values for scripts, the stage's part, and what must be known to rely on it. */
interface Measured {
  /** What was computed is what the log has, as far as one was given. */
  readonly agrees: boolean
  readonly values: Readonly<Record<string, unknown>>
  readonly stage: Readonly<Record<string, unknown>>
  readonly notes: readonly string[]
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

const needed = (value: string | undefined, option: string): string => {
  if (value === undefined) throw new UsageError(`${option} is missing`)
  return value
}

const oneOf = <T extends string>(value: string, option: string, known: readonly T[]): T => {
  const found = known.find((each) => each === value)
  if (found === undefined) throw new UsageError(`${option}: "${value}" is none of ${known.join(", ")}`)
  return found
}

const whole = (value: string, option: string, most: number): number => {
  if (!/^\d{1,9}$/.test(value) || Number(value) > most)
    throw new UsageError(`${option} must be a whole number up to ${most}`)
  return Number(value)
}

const units = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 } as const

/** As QEMU's -m takes it, but bytes where no unit is written. */
const memory = (value: string): number => {
  const [, count, unit] = /^(\d{1,12})([KMG]?)$/.exec(value) ?? []
  if (count === undefined) throw new UsageError(`--qemu-memory: "${value}" is no size such as 2048M`)
  return Number(count) * units[(unit ?? "") as keyof typeof units]
}

/** @returns the exit status: 3 where a log has something else than was computed @throws UsageError, MeasureError, EventLogError */
export const measureCommand = (what: Measurable, args: readonly string[]): 0 | 3 => {
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(measureUsage[what])
    return 0
  }
  const { measured, json } = run(what, args)
  const { values, stage, notes, agrees } = measured
  createOutput(json).result({ kind: what, ...values, agrees, workflow: stage, notes }, [
    ...stringify(stage, { lineWidth: 0 }).trimEnd().split("\n"),
    ...notes.map((note) => `# ${note}`),
  ])
  return agrees ? 0 : 3
}

const run = (what: Measurable, args: readonly string[]): { measured: Measured; json: boolean } => {
  switch (what) {
    case "snp":
      return snp(args)
    case "tdx":
      return tdx(args)
    case "tpm":
      return tpm(args)
  }
}

const withoutKernel = ({
  initrd,
  cmdline,
}: {
  initrd?: string | undefined
  cmdline?: string | undefined
}): void => {
  if (initrd !== undefined || cmdline !== undefined)
    throw new UsageError("--initrd and --cmdline belong to a --kernel")
}

const snp = (args: readonly string[]) => {
  const { values } = parseArgs({
    args: [...args],
    strict: true,
    options: {
      ...shared,
      ovmf: text,
      vcpus: text,
      "vcpu-type": text,
      "guest-features": { type: "string", default: "0x1" },
      vmm: { type: "string", default: "qemu" },
    },
  })
  const { kernel, initrd, cmdline } = values
  const features = values["guest-features"]
  if (!/^(0x[0-9a-f]{1,16}|\d{1,19})$/i.test(features))
    throw new UsageError("--guest-features must be a number such as 0x1")
  if (kernel === undefined) withoutKernel(values)
  const vmm = oneOf(values.vmm, "--vmm", vmms)
  const type = values["vcpu-type"]
  const measurement = measureSnp(readFirmware(needed(values.ovmf, "--ovmf FILE")), {
    vcpus: whole(needed(values.vcpus, "--vcpus N"), "--vcpus", measureLimits.vcpus),
    ...(vmm === "qemu" && { vcpuType: oneOf(needed(type, "--vcpu-type TYPE"), "--vcpu-type", vcpuTypes) }),
    features: BigInt(features),
    vmm,
    ...(kernel !== undefined && {
      load: {
        kernel: hashFile(kernel, "kernel", measureLimits.imageBytes, ["sha256"]),
        ...(initrd !== undefined && { initrd: hashInitrd(initrd, ["sha256"]) }),
        commandLine: cmdline ?? "",
      },
    }),
  })
  const alone =
    "No kernel is in it: this firmware boots what it finds, and the measurement says nothing of that."
  return {
    json: values.json,
    measured: {
      agrees: true,
      values: { measurement: hex(measurement) },
      stage: { sev_snp: { measurements: [hex(measurement)] } },
      notes: kernel === undefined ? [alone] : [],
    },
  }
}

const directBoot = (
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

const readLog = (path: string): EventLog => parseEventLog(readWhole(path, "log", measureLimits.variableBytes))

const shown = (steps: readonly Step[]) => steps.map(({ what, digest }) => ({ what, digest: hex(digest) }))

/** Where a log and what was computed part; undefined where they don't. */
const difference = (log: EventLog, bank: EventLogBank, register: number, steps: readonly Step[]) => {
  const events = log.events.filter(
    (event) => event.register === register && event.type !== eventTypes.EV_NO_ACTION,
  )
  for (let i = 0; i < Math.max(events.length, steps.length); i++) {
    const [event, step] = [events[i], steps[i]]
    const digest = event?.digests.get(bank)
    if (digest !== undefined && step !== undefined && Buffer.compare(digest, step.digest) === 0) continue
    const found =
      event === undefined ? "nothing more" : `${event.typeName} ${hex(digest ?? new Uint8Array(0))}`
    const computed = step === undefined ? "nothing more" : `${step.what} ${hex(step.digest)}`
    return `step ${i}: the log has ${found}, computed is ${computed}`
  }
  return undefined
}

const tdx = (args: readonly string[]) => {
  const { values } = parseArgs({
    args: [...args],
    strict: true,
    options: {
      ...shared,
      firmware: text,
      "page-order": { type: "string", default: "page" },
      "qemu-memory": text,
      ccel: text,
    },
  })
  const order = oneOf(values["page-order"], "--page-order", pageOrders)
  const mrtd = hex(measureTdx(readFirmware(needed(values.firmware, "--firmware FILE")), order))
  const { kernel, initrd, cmdline } = values
  const boot = directBoot({ kernel, initrd, cmdline }, values["qemu-memory"], "sha384")
  const computed = boot === undefined ? new Map<1 | 2, readonly Step[]>() : directRtmrSteps(boot)
  const log = values.ccel === undefined ? undefined : readLog(values.ccel)
  const rtmrs = new Map<number, string>()
  let agrees = true
  const notes: string[] = []
  if (log !== undefined) {
    rtmrsOf(replayEventLog(log, "sha384")).forEach((value, i) => void rtmrs.set(i, hex(value)))
    const fromLog = [...rtmrs.keys()].filter((i) => !computed.has(i as 1 | 2))
    notes.push(`RTMRs ${fromLog.join(", ")} are those of the log: good if the machine that it is from was.`)
  } else
    notes.push("RTMR 0 holds memory map, ACPI tables and variables of the VMM: take it from a CCEL (--ccel).")
  for (const [i, steps] of computed) {
    rtmrs.set(i, hex(registerOf("sha384", steps)))
    const parted = log && difference(log, "sha384", i + 1, steps)
    agrees &&= parted === undefined
    if (parted !== undefined) notes.push(`RTMR ${i} isn't that of the log, ${parted}.`)
  }
  if (!rtmrs.has(1)) notes.push("A stage needs RTMRs 1 and 2 too: give --kernel (booted directly) or --ccel.")
  const sorted = [...rtmrs].sort(([a], [b]) => a - b)
  return {
    json: values.json,
    measured: {
      agrees,
      values: {
        mrtd,
        rtmrs: Object.fromEntries(sorted),
        steps: Object.fromEntries([...computed].map(([i, steps]) => [i, shown(steps)])),
      },
      stage: {
        tdx: {
          mrtd: [mrtd],
          ...(rtmrs.size > 0 && { rtmrs: Object.fromEntries(sorted.map(([i, value]) => [i, [value]])) }),
        },
      },
      notes,
    },
  }
}

/** `db=CERTIFICATE`, or what shim measures of its own: `SbatLevel=FILE`. */
const authority = (argument: string, values: SecureBootValues): Authority => {
  const [, variable, path] =
    /^(db|SbatLevel|MokListRT|MokListTrusted|Shim|vendor_db)=(.+)$/s.exec(argument) ?? []
  if (variable === undefined || path === undefined)
    throw new UsageError(
      `--authority: "${argument}" is not db=FILE, or SbatLevel, MokListRT, MokListTrusted, Shim or vendor_db`,
    )
  const content = readWhole(path, `authority.${variable}`, measureLimits.variableBytes)
  if (variable !== "db") return { variable, value: content }
  const certificate = content[0] === 0x30 ? content : Uint8Array.from(derOf(content, path))
  return authorityInDb(values.db ?? new Uint8Array(0), certificate)
}

const derOf = (content: Uint8Array, path: string): Uint8Array => {
  try {
    return new X509Certificate(content).raw
  } catch {
    throw new UsageError(`--authority: ${path} is no certificate`)
  }
}

const banks = ["sha256", "sha384", "sha512"] as const

const tpmOptions = {
  ...shared,
  bank: { type: "string", default: "sha256" },
  image: many,
  uki: text,
  phase: many,
  "failed-options": { type: "string", default: "0" },
  "qemu-memory": text,
  variables: text,
  authority: many,
  eventlog: text,
  pcr: many,
} as const

const parseTpm = (args: readonly string[]) =>
  parseArgs({ args: [...args], strict: true, options: tpmOptions }).values
type TpmValues = ReturnType<typeof parseTpm>

const imageSteps = (bank: EventLogBank, paths: readonly string[]): readonly Step[] =>
  paths.map((path) => ({ what: path, digest: imageDigest(readImage(readImageFile(path, "image")), bank) }))

const bootSteps = (values: TpmValues, bank: EventLogBank, notes: string[]): Map<number, readonly Step[]> => {
  const { kernel, initrd, cmdline, image, uki } = values
  if ([kernel, image, uki].filter((way) => way !== undefined).length > 1)
    throw new UsageError("--kernel, --uki and --image are three ways to boot: give one")
  const failed = whole(values["failed-options"], "--failed-options", measureLimits.images)
  const direct = directBoot({ kernel, initrd, cmdline }, values["qemu-memory"], bank)
  if (direct !== undefined) return new Map(directBootSteps(bank, direct))
  if (image !== undefined) return new Map([[4, chainSteps(bank, imageSteps(bank, image), failed)]])
  if (uki === undefined) {
    if (values.phase !== undefined) throw new UsageError("--phase belongs to a --uki")
    return new Map()
  }
  const unified = readUnifiedImage(readImageFile(uki, "uki"))
  const kernelSteps = unifiedKernelSteps(bank, unified)
  if (kernelSteps === undefined)
    notes.push("PCR 9 isn't computed: the stub changes the command line or the initrd of this image.")
  return new Map([
    [4, chainSteps(bank, unifiedImages(bank, unified), failed)],
    ...(kernelSteps === undefined ? [] : [[9, kernelSteps] as const]),
    [11, unifiedSteps(bank, unified, values.phase)],
  ])
}

const tpm = (args: readonly string[]) => {
  const values = parseTpm(args)
  const bank = oneOf(values.bank, "--bank", banks)
  const notes: string[] = []
  const computed = bootSteps(values, bank, notes)
  if (values.variables !== undefined) {
    const variables = readVariables(values.variables)
    const authorities = (values.authority ?? []).map((argument) => authority(argument, variables))
    computed.set(7, secureBootSteps(bank, variables, authorities))
    if (variables.SecureBoot?.[0] === 1 && authorities.length === 0)
      notes.push("PCR 7 names nothing that let an image run: give --authority for each, in their order.")
  } else if (values.authority !== undefined) throw new UsageError("--authority belongs to --variables")
  const registers = new Map([...computed].map(([pcr, steps]) => [pcr, hex(registerOf(bank, steps))]))
  const agrees = addFromLog(values, bank, computed, registers, notes)
  if (registers.size === 0)
    throw new UsageError(
      "nothing to measure: give --kernel, --uki, --image, --variables, or --eventlog with --pcr",
    )
  const sorted = [...registers].sort(([a], [b]) => a - b)
  return {
    json: values.json,
    measured: {
      agrees,
      values: {
        bank,
        pcrs: Object.fromEntries(sorted),
        steps: Object.fromEntries([...computed].map(([pcr, steps]) => [pcr, shown(steps)])),
      },
      stage: { tpm: { bank, pcrs: Object.fromEntries(sorted.map(([pcr, value]) => [pcr, [value]])) } },
      notes,
    },
  }
}

const addFromLog = (
  { eventlog, pcr: asked = [] }: TpmValues,
  bank: EventLogBank,
  computed: ReadonlyMap<number, readonly Step[]>,
  registers: Map<number, string>,
  notes: string[],
): boolean => {
  if (eventlog === undefined) {
    if (asked.length > 0) throw new UsageError("--pcr takes a register from an --eventlog")
    return true
  }
  const log = readLog(eventlog)
  const replayed = replayEventLog(log, bank)
  for (const pcr of asked.map((each) => whole(each, "--pcr", 23))) {
    const value = replayed.get(pcr)
    if (value === undefined) throw new UsageError(`--pcr ${pcr}: the log says nothing of it`)
    if (computed.has(pcr)) throw new UsageError(`--pcr ${pcr}: is computed already`)
    registers.set(pcr, hex(value))
  }
  if (asked.length > 0)
    notes.push(`PCRs ${asked.join(", ")} are those of the log: good if the machine that it is from was.`)
  const parted = [...computed].map(([pcr, steps]) => [pcr, difference(log, bank, pcr, steps)] as const)
  for (const [pcr, where] of parted)
    notes.push(
      where === undefined ? `PCR ${pcr}: the log agrees.` : `PCR ${pcr} isn't that of the log, ${where}.`,
    )
  return parted.every(([, where]) => where === undefined)
}

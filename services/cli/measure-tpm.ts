/** `vouchsafe measure tpm`. */
import { X509Certificate } from "node:crypto"
import { parseArgs } from "node:util"
import { toHex } from "../common/hex.ts"
import { type EventLogBank, replayEventLog } from "../evidence/index.ts"
import {
  type Authority,
  authorityInDb,
  chainSteps,
  directBootSteps,
  imageDigest,
  measureLimits,
  readImage,
  readUnifiedImage,
  registerOf,
  type SecureBootValues,
  type Step,
  secureBootSteps,
  unifiedImages,
  unifiedKernelSteps,
  unifiedSteps,
} from "../evidence/measure/index.ts"
import { readImageFile, readVariables, readWhole } from "./measure-files.ts"
import {
  difference,
  directBoot,
  type Measurement,
  many,
  oneOf,
  readLog,
  shared,
  shown,
  text,
  whole,
} from "./measure-options.ts"
import { UsageError } from "./output.ts"

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

/** @throws UsageError, MeasureError, EventLogError */
export const tpm = (args: readonly string[]): Measurement => {
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
  const registers = new Map([...computed].map(([pcr, steps]) => [pcr, toHex(registerOf(bank, steps))]))
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
  { eventlog, pcr: asked = [], phase = [] }: TpmValues,
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
    registers.set(pcr, toHex(value))
  }
  if (asked.length > 0)
    notes.push(`PCRs ${asked.join(", ")} are those of the log: good if the machine that it is from was.`)
  // Phases come after the log, which is the firmware's.
  const logged = (pcr: number, steps: readonly Step[]) =>
    pcr === 11 ? steps.slice(0, steps.length - phase.length) : steps
  const parted = [...computed].map(
    ([pcr, steps]) => [pcr, difference(log, bank, pcr, logged(pcr, steps))] as const,
  )
  for (const [pcr, where] of parted)
    notes.push(
      where === undefined ? `PCR ${pcr}: the log agrees.` : `PCR ${pcr} isn't that of the log, ${where}.`,
    )
  return parted.every(([, where]) => where === undefined)
}

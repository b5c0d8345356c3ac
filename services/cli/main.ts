#!/usr/bin/env node
/** `vouchsafe`: the operator's tool. Exit status 0 done, 1 failed, 64 wrong usage, 78 settings missing or wrong. */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Config } from "effect"
import { endProcess } from "../common/process/end.ts"
import { EXIT, settingFault } from "../common/process/index.ts"
import { appraiseCommand } from "./appraise-command.ts"
import { applyWorkflow, onBus, showEvents, showStatus } from "./bus-commands.ts"
import { collateralCommand } from "./collateral-command.ts"
import { inspectCommand } from "./inspect-command.ts"
import { lifecycleCommand, lifecycleUsage } from "./lifecycle-command.ts"
import { checkWorkflow, keygen, makeBus, measureDataplane, measureGuest } from "./local-commands.ts"
import { measurable, measureCommand } from "./measure-command.ts"
import { createOutput, type Output, UsageError } from "./output.ts"
import { resultCommand } from "./result-command.ts"

const OBJECT = fileURLToPath(new URL("../../bpf/build/vouchsafe.bpf.o", import.meta.url))

const PACKAGE = fileURLToPath(new URL("../../package.json", import.meta.url))

const usage = `vouchsafe: the operator's tool

  keygen FILE                          make an operator's signing key
  workflow check FILE                  is the document sound, and what does it allow
  workflow apply FILE --key KEYFILE    sign it and put it in force
  events [--after N] [--follow]        what happened, and why
  status                               nodes, edges, leases and drops, as the loaders tell them
  measure dataplane [OBJECT]           the digest that a workflow names, ahead of time, on this kernel
  measure guest BASE PATH...           the launch measurement of an emulated guest over these files
  measure snp|tdx|tpm                  what hardware will say of a guest or a boot, computed from its files (--help)
  evidence inspect FILE...             is it genuine, and what does it say (more with --help); exit status 0, 3 or 2
  appraise --workflow FILE --evidence FILE...
                                       would it be accepted, and why (not); --replay RECORD, --fleet DIR (--help)
  result show|export|keygen            signed results, records and EARs: print them, export them (--help)
  collateral fetch|status|push         what vendors say beside evidence: have it, look at it, hand it to a cluster (--help)
${lifecycleUsage}  bus DIR IDENTITY... [--host A] [--port N]
                                       a NATS server's configuration with exactly these identities' permissions,
                                       and their seeds; an identity is <role>-<instance>, such as loader-n1

  --json everywhere prints for scripts. Commands that use the bus take VOUCHSAFE_NATS_URL, VOUCHSAFE_NATS_SEED and
  VOUCHSAFE_INSTANCE (of the operator's identity, operator-<instance>) from the environment.
`

const options = {
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
  key: { type: "string" },
  after: { type: "string", default: "0" },
  follow: { type: "boolean", default: false },
  host: { type: "string", default: "127.0.0.1" },
  port: { type: "string", default: "4222" },
} as const

/** First words of which something else has to follow. */
const groups: Readonly<Record<string, string>> = {
  evidence: "inspect FILE...",
  workflow: "check FILE, or apply FILE --key KEYFILE",
  measure: "dataplane, guest, snp, tdx or tpm",
}

/** Commands with a page of their own aren't explained by all the others. */
const helpOf = ([command = "", subcommand = ""]: ReadonlyArray<string>): string => {
  if (command === "evidence") return "See vouchsafe evidence inspect --help\n"
  if (command === "measure" && measurable.some((what) => what === subcommand))
    return `See vouchsafe measure ${subcommand} --help\n`
  return ["appraise", "result", "collateral"].includes(command)
    ? `See vouchsafe ${command} --help\n`
    : `\n${usage}`
}

type Values = ReturnType<typeof parse>["values"]
const parse = (args: ReadonlyArray<string>) =>
  parseArgs({ args: [...args], options, allowPositionals: true, strict: true })

const wanted = (value: string | undefined, what: string): string => {
  if (value === undefined) throw new UsageError(`${what} is missing`)
  return value
}

const whole = (text: string, what: string, most: number): number => {
  const value = Number(text)
  if (!/^\d{1,15}$/.test(text) || value > most)
    throw new UsageError(`${what} must be a whole number up to ${most}`)
  return value
}

const unknown = (command: string | undefined, first: string | undefined): string => {
  if (command === undefined) return "no command"
  const follows = Object.hasOwn(groups, command) ? groups[command] : undefined
  if (follows === undefined) return `unknown command "${command}"`
  return `${first === undefined ? "nothing" : `"${first}"`} after "${command}": ${follows}`
}

const dispatch = async (out: Output, positionals: ReadonlyArray<string>, values: Values): Promise<void> => {
  const [command, first, ...rest] = positionals
  switch (command === "workflow" || command === "measure" ? `${command} ${first}` : command) {
    case "keygen":
      return keygen(out, wanted(first, "FILE"))
    case "workflow check":
      return checkWorkflow(out, wanted(rest[0], "FILE"))
    case "workflow apply":
      return applyWorkflow(out, wanted(rest[0], "FILE"), wanted(values.key, "--key KEYFILE"))
    case "events":
      return showEvents(out, {
        after: whole(values.after, "--after", Number.MAX_SAFE_INTEGER),
        follow: values.follow,
      })
    case "status":
      return showStatus(out)
    case "measure dataplane":
      return measureDataplane(out, rest[0] ?? OBJECT)
    case "measure guest":
      return measureGuest(out, wanted(rest[0], "BASE"), rest.slice(1))
    case "bus":
      return makeBus(out, {
        directory: wanted(first, "DIR"),
        identities: rest,
        host: values.host,
        port: whole(values.port, "--port", 65_535),
      })
    default:
      throw new UsageError(unknown(command, first))
  }
}

const main = async (): Promise<number> => {
  try {
    const [command, subcommand, ...rest] = process.argv.slice(2)
    if (command === "--version") {
      const { version } = JSON.parse(readFileSync(PACKAGE, "utf8"))
      process.stdout.write(`vouchsafe ${version}\n`)
      return 0
    }
    if (command === "evidence" && subcommand === "inspect") return inspectCommand(rest)
    const hardware = measurable.find((what) => command === "measure" && subcommand === what)
    if (hardware !== undefined) return measureCommand(hardware, rest)
    if (command === "appraise") return appraiseCommand(process.argv.slice(3))
    if (command === "result") return resultCommand(process.argv.slice(3))
    if (command === "collateral") return await collateralCommand(process.argv.slice(3), onBus)
    if (await lifecycleCommand(process.argv.slice(2))) return 0
    const { values, positionals } = parse(process.argv.slice(2))
    if (values.help) {
      process.stdout.write(usage)
      return 0
    }
    await dispatch(createOutput(values.json), positionals, values)
    return 0
  } catch (error) {
    if (error instanceof Config.ConfigError) {
      process.stderr.write(`vouchsafe: settings: ${settingFault(error)}\n`)
      return EXIT.configuration
    }
    const message = error instanceof Error ? error.message : String(error)
    const wrong = error instanceof UsageError || (error instanceof TypeError && "code" in error)
    process.stderr.write(`vouchsafe: ${message}\n${wrong ? helpOf(process.argv.slice(2)) : ""}`)
    return wrong ? 64 : 1
  }
}

// A reader that went away (`vouchsafe events | head`) is the end of the work, not a failure.
process.stdout.on("error", () => process.exit(0))
endProcess(await main())

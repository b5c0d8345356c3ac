/**
 * `vouchsafe`: the operator's tool. Exit status 0 done, 1 failed, 64 wrong usage, 78 settings missing or wrong.
 * Each command is loaded when it is asked for: all of them together are 900 files.
 */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { EXIT, endProcess } from "../common/process/end.ts"
import { isLifecycle, lifecycleUsage } from "./lifecycle-options.ts"
import { measurable } from "./measure-usage.ts"
import { createOutput, type Output, UsageError, warn } from "./output.ts"

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
    case "keygen": {
      const path = wanted(first, "FILE")
      return (await import("./local-commands.ts")).keygen(out, path)
    }
    case "workflow check": {
      const path = wanted(rest[0], "FILE")
      return (await import("./local-commands.ts")).checkWorkflow(out, path)
    }
    case "workflow apply": {
      const [path, key] = [wanted(rest[0], "FILE"), wanted(values.key, "--key KEYFILE")]
      return (await import("./bus-commands.ts")).applyWorkflow(out, path, key)
    }
    case "events": {
      const after = whole(values.after, "--after", Number.MAX_SAFE_INTEGER)
      return (await import("./bus-commands.ts")).showEvents(out, { after, follow: values.follow })
    }
    case "status":
      return (await import("./bus-commands.ts")).showStatus(out)
    case "measure dataplane":
      return (await import("./local-commands.ts")).measureDataplane(out, rest[0] ?? OBJECT)
    case "measure guest": {
      const base = wanted(rest[0], "BASE")
      return (await import("./local-commands.ts")).measureGuest(out, base, rest.slice(1))
    }
    case "bus": {
      const directory = wanted(first, "DIR")
      const port = whole(values.port, "--port", 65_535)
      const order = { directory, identities: rest, host: values.host, port }
      return (await import("./local-commands.ts")).makeBus(out, order)
    }
    default:
      throw new UsageError(unknown(command, first))
  }
}

/** Commands that read their own options; undefined when the arguments are none of theirs. */
const own = async (args: ReadonlyArray<string>): Promise<number | undefined> => {
  const [command, subcommand, ...rest] = args
  const hardware = measurable.find((what) => command === "measure" && subcommand === what)
  if (hardware !== undefined) return (await import("./measure-command.ts")).measureCommand(hardware, rest)
  if (command === "evidence" && subcommand === "inspect")
    return (await import("./inspect-command.ts")).inspectCommand(rest)
  if (command === "appraise") return (await import("./appraise-command.ts")).appraiseCommand(args.slice(1))
  if (command === "result") return (await import("./result-command.ts")).resultCommand(args.slice(1))
  if (command === "collateral") {
    const [{ collateralCommand }, { onBus }] = await Promise.all([
      import("./collateral-command.ts"),
      import("./bus-commands.ts"),
    ])
    return collateralCommand(args.slice(1), onBus)
  }
  if (!isLifecycle(command) || args.includes("--help") || args.includes("-h")) return undefined
  await (await import("./lifecycle-command.ts")).lifecycleCommand(command, args.slice(1))
  return 0
}

const run = async (args: ReadonlyArray<string>): Promise<number> => {
  if (args[0] === "--version") {
    const { version } = JSON.parse(readFileSync(PACKAGE, "utf8"))
    process.stdout.write(`vouchsafe ${version}\n`)
    return 0
  }
  const status = await own(args)
  if (status !== undefined) return status
  const { values, positionals } = parse(args)
  if (values.help) process.stdout.write(usage)
  else await dispatch(createOutput(values.json), positionals, values)
  return 0
}

/** What to say of a setting that is missing or wrong; undefined for any other error. */
const settingsText = async (error: unknown): Promise<string | undefined> => {
  if (typeof error !== "object" || error === null || !("_tag" in error)) return undefined
  const [{ Config }, { settingFault }] = await Promise.all([
    import("effect"),
    import("../common/process/index.ts"),
  ])
  return error instanceof Config.ConfigError ? settingFault(error) : undefined
}

const main = async (args: ReadonlyArray<string>): Promise<number> => {
  try {
    return await run(args)
  } catch (error) {
    const setting = await settingsText(error)
    if (setting !== undefined) {
      process.stderr.write(`vouchsafe: settings: ${setting}\n`)
      return EXIT.configuration
    }
    const message = error instanceof Error ? error.message : String(error)
    const wrong = error instanceof UsageError || (error instanceof TypeError && "code" in error)
    warn(`vouchsafe: ${message}`)
    if (wrong) process.stderr.write(helpOf(args))
    return wrong ? EXIT.usage : EXIT.failed
  }
}

// A reader that went away (`vouchsafe events | head`) is the end of the work, not a failure.
process.stdout.on("error", () => process.exit(0))
endProcess(await main(process.argv.slice(2)))

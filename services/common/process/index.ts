/** The frame of every service process: its settings, its log, its signals and its exit status. */
import { Cause, Config, Effect, Exit, Fiber, type Scope } from "effect"
import { crypto } from "../crypto/index.ts"
import { selfTest } from "../crypto/self-test.ts"
import { compileCacheNotice } from "./compile-cache.ts"
import { EXIT } from "./end.ts"
import { type LogFormat, logTo } from "./log.ts"
import { forbidDumps } from "./no-dumps.ts"

export { EXIT } from "./end.ts"
export { type LogFormat, line, logTo } from "./log.ts"

export interface Service<C> {
  /** As in the log and on the command line. */
  readonly name: string
  /** One sentence for --help. */
  readonly about: string
  /** Its settings, all from the environment; --check reads them and ends. */
  readonly settings: Config.Config<C>
  /** What --check does beyond that; gives lines to print. */
  readonly check?: (settings: C) => Effect.Effect<ReadonlyArray<string>, unknown>
  /** Names and meanings of its own variables for --help; those of every service are added. */
  readonly variables: ReadonlyArray<readonly [name: string, meaning: string]>
  /** Runs until it fails or is interrupted by a signal; its scope is closed before the process ends. */
  readonly main: (settings: C) => Effect.Effect<unknown, unknown, Scope.Scope>
  /** Other things that this program does, by flag, e.g. "--teardown"; they end by themselves. */
  readonly commands?: Readonly<Record<string, Command<C>>>
}

export interface Command<C> {
  readonly about: string
  readonly main: (settings: C) => Effect.Effect<unknown, unknown, Scope.Scope>
}

const shared: ReadonlyArray<readonly [string, string]> = [
  ["VOUCHSAFE_NATS_URL", "the NATS server, e.g. nats://127.0.0.1:4222"],
  ["VOUCHSAFE_NATS_SEED", "path of the file (mode 0600) with this identity's nkey seed"],
  ["VOUCHSAFE_INSTANCE", "this instance's name; its NATS identity is <service>-<instance>"],
  ["VOUCHSAFE_PREFIX", "what all subjects start with (vs.v1)"],
  ["VOUCHSAFE_LOG", "text or json, to stderr (text)"],
]

/** After a signal a service has this long to answer what it began. */
const DRAIN_MS_MAX = 15_000

const helpText = <C>({ name, about, variables, commands = {} }: Service<C>): string => {
  const rows = [...variables, ...shared]
  const width = Math.max(...rows.map(([variable]) => variable.length))
  const flags: ReadonlyArray<readonly [string, string]> = [
    ["--check", "read the settings, say what is wrong with them, and end"],
    ...Object.entries(commands).map(([flag, command]) => [flag, command.about] as const),
    ["--help", "this text"],
  ]
  return [
    `${name}: ${about}`,
    "",
    "Flags:",
    ...flags.map(([flag, meaning]) => `  ${flag.padEnd(12)}  ${meaning}`),
    "",
    "Settings, from the environment:",
    ...rows.map(([variable, meaning]) => `  ${variable.padEnd(width)}  ${meaning}`),
    "",
  ].join("\n")
}

/** One line that starts with the variable's name; Effect's own text ends with where: at ["NAME"]. */
export const settingFault = ({ cause }: Config.ConfigError): string => {
  const found = /^(.*)\n\s*at \["(\w+)"\]/s.exec(cause.message)
  if (found === null) return cause.message
  const [, wanted = "", name = ""] = found
  return (process.env[name] ?? "") === "" ? `${name} is not set` : `${name}: ${wanted}`
}

const sentence = (error: unknown): string => {
  if (error instanceof Error && error.message !== "") return error.message
  return typeof error === "string" ? error : "failed without a reason"
}

/** Says so, and gives false, where this machine's cryptography answers wrongly, or keys could get into a dump: then none may be made. */
const mayMakeKeys = (name: string): boolean => {
  try {
    forbidDumps()
    selfTest(crypto)
    return true
  } catch (error) {
    process.stderr.write(`${name}: ${sentence(error)}\n`)
    return false
  }
}

/** What to print when it ended by itself, and the status to end with. */
const verdict = (exit: Exit.Exit<unknown, unknown>, signalled: boolean): { code: number; text?: string } => {
  if (Exit.isSuccess(exit)) return { code: 0 }
  if (Cause.hasInterruptsOnly(exit.cause))
    return signalled ? { code: 0 } : { code: EXIT.failed, text: "interrupted" }
  const error = Cause.squash(exit.cause)
  if (error instanceof Config.ConfigError)
    return { code: EXIT.configuration, text: `settings: ${settingFault(error)} (--help lists them)` }
  return { code: EXIT.failed, text: sentence(error) }
}

const format: Config.Config<LogFormat> = Config.Literals(["text", "json"], "VOUCHSAFE_LOG").pipe(
  Config.withDefault("text" as const),
)

const program = <C>(service: Service<C>, run: Service<C>["main"] | undefined) =>
  Effect.gen(function* () {
    const log = yield* format
    const settings = yield* service.settings
    if (run === undefined) {
      const checked = yield* service.check?.(settings) ?? Effect.succeed([])
      const lines = [...checked, ...compileCacheNotice()].map((line) => `${line}\n`)
      yield* Effect.sync(() =>
        process.stdout.write(`${service.name}: the settings are valid\n${lines.join("")}`),
      )
      return
    }
    yield* Effect.scoped(run(settings)).pipe(
      Effect.tapCause((cause) =>
        Cause.hasDies(cause) ? Effect.logFatal("a defect ended the service", cause) : Effect.void,
      ),
      Effect.provide(logTo(service.name, log)),
    )
  })

/**
 * Runs a service as this process, once its cryptography has passed its tests and a crash would leave nothing of its memory behind.
 * SIGTERM and SIGINT interrupt it and let it drain, status 0; a second one ends it at once. Wrong settings or a failure print one
 * line and end with a status that is not 0.
 */
export const runService = <C>(
  service: Service<C>,
  flags: ReadonlyArray<string> = process.argv.slice(2),
): void => {
  const [flag, ...more] = flags
  const command = flag === undefined ? undefined : service.commands?.[flag]
  if (flag === "--help" || flag === "-h") {
    process.stdout.write(helpText(service))
    return
  }
  if (more.length > 0 || (flag !== undefined && flag !== "--check" && command === undefined)) {
    process.stderr.write(
      `${service.name}: unknown flags: ${JSON.stringify(flags.join(" "))}\n${helpText(service)}`,
    )
    process.exitCode = EXIT.usage
    return
  }
  if (!mayMakeKeys(service.name)) {
    process.exitCode = EXIT.defective
    return
  }
  const run = flag === "--check" ? undefined : (command?.main ?? service.main)

  let signalled = false
  const end = (code: number, text?: string): never => {
    if (text !== undefined) process.stderr.write(`${service.name}: ${text}\n`)
    process.exit(code)
  }
  const alive = setInterval(() => {}, 60_000)
  const fiber = Effect.runFork(program(service, run))
  const onSignal = (): void => {
    if (signalled) end(EXIT.failed, "ended by a second signal, without draining")
    signalled = true
    setTimeout(() => end(EXIT.failed, `not drained after ${DRAIN_MS_MAX / 1000} s`), DRAIN_MS_MAX).unref()
    Effect.runFork(Fiber.interrupt(fiber))
  }
  process.on("SIGTERM", onSignal)
  process.on("SIGINT", onSignal)
  fiber.addObserver((exit) => {
    clearInterval(alive)
    const { code, text } = verdict(exit, signalled)
    end(code, text)
  })
}

/**
 * `npm start`: a whole confidential workflow on this machine. Status 0 when everything is as it must be, 1 when something
 * isn't, 2 when this machine can't or the command line is wrong, 130 when it was interrupted before its summary.
 */
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, rmSync } from "node:fs"
import { join } from "node:path"
import { endProcess } from "../../services/common/process/end.ts"
import { createCleanup } from "./cleanup.ts"
import { CHECKOUT } from "./hardware.ts"
import { intrude, moveData, untilReleased } from "./job.ts"
import { type Lab, PERSON, startLab } from "./lab.ts"
import { runNames } from "./names.ts"
import { type Options, parseOptions, usage } from "./options.ts"
import { type Machine, preflight, Unfit } from "./preflight.ts"
import { createNews } from "./progress.ts"
import { summarise } from "./report.ts"
import { renderSummary } from "./summary.ts"
import { sweep } from "./sweep.ts"

/** When this process was started, so that loading the program counts too. */
const began = Date.now() - Math.round(performance.now())

/** Lines for people: stdout, or stderr when stdout is for the JSON. */
const createScreen = (json: boolean) => {
  const stream = json ? process.stderr : process.stdout
  return {
    write: (text: string): void => {
      stream.write(text)
    },
    say: (text: string): void => {
      const seconds = ((Date.now() - began) / 1_000).toFixed(2)
      stream.write(`${seconds.padStart(7)} s  ${text}\n`)
    },
  }
}

/** The releaser that leads now can be killed, if another stands by. */
const takeover = (lab: Lab): ReadonlyArray<string> => {
  const began = lab.watch.events.findLast(({ event }) => event.type === "vouchsafe.leader.began")
  if (lab.controlPlanes === 1 || began === undefined) return []
  return [
    `  kill -9 ${lab.service(began.identity).pid}`,
    `      the key-releaser that leads (${began.identity}): another begins a new term, traffic goes on`,
  ]
}

const howToLook = (lab: Lab): string => {
  const app = lab.appNetns("n1")
  return [
    "The lab stays up. Look at it from another terminal:",
    `  nsenter --net=/run/netns/${app} bash`,
    "      a shell where n1's applications live",
    `  nsenter --net=${lab.names.netnsPath("bridge")} tcpdump -ni any`,
    "      the untrusted wire, as others see it (apt-get install tcpdump)",
    `  ls ${lab.names.directory}/log`,
    "      what every process says",
    `  cat ${lab.names.directory}/workflow.yaml`,
    "      the workflow that was signed",
    `  export VOUCHSAFE_NATS_URL=${lab.bus.url} VOUCHSAFE_INSTANCE=${PERSON} \\`,
    `    VOUCHSAFE_NATS_SEED=${lab.bus.seed(`operator-${PERSON}`)}`,
    "  npm run vouchsafe -- status      nodes, edges, leases, drops",
    "  npm run vouchsafe -- events      what happened, and why",
    ...takeover(lab),
    "Ctrl-C takes everything down.",
    "",
  ].join("\n")
}

/** Logs of a failed run outlive it, in the checkout; each failure replaces those of the one before. */
const keepLogs = (): string | undefined => {
  const logs = join(runNames(String(process.pid)).directory, "log")
  if (!existsSync(logs)) return undefined
  const kept = join(CHECKOUT, ".cache", "failed-run")
  rmSync(kept, { recursive: true, force: true })
  cpSync(logs, kept, { recursive: true })
  return kept
}

/** The first of the signals that end a program, as a promise that can be waited for and asked. */
const createInterruption = () => {
  const controller = new AbortController()
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => controller.abort(new Error(`interrupted by ${signal}`)))
  }
  const happened = new Promise<never>((_, reject) => {
    controller.signal.addEventListener("abort", () => reject(controller.signal.reason))
  })
  happened.catch(() => undefined)
  return { signal: controller.signal, happened }
}
type Interruption = ReturnType<typeof createInterruption>

const main = async (options: Options, machine: Machine, interruption: Interruption): Promise<number> => {
  const screen = createScreen(options.json)
  const cleanup = createCleanup()
  if (machine.mountedBpffs) {
    cleanup.add("bpffs", () => {
      execFileSync("umount", ["/sys/fs/bpf"], { stdio: "ignore" })
    })
  }
  const takeDown = async (): Promise<void> => {
    for (const failure of await cleanup.run()) screen.say(`could not be removed: ${failure}`)
  }
  const news = createNews()
  const interruptible = <T>(work: Promise<T>): Promise<T> => Promise.race([work, interruption.happened])
  try {
    for (const id of await sweep()) screen.say(`cleared away what run ${id} had left`)
    screen.say(`Linux ${machine.kernel}, data plane at ${machine.hooks} hooks, EMULATED SEV-SNP hardware`)
    const starting = startLab({
      machine,
      cleanup,
      say: screen.say,
      variation: {
        underlay: options.underlay,
        peers: options.peers,
        controlPlanes: options.controlPlanes,
        attended: !options.once,
      },
      onEvent: ({ identity, event }) => {
        const line = news(identity, event)
        if (line !== undefined) screen.say(line)
      },
    })
    // An interruption must not overtake the start: what it is about to make would be left behind.
    const lab = await starting
    interruption.signal.throwIfAborted()
    const milestones = await interruptible(untilReleased(lab))
    const intrusion = await interruptible(intrude(lab))
    screen.say(`an intruder sent ${intrusion.sealed_looking} forged and ${intrusion.plain} plain packets`)
    screen.say("tar | gzip | sha256sum through the workflow ...")
    const pipeline = await interruptible(moveData(lab, machine.netcat))
    screen.say(`${pipeline.files} files, ${pipeline.bytes} bytes in ${(pipeline.ms / 1_000).toFixed(2)} s`)
    if (options.once) await lab.stopServices()
    const wire = options.once ? await lab.capture.stop() : lab.capture.counts()
    const summary = summarise({ lab, began, milestones, intrusion, pipeline, wire })
    screen.write(renderSummary(summary))
    if (!options.once) {
      if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`)
      screen.write(howToLook(lab))
      await interruptible(lab.watch.untilBroken).catch((error: unknown) => {
        if (!interruption.signal.aborted) throw error
      })
      screen.say("taking everything down")
      await lab.stopServices()
      const { frames, unexpected_frames, marker_hits, lost_frames } = await lab.capture.stop()
      screen.say(
        `the wire, from start to end: ${frames} frames, ${unexpected_frames} unexpected, ${lost_frames} lost, marker seen ${marker_hits} times`,
      )
    }
    await takeDown()
    if (options.once && options.json) process.stdout.write(`${JSON.stringify(summary)}\n`)
    return summary.ok ? 0 : 1
  } catch (error) {
    const interrupted = interruption.signal.aborted
    screen.say(`${interrupted ? "" : "FAILED: "}${error instanceof Error ? error.message : String(error)}`)
    const kept = interrupted ? undefined : keepLogs()
    if (kept !== undefined) screen.say(`what every process said is kept in ${kept}`)
    await takeDown()
    return interrupted ? 130 : 1
  }
}

const parsed = parseOptions(process.argv.slice(2))
if (parsed.kind === "help") {
  process.stdout.write(usage)
  process.exit(0)
}
if (parsed.kind === "wrong") {
  process.stderr.write(`unknown argument: ${parsed.argument}\n${usage}`)
  process.exit(2)
}
// A reader that went away (`npm start | head`) is an interruption, not a crash.
for (const stream of [process.stdout, process.stderr])
  stream.on("error", () => process.kill(process.pid, "SIGTERM"))
try {
  const interruption = createInterruption()
  const machine = preflight()
  process.exitCode = await main(parsed.options, machine, interruption)
} catch (error) {
  if (!(error instanceof Unfit)) throw error
  process.stderr.write(`vouchsafe: ${error.message}\n`)
  process.exitCode = 2
}
endProcess(Number(process.exitCode ?? 0))

/**
 * The lab's processes: started in a session of their own (so that a terminal's Ctrl-C reaches only the lab), killed by
 * the kernel if the lab dies, each with a log file of its own.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { closeSync, openSync, readSync, statSync } from "node:fs"
import type { Readable } from "node:stream"

export interface Program {
  /** Names the process in messages and its log file. */
  readonly name: string
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  /** Full name of the network namespace to run in; the machine's own when absent. */
  readonly netns?: string
  /** Where stdout goes: to the log as well (default), or to the caller as a stream. */
  readonly stdout?: "log" | "pipe"
  /**
   * Set for a node's applications: they run without any capability. With CAP_NET_ADMIN a program could make devices on the
   * wire's namespace by netlink, past the namespace that it lives in.
   */
  readonly unprivileged?: boolean
  /** Set for a program that ends by itself: its end is no surprise, its status is the caller's matter. */
  readonly ends?: boolean
}

export interface Running {
  readonly name: string
  readonly pid: number
  readonly log: string
  readonly child: ChildProcess
  /** Set when stdout was asked for as a stream. */
  readonly stdout: Readable | undefined
  /** Settles when the process has ended; never rejects. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
  /** Says that its end, whenever it comes, is no surprise. */
  expectEnd(): void
  /** SIGTERM, then SIGKILL after `graceMs`. Gives when it is gone; again is safe. */
  stop(graceMs?: number): Promise<void>
}

export interface Processes {
  start(program: Program): Running
  /** Stops all that still run, at once. */
  stopAll(): Promise<void>
  /** Called when a process ends that nobody asked to end. */
  onUnexpectedEnd(listener: (process: Running, how: string) => void): void
}

/** The end of a log file, for a message: at most `lines` lines of its last 8 KiB. */
export const lastLines = (path: string, lines: number): string => {
  try {
    const size = statSync(path).size
    const buffer = Buffer.alloc(Math.min(size, 8_192))
    const fd = openSync(path, "r")
    readSync(fd, buffer, 0, buffer.length, size - buffer.length)
    closeSync(fd)
    return buffer.toString("utf8").trimEnd().split("\n").slice(-lines).join("\n")
  } catch {
    return ""
  }
}

/** The command line that runs a program in its namespace and dies with its parent. */
export const commandLine = (
  program: Pick<Program, "command" | "args" | "netns" | "unprivileged">,
): ReadonlyArray<string> => [
  "setpriv",
  "--pdeathsig",
  "KILL",
  ...(program.netns === undefined ? [] : ["nsenter", `--net=/run/netns/${program.netns}`]),
  ...(program.unprivileged ? ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] : []),
  program.command,
  ...program.args,
]

/** A process and those it started: each is the leader of a group of its own. */
const signalGroup = (pid: number, signal: NodeJS.Signals): void => {
  if (pid <= 1) return
  try {
    process.kill(-pid, signal)
  } catch {
    // Gone already.
  }
}

/** `directory`: where log files go. `baseEnv`: what every process gets; nothing else of the lab's environment is passed on. */
export const createProcesses = (directory: string, baseEnv: Readonly<Record<string, string>>): Processes => {
  const running = new Set<Running>()
  const expected = new WeakSet<Running>()
  const listeners: Array<(process: Running, how: string) => void> = []

  const start = (program: Program): Running => {
    const log = `${directory}/${program.name}.log`
    const fd = openSync(log, "a", 0o600)
    const [command = "", ...args] = commandLine(program)
    const child = spawn(command, args, {
      detached: true,
      cwd: "/",
      env: { ...baseEnv, ...program.env },
      stdio: ["ignore", program.stdout === "pipe" ? "pipe" : fd, fd],
    })
    closeSync(fd)
    const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
      child.once("error", () => resolve({ code: 127, signal: null }))
      child.once("exit", (code, signal) => resolve({ code, signal }))
    })
    const stop = async (graceMs = 3_000): Promise<void> => {
      expected.add(self)
      if (!running.has(self)) return
      signalGroup(self.pid, "SIGTERM")
      const timer = setTimeout(() => signalGroup(self.pid, "SIGKILL"), graceMs)
      await ended
      clearTimeout(timer)
    }
    const self: Running = {
      name: program.name,
      pid: child.pid ?? -1,
      log,
      child,
      stdout: child.stdout ?? undefined,
      ended,
      expectEnd: () => {
        expected.add(self)
      },
      stop,
    }
    running.add(self)
    void ended.then(({ code, signal }) => {
      running.delete(self)
      if (expected.has(self) || program.ends === true) return
      const how = signal === null ? `with status ${code}` : `by ${signal}`
      for (const listener of listeners) listener(self, how)
    })
    return self
  }

  return {
    start,
    stopAll: async () => {
      await Promise.all([...running].map((process) => process.stop()))
    },
    onUnexpectedEnd: (listener) => {
      listeners.push(listener)
    },
  }
}

/** Resolves with the first line of a process's stdout; rejects when it ends before, or after `timeoutMs`. */
export const firstLine = async (process: Running, timeoutMs: number): Promise<string> => {
  const { stdout } = process
  if (stdout === undefined) throw new Error(`${process.name}: stdout isn't a stream`)
  let text = ""
  const deadline = AbortSignal.timeout(timeoutMs)
  while (!text.includes("\n")) {
    const ended = process.ended.then(() => {
      throw new Error(`${process.name} ended before it was ready: ${lastLines(process.log, 5)}`)
    })
    const [chunk] = (await Promise.race([once(stdout, "data", { signal: deadline }), ended])) as [Buffer]
    text += chunk.toString("utf8")
  }
  return text.slice(0, text.indexOf("\n"))
}

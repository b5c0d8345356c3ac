/**
 * The main job: ordinary programs that know nothing of us carry a real file tree of this machine through the workflow,
 *
 *   source: tar | nc   ->   transform: nc | gzip | nc   ->   sink: nc | tee | sha256sum
 *
 * and the same programs without any network say what must come out.
 */
import { execFile } from "node:child_process"
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { familyOf } from "../../schemas/address.ts"
import { lastLines, type Processes, type Running } from "./processes.ts"

const run = promisify(execFile)

export interface PipelinePlace {
  /** Full name of the application namespace. */
  readonly netns: string
  /** The workflow address at which the others reach it, of either family. */
  readonly address: string
}

export interface PipelineResult {
  /** Bytes that tar sent, before compression. */
  readonly bytes: number
  /** Bytes that arrived at the sink. */
  readonly compressed: number
  readonly files: number
  readonly sha256: string
  readonly sha256_local: string
  readonly ms: number
}

export interface Payload {
  readonly list: string
  readonly files: number
  readonly bytes: number
}

/** Trees of any Debian machine, read in this order until there is enough. */
const TREES = ["/usr/include", "/usr/lib/llvm-16/lib/clang", "/usr/share/doc", "/usr/share/perl", "/usr/lib"]
const BYTES_WANTED = 32 << 20
const FILE_BYTES_MAX = 8 << 20
const MARKER_COPIES = 8_192
const TIMEOUT_MS = 120_000

const walk = function* (directory: string): Generator<string> {
  const entries = readdirSync(directory, { withFileTypes: true })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) yield* walk(path)
    else if (entry.isFile()) yield path
  }
}

/**
 * Chooses the files: real ones of this machine, with a file of markers before and after them. The list goes to
 * `directory`, one absolute path a line.
 */
export const choosePayload = (directory: string, marker: string): Payload => {
  const place = join(directory, "payload")
  mkdirSync(place, { mode: 0o700 })
  const markers = ["first.txt", "last.txt"].map((name) => join(place, name))
  for (const path of markers) writeFileSync(path, `${marker}\n`.repeat(MARKER_COPIES))
  const files: string[] = []
  let bytes = 0
  outer: for (const tree of TREES) {
    if (!statSync(tree, { throwIfNoEntry: false })?.isDirectory()) continue
    for (const path of walk(tree)) {
      if (path.includes("\n")) continue
      const size = statSync(path, { throwIfNoEntry: false })?.size ?? Number.POSITIVE_INFINITY
      if (size > FILE_BYTES_MAX) continue
      files.push(path)
      bytes += size
      if (bytes >= BYTES_WANTED) break outer
    }
  }
  const [first = "", last = ""] = markers
  const list = join(directory, "files.txt")
  writeFileSync(list, [first, ...files, last, ""].join("\n"))
  return { list, files: files.length + 2, bytes }
}

const tarCommand = (list: string): string =>
  `tar -C / -P --no-recursion --format=posix --pax-option=delete=atime,delete=ctime -cf - -T '${list}'`
const COMPRESS = "gzip -n -1"

const wordOf = (text: string): string => text.trim().split(/\s+/)[0] ?? ""

/** The same programs in one pipe, without a network. */
const runLocally = async (list: string, directory: string): Promise<{ sha256: string; bytes: number }> => {
  const counted = join(directory, "local.bytes")
  const script = `set -euo pipefail; ${tarCommand(list)} | tee >(wc -c >'${counted}') | ${COMPRESS} | sha256sum`
  const { stdout } = await run("bash", ["-c", script], { timeout: TIMEOUT_MS })
  for (let i = 0; i < 100 && wordOf(readIf(counted)) === ""; i++)
    await new Promise((resolve) => setTimeout(resolve, 10))
  return { sha256: wordOf(stdout), bytes: Number(wordOf(readIf(counted))) }
}

const readIf = (path: string): string => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return ""
  }
}

const LISTEN = "0A"

/** Whether a TCP socket, of either family, listens on `port` in the network namespace of process `pid`. */
const listensOn = (pid: number, port: number): boolean => {
  const wanted = port.toString(16).toUpperCase().padStart(4, "0")
  return ["tcp", "tcp6"]
    .flatMap((table) => readIf(`/proc/${pid}/net/${table}`).split("\n").slice(1))
    .some((line) => {
      const [, local = "", , state = ""] = line.trim().split(/\s+/)
      return state === LISTEN && local.endsWith(`:${wanted}`)
    })
}

const untilListening = async (process: Running, port: number): Promise<void> => {
  for (let i = 0; i < 500; i++) {
    if (listensOn(process.pid, port)) return
    if (process.child.exitCode !== null) break
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`${process.name} does not listen on port ${port}: ${lastLines(process.log, 5)}`)
}

const expectSuccess = async (process: Running): Promise<void> => {
  const { code, signal } = await process.ended
  if (code === 0) return
  throw new Error(`${process.name} ended ${signal ?? `with status ${code}`}: ${lastLines(process.log, 5)}`)
}

export interface PipelineOrder {
  readonly processes: Processes
  readonly directory: string
  readonly netcat: string
  readonly payload: Payload
  readonly source: PipelinePlace
  readonly transform: PipelinePlace
  readonly sink: PipelinePlace
  /** Ports of the two edges. */
  readonly rawPort: number
  readonly packedPort: number
}

/** Carries the payload through the workflow and compares. @throws Error that names the program that failed, or the timeout */
export const runPipeline = async (order: PipelineOrder): Promise<PipelineResult> => {
  const { processes, directory, netcat, payload, source, transform, sink } = order
  const arrived = join(directory, "arrived.gz")
  const bash = (name: string, netns: string, script: string): Running =>
    processes.start({
      name,
      command: "bash",
      args: ["-c", `set -euo pipefail; ${script}`],
      netns,
      unprivileged: true,
      env: { LC_ALL: "C" },
      ends: true,
    })
  const digest = join(directory, "arrived.sha256")
  const listen = ({ address }: PipelinePlace): string => `'${netcat}' -${familyOf(address)} -d -l`
  const began = performance.now()
  const stages: Running[] = []
  const clock = setTimeout(() => {
    for (const stage of stages) void stage.stop(0)
  }, TIMEOUT_MS)
  try {
    const last = bash(
      "sink",
      sink.netns,
      `${listen(sink)} ${order.packedPort} | tee '${arrived}' | sha256sum >'${digest}'`,
    )
    stages.push(last)
    await untilListening(last, order.packedPort)
    const middle = bash(
      "transform",
      transform.netns,
      `${listen(transform)} ${order.rawPort} | ${COMPRESS} | '${netcat}' -N ${sink.address} ${order.packedPort}`,
    )
    stages.push(middle)
    await untilListening(middle, order.rawPort)
    const first = bash(
      "source",
      source.netns,
      `${tarCommand(payload.list)} | '${netcat}' -N ${transform.address} ${order.rawPort}`,
    )
    stages.push(first)
    await Promise.all(stages.map(expectSuccess))
  } finally {
    clearTimeout(clock)
    await Promise.all(stages.map((stage) => stage.stop(0)))
  }
  const ms = performance.now() - began
  const local = await runLocally(payload.list, directory)
  return {
    bytes: local.bytes,
    compressed: statSync(arrived).size,
    files: payload.files,
    sha256: wordOf(readIf(digest)),
    sha256_local: local.sha256,
    ms,
  }
}

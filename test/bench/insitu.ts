/**
 * `npm run bench -- insitu [--json]`: what enforcement costs where it happens. Two nodes, one wire, real traffic; the time is
 * the kernel's own count of each program's runs (run_time_ns), cipher included, with what counting adds.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { closeFd, openPinned, withFd } from "../../services/common/kernel/bpf.ts"
import { BPFFS } from "../../services/common/kernel/bpffs.ts"
import { hooks } from "../../services/common/kernel/measure.ts"
import { countRuns, type ProgramRuns, programRuns } from "../../services/common/kernel/programs.ts"
import { realObject } from "../kernel/compile.ts"
import { machine, quantile } from "./machine.ts"
import { ours } from "./ours.ts"

const PONG = fileURLToPath(new URL("pong.ts", import.meta.url))
const PORT = 7_100
const HEADERS = 28
/** Inner IP packets: the shortest that anybody asks about, and what fits a wire of 1,500. */
const SIZES = [64, 1_438] as const
const PROGRAMS = hooks.map(({ program }) => program)
type Program = (typeof PROGRAMS)[number]

const pinsOfRun = (): string => {
  const found = readdirSync(BPFFS).find((name) => name.startsWith(`vsbench-${process.pid}-`))
  if (found === undefined) throw new Error("the bench's data plane is not pinned")
  return join(BPFFS, found)
}

/** Both nodes' runs of a program together. */
const runsOf = (pins: string, program: Program): ProgramRuns =>
  ["node0", "node1"]
    .map((node) => {
      const fd = openPinned(join(pins, node, "live/programs", program))
      if (fd === undefined) throw new Error(`${program} of ${node} is not pinned`)
      return withFd(fd, programRuns)
    })
    .reduce((a, b) => ({ ns: a.ns + b.ns, count: a.count + b.count }))

/** Mean time of each program's runs while `COUNT` datagrams of a size went there and back. */
const round = (pins: string, client: string, target: string, size: number, count: number) => {
  const before = PROGRAMS.map((program) => runsOf(pins, program))
  const args = ["netns", "exec", client, process.execPath, PONG, "udp", target, String(PORT)]
  execFileSync("ip", [...args, String(size - HEADERS), String(count)], { stdio: "pipe", timeout: 60_000 })
  return PROGRAMS.map((program, i) => {
    const after = runsOf(pins, program)
    const runs = after.count - (before[i]?.count ?? 0n)
    return [program, Number(after.ns - (before[i]?.ns ?? 0n)) / Number(runs)] as const
  })
}

export interface InSitu {
  readonly machine: ReturnType<typeof machine>
  readonly sizes: ReadonlyArray<{
    readonly bytes: number
    /** Median over rounds of the mean of a round, ns for each packet. */
    readonly seal_ns: number
    readonly guard_ns: number
    readonly open_ns: number
    readonly inner_ns: number
    /** Both programs that a packet meets at its sender, and at its receiver. */
    readonly sender_ns: number
    readonly receiver_ns: number
  }>
}

export const measureInSitu = async (rounds: number, count: number): Promise<InSitu> => {
  const path = await ours("vouchsafe", realObject, false).make()
  const counting = countRuns()
  let server: ChildProcess | undefined
  try {
    const pins = pinsOfRun()
    const serve = [
      "netns",
      "exec",
      path.server,
      process.execPath,
      PONG,
      "udp-serve",
      path.listen,
      String(PORT),
    ]
    server = spawn("ip", serve, { stdio: "ignore" })
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    const times = new Map<string, number[]>()
    for (let i = 0; i < rounds; i++)
      for (const size of SIZES)
        for (const [program, ns] of round(pins, path.client, path.target, size, count)) {
          const key = `${size} ${program}`
          times.set(key, [...(times.get(key) ?? []), ns])
        }
    const median = (size: number, program: Program): number =>
      Math.round(quantile(times.get(`${size} ${program}`) ?? [], 0.5))
    const sizes = SIZES.map((bytes) => {
      const [seal_ns, guard_ns] = [median(bytes, "vs_seal"), median(bytes, "vs_guard")]
      const [open_ns, inner_ns] = [median(bytes, "vs_open"), median(bytes, "vs_inner")]
      const both = { sender_ns: seal_ns + guard_ns, receiver_ns: open_ns + inner_ns }
      return { bytes, seal_ns, guard_ns, open_ns, inner_ns, ...both }
    })
    return { machine: machine(), sizes }
  } finally {
    closeFd(counting)
    server?.kill("SIGKILL")
    await path.close()
  }
}

export const benchInSitu = async (args: readonly string[]): Promise<void> => {
  const result = await measureInSitu(7, 5_000)
  if (args.includes("--json")) {
    console.log(JSON.stringify(result))
    return
  }
  const { kernel, load } = result.machine
  console.log(`kernel ${kernel}, load ${load[0]}; ns for each packet, by the kernel's own clock`)
  for (const { bytes, ...ns } of result.sizes)
    console.log(
      `${String(bytes).padStart(5)} B  seal ${ns.seal_ns} + guard ${ns.guard_ns} = ${ns.sender_ns}   open ${ns.open_ns} + inner ${ns.inner_ns} = ${ns.receiver_ns}`,
    )
}

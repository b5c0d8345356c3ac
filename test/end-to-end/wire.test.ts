/**
 * What somebody on the wire sees of a whole lab's life, from before its first service to after its last: judged by the lab's
 * own capture, and by tcpdump with a judge that shares no code with it. In the end both are shown something to find.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { WireCounts } from "../../infra/lab/frames.ts"
import { plain } from "../../infra/lab/intruder.ts"
import { type Intrusion, intrude, moveData, untilReleased } from "../../infra/lab/job.ts"
import { OBJECT } from "../../infra/lab/lab.ts"
import { runNames } from "../../infra/lab/names.ts"
import { BRIDGE_NS } from "../../infra/lab/network.ts"
import { commandLine } from "../../infra/lab/processes.ts"
import { nodeLoader } from "../../infra/lab/services.ts"
import {
  countVerdicts,
  endTestLab,
  eventsOf,
  hasPlane,
  LAB_START_MS,
  sleep,
  startTestLab,
  statsOf,
  type TestLab,
  until,
  untilGot,
} from "./support.ts"

const NODES = ["n1", "n2", "n3", "n4"] as const

let lab: TestLab
let directory = ""
let dump: { readonly child: ChildProcess; readonly file: string; said: string } | undefined

/** tcpdump on the bridge itself, which gets a copy of each frame that passes between its ports. */
const startDump = (netns: string): void => {
  const file = join(directory, "wire.pcap")
  const args = ["-i", "br0", "-n", "-U", "-B", "65536", "-s", "0", "-Z", "root", "-w", file]
  const [command = "", ...rest] = commandLine({ command: "tcpdump", args, netns })
  const child = spawn(command, rest, { stdio: ["ignore", "ignore", "pipe"] })
  const one = { child, file, said: "" }
  child.stderr.on("data", (chunk: Buffer) => {
    one.said += chunk.toString()
  })
  dump = one
}

const endDump = async (): Promise<string> => {
  if (dump === undefined) throw new Error("tcpdump was not started")
  const { child } = dump
  if (child.exitCode === null && child.signalCode === null) {
    const gone = new Promise((resolve) => child.once("close", resolve))
    child.kill("SIGINT")
    await gone
  }
  return dump.said
}

/** The frames of a capture file as tcpdump writes it (little-endian pcap, Ethernet), as far as they are complete. */
const framesOf = (file: string): ReadonlyArray<Buffer> => {
  const bytes = readFileSync(file)
  if (bytes.readUInt32LE(0) !== 0xa1b2c3d4 || bytes.readUInt32LE(20) !== 1)
    throw new Error("not a capture of Ethernet frames")
  const frames: Array<Buffer> = []
  for (let at = 24; at + 16 <= bytes.length; ) {
    const [kept, sent] = [bytes.readUInt32LE(at + 8), bytes.readUInt32LE(at + 12)]
    if (kept !== sent) throw new Error("tcpdump cut a frame short")
    if (at + 16 + kept > bytes.length) break
    frames.push(bytes.subarray(at + 16, at + 16 + kept))
    at += 16 + kept
  }
  return frames
}

interface Judged {
  readonly neighbour: number
  readonly esp: number
  readonly nats: number
  readonly intruder: number
  readonly other: ReadonlyArray<string>
  /** Frames that hold a piece of what the applications said. */
  readonly clear: ReadonlyArray<string>
}

type Kind = "neighbour" | "esp" | "nats" | "other"

/** What a frame says that it is, by its first bytes: EtherType, then protocol and ports. */
const kindOf = (frame: Buffer): Kind => {
  if (frame.readUInt16BE(12) === 0x0806) return "neighbour"
  if (frame.readUInt16BE(12) !== 0x0800 || frame.length < 42 || frame[14] !== 0x45) return "other"
  const [from, to] = [frame.readUInt16BE(34), frame.readUInt16BE(36)]
  const [source, target] = [frame.subarray(26, 30).join("."), frame.subarray(30, 34).join(".")]
  if (frame[23] === 17) return from >= 4500 && from < 4516 && to === 4500 ? "esp" : "other"
  if (frame[23] !== 6) return "other"
  return `${source}:${from}` === "10.99.0.1:4222" || `${target}:${to}` === "10.99.0.1:4222" ? "nats" : "other"
}

const BUS6 = "20010db8009900000000000000000001"

const kindOf6 = (frame: Buffer): Kind => {
  if (frame.readUInt16BE(12) !== 0x86dd || frame.length < 62 || (frame[14] ?? 0) >> 4 !== 6) return "other"
  const [next, hops, type] = [frame[20], frame[21], frame[54]]
  const [from, to] = [frame.readUInt16BE(54), frame.readUInt16BE(56)]
  if (next === 58) return hops === 255 && (type === 135 || type === 136) ? "neighbour" : "other"
  if (next === 17) return from >= 4500 && from < 4516 && to === 4500 ? "esp" : "other"
  const fromBus = frame.toString("hex", 22, 38) === BUS6 && from === 4222
  const toBus = frame.toString("hex", 38, 54) === BUS6 && to === 4222
  return next === 6 && (fromBus || toBus) ? "nats" : "other"
}

const judge = (
  frames: ReadonlyArray<Buffer>,
  kind: (frame: Buffer) => Kind,
  tag: Buffer,
  pieces: ReadonlyArray<Buffer>,
): Judged => {
  const counts = { neighbour: 0, esp: 0, nats: 0, intruder: 0 }
  const other: string[] = []
  const clear: string[] = []
  for (const frame of frames) {
    if (pieces.some((piece) => frame.includes(piece))) clear.push(frame.toString("hex", 0, 96))
    const its = frame.includes(tag) ? "intruder" : kind(frame)
    if (its === "other") other.push(frame.toString("hex", 0, 96))
    else counts[its] += 1
  }
  return { ...counts, other, clear }
}

/** Eight bytes from every fourth place of the marker's lines: whatever holds eleven of its bytes in a row holds a piece. */
const piecesOf = (marker: string): ReadonlyArray<Buffer> => {
  const lines = Buffer.from(`${marker}\n${marker}`)
  return Array.from({ length: (marker.length + 1 + 3) >> 2 }, (_, i) => lines.subarray(4 * i, 4 * i + 8))
}

describe.each([
  { underlay: "ipv4", kind: kindOf },
  { underlay: "ipv6", kind: kindOf6 },
] as const)("the $underlay wire, over the whole life of a lab", ({ underlay, kind }) => {
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "vouchsafe-wire-"))
    const netns = runNames(String(process.pid)).netns(BRIDGE_NS)
    const edges = [
      { id: "beat", from: "source", to: "transform", protocol: "udp", port: 6000, lanes: 4 },
    ] as const
    lab = await startTestLab({ underlay, edges, leaseSeconds: 10 }, (line) => {
      if (line.startsWith("network:")) startDump(netns)
    })
    await untilReleased(lab)
  }, LAB_START_MS)

  afterAll(async () => {
    if (dump !== undefined) await endDump()
    await endTestLab(lab)
    rmSync(directory, { recursive: true, force: true })
  }, 30_000)

  let intrusion: Intrusion
  let sealedOut = 0
  let whole: WireCounts

  it("carries the pipeline while a loader is killed and comes back with new keys", async () => {
    const epoch = (): bigint => statsOf(lab, "n1").edges.find(({ role }) => role === "initiator")?.epoch ?? 0n
    const before = epoch()
    const attested = eventsOf(lab, "attestation.accepted", "n1").length
    await lab.kill("loader-n1")
    lab.startLoader("n1")
    const pipeline = await moveData(lab, lab.machine.netcat)
    expect(pipeline.sha256).toBe(pipeline.sha256_local)
    expect(pipeline.bytes).toBeGreaterThan(10_000_000)
    await until("keys of a higher epoch", 15_000, () => (epoch() > before ? true : undefined))
    expect(eventsOf(lab, "attestation.accepted", "n1").length).toBeGreaterThan(attested)
    const [from, to] = [lab.agent(lab.appNetns("n1")), lab.agent(lab.appNetns("n2"))]
    await to.ask({ op: "udp-listen", port: 6000 })
    await from.ask({ op: "stream", address: "10.77.0.2", port: 6000, perSecond: 300, text: lab.marker })
    await sleep(1_000)
    const sent = (await from.ask({ op: "stream-stop" })) ?? 0
    expect(sent).toBeGreaterThan(200)
    expect(await untilGot(to, sent)).toBe(sent)
    intrusion = await intrude(lab)
  })

  it("ends with every service, and every data plane taken out of its kernel", async () => {
    await lab.stopServices()
    sealedOut = NODES.reduce((sum, node) => sum + (countVerdicts(lab, node).SEALED_OUT ?? 0), 0)
    const context = { names: lab.names, bus: lab.bus, anchors: join(lab.names.directory, "anchors.json") }
    const ended = NODES.map(async (node) => {
      const loader = nodeLoader(context, lab.place(node), OBJECT)
      const program = {
        ...loader,
        name: `teardown-${node}`,
        args: [...loader.args, "--teardown"],
        ends: true,
      }
      return (await lab.processes.start(program).ended).code
    })
    expect(await Promise.all(ended)).toEqual([0, 0, 0, 0])
    for (const node of NODES) {
      expect([node, hasPlane(lab, node)]).toEqual([node, false])
      expect(existsSync(lab.names.pins(node))).toBe(false)
    }
  })

  it("the lab's capture: every frame of a permitted kind, no marker, none lost, and the kinds add up", async () => {
    await until("the capture has told of all that was sealed", 15_000, () =>
      lab.capture.counts().esp_frames >= sealedOut ? true : undefined,
    )
    await sleep(700)
    whole = lab.capture.counts()
    const { frames, esp_frames, control_frames, neighbour_frames, keepalive_frames, intruder_frames } = whole
    expect(whole).toMatchObject({ unexpected_frames: 0, marker_hits: 0, lost_frames: 0, samples: [] })
    expect(esp_frames + control_frames + neighbour_frames + keepalive_frames + intruder_frames).toBe(frames)
    // What the guards let out is what was on the wire: nothing came past them, and nothing is missing.
    expect(esp_frames).toBe(sealedOut)
    expect(esp_frames).toBeGreaterThan(10_000)
    expect(intruder_frames).toBe(intrusion.plain + intrusion.sealed_looking)
    expect(neighbour_frames).toBeGreaterThan(0)
    expect(control_frames).toBeGreaterThan(0)
  })

  it("tcpdump and a judge of its own agree, and find no piece of the marker or of what gzip made of it", async () => {
    if (dump === undefined) throw new Error("tcpdump was not started")
    const { file } = dump
    const arrived = readFileSync(join(lab.names.directory, "arrived.gz"))
    const packed = [0.1, 0.5, 0.9].map((part) => Math.floor(arrived.length * part))
    const pieces = [...piecesOf(lab.marker), ...packed.map((at) => arrived.subarray(at, at + 16))]
    // Neighbours ask each other now and then, and tcpdump writes a while later.
    const frames = await until("tcpdump has written all that the capture counted", 30_000, () => {
      const written = framesOf(file)
      whole = lab.capture.counts()
      return written.length === whole.frames ? written : undefined
    })
    const judged = judge(frames, kind, lab.tag, pieces)
    expect(judged).toEqual({
      neighbour: whole.neighbour_frames,
      esp: whole.esp_frames,
      nats: whole.control_frames,
      intruder: whole.intruder_frames,
      other: [],
      clear: [],
    })
  })

  it("both would have seen a marker in the clear, and traffic of a node without its guard", async () => {
    const clear = plain(lab.place("n1"), lab.place("n2"), 5000, Buffer.from(lab.marker))
    const agent = lab.agent(lab.names.netns(lab.place("n1").wireNs))
    await agent.ask({ op: "frames", device: "wire0", frames: [clear.toString("hex")] })
    await agent.ask({ op: "udp-send", address: lab.place("n2").wire, port: 9, count: 1 })
    const judgedNow = () => judge(framesOf(join(directory, "wire.pcap")), kind, lab.tag, piecesOf(lab.marker))
    await until("tcpdump has written both frames", 15_000, () =>
      judgedNow().clear.length === 1 && judgedNow().other.length >= 2 ? true : undefined,
    )
    await sleep(700)
    const after = await lab.capture.stop()
    expect(after.marker_hits).toBe(1)
    expect(after.unexpected_frames).toBeGreaterThanOrEqual(2)
    const said = await endDump()
    expect(said).toMatch(/\n0 packets dropped by kernel/)
    const judged = judgedNow()
    expect(judged.clear).toHaveLength(1)
    expect(judged.other).toHaveLength(after.unexpected_frames)
  })
})

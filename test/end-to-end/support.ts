/** What the tests on a whole lab share: the lab itself, applications in it, and the kernel's own counters. */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { checksum, payloadChecksum } from "../../infra/lab/checksum.ts"
import { type Cleanup, createCleanup } from "../../infra/lab/cleanup.ts"
import { type Lab, type LabVariation, startLab } from "../../infra/lab/lab.ts"
import { preflight } from "../../infra/lab/preflight.ts"
import { commandLine, type Running } from "../../infra/lab/processes.ts"
import type { SeenEvent } from "../../infra/lab/watch.ts"
import { addressBytes, familyOf } from "../../schemas/address.ts"
import type { Stats } from "../../schemas/messages/stats.ts"
import { verdicts } from "../../schemas/verdicts.ts"
import { Attr, bpf, command, openPinned, withFd } from "../../services/common/kernel/bpf.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import { programInfo } from "../../services/common/kernel/programs.ts"
import { decodeCount, indexKey, shapes } from "../../services/common/kernel/records.ts"
import { linkPin, mapPin, programPin } from "../../services/dataplane-loader/dataplane/pins.ts"
import type { Answers, Order } from "./agent.ts"

export const LAB_START_MS = 90_000

export interface TestLab extends Lab {
  readonly cleanup: Cleanup
  /** An application in a namespace, by the namespace's full name. */
  agent(netns: string): Agent
  /** Kills a service as kill -9 does: it runs not one more instruction. */
  kill(identity: string): Promise<void>
}

export interface Agent {
  ask<O extends Order>(order: O): Promise<O["op"] extends keyof Answers ? Answers[O["op"]] : undefined>
}

const AGENT = fileURLToPath(new URL("agent.ts", import.meta.url))

const startAgent = (netns: string): { readonly agent: Agent; readonly child: ChildProcess } => {
  const [program = "", ...args] = commandLine({ command: process.execPath, args: [AGENT], netns })
  const child = spawn(program, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] })
  const waiting = new Map<
    number,
    { readonly resolve: (answer: unknown) => void; readonly reject: (error: Error) => void }
  >()
  let last = 0
  child.on("message", (message: { id: number; answer?: unknown; error?: string }) => {
    const one = waiting.get(message.id)
    waiting.delete(message.id)
    if (message.error === undefined) one?.resolve(message.answer)
    else one?.reject(new Error(`application in ${netns}: ${message.error}`))
  })
  child.on("exit", () => {
    for (const { reject } of waiting.values()) reject(new Error(`the application in ${netns} ended`))
    waiting.clear()
  })
  const ask = (order: Order): Promise<unknown> =>
    new Promise((resolve, reject) => {
      last += 1
      waiting.set(last, { resolve, reject })
      child.send({ id: last, order })
    })
  return { agent: { ask: ask as Agent["ask"] }, child }
}

/** Brings a lab up. When it fails half-way, what was made is gone again. `say` hears what happens, as a person would. */
export const startTestLab = async (
  variation: LabVariation = {},
  say: (line: string) => void = () => undefined,
): Promise<TestLab> => {
  const cleanup = createCleanup()
  try {
    const machine = preflight()
    const lab = await startLab({ machine, cleanup, say, onEvent: () => undefined, variation })
    const agents = new Map<string, Agent>()
    return {
      ...lab,
      cleanup,
      agent: (netns) => {
        const known = agents.get(netns)
        if (known !== undefined) return known
        const { agent, child } = startAgent(netns)
        cleanup.add(`application in ${netns}`, async () => {
          if (child.exitCode !== null || child.signalCode !== null) return
          const gone = new Promise((resolve) => child.once("exit", resolve))
          child.kill("SIGKILL")
          await gone
        })
        agents.set(netns, agent)
        return agent
      },
      kill: async (identity) => {
        const running: Running = lab.service(identity)
        // Stopped first, so that the SIGTERM which `stop` begins with finds nobody who could act on it.
        process.kill(running.pid, "SIGSTOP")
        const ending = running.stop()
        process.kill(running.pid, "SIGKILL")
        await ending
        const { signal } = await running.ended
        if (signal !== "SIGKILL") throw new Error(`${identity} was ended by ${signal}, not by SIGKILL`)
      },
    }
  } catch (error) {
    await cleanup.run()
    throw error
  }
}

/** Takes the lab down; throws when something couldn't be removed. */
export const endTestLab = async (lab: TestLab | undefined): Promise<void> => {
  const failures = (await lab?.cleanup.run()) ?? []
  if (failures.length > 0) throw new Error(`could not be removed: ${failures.join("; ")}`)
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Looks every 20 ms until `find` gives something. */
export const until = async <T>(what: string, timeoutMs: number, find: () => T | undefined): Promise<T> => {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const found = find()
    if (found !== undefined) return found
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs / 1_000} s`)
    await sleep(20)
  }
}

/** Datagrams that an application has got since it was asked last, once they are so many, or when 10 s are over. */
export const untilGot = async (app: Agent, wanted: number): Promise<number> => {
  const deadline = performance.now() + 10_000
  let got = 0
  for (; got < wanted && performance.now() < deadline; await sleep(20))
    got += (await app.ask({ op: "received" })).datagrams
  return got
}

const live = (lab: Lab, node: string): string => join(lab.names.pins(node), "live")

/** Whether a node's data plane is in the kernel. */
export const hasPlane = (lab: Lab, node: string): boolean => existsSync(live(lab, node))

/** Opens one of a node's pinned maps for the time of `use`. */
export const withMap = <T>(lab: Lab, node: string, name: keyof typeof shapes, use: (map: BpfMap) => T): T => {
  const fd = openPinned(mapPin(live(lab, node), name))
  if (fd === undefined) throw new Error(`${node} has no pinned map ${name}`)
  const map = new BpfMap(fd)
  try {
    return use(map)
  } finally {
    map.close()
  }
}

export type Counted = Readonly<Record<string, number>>

/** A node's verdicts as they are in its kernel at this moment, whether a loader lives or not. */
export const countVerdicts = (lab: Lab, node: string): Counted =>
  withMap(lab, node, "verdicts", (map) =>
    Object.fromEntries(
      verdicts.map(({ name, number }) => [
        name,
        (map.lookupPerCpu(indexKey(number)) ?? []).reduce((sum, each) => sum + Number(decodeCount(each)), 0),
      ]),
    ),
  )

/** What changed between two counts: names with a difference other than 0. */
export const difference = (before: Counted, after: Counted): Counted =>
  Object.fromEntries(
    Object.entries(after)
      .map(([name, count]) => [name, count - (before[name] ?? 0)] as const)
      .filter(([, grown]) => grown !== 0),
  )

const isDrop = new Set(verdicts.filter(({ outcome }) => outcome === "drop").map(({ name }) => name))

export const dropsIn = (counted: Counted): Counted =>
  Object.fromEntries(Object.entries(counted).filter(([name, count]) => isDrop.has(name) && count > 0))

/** Packets that went in and out of a device of a namespace, by the device's own counters. */
export const deviceCounts = (
  lab: Lab,
  netns: string,
  device: string,
): { readonly received: number; readonly sent: number } => {
  const line = lab
    .exec(netns, ["cat", "/proc/net/dev"])
    .split("\n")
    .find((one) => one.trim().startsWith(`${device}:`))
  if (line === undefined) throw new Error(`no ${device} in ${netns}`)
  const fields = line
    .slice(line.indexOf(":") + 1)
    .trim()
    .split(/\s+/)
    .map(Number)
  return { received: fields[1] ?? Number.NaN, sent: fields[9] ?? Number.NaN }
}

/** Packets that a node's applications have got from outside their namespace. */
export const delivered = (lab: Lab, node: string): number =>
  deviceCounts(lab, lab.appNetns(node), "m0").received

/** Packets that the kernel of a namespace has routed from one device to another. */
export const forwarded = (lab: Lab, netns: string): number => {
  const [names = "", values = ""] = lab
    .exec(netns, ["cat", "/proc/net/snmp"])
    .split("\n")
    .filter((line) => line.startsWith("Ip:"))
  return Number(values.split(" ")[names.split(" ").indexOf("ForwDatagrams")])
}

/** Ids that the kernel gave to what makes a plane, which it never gives twice. */
export interface Plumbing {
  readonly maps: Readonly<Record<string, number>>
  readonly programs: Readonly<Record<string, number>>
  /** Empty where programs hang on filters and not on links. */
  readonly links: Readonly<Record<string, number>>
  readonly devices: string
}

const PROGRAMS = ["vs_seal", "vs_open", "vs_guard", "vs_inner"] as const
const HOOKS = ["wire-ingress", "wire-egress", "inner-ingress", "inner-egress"] as const

const linkId = (fd: number): number => {
  const info = new Uint8Array(64)
  bpf(
    command.OBJ_GET_INFO_BY_FD,
    new Attr(16).u32(0, fd).u32(4, info.length).pointer(8, info),
    "info",
    "link",
  )
  return new DataView(info.buffer).getUint32(4, true)
}

const idOf = (pin: string, read: (fd: number) => number): number => {
  const fd = openPinned(pin)
  if (fd === undefined) throw new Error(`nothing is pinned at ${pin}`)
  return withFd(fd, read)
}

export const plumbing = (lab: Lab, node: string): Plumbing => {
  const base = live(lab, node)
  const { wireNs, appNs } = lab.place(node)
  return {
    maps: Object.fromEntries(
      (Object.keys(shapes) as Array<keyof typeof shapes>).map((name) => [
        name,
        withMap(lab, node, name, (map) => map.info.id),
      ]),
    ),
    programs: Object.fromEntries(
      PROGRAMS.map((name) => [name, idOf(programPin(base, name), (fd) => programInfo(fd).id)]),
    ),
    links:
      lab.machine.hooks === "tcx"
        ? Object.fromEntries(HOOKS.map((name) => [name, idOf(linkPin(base, name), linkId)]))
        : {},
    devices: [wireNs, appNs]
      .map((ns) =>
        lab.exec(lab.names.netns(ns), ["sh", "-c", "ip -o link | sed 's/ .*mtu/ mtu/; s/ qlen.*//'"]),
      )
      .join(""),
  }
}

export const statsOf = (lab: Lab, node: string): Stats => {
  const stats = lab.watch.stats.get(node)
  if (stats === undefined) throw new Error(`${node} has published no statistics`)
  return stats
}

/** Waits for a node's loader to say that a counter of the kernel has reached `count`. */
export const untilTold = (lab: Lab, node: string, verdict: string, count: number): Promise<Stats> =>
  until(`${node}'s loader tells of ${count} ${verdict}`, 20_000, () => {
    const stats = lab.watch.stats.get(node)
    return (stats?.verdicts[verdict] ?? 0) >= count ? stats : undefined
  })

export const eventsOf = (lab: Lab, type: string, node: string): ReadonlyArray<SeenEvent> =>
  lab.watch.events.filter(({ event }) => event.type === `vouchsafe.${type}` && event.data.node === node)

const NO_MAC = "02:00:00:00:00:02"

const ipv4Header = (from: string, to: string, protocol: number, length: number): Buffer => {
  const ip = Buffer.alloc(20)
  ip[0] = 0x45
  ip.writeUInt16BE(20 + length, 2)
  ip[8] = 64
  ip[9] = protocol
  ip.set(addressBytes(from), 12)
  ip.set(addressBytes(to), 16)
  ip.writeUInt16BE(checksum(ip), 10)
  return ip
}

const ipv6Header = (from: string, to: string, next: number, length: number): Buffer => {
  const ip = Buffer.alloc(40)
  ip[0] = 0x60
  ip.writeUInt16BE(length, 4)
  ip[6] = next
  ip[7] = 64
  ip.set(addressBytes(from), 8)
  ip.set(addressBytes(to), 24)
  return ip
}

/** A frame as a node's application end sends it: Ethernet, IP of the addresses' family, and a payload of the given protocol. Hex. */
export const ipFrame = (
  from: string,
  to: string,
  protocol: number,
  payload: Buffer,
  mac = NO_MAC,
): string => {
  const six = familyOf(to) === 6
  const ip = (six ? ipv6Header : ipv4Header)(from, to, protocol, payload.length)
  const ethernet = Buffer.from(`${mac.replaceAll(":", "")}020000000001${six ? "86dd" : "0800"}`, "hex")
  return Buffer.concat([ethernet, ip, payload]).toString("hex")
}

/** ICMP echo request (8) or reply (0), RFC 792. */
export const echoMessage = (type: 8 | 0, id: number): Buffer => {
  const message = Buffer.alloc(16)
  message[0] = type
  message.writeUInt16BE(id, 4)
  message.writeUInt16BE(checksum(message), 2)
  return message
}

export const ICMPV6 = 58

/** ICMPv6 echo request (128) or reply (129), RFC 4443. */
export const echoMessage6 = (from: string, to: string, type: 128 | 129, id: number): Buffer => {
  const message = Buffer.alloc(16)
  message[0] = type
  message.writeUInt16BE(id, 4)
  message.writeUInt16BE(payloadChecksum(pair(from, to), ICMPV6, message), 2)
  return message
}

const pair = (from: string, to: string): Buffer => Buffer.concat([addressBytes(from), addressBytes(to)])

/** A TCP segment without options. Its checksum covers the pseudo-header of RFC 9293, section 3.1. */
export const tcpSegment = (
  from: readonly [address: string, port: number],
  to: readonly [address: string, port: number],
  flags: number,
): Buffer => {
  const tcp = Buffer.alloc(20)
  tcp.writeUInt16BE(from[1], 0)
  tcp.writeUInt16BE(to[1], 2)
  tcp.writeUInt32BE(0x01020304, 4)
  tcp[12] = 5 << 4
  tcp[13] = flags
  tcp.writeUInt16BE(65_535, 14)
  tcp.writeUInt16BE(payloadChecksum(pair(from[0], to[0]), 6, tcp), 16)
  return tcp
}

/** CRC-32C, reflected, as SCTP has it (RFC 9260, appendix A). */
const crc32c = (bytes: Buffer): number => {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0)
  }
  return ~crc >>> 0
}

export const SCTP = 132

/** An SCTP packet that asks for an association: the common header and an INIT chunk (RFC 9260, section 3.3.2). */
export const sctpInit = (from: number, to: number): Buffer => {
  const packet = Buffer.alloc(12 + 20)
  packet.writeUInt16BE(from, 0)
  packet.writeUInt16BE(to, 2)
  packet.set([1, 0, 0, 20], 12)
  packet.writeUInt32BE(0x01020304, 16)
  packet.writeUInt32BE(65_536, 20)
  packet.writeUInt16BE(1, 24)
  packet.writeUInt16BE(1, 26)
  packet.writeUInt32BE(1, 28)
  packet.writeUInt32LE(crc32c(packet), 8)
  return packet
}

export const SYN = 0x02
export const SYN_ACK = 0x12

/** How many entries one of a node's maps of keys has. */
export const allocated = (lab: Lab, node: string, map: "sa_in" | "sa_out" | "outbound" | "windows"): number =>
  withMap(lab, node, map, (one) => one.keys().length)

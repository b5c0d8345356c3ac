/**
 * The programs in a host program, fuzzed under the address and undefined-behaviour sanitizers with everything that a good frame
 * covers as seeds; then what the fuzzer has found worth keeping goes through the programs in this kernel, and both must do the same.
 *
 * The environment variable EXECUTIONS says how many, if not 150,000. Keys are new in each run: a failure prints them with the input that
 * broke a rule, and by that text as the environment variable REPLAY nothing but this input is run again.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { deflateRawSync, inflateRawSync } from "node:zlib"
import { afterAll, beforeAll, expect, test } from "vitest"
import { verdicts } from "../../schemas/verdicts.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { encodeDeadline } from "../../services/common/kernel/records.ts"
import { answerTo, chance, frameOf, opening, others, outer, withTrailer } from "./conversation.ts"
import { checksum, concat, esp, frame6, hex, icmpPacket6, ipv4, udpPacket, udpPacket6 } from "./packets.ts"
import {
  edge1,
  edge2,
  MARK,
  type MapName,
  OWN_PORT,
  own,
  ownWire,
  PEER_PORT,
  type Plane,
  type Program,
  peer,
  peerWire,
} from "./plane.ts"
import { own6, ownWire6, peer6, peerWire6, readyPlane6 } from "./plane6.ts"

const EXECUTIONS = Number(process.env.EXECUTIONS ?? 150_000)
const { REPLAY } = process.env
/** What user space writes, and what the programs have to find there to get further. */
const given: ReadonlyArray<MapName> = [
  "config",
  "policies",
  "policies6",
  "edges",
  "outbound",
  "sa_out",
  "sa_in",
  "lease_out",
  "lease_in",
  "windows",
  "flows",
  "paths",
  "paths6",
]

interface Entry {
  readonly map: MapName
  readonly key: Uint8Array
  readonly value: Uint8Array
}
interface Seed {
  readonly kind: number
  readonly bytes: Uint8Array
}

let directory: string
let plane: Plane
let state: ReadonlyArray<Entry>

/** Packets that seeds answer or speak of. */
const outgoing = Array.from({ length: 24 }, () => opening("out"))
const incoming = Array.from({ length: 24 }, () => opening("in"))

const long = udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, chance.bytes(1340))
incoming.push(udpPacket({ source: peer, target: own, from: 50_000, to: OWN_PORT }, chance.bytes(8)))
const longAnswer = udpPacket({ source: own, target: peer, from: OWN_PORT, to: 50_000 }, chance.bytes(1340))
const tooLong = [
  udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, chance.bytes(1411)),
  udpPacket6({ source: own6, target: peer6, from: 40_000, to: PEER_PORT }, chance.bytes(1391)),
]
/** What the plane made of the above. */
const sealed: Array<Uint8Array> = []

/** What a router says of a sealed frame that is longer than its next link takes. */
const report = (frame: Uint8Array): Uint8Array => {
  const quote = frame.subarray(14, 114)
  if ((quote[0] ?? 0) >> 4 === 6)
    return frame6(
      icmpPacket6({ source: peerWire6, target: ownWire6 }, 2, concat(Uint8Array.of(0, 0, 5, 0), quote)),
    )
  const [head, rest] = [hex("0304"), concat(hex("00000240"), quote)]
  const sum = checksum(head, rest)
  const message = concat(head, Uint8Array.of(sum >> 8, sum & 255), rest)
  return frameOf(ipv4({ source: peerWire, target: ownWire, protocol: 1 }, message))
}

const stateOf = (from: Plane): ReadonlyArray<Entry> =>
  given.flatMap((map) =>
    [...from.map(map).keys()].map((key) => ({ map, key, value: from.map(map).lookup(key) ?? hex("") })),
  )

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-fuzz-"))
  // Edge 1's peer is reached over IPv4, edge 2's over IPv6.
  plane = readyPlane6(4).endpoint(2, { peerInner6: peer6, peerWire: peerWire6 })
  for (const packet of [long, ...outgoing]) sealed.push(plane.run("vs_seal", frameOf(packet)).packet)
  incoming.forEach((packet, i) => void plane.run("vs_open", outer(esp(edge2.in, BigInt(i + 1), packet))))
  for (const packet of [longAnswer, ...incoming.map(answerTo)])
    sealed.push(plane.run("vs_seal", frameOf(packet)).packet)
  for (const frame of sealed.slice(0, 2)) expect(frame.length).toBeGreaterThan(90)
  state = stateOf(plane)
  const entry = ({ map, key, value }: Entry) =>
    concat(Uint8Array.of(map.length), Uint8Array.from(Buffer.from(map)), key, value)
  writeFileSync(join(directory, "state"), concat(...state.map(entry)))
})
afterAll(() => {
  plane?.close()
  rmSync(directory, { recursive: true, force: true })
})

const build = (name: string, flags: ReadonlyArray<string>): string => {
  const out = join(directory, name)
  const fixed = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-fno-strict-aliasing"]
  execFileSync("clang-16", [...fixed, "-Ibpf/fuzz", ...flags, "bpf/fuzz.c", "-o", out], { stdio: "pipe" })
  return out
}
const environment = () => ({ ...process.env, VS_FUZZ_STATE: join(directory, "state") })
const corpus = () => join(directory, "corpus")

/** An input of the host program, and the maps' contents by which it began, for REPLAY. */
const packed = (input: Uint8Array): string => {
  const kept = readFileSync(join(directory, "state"))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(kept.length)
  return deflateRawSync(Buffer.concat([length, kept, input])).toString("base64")
}

/** Puts the maps' contents in the place of this run's own, and gives the input. */
const unpacked = (text: string): Uint8Array => {
  const whole = inflateRawSync(Buffer.from(text, "base64"), { maxOutputLength: 1 << 24 })
  const end = 4 + whole.readUInt32LE(0)
  writeFileSync(join(directory, "state"), whole.subarray(4, end))
  return whole.subarray(end)
}

/** What broke, where, and how to see it again. */
const findings = (said: string): string => {
  const inputs = readdirSync(directory).filter((name) => /^(crash|leak|oom|timeout)-/.test(name))
  const again = inputs.map((name) => `REPLAY=${packed(readFileSync(join(directory, name)))}`)
  return [said.slice(-6000), ...again].join("\n")
}

const buildFuzz = (): string =>
  build("fuzz", ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"])

const replayed = (text: string): void => {
  const input = join(directory, "input")
  writeFileSync(input, unpacked(text))
  const run = spawnSync(buildFuzz(), [input], { env: environment(), encoding: "utf8", maxBuffer: 1 << 26 })
  expect(run.status, run.stderr.slice(-6000)).toBe(0)
}

const seeds = (): ReadonlyArray<Seed> => {
  const texts = [...incoming, ...outgoing.map(answerTo)].map(withTrailer)
  return [
    ...incoming.map((packet, i) => ({ kind: 0, bytes: outer(esp(edge2.in, BigInt(100 + i), packet)) })),
    ...outgoing.map((packet, i) => ({
      kind: 0,
      bytes: outer(esp(edge1.in, BigInt(1 + i), answerTo(packet))),
    })),
    ...[...others, ...sealed.map(report)].map((bytes) => ({ kind: 0, bytes })),
    ...[...outgoing, ...incoming.map(answerTo), long, ...tooLong].map((one) => ({
      kind: 1,
      bytes: frameOf(one),
    })),
    ...[...sealed, ...others].flatMap((bytes) => [2, 3].map((kind) => ({ kind, bytes }))),
    ...incoming.map((packet) => ({ kind: 4, bytes: frameOf(packet) })),
    ...texts.map((text, i) => ({
      kind: 5 + (i % 4 < 2 ? 0 : 7),
      bytes: concat(Uint8Array.of((i % 3) + (i % 2) * 128), text),
    })),
    // A window that begins at such a number, and is then asked for what is at its edges, ahead, behind and in between.
    ...[0n, 1983n, 1984n, 0xffff_ffffn, 0x1_0000_0000n, 0x1_0000_0800n].map((top) => {
      const start = new DataView(new ArrayBuffer(8))
      start.setBigUint64(0, top << 1n, true)
      const edges = hex("87bf 87c0 87bf 8000 0001 0040 87c1 87c0 87bf 803f 8040 0800 87bf 4001 8001")
      return { kind: 6, bytes: concat(new Uint8Array(start.buffer), edges, chance.bytes(40)) }
    }),
    // Nothing but padding: more than there is, just as much, and all but a byte.
    ...[21, 22, 23, 24, 255].flatMap((pad) =>
      [4, 41].map((next) => {
        const counted = Uint8Array.from({ length: 22 }, (_, i) => pad - 21 + i)
        return { kind: 5, bytes: concat(Uint8Array.of(1), counted, Uint8Array.of(pad, next)) }
      }),
    ),
    { kind: 0, bytes: outer(esp(edge2.in, 1n, long)) },
    { kind: 0, bytes: outer(esp({ ...edge2.in, salt: hex("00000000") }, 99n, long)) },
    { kind: 0, bytes: frame6(new Uint8Array(64)) },
  ]
}

const fuzzed = (): void => {
  const fuzz = buildFuzz()
  mkdirSync(corpus())
  seeds().forEach(({ kind, bytes }, i) => {
    writeFileSync(join(corpus(), `seed-${i}`), concat(Uint8Array.of(kind), bytes))
  })
  const run = spawnSync(
    fuzz,
    [
      `-runs=${EXECUTIONS}`,
      "-seed=20261123",
      "-max_len=1700",
      "-print_final_stats=1",
      `-artifact_prefix=${directory}/`,
      corpus(),
    ],
    { env: environment(), encoding: "utf8", maxBuffer: 1 << 26 },
  )
  expect(run.status, findings(run.stderr)).toBe(0)
  expect(run.stderr.slice(-3000)).toContain("stat::number_of_executed_units")
  const executed = Number(/number_of_executed_units:\s*(\d+)/.exec(run.stderr)?.[1])
  const covered = /cov: (\d+) ft: (\d+) corp: (\d+)[^\n]*$/m.exec(
    run.stderr.slice(run.stderr.lastIndexOf("cov:")),
  )
  console.info(`${executed} executions; ${covered?.[0]}`)
  expect(executed).toBeGreaterThanOrEqual(EXECUTIONS)
}

const programs: ReadonlyArray<Program> = ["vs_open", "vs_seal", "vs_guard", "vs_guard", "vs_inner", "vs_open"]
const names = new Map(verdicts.map(({ number, name }) => [number, name]))

/** Gives the plane's maps the contents that the host program begins each input with. */
const restore = (): void => {
  plane.forget()
  for (const { map, key, value } of state)
    if (map === "windows" || map === "sa_out") plane.map(map).update(key, value)
    // On the host no time passes.
    else if (map === "flows") plane.map(map).update(key, concat(encodeDeadline(bootNow()), value.subarray(8)))
  for (const { edge } of [edge1, edge2])
    plane.map("path_mtus").update(Uint8Array.of(edge, 0, 0, 0), new Uint8Array(8))
}

const heldAgainstKernel = (): void => {
  const replay = build("replay", ["-DVS_REPLAY", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
  const files = readdirSync(corpus())
    .sort()
    .map((name) => join(corpus(), name))
  const out = execFileSync(replay, files, { env: environment(), maxBuffer: 1 << 28 })
  const seen = new Map<string, number>()
  let at = 0
  while (at < out.length) {
    const [kind = 0, length = 0, verdict = 0, retval, mark, after = 0] = Array.from({ length: 6 }, (_, i) =>
      out.readUInt32LE(at + 4 * i),
    )
    const packet = Uint8Array.from(out.subarray(at + 24, at + 24 + length))
    const left = Uint8Array.from(out.subarray(at + 24 + length, at + 24 + length + after))
    at += 24 + length + after
    restore()
    const program = programs[kind] ?? "vs_open"
    const there = plane.run(program, packet, { mark: kind === 3 || kind === 4 ? MARK : 0 })
    const name = names.get(verdict) ?? String(verdict)
    const about = `${program} ${Buffer.from(packet).toString("hex")}`
    expect(there.verdict, about).toBe(name)
    seen.set(name, (seen.get(name) ?? 0) + 1)
    // Only a hundred a second of these are answered.
    if (name === "TOO_LONG") continue
    expect([there.retval, there.mark], about).toEqual([retval, mark])
    if (there.retval !== 2)
      expect(Buffer.from(there.packet).toString("hex"), about).toBe(Buffer.from(left).toString("hex"))
  }
  console.info(`in the kernel: ${[...seen].map(([name, number]) => `${name} ${number}`).join(", ")}`)
  for (const name of [
    "SEALED",
    "OPENED",
    "NEIGHBOUR",
    "CONTROL",
    "SEALED_OUT",
    "DELIVERED",
    "TOO_LONG",
    "STRAY_ICMP",
    "PATH_MTU",
    "BAD_PADDING",
    "REPLAYED",
  ])
    expect(seen.get(name) ?? 0, name).toBeGreaterThan(0)
}

if (REPLAY !== undefined)
  test("the input of REPLAY breaks no rule", { timeout: 300_000 }, () => replayed(REPLAY))
else {
  test(`${EXECUTIONS} executions break no rule and touch no foreign byte`, { timeout: 600_000 }, fuzzed)
  test("the same inputs end the same in this kernel", { timeout: 300_000 }, heldAgainstKernel)
}

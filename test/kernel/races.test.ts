/**
 * What two processors do at the same moment: threads that are bound to one each run the real programs on the same maps, step by step
 * together, while a third changes what they use.
 */
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { cpus, tmpdir } from "node:os"
import { join } from "node:path"
import { chacha20poly1305 } from "@noble/ciphers/chacha.js"
import koffi from "koffi"
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { command } from "../../services/common/kernel/bpf.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import {
  encodeDeadline,
  encodeFlow,
  encodeFlowKey,
  encodeOutbound,
  encodeSaOut,
  laneKey,
  outSaKey,
} from "../../services/common/kernel/records.ts"
import { byteSource, concat, frame } from "./packets.ts"
import {
  DROP,
  edge1,
  edge2,
  LANES,
  type MapName,
  type Plane,
  type Program,
  REDIRECT,
  readyPlane,
} from "./plane.ts"
import { incoming, request, sealedBy } from "./traffic.ts"

const FRAME = 256
const CHANGE = 96
/** Bytes of a sealed frame before the ESP header, the IV and the text. */
const ESP = 42

let directory: string
let plane: Plane
let race: (
  program: number,
  frames: Uint8Array,
  threads: number,
  count: number,
  changes: Uint8Array,
  changed: number,
) => number

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-race-"))
  const library = join(directory, "race.so")
  execFileSync(
    "clang-16",
    [
      "-O2",
      "-Wall",
      "-Wextra",
      "-Werror",
      "-fPIC",
      "-shared",
      "-pthread",
      "test/kernel/race.c",
      "-o",
      library,
    ],
    { stdio: "pipe" },
  )
  race = koffi
    .load(library)
    .func(
      "int race(int program, void *frames, uint32_t threads, uint32_t count, void *changes, uint32_t changed)",
    )
  if (cpus().length < 2)
    console.warn("NOT A RACE: this machine has one processor; threads only take turns here")
})
afterAll(() => {
  plane?.close()
  rmSync(directory, { recursive: true, force: true })
})
beforeEach(() => {
  plane?.close()
  plane = readyPlane()
})

interface Change {
  readonly map: MapName
  readonly key: Uint8Array
  /** Without one the entry is deleted. */
  readonly value?: Uint8Array
}
interface Ran {
  readonly retval: number
  readonly packet: Uint8Array
}

const encodeChange = ({ map, key, value }: Change): Uint8Array => {
  const bytes = new Uint8Array(CHANGE)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, value === undefined ? command.MAP_DELETE_ELEM : command.MAP_UPDATE_ELEM, true)
  view.setUint32(4, plane.object.mapFd(map), true)
  bytes.set(key, 16)
  bytes.set(value ?? new Uint8Array(0), 32)
  return bytes
}

/** Runs each list of frames in a thread, all lists being equally long. Gives what became of them, thread by thread. */
const run = (
  program: Program,
  lists: ReadonlyArray<ReadonlyArray<Uint8Array>>,
  changes: ReadonlyArray<Change> = [],
): ReadonlyArray<ReadonlyArray<Ran>> => {
  const count = lists[0]?.length ?? 0
  const frames = new Uint8Array(FRAME * lists.length * count)
  const view = new DataView(frames.buffer)
  lists.flat().forEach((bytes, i) => {
    view.setUint32(FRAME * i, bytes.length, true)
    frames.set(bytes, FRAME * i + 8)
  })
  const encoded = Uint8Array.from(Buffer.concat(changes.map(encodeChange)))
  const failed = race(plane.object.programFd(program), frames, lists.length, count, encoded, changes.length)
  expect(failed, "errno").toBe(0)
  return lists.map((list, thread) =>
    list.map((_, i) => {
      const at = FRAME * (thread * count + i)
      return {
        retval: view.getUint32(at + 4, true),
        packet: frames.subarray(at + 8, at + 8 + view.getUint32(at, true)),
      }
    }),
  )
}
const verdictCount = (number: number): bigint => plane.counts()[number] ?? 0n
const times = <A>(count: number, make: (i: number) => A): ReadonlyArray<A> =>
  Array.from({ length: count }, (_, i) => make(i))
/** SPI and low half of the sequence number, and the IV, of a frame that was sealed. */
const numberOf = ({ packet }: Ran): string => Buffer.from(packet.subarray(ESP, ESP + 16)).toString("hex")

test("of each packet that comes to both processors at once, one passes", () => {
  const frames = times(12_000, (i) => sealedBy(edge2, BigInt(i + 1), incoming()))
  const [one = [], two = []] = run("vs_open", [frames, frames])
  const passed = one.map(({ retval }, i) => Number(retval === REDIRECT) + Number(two[i]?.retval === REDIRECT))
  expect(passed.filter((count) => count !== 1)).toEqual([])
  const first = one.filter(({ retval }) => retval === REDIRECT).length
  console.info(`${first} passed on one processor, ${frames.length - first} on the other`)
})

test("late, early and doubled packets on both: none passes twice, and none that is in the window is lost", () => {
  const bytes = byteSource(77)
  const frames = times(8000, (i) => sealedBy(edge2, BigInt(i + 2000), incoming()))
  // Each processor has its own order; nothing is further from its place than half a window.
  const shuffled = () =>
    frames
      .map((one, i) => ({ one, place: i + (bytes(2)[0] ?? 0) * 3 }))
      .sort((a, b) => a.place - b.place)
      .map(({ one }) => one)
  const lists = [shuffled(), shuffled()]
  const passes = new Map<Uint8Array, number>()
  run("vs_open", lists).forEach((ran, thread) => {
    ran.forEach(({ retval }, i) => {
      const one = lists[thread]?.[i]
      if (one !== undefined && retval === REDIRECT) passes.set(one, (passes.get(one) ?? 0) + 1)
    })
  })
  expect([...passes.values()].filter((count) => count !== 1)).toEqual([])
  expect(passes.size).toBe(frames.length)
})

test.each([
  ["without ESN", false, 0xffff_ffffn],
  ["with ESN", true, 0xffff_fffe_ffff_ffffn],
] as const)("sequence numbers end once for both processors, %s, and none comes twice", (_, esn, last) => {
  const left = 20_001n
  const keys = { ...edge1, out: { ...edge1.out, spi: 0x1101, esn }, in: { ...edge1.in, spi: 0x2101 } }
  plane.keys(keys, last - left)
  const one = frame(request())
  const frames = times(20_000, () => one)
  const ran = run("vs_seal", [frames, frames]).flat()
  const sealed = ran.filter(({ retval }) => retval === REDIRECT)
  expect(sealed.length).toBe(Number(left))
  expect(ran.filter(({ retval }) => retval === DROP).length).toBe(40_000 - Number(left))
  const numbers = sealed.map(numberOf)
  expect(new Set(numbers).size).toBe(numbers.length)
  const ivs = numbers.map((text) => BigInt(`0x${text.slice(16)}`)).sort((a, b) => (a < b ? -1 : 1))
  expect([ivs[0], ivs.at(-1)]).toEqual([last - left + 1n, last])
})

test("keys come and go while both processors seal: no number twice under one key, and all open with the key of their SPI", () => {
  const bytes = byteSource(88)
  const generations = times(1200, (i) => ({ spi: 0x10_0000 + i, key: bytes(32), salt: bytes(4), esn: true }))
  const deadline = encodeDeadline(bootNow() + 3_600_000_000_000n)
  const changes = generations.flatMap((sa, i): ReadonlyArray<Change> => {
    const before = generations[i - 1]
    const key = outSaKey(1, sa.spi)
    const old = before === undefined ? undefined : outSaKey(1, before.spi)
    return [
      { map: "lease_out", key, value: deadline },
      // In this order, so that the kernel gives the old one's memory to the new one while programs may still use it.
      ...(old === undefined ? [] : [{ map: "sa_out" as const, key: old }]),
      { map: "sa_out", key, value: encodeSaOut(sa) },
      ...times(
        LANES,
        (lane): Change => ({ map: "outbound", key: laneKey(1, lane), value: encodeOutbound(sa.spi) }),
      ),
      // The first one has as many changes as the others: threads wait for each other only when a key is there.
      ...(old === undefined
        ? times(2, (): Change => ({ map: "lease_out", key, value: deadline }))
        : [{ map: "lease_out" as const, key: old }]),
    ]
  })
  // A flow each: making it takes time between finding the key and using it.
  const list = (thread: number) => times(8000, (i) => frame(request(bytes(16), 10_000 + 2 * i + thread)))
  const sealed = run("vs_seal", [list(0), list(1)], changes)
    .flat()
    .filter(({ retval }) => retval === REDIRECT)
  const numbers = sealed.map(numberOf)
  expect(new Set(numbers).size).toBe(numbers.length)
  const keys = new Map([edge1.out, ...generations].map((sa) => [sa.spi, sa]))
  const used = new Set<number>()
  for (const { packet } of sealed) {
    const spi = Buffer.from(packet).readUInt32BE(ESP)
    const sa = keys.get(spi)
    if (sa === undefined) throw new Error(`sealed under SPI ${spi}, which was never installed`)
    const [iv, low] = [packet.subarray(ESP + 8, ESP + 16), packet.subarray(ESP + 12, ESP + 16)]
    expect(packet.subarray(ESP + 4, ESP + 8)).toEqual(low)
    const cipher = chacha20poly1305(sa.key, concat(sa.salt, iv), concat(packet.subarray(ESP, ESP + 4), iv))
    // Throws if the key, the number or the text is another one's.
    cipher.decrypt(packet.subarray(ESP + 16))
    used.add(spi)
  }
  console.info(`${sealed.length} of 16000 packets sealed under ${used.size} keys`)
  expect(used.size).toBeGreaterThan(20)
  expect(sealed.length).toBeGreaterThan(1000)
})

test("one flow that both processors make at once is one, and is counted once", () => {
  const frames = times(4000, (i) => frame(request(new Uint8Array(4), 10_000 + i)))
  const ran = run("vs_seal", [frames, frames]).flat()
  expect(ran.every(({ retval }) => retval === REDIRECT)).toBe(true)
  expect([plane.flowCount(1), [...plane.map("flows").keys()].length]).toEqual([4000, 4000])
})

test("both processors at the end of an edge's quota: it is not exceeded by one", () => {
  const list = (thread: number) =>
    times(9000, (i) => frame(request(new Uint8Array(4), 10_000 + 2 * i + thread)))
  const passed = run("vs_seal", [list(0), list(1)])
    .flat()
    .filter(({ retval }) => retval === REDIRECT).length
  expect(passed).toBeLessThanOrEqual(limits.flowsPerEdge)
  // Two that are at the last place together may both be refused.
  expect(passed).toBeGreaterThan(limits.flowsPerEdge - 16)
  expect([plane.flowCount(1), [...plane.map("flows").keys()].length]).toEqual([passed, passed])
  expect(verdictCount(40)).toBe(BigInt(18_000 - passed))
})

test("both processors at the end of the table: old flows stay, what finds no room is refused and not counted", () => {
  const room = 1000
  const seen = { seenNs: bootNow(), ticket: 0, state: 0 }
  const old = times(limits.flows - room, (i) =>
    encodeFlowKey({ edge: 100 + (i >> 14), ownPort: i & 0x3fff, peerPort: 1, protocol: 17, role: 0 }),
  )
  for (const key of old) plane.map("flows").update(key, encodeFlow(seen))
  const list = (thread: number) =>
    times(1000, (i) => frame(request(new Uint8Array(4), 10_000 + 2 * i + thread)))
  const passed = run("vs_seal", [list(0), list(1)])
    .flat()
    .filter(({ retval }) => retval === REDIRECT).length
  expect(passed).toBeLessThanOrEqual(room)
  expect(passed).toBeGreaterThan(room - 16)
  expect(plane.flowCount(1)).toBe(passed)
  expect(verdictCount(28)).toBe(BigInt(2000 - passed))
  const kept = new Set([...plane.map("flows").keys()].map((key) => Buffer.from(key).toString("hex")))
  expect(kept.size).toBe(old.length + passed)
  expect(old.filter((key) => !kept.has(Buffer.from(key).toString("hex")))).toEqual([])
})

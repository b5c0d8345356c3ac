/** What our sealer makes, read by scapy's ESP and by python3-cryptography; the inner packets are scapy's too. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { verdicts } from "../../schemas/verdicts.ts"
import { testRun } from "../../services/common/kernel/libbpf.ts"
import { outSaKey } from "../../services/common/kernel/records.ts"
import { byteSource, frame } from "../kernel/packets.ts"
import {
  type EdgeKeys,
  ESP_PORT,
  edge1,
  LANES,
  MTU,
  PEER_PORT,
  type Plane,
  REDIRECT,
  readyPlane,
} from "../kernel/plane.ts"
import { type BuildRequest, type Judge, type Kind, keysOf, type Opened, startJudge, toHex } from "./python.ts"

const kinds: ReadonlyArray<Kind> = ["udp", "tcp", "icmp"]
const smallest = { udp: 28, icmp: 28, tcp: 40 } as const
/** The longest inner packet of a 1,500-byte wire. */
const LONGEST = 1438
const SEALED = verdicts.find((verdict) => verdict.name === "SEALED")?.number ?? -1

let judge: Judge
const planes: Array<Plane> = []
beforeAll(() => {
  judge = startJudge()
})
afterEach(() => {
  for (const plane of planes.splice(0)) plane.close()
})
afterAll(() => judge?.stop())

const bytes = byteSource(77)
const withoutEsn: EdgeKeys = {
  edge: 1,
  out: { spi: 0xfedcba98, key: bytes(32), salt: bytes(4), esn: false },
  in: { ...edge1.in, spi: 0x2101, esn: false },
}
const ready = (keys: EdgeKeys): Plane => {
  const plane = readyPlane()
  planes.push(plane)
  return keys === edge1 ? plane : plane.keys(keys)
}
/** Sets the last number that an SA has used, as if it had sealed that many packets. */
const startAt = (plane: Plane, keys: EdgeKeys, sequence: bigint): void => {
  plane.map("sa_out").delete(outSaKey(keys.edge, keys.out.spi))
  plane.keys(keys, sequence)
}

const request = (kind: Kind, length: number, more: Partial<BuildRequest> = {}): BuildRequest => ({
  kind,
  length,
  source: "10.77.0.1",
  target: "10.77.0.2",
  sport: 40_000,
  dport: PEER_PORT,
  ...more,
})

const seal = (plane: Plane, inner: Uint8Array): Uint8Array => {
  const { retval, packet } = testRun(plane.object.programFd("vs_seal"), frame(inner))
  expect(retval).toBe(REDIRECT)
  return packet
}

const sealAndOpen = async (
  plane: Plane,
  keys: EdgeKeys,
  inners: ReadonlyArray<Uint8Array>,
  high = 0,
): Promise<ReadonlyArray<Opened>> => {
  const sealed = inners.map((inner) => seal(plane, inner))
  expect(plane.counts()[SEALED]).toBe(BigInt(sealed.length))
  return judge.open(sealed.map((one) => ({ frame: one, keys: keysOf(keys.out), high })))
}

/** What RFCs 4303, 3948, 7634 and 4301 say of the packet with this sequence number that carries `inner`. */
const expected = (inner: Uint8Array, keys: EdgeKeys, sequence: bigint) => {
  const padLength = (4 - ((inner.length + 2) % 4)) % 4
  const total = 20 + 8 + 8 + 8 + inner.length + padLength + 2 + 16
  return {
    type: 0x0800,
    version: 4,
    ihl: 5,
    tos: inner[1],
    total,
    frame: 14 + total,
    id: 0,
    flags: "DF",
    fragment: 0,
    ttl: 64,
    protocol: 17,
    sumRight: true,
    source: "192.0.2.1",
    target: "192.0.2.2",
    to: ESP_PORT,
    udpLength: total - 20,
    udpSum: 0,
    spi: keys.out.spi,
    low: Number(sequence & 0xffffffffn),
    iv: sequence.toString(16).padStart(16, "0"),
    padLength,
    padding: ["", "01", "0102", "010203"][padLength],
    next: 4,
    innerClass: "IP",
    inner: toHex(inner),
    payload: toHex(inner),
    text: inner.length + padLength + 2,
    wrongSums: [],
  }
}

describe.each([
  ["with ESN", edge1],
  ["without ESN", withoutEsn],
] as const)("%s", (_, keys) => {
  test.each(kinds)("%s from the smallest to the longest opens in scapy", async (kind) => {
    const plane = ready(keys)
    // Every length of UDP with ESN, every seventh of the others: all paddings too.
    const step = kind === "udp" && keys.out.esn ? 1 : 7
    const lengths = [smallest[kind], smallest[kind] + 1, LONGEST - 1, LONGEST]
    for (let length = smallest[kind]; length <= LONGEST; length += step) lengths.push(length)
    const inners = await judge.build(lengths.map((length) => request(kind, length)))
    expect(inners.map((inner) => inner.length)).toEqual(lengths)
    const opened = await sealAndOpen(plane, keys, inners)
    expect(new Set(opened.map((one) => one.padLength))).toEqual(new Set([0, 1, 2, 3]))
    for (const [i, one] of opened.entries())
      expect(one).toMatchObject(expected(inners[i] ?? new Uint8Array(0), keys, BigInt(i + 1)))
    expect(opened.at(3)?.total).toBe(MTU)
  })

  test("the inner type of service is the outer one, all 256 of them", async () => {
    const plane = ready(keys)
    const inners = await judge.build(
      Array.from({ length: 256 }, (_, tos) => request("udp", 60 + (tos % 4), { tos })),
    )
    const opened = await sealAndOpen(plane, keys, inners)
    expect(opened.map((one) => [one.tos, one.sumRight, one.error])).toEqual(
      Array.from({ length: 256 }, (_, tos) => [tos, true, undefined]),
    )
  })

  test("each lane has its own source port, a flow keeps to one, the destination port is the peer's", async () => {
    const plane = ready(keys)
    plane.endpoint(1, { peerPort: 4711 })
    const ports = Array.from({ length: 64 }, (_, i) => 30_000 + i)
    const inners = await judge.build(ports.map((sport) => request("udp", 40, { sport })))
    const opened = await sealAndOpen(plane, keys, [...inners, ...inners])
    expect(opened.every((one) => one.to === 4711)).toBe(true)
    const lanes = opened.map((one) => one.from - ESP_PORT)
    expect(new Set(lanes)).toEqual(new Set(Array.from({ length: LANES }, (_, lane) => lane)))
    expect(lanes.slice(ports.length)).toEqual(lanes.slice(0, ports.length))
  })

  test("no nonce twice: numbers count by one, and the IV is the whole number", async () => {
    const plane = ready(keys)
    const [inner] = await judge.build([request("udp", 100)])
    const opened = await sealAndOpen(plane, keys, Array(100).fill(inner))
    expect(opened.map((one) => BigInt(`0x${one.iv}`))).toEqual(
      Array.from({ length: 100 }, (_, i) => BigInt(i + 1)),
    )
  })
})

describe("the end of the low half", () => {
  test("with ESN the tag covers a high half that is not sent as such", async () => {
    const plane = ready(edge1)
    const inners = await judge.build([0, 1, 2, 3].map((i) => request("tcp", 61 + i)))
    startAt(plane, edge1, 0x7_ffff_fffdn)
    const sealed = inners.map((inner) => seal(plane, inner))
    const judged = await Promise.all(
      [7, 8].map((high) => judge.open(sealed.map((one) => ({ frame: one, keys: keysOf(edge1.out), high })))),
    )
    expect(judged.map((all) => all.map((one) => one.error ?? one.low))).toEqual([
      [0xfffffffe, 0xffffffff, "not authentic", "not authentic"],
      ["not authentic", "not authentic", 0, 1],
    ])
    expect(judged[1]?.[2]).toMatchObject(expected(inners[2] ?? new Uint8Array(0), edge1, 0x8_0000_0000n))
  })

  test("without ESN the last number is 2^32 - 1, and it opens", async () => {
    const plane = ready(withoutEsn)
    const inners = await judge.build([request("udp", 62), request("udp", 63)])
    startAt(plane, withoutEsn, 0xffff_fffen)
    const [one] = await sealAndOpen(plane, withoutEsn, inners.slice(0, 1))
    expect(one).toMatchObject(expected(inners[0] ?? new Uint8Array(0), withoutEsn, 0xffff_ffffn))
    expect(plane.run("vs_seal", frame(inners[1] ?? new Uint8Array(0))).verdict).toBe("SEQUENCE_END")
  })
})

test("the judge is one: it refuses another key, salt, SPI, kind of number, and any flipped bit", async () => {
  const plane = ready(edge1)
  const [inner = new Uint8Array(0)] = await judge.build([request("udp", 64)])
  const sealed = seal(plane, inner)
  const right = keysOf(edge1.out)
  const wrong = [
    { ...right, key: right.key.replace(/^../, (byte) => (byte === "00" ? "01" : "00")) },
    { ...right, salt: "00000000" },
    { ...right, spi: right.spi + 1 },
    { ...right, esn: false },
  ]
  const errors = await judge.open(wrong.map((keys) => ({ frame: sealed, keys })))
  expect(errors.map((one) => one.error)).toEqual([
    "not authentic",
    "not authentic",
    "packet spi=0x1001 does not match the SA spi=0x1002",
    "not authentic",
  ])
  // From the sequence number to the end of the ICV.
  const flipped = Array.from({ length: sealed.length - 46 }, (_, i) => {
    const copy = sealed.slice()
    copy[46 + i] = (copy[46 + i] ?? 0) ^ 0x10
    return { frame: copy, keys: right }
  })
  expect((await judge.open(flipped)).filter((one) => one.error !== "not authentic")).toEqual([])
  expect((await judge.open([{ frame: sealed, keys: right }]))[0]?.inner).toBe(toHex(inner))
})

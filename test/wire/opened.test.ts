/** What scapy's ESP and python3-cryptography seal, given to our opener; and what nobody should send. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { verdicts } from "../../schemas/verdicts.ts"
import { testRun } from "../../services/common/kernel/libbpf.ts"
import { inSaKey } from "../../services/common/kernel/records.ts"
import { byteSource, concat, ETHERNET, frame } from "../kernel/packets.ts"
import {
  defaultConfig,
  type EdgeKeys,
  ESP_PORT,
  edge2,
  OWN_PORT,
  type Plane,
  readyPlane,
} from "../kernel/plane.ts"
import {
  type BuildRequest,
  type CraftRequest,
  fromHex,
  type Judge,
  keysOf,
  type OuterFields,
  startJudge,
} from "./python.ts"

/** RFC 4303 appendix A: how far below the highest number one may still come; bpf/consts.h's VS_WINDOW_USABLE. */
const USABLE = 1984
const outer: OuterFields = { source: "192.0.2.2", target: "192.0.2.1", from: ESP_PORT, to: ESP_PORT }
const bytes = byteSource(78)
const OPENED = verdicts.find((verdict) => verdict.name === "OPENED")?.number ?? -1
const verdictName = new Map(verdicts.map((verdict) => [verdict.number, verdict.name]))
const withoutEsn: EdgeKeys = {
  edge: 2,
  out: { ...edge2.out, spi: 0x1301, esn: false },
  in: { spi: 0xfedcba99, key: bytes(32), salt: bytes(4), esn: false },
}

let judge: Judge
const planes: Array<Plane> = []
beforeAll(() => {
  judge = startJudge()
})
afterEach(() => {
  for (const plane of planes.splice(0)) plane.close()
})
afterAll(() => judge?.stop())

const ready = (keys: EdgeKeys = edge2): Plane => {
  const plane = readyPlane()
  planes.push(plane)
  return keys === edge2 ? plane : plane.keys(keys)
}
/** As if the numbers up to `top` had been authentic packets, and only `top` had come. */
const setTop = (plane: Plane, keys: EdgeKeys, top: bigint): void => {
  const window = new Uint8Array(272)
  const view = new DataView(window.buffer)
  view.setBigUint64(8, top, true)
  view.setBigUint64(16 + 8 * Number((top / 64n) % 32n), 1n << (top % 64n), true)
  plane.map("windows").update(inSaKey(keys.in.spi), window)
}

/** From the peer to our service, which edge 2 allows. */
const request = (length: number, more: Partial<BuildRequest> = {}): BuildRequest => ({
  kind: "udp",
  length,
  source: "10.77.0.2",
  target: "10.77.0.1",
  sport: 50_000,
  dport: OWN_PORT,
  ...more,
})
const one = async (length = 64, more: Partial<BuildRequest> = {}): Promise<Uint8Array> =>
  (await judge.build([request(length, more)]))[0] ?? new Uint8Array(0)

const open = (plane: Plane, packet: Uint8Array): string => plane.run("vs_open", packet).verdict
/** Runs frames through the opener, one after another, and gives what was counted: one verdict for each. */
const tally = (plane: Plane, packets: ReadonlyArray<Uint8Array>): Record<string, number> => {
  const before = plane.counts()
  for (const packet of packets) testRun(plane.object.programFd("vs_open"), packet)
  const risen = plane.counts().map((count, number) => Number(count - (before[number] ?? 0n)))
  expect(risen.reduce((sum, rise) => sum + rise, 0)).toBe(packets.length)
  return Object.fromEntries(
    risen.flatMap((rise, number) => (rise === 0 ? [] : [[verdictName.get(number) ?? `${number}`, rise]])),
  )
}
/** Seals by scapy, with a random IV. */
const seal = (keys: EdgeKeys, sequences: ReadonlyArray<bigint>, inner: Uint8Array) =>
  judge.seal(sequences.map((sequence) => ({ keys: keysOf(keys.in), sequence, inner, outer })))
const craft = (
  keys: EdgeKeys,
  crafted: ReadonlyArray<Partial<CraftRequest> & { payload: Uint8Array; sequence: bigint }>,
) => judge.craft(crafted.map((more) => ({ keys: keysOf(keys.in), outer, ...more })))

const range = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i)
const monotonic = (pad: number): Uint8Array => Uint8Array.from(range(1, pad))

describe.each([
  ["with ESN", edge2],
  ["without ESN", withoutEsn],
] as const)("%s", (_, keys) => {
  test("scapy's packets of every kind and length open, under IVs that are not their numbers", async () => {
    const plane = ready(keys)
    const requests = (["udp", "tcp", "icmp"] as const).flatMap((kind) =>
      range(kind === "tcp" ? 40 : 28, 1438)
        .filter((length) => length % 9 === { udp: 0, tcp: 3, icmp: 6 }[kind] || length < 60 || length > 1420)
        .map((length) => request(length, { kind })),
    )
    const inners = await judge.build(requests)
    const sealed = await judge.seal(
      inners.map((inner, i) => ({ keys: keysOf(keys.in), sequence: BigInt(i + 1), inner, outer })),
    )
    expect(new Set(sealed.map((packet) => Buffer.from(packet.subarray(50, 58)).toString("hex"))).size).toBe(
      sealed.length,
    )
    for (const [i, packet] of sealed.entries()) {
      const { packet: opened } = testRun(plane.object.programFd("vs_open"), packet)
      expect([i, Buffer.from(opened.subarray(ETHERNET)).equals(inners[i] ?? new Uint8Array(0))]).toEqual([
        i,
        true,
      ])
      expect(opened.subarray(0, 6)).toEqual(defaultConfig.innerMac)
    }
    expect(plane.counts()[OPENED]).toBe(BigInt(inners.length))
    expect(plane.stats(2)).toMatchObject({
      openedPackets: BigInt(inners.length),
      openedBytes: BigInt(inners.reduce((sum, inner) => sum + inner.length, 0)),
    })
  })

  test("IVs of zeros, of ones, and one IV for several packets", async () => {
    const plane = ready(keys)
    const ivs = ["0000000000000000", "ffffffffffffffff", "0102030405060708", "0102030405060708"].map(fromHex)
    const inner = await one()
    const sealed = await judge.seal(
      ivs.map((iv, i) => ({ keys: keysOf(keys.in), sequence: BigInt(i + 1), inner, outer, iv })),
    )
    expect(tally(plane, sealed)).toEqual({ OPENED: 4 })
  })

  test("in any order within the window, each number once", async () => {
    const plane = ready(keys)
    const top = 5000n
    const inner = await one()
    const last = Array.from({ length: 300 }, (_, i) => top - BigInt((i * 1237) % USABLE))
    const sealed = await seal(keys, [top, ...last.filter((number) => number !== top)], inner)
    expect(tally(plane, sealed)).toEqual({ OPENED: sealed.length })
    expect(tally(plane, sealed)).toEqual({ REPLAYED: sealed.length })
    // Another packet under a number that was used is no better than the same one.
    expect(tally(plane, await seal(keys, [top, ...last.slice(0, 20)], await one(72)))).toEqual({
      REPLAYED: 21,
    })
  })

  test("the window's lower end, exactly", async () => {
    const plane = ready(keys)
    const inner = await one()
    const top = 100_000n
    const sealed = await seal(keys, [top, top - BigInt(USABLE) + 1n, top - BigInt(USABLE), 1n], inner)
    // With ESN a number below the window means one of the next 2^32, which makes the tag wrong.
    const below = keys.in.esn ? "BAD_TAG" : "REPLAYED"
    expect(sealed.map((packet) => open(plane, packet))).toEqual(["OPENED", "OPENED", below, below])
  })

  test("a leap forward forgets what lay behind", async () => {
    const plane = ready(keys)
    const inner = await one()
    const sealed = await seal(keys, [10n, 9_000_000n, 9_000_001n - BigInt(USABLE), 10n], inner)
    expect(sealed.map((packet) => open(plane, packet))).toEqual([
      "OPENED",
      "OPENED",
      "OPENED",
      keys.in.esn ? "BAD_TAG" : "REPLAYED",
    ])
  })

  test("numbers that fall on the same bit of the ring, turn after turn", async () => {
    const plane = ready(keys)
    const numbers = Array.from(
      { length: 40 },
      (_, i) => 10n + 2048n * BigInt(i) + (i > 20 ? 2048n * 32n : 0n),
    )
    const sealed = await seal(keys, numbers, await one())
    expect(tally(plane, sealed)).toEqual({ OPENED: 40 })
  })

  test("number zero is refused although authentic", async () => {
    const plane = ready(keys)
    expect(tally(plane, await craft(keys, [{ sequence: 0n, payload: await one() }]))).toEqual({ REPLAYED: 1 })
  })

  test("any bit of the ICV, any byte from the SPI on", async () => {
    const plane = ready(keys)
    const [sealed = new Uint8Array(0)] = await seal(keys, [7n], await one())
    const flip = (at: number, bits: number): Uint8Array => {
      const copy = sealed.slice()
      copy[at] = (copy[at] ?? 0) ^ bits
      return copy
    }
    const icv = range(sealed.length - 16, sealed.length - 1)
    expect(
      tally(
        plane,
        icv.flatMap((at) => range(0, 7).map((bit) => flip(at, 1 << bit))),
      ),
    ).toEqual({ BAD_TAG: 128 })
    const spi = range(42, 45).map((at) => flip(at, 0x40))
    expect(tally(plane, spi)).toEqual({ UNKNOWN_SPI: 4 })
    const rest = range(46, sealed.length - 17)
    expect(
      tally(
        plane,
        rest.map((at) => flip(at, 0x40)),
      ),
    ).toEqual({ BAD_TAG: rest.length })
    // None of it moved the window or made a flow.
    expect(plane.map("flows").keys()).toHaveLength(0)
    expect(open(plane, sealed)).toBe("OPENED")
  })

  test("cut off at every length, with and without outer lengths that say so", async () => {
    const plane = ready(keys)
    const payload = await one(64)
    const [whole = new Uint8Array(0)] = await craft(keys, [{ sequence: 9n, payload }])
    const esp = whole.length - 42
    const shorter = await craft(
      keys,
      range(0, esp - 1).map((cut) => ({ sequence: 9n, payload, cut })),
    )
    const honest = shorter.map((packet) => open(plane, packet))
    // 8 of header, 8 of IV, 24 of text, 16 of ICV: less can't hold an inner header. One byte may be a keepalive.
    expect(honest.map((verdict, cut) => [cut, verdict])).toEqual(
      honest.map((__, cut) => [cut, cut >= 56 && cut % 4 === 0 ? "BAD_TAG" : "BAD_ESP"]),
    )
    // A test run refuses IPv4 frames without a whole header; a real device gives them to us.
    const lying = range(ETHERNET + 20, whole.length - 1).map((length) =>
      open(plane, whole.subarray(0, length)),
    )
    expect(lying).toEqual(lying.map((__, i) => (i + ETHERNET + 20 < 42 ? "FOREIGN_IN" : "BAD_IPV4")))
    expect(open(plane, whole)).toBe("OPENED")
  })

  test("padding of every length that RFC 4303 allows, if it counts and aligns", async () => {
    const plane = ready(keys)
    const pads = range(0, 255)
    const inners = await judge.build(pads.map((pad) => request(64 + ((510 - pad) % 4))))
    const crafted = await craft(
      keys,
      pads.map((pad) => ({
        sequence: BigInt(pad + 1),
        payload: inners[pad] ?? new Uint8Array(0),
        trailer: concat(monotonic(pad), Uint8Array.of(pad, 4)),
      })),
    )
    for (const [pad, packet] of crafted.entries()) {
      const { packet: opened } = testRun(plane.object.programFd("vs_open"), packet)
      expect([pad, opened.subarray(ETHERNET)]).toEqual([pad, inners[pad]])
    }
    expect(plane.counts()[OPENED]).toBe(256n)
    const misaligned = await craft(
      keys,
      [1, 2, 3].map((more) => ({
        sequence: 1000n,
        payload: inners[0] ?? new Uint8Array(0),
        trailer: concat(monotonic(more), Uint8Array.of(more, 4)),
      })),
    )
    expect(tally(plane, misaligned)).toEqual({ BAD_ESP: 3 })
  })

  test("padding with one wrong byte, wherever it is, and lengths that reach out of the packet", async () => {
    const plane = ready(keys)
    const payload = await one(67)
    const wrong = range(0, 254).map((at, i) => {
      const trailer = concat(monotonic(255), Uint8Array.of(255, 4))
      trailer[at] = (trailer[at] ?? 0) ^ 0x80
      return { sequence: BigInt(i + 1), payload, trailer }
    })
    expect(tally(plane, await craft(keys, wrong))).toEqual({ BAD_PADDING: 255 })
    const beyond = range(67, 255).map((pad, i) => ({
      sequence: BigInt(1000 + i),
      payload: payload.subarray(0, 66),
      trailer: Uint8Array.of(pad, 4),
    }))
    expect(tally(plane, await craft(keys, beyond))).toEqual({ BAD_PADDING: 189 })
  })

  test("every next header but IPv4 and IPv6; the dummy packet (59) is one of them", async () => {
    const plane = ready(keys)
    const payload = await one(66)
    const others = range(0, 255).filter((next) => next !== 4)
    const crafted = await craft(
      keys,
      others.map((next, i) => ({ sequence: BigInt(i + 1), payload, trailer: Uint8Array.of(0, next) })),
    )
    expect(tally(plane, crafted)).toEqual({ BAD_PADDING: 254, BAD_IPV6: 1 })
    const dummy = { trailer: Uint8Array.of(0, 59), payload: bytes(1002), sequence: 500n }
    expect(tally(plane, await craft(keys, [dummy]))).toEqual({ BAD_PADDING: 1 })
    // A dummy's number is used up: it was authentic.
    expect(tally(plane, await seal(keys, [500n], payload))).toEqual({ REPLAYED: 1 })
    expect(plane.stats(2).openedPackets).toBe(0n)
  })

  test("bytes after the inner packet (traffic flow confidentiality) are not agreed on and refused", async () => {
    const plane = ready(keys)
    const crafted = await craft(keys, [{ sequence: 1n, payload: concat(await one(64), new Uint8Array(40)) }])
    expect(tally(plane, crafted)).toEqual({ BAD_IPV4: 1 })
  })

  test("an SPI that nobody gave, a reserved one, the non-ESP marker", async () => {
    const plane = ready(keys)
    const inner = await one()
    const given = []
    for (const spi of [0x7001, keys.out.spi, 255, 1, 0]) {
      const [sealed = new Uint8Array(0)] = await judge.seal([
        { keys: { ...keysOf(keys.in), spi }, sequence: 1n, inner, outer },
      ])
      given.push(open(plane, sealed))
    }
    expect(given).toEqual(["UNKNOWN_SPI", "UNKNOWN_SPI", "UNKNOWN_SPI", "UNKNOWN_SPI", "BAD_ESP"])
  })

  test("what the outer headers say beyond addresses and ports changes nothing", async () => {
    const plane = ready(keys)
    const payload = await one(64, { tos: 0x28 })
    const outers: ReadonlyArray<OuterFields> = [
      { ...outer, source: "198.51.100.7" },
      { ...outer, from: 1 },
      { ...outer, from: 65_535 },
      { ...outer, udpSum: 0xbeef },
      { ...outer, ip: { ttl: 1 } },
      { ...outer, ip: { id: 0xabcd, flags: 0 } },
      // DSCP stays outside, and ECT doesn't pass to a packet that isn't ECN-capable.
      { ...outer, ip: { tos: 0xfe } },
      { ...outer, ip: { tos: 0xfd } },
    ]
    const crafted = await craft(
      keys,
      outers.map((changed, i) => ({ sequence: BigInt(i + 1), payload, outer: changed })),
    )
    const opened = crafted.map((packet) => plane.run("vs_open", packet))
    expect(opened.map((result) => [result.verdict, result.packet.subarray(ETHERNET)])).toEqual(
      outers.map(() => ["OPENED", payload]),
    )
    const refused = await craft(keys, [
      { sequence: 50n, payload, outer: { ...outer, to: ESP_PORT + 16 } },
      { sequence: 50n, payload, outer: { ...outer, target: "192.0.2.9" } },
      { sequence: 50n, payload, outer: { ...outer, ip: { flags: "MF" } } },
      { sequence: 50n, payload, outer: { ...outer, ip: { frag: 1 } } },
    ])
    expect(refused.map((packet) => open(plane, packet))).toEqual([
      "FOREIGN_IN",
      "FOREIGN_IN",
      "OUTER_FRAGMENT",
      "OUTER_FRAGMENT",
    ])
  })
})

describe("extended sequence numbers", () => {
  const judged = async (top: bigint, sequences: ReadonlyArray<bigint>): Promise<ReadonlyArray<string>> => {
    const plane = ready()
    const payload = await one()
    const crafted = await craft(
      edge2,
      sequences.map((sequence) => ({ sequence, payload, iv: bytes(8) })),
    )
    return crafted.map((packet) => {
      setTop(plane, edge2, top)
      return open(plane, packet)
    })
  }
  const usable = BigInt(USABLE)

  test("a high half above zero comes from the window, whatever the IV says", async () => {
    const top = 0x5_0001_0000n
    expect(await judged(top, [top + 1n, top + 0x7fff_ffffn, top - 1n, top - usable + 1n, top])).toEqual([
      "OPENED",
      "OPENED",
      "OPENED",
      "OPENED",
      "REPLAYED",
    ])
    // The same low halves under another high half: not authentic.
    expect(await judged(top, [0x4_0001_0001n, 0x6_0001_0001n, 0x1_0001n])).toEqual(Array(3).fill("BAD_TAG"))
  })

  test("over the edge between two high halves, forth and back", async () => {
    const top = 0x5_ffff_fff0n
    expect(await judged(top, [0x6_0000_0000n, 0x6_0000_0005n, 0x5_ffff_ffffn])).toEqual(
      Array(3).fill("OPENED"),
    )
    const behind = 0x6_0000_0010n
    expect(await judged(behind, [0x5_ffff_fff0n, behind - usable + 1n, 0x6_0000_0000n])).toEqual(
      Array(3).fill("OPENED"),
    )
    expect(await judged(behind, [behind - usable])).toEqual(["BAD_TAG"])
  })

  test("before the first 2^32 nothing lies behind", async () => {
    expect(await judged(0x10n, [0xffff_fff0n, 0x11n, 0x1n])).toEqual(["OPENED", "OPENED", "OPENED"])
  })

  test("scapy's own: high half 5, random IVs, opened in order and refused again", async () => {
    const plane = ready()
    setTop(plane, edge2, 0x5_0000_1000n)
    const inner = await one(100, { kind: "tcp" })
    const sealed = await seal(
      edge2,
      range(1, 50).map((i) => 0x5_0000_1000n + BigInt(i)),
      inner,
    )
    expect(tally(plane, sealed)).toEqual({ OPENED: 50 })
    expect(tally(plane, sealed)).toEqual({ REPLAYED: 50 })
  })
})

test("without ESN the last number opens and nothing comes after it", async () => {
  const plane = ready(withoutEsn)
  const inner = await one()
  const sealed = await seal(withoutEsn, [0xffff_ffffn, 1n], inner)
  expect(sealed.map((packet) => open(plane, packet))).toEqual(["OPENED", "REPLAYED"])
})

test("an SA with ESN and one without don't open each other's packets", async () => {
  const plane = ready()
  const inner = await one()
  const [sealed = new Uint8Array(0)] = await judge.seal([
    { keys: { ...keysOf(edge2.in), esn: false }, sequence: 1n, inner, outer },
  ])
  expect(open(plane, sealed)).toBe("BAD_TAG")
})

test("a plain packet is not mistaken for an opened one", async () => {
  const plane = ready()
  expect(open(plane, frame(await one()))).toBe("FOREIGN_IN")
})

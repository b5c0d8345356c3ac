/** Interoperation with scapy's ESP, in both directions: IPv4 and IPv6 inside, over IPv4 and IPv6, with and without ESN. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { byteSource, ETHERNET, frame, frame6 } from "../kernel/packets.ts"
import { type EdgeKeys, ESP_PORT, edge1, edge2, OWN_PORT, PEER_PORT, type Plane } from "../kernel/plane.ts"
import { type Family, families, readyPlane6 } from "../kernel/plane6.ts"
import { fromHex, keysOf, type Script, startScript, toHex } from "./python.ts"

let judge: Script
const planes: Array<Plane> = []
beforeAll(() => {
  judge = startScript("families.py")
})
afterEach(() => {
  for (const plane of planes.splice(0)) plane.close()
})
afterAll(() => judge?.stop())

const bytes = byteSource(83)
const withoutEsn: EdgeKeys = {
  edge: 1,
  out: { spi: 0x7101, key: bytes(32), salt: bytes(4), esn: false },
  in: { spi: 0x7201, key: bytes(32), salt: bytes(4), esn: false },
}
const inbound: EdgeKeys = {
  edge: 2,
  out: { spi: 0x7102, key: bytes(32), salt: bytes(4), esn: false },
  in: { spi: 0x7202, key: bytes(32), salt: bytes(4), esn: false },
}
const ready = (underlay: Family, ...keys: ReadonlyArray<EdgeKeys>): Plane => {
  const plane = readyPlane6(underlay)
  planes.push(plane)
  for (const each of keys) if (each !== edge1 && each !== edge2) plane.keys(each)
  return plane
}
const inner = { 4: ["10.77.0.1", "10.77.0.2"], 6: ["fd77::1", "fd77::2"] } as const
const wire = { 4: ["192.0.2.1", "192.0.2.2"], 6: ["2001:db8::1", "2001:db8::2"] } as const
const kinds = ["udp", "tcp", "icmp", "sctp"] as const
const sizes = [0, 1, 2, 3, 4, 40, 77, 500, 1358]
const cases = families.flatMap((inside) => families.map((outside) => [inside, outside] as const))

const built = async (inside: Family, out: boolean): Promise<ReadonlyArray<Uint8Array>> => {
  const [own, peer] = inner[inside]
  const questions = kinds.flatMap((kind) =>
    sizes.map((payload) => ({
      ask: "build",
      kind,
      payload,
      source: out ? own : peer,
      target: out ? peer : own,
      sport: 40_000,
      dport: out ? PEER_PORT : OWN_PORT,
    })),
  )
  return ((await judge.ask(questions)) as ReadonlyArray<string>).map(fromHex)
}

describe.each(cases)("IPv%i over IPv%i", (inside, outside) => {
  test.each([
    ["with ESN", edge1],
    ["without ESN", withoutEsn],
  ] as const)("what we seal, %s, scapy opens", async (_, keys) => {
    const plane = ready(outside, keys)
    const packets = await built(inside, true)
    const frames = packets.map((packet) => {
      const out = plane.run("vs_seal", inside === 4 ? frame(packet) : frame6(packet))
      expect(out.verdict).toBe("SEALED")
      return { ask: "open", frame: toHex(out.packet), keys: keysOf(keys.out) }
    })
    const opened = (await judge.ask(frames)) as ReadonlyArray<Record<string, unknown>>
    for (const [i, one] of opened.entries())
      expect(one).toMatchObject({
        version: outside,
        class: 0,
        limit: 64,
        sumRight: true,
        source: wire[outside][0],
        target: wire[outside][1],
        to: ESP_PORT,
        next: inside === 4 ? 4 : 41,
        kind: inside === 4 ? "IP" : "IPv6",
        inner: toHex(packets[i] ?? new Uint8Array(0)),
        text: toHex(packets[i] ?? new Uint8Array(0)),
        wrong: [],
      })
    expect(opened.length).toBe(packets.length)
  })

  test.each([
    ["with ESN", edge2, 0n],
    ["with ESN, past the low half", edge2, 0x0_ffff_fff0n],
    ["without ESN", inbound, 0n],
  ] as const)("what scapy seals, %s, we open", async (_, keys, start) => {
    const plane = ready(outside, keys)
    const packets = await built(inside, false)
    const [own, peer] = wire[outside]
    const sums = outside === 6 ? [true, false] : [false]
    const sealed = (await judge.ask(
      packets.map((packet, i) => ({
        ask: "seal",
        keys: keysOf(keys.in),
        // scapy takes the number 0 for none.
        sequence: String(start + BigInt(i) + (start > 0n && i > 14 ? 2n : 1n)),
        inner: toHex(packet),
        outer: { source: peer, target: own, from: ESP_PORT, to: ESP_PORT },
        sum: sums[i % sums.length],
      })),
    )) as ReadonlyArray<string>
    for (const [i, one] of sealed.entries()) {
      const out = plane.run("vs_open", fromHex(one))
      expect([i, out.verdict]).toEqual([i, "OPENED"])
      expect(out.packet.subarray(ETHERNET)).toEqual(packets[i])
    }
  })
})

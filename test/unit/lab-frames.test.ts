/** What the capture makes of frames: classes, markers, and that nothing slips between the kinds. */
import { describe, expect, it } from "vitest"
import { classify, createTally, type WireView } from "../../infra/lab/frames.ts"
import { plain, sealedLooking } from "../../infra/lab/intruder.ts"
import { nodePlace } from "../../infra/lab/names.ts"

const view: WireView = {
  bus: Uint8Array.of(10, 99, 0, 1),
  busPort: 4222,
  espPort: 4500,
  lanesMax: 16,
  mtu: 1500,
}
const n1 = nodePlace("n1", 1)
const n2 = nodePlace("n2", 2)
const tag = Buffer.alloc(16, 0x5a)
const esp = sealedLooking(n1, n2, 0x1000, tag)

/** A copy with some bytes at an offset replaced. */
const patched = (frame: Buffer, at: number, ...bytes: ReadonlyArray<number>): Buffer => {
  const copy = Buffer.from(frame)
  copy.set(bytes, at)
  return copy
}

const tcp = (
  from: ReadonlyArray<number>,
  to: ReadonlyArray<number>,
  ports: readonly [number, number],
): Buffer => {
  const frame = Buffer.alloc(14 + 20 + 20)
  frame.writeUInt16BE(0x0800, 12)
  frame.set([0x45, 0, 0, 40], 14)
  frame[23] = 6
  frame.set(from, 26)
  frame.set(to, 30)
  frame.writeUInt16BE(ports[0], 34)
  frame.writeUInt16BE(ports[1], 36)
  return frame
}
const bus = [10, 99, 0, 1]
const node = [10, 99, 0, 11]

const arp = Buffer.alloc(60)
arp.writeUInt16BE(0x0806, 12)
arp.set([0, 1, 8, 0, 6, 4, 0, 1], 14)

describe("classify", () => {
  it("knows sealed traffic", () => {
    expect(classify(esp, view)).toBe("esp")
  })

  it.each([
    ["another destination port", patched(esp, 36, 0x11, 0x95)],
    ["a source port below the lanes", patched(esp, 34, 0x11, 0x93)],
    ["a source port above the lanes", patched(esp, 34, 0x11, 0xa4)],
    ["a reserved SPI", patched(esp, 42, 0, 0, 0, 255)],
    ["the non-ESP marker", patched(esp, 42, 0, 0, 0, 0)],
    ["a UDP length that disagrees", patched(esp, 38, 0, 9)],
    ["IP options", patched(esp, 14, 0x46)],
    ["a first fragment", patched(esp, 20, 0x20, 0)],
    ["a later fragment", patched(esp, 20, 0, 1)],
    ["an IP length beyond the frame", patched(esp, 16, 0x05, 0xdc)],
    ["IPv6", patched(esp, 12, 0x86, 0xdd)],
    ["a VLAN tag", patched(esp, 12, 0x81, 0)],
    ["a cut header", esp.subarray(0, 30)],
    ["nothing", Buffer.alloc(0)],
  ])("does not take %s for sealed traffic", (_, frame) => {
    expect(classify(frame, view)).toBe("unexpected")
  })

  it("refuses an outer packet longer than the wire's MTU", () => {
    const long = Buffer.alloc(14 + 1504)
    esp.copy(long)
    long.writeUInt16BE(1504, 16)
    long.writeUInt16BE(1484, 38)
    expect(classify(long, view)).toBe("unexpected")
    long.writeUInt16BE(1500, 16)
    long.writeUInt16BE(1480, 38)
    expect(classify(long, view)).toBe("esp")
  })

  it("knows the bus by its address and port together", () => {
    expect(classify(tcp(node, bus, [40000, 4222]), view)).toBe("control")
    expect(classify(tcp(bus, node, [4222, 40000]), view)).toBe("control")
    expect(classify(tcp(node, bus, [40000, 4223]), view)).toBe("unexpected")
    expect(classify(tcp(bus, node, [4223, 4222]), view)).toBe("unexpected")
    expect(classify(tcp(node, [10, 99, 0, 12], [40000, 4222]), view)).toBe("unexpected")
  })

  it("knows ARP, but only for IPv4 over Ethernet", () => {
    expect(classify(arp, view)).toBe("neighbour")
    expect(classify(patched(arp, 18, 8), view)).toBe("unexpected")
    expect(classify(arp.subarray(0, 40), view)).toBe("unexpected")
  })

  it("finds the intruder's plain packets unexpected by themselves", () => {
    expect(classify(plain(n1, n2, 5000, tag), view)).toBe("unexpected")
  })
})

describe("createTally", () => {
  const marker = Buffer.from("a marker of this run")

  it("puts every frame into exactly one kind, and tells the lab's own by their tag", () => {
    const tally = createTally(view, [marker], tag)
    const frames = [
      esp,
      plain(n1, n2, 5000, tag),
      arp,
      tcp(node, bus, [1, 4222]),
      patched(arp, 12, 0x86, 0xdd),
    ]
    const foreignEsp = sealedLooking(n1, n2, 0x1000, Buffer.alloc(16))
    for (const frame of [...frames, foreignEsp]) tally.frame(frame)
    expect(tally.counts(0)).toMatchObject({
      frames: 6,
      esp_frames: 1,
      intruder_frames: 2,
      neighbour_frames: 1,
      control_frames: 1,
      unexpected_frames: 1,
      marker_hits: 0,
      lost_frames: 0,
    })
  })

  it("finds a marker in any kind of frame, at any place, once per frame", () => {
    const tally = createTally(view, [Buffer.from("other"), marker], tag)
    for (const frame of [
      Buffer.concat([esp, marker, marker]),
      Buffer.concat([marker, Buffer.alloc(40)]),
      Buffer.concat([tcp(node, bus, [1, 4222]), marker]),
    ])
      tally.frame(frame)
    expect(tally.counts(0).marker_hits).toBe(3)
    tally.frame(Buffer.concat([esp, marker.subarray(0, -1)]))
    expect(tally.counts(0).marker_hits).toBe(3)
  })

  it("keeps the first few odd frames, and says how many were lost", () => {
    const tally = createTally(view, [marker], tag)
    for (let i = 0; i < 10; i++) tally.frame(Buffer.alloc(60))
    const counts = tally.counts(7)
    expect(counts.samples).toHaveLength(4)
    expect(counts.samples[0]).toMatch(/^unexpected (00)+$/)
    expect(counts.lost_frames).toBe(7)
  })
})

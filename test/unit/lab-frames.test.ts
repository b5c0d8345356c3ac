/** What the capture makes of frames: classes, markers, and that nothing slips between the kinds. */
import { describe, expect, it } from "vitest"
import { payloadChecksum } from "../../infra/lab/checksum.ts"
import { classify, createTally, type WireView } from "../../infra/lab/frames.ts"
import { plain, sealedLooking } from "../../infra/lab/intruder.ts"
import { nodePlace } from "../../infra/lab/names.ts"
import { addressBytes } from "../../schemas/address.ts"

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

  it("knows a keepalive, of one byte 0xff from a lane's port", () => {
    const keepalive = patched(esp.subarray(0, 43), 16, 0, 29)
    keepalive.set([0, 9, 0, 0, 0xff], 38)
    expect(classify(keepalive, view)).toBe("keepalive")
    expect(classify(Buffer.concat([keepalive, Buffer.alloc(17)]), view), "filled up").toBe("keepalive")
    expect(classify(patched(keepalive, 42, 0xfe), view)).toBe("unexpected")
    expect(classify(patched(keepalive, 34, 0x10), view)).toBe("unexpected")
    expect(classify(patched(keepalive, 38, 0, 8), view)).toBe("unexpected")
  })

  it("refuses an outer packet longer than the wire's MTU", () => {
    const long = Buffer.alloc(14 + 1504)
    patched(esp, 40, 0, 0).copy(long)
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

describe("classify on an IPv6 wire", () => {
  const bus6 = addressBytes("2001:db8:99::1")
  const node6 = addressBytes("2001:db8:99::11")
  const six: WireView = { ...view, bus: bus6 }
  const [m1, m2] = [nodePlace("n1", 1, "ipv6"), nodePlace("n2", 2, "ipv6")]
  const esp6 = sealedLooking(m1, m2, 0x1000, tag)

  /** An IPv6 packet; the payload's checksum is put in at `sumAt` unless it is undefined. */
  const ipv6 = (
    from: Uint8Array,
    to: Uint8Array,
    protocol: number,
    hops: number,
    payload: Buffer,
    sumAt?: number,
  ): Buffer => {
    const frame = Buffer.alloc(14 + 40 + payload.length)
    frame.writeUInt16BE(0x86dd, 12)
    frame[14] = 0x60
    frame.writeUInt16BE(payload.length, 18)
    frame[20] = protocol
    frame[21] = hops
    frame.set(from, 22)
    frame.set(to, 38)
    payload.copy(frame, 54)
    if (sumAt !== undefined)
      frame.writeUInt16BE(payloadChecksum(frame.subarray(22, 54), protocol, payload), 54 + sumAt)
    return frame
  }

  const tcp6 = (from: Uint8Array, to: Uint8Array, ports: readonly [number, number]): Buffer => {
    const segment = Buffer.alloc(20)
    segment.writeUInt16BE(ports[0], 0)
    segment.writeUInt16BE(ports[1], 2)
    return ipv6(from, to, 6, 64, segment)
  }

  const [ASK, TELL] = [135, 136]
  interface Message {
    readonly type?: number
    readonly code?: number
    readonly about?: string
    readonly from?: string
    readonly to?: string
    readonly hops?: number
    readonly option?: string
  }
  /** A neighbour solicitation or advertisement about a node's address; what isn't said is right. */
  const nd = (message: Message = {}): Buffer => {
    const { type = ASK, code = 0, about = "2001:db8:99::12", from = "2001:db8:99::11", hops = 255 } = message
    const { to = type === ASK ? "ff02::1:ff00:12" : "2001:db8:99::11" } = message
    const option = message.option ?? `${type === ASK ? "01" : "02"}01027673000101`
    const head = Buffer.from([type, code, 0, 0, type === TELL ? 0x60 : 0, 0, 0, 0])
    const payload = Buffer.concat([head, addressBytes(about), Buffer.from(option, "hex")])
    return ipv6(addressBytes(from), addressBytes(to), 58, hops, payload, 2)
  }

  it("knows sealed traffic, with a checksum or without", () => {
    expect(classify(esp6, six)).toBe("esp")
    expect(classify(patched(esp6, 60, 0, 0), six)).toBe("esp")
  })

  it.each([
    ["another destination port", patched(esp6, 56, 0x11, 0x95)],
    ["a source port above the lanes", patched(esp6, 54, 0x11, 0xa4)],
    ["a reserved SPI", patched(patched(esp6, 62, 0, 0, 0, 255), 60, 0, 0)],
    ["a checksum that is wrong", patched(esp6, 60, 0x12, 0x34)],
    ["a UDP length that disagrees", patched(patched(esp6, 58, 0, 9), 60, 0, 0)],
    ["an extension header", patched(esp6, 20, 0)],
    ["a fragment", patched(esp6, 20, 44)],
    ["another version", patched(esp6, 14, 0x40)],
    ["a length beyond the frame", patched(esp6, 18, 0x05, 0xdc)],
    ["IPv4", esp],
    ["ARP", arp],
    ["a VLAN tag", patched(esp6, 12, 0x81, 0)],
    ["a cut header", esp6.subarray(0, 50)],
    ["a plain packet", plain(m1, m2, 5000, tag)],
  ])("does not take %s for sealed traffic", (_, frame) => {
    expect(classify(frame, six)).toBe("unexpected")
  })

  it("belongs to no IPv4 wire", () => {
    for (const frame of [esp6, nd(), tcp6(node6, bus6, [40_000, 4222])])
      expect(classify(frame, view)).toBe("unexpected")
  })

  it("refuses an outer packet longer than the wire's MTU", () => {
    const long = Buffer.alloc(14 + 1504)
    esp6.copy(long)
    for (const [length, kind] of [
      [1504, "unexpected"],
      [1500, "esp"],
    ] as const) {
      long.writeUInt16BE(length - 40, 18)
      long.writeUInt16BE(length - 40, 58)
      long.writeUInt16BE(0, 60)
      expect(classify(long, six)).toBe(kind)
    }
  })

  it("knows the bus by its address and port together", () => {
    expect(classify(tcp6(node6, bus6, [40_000, 4222]), six)).toBe("control")
    expect(classify(tcp6(bus6, node6, [4222, 40_000]), six)).toBe("control")
    expect(classify(tcp6(node6, bus6, [40_000, 4223]), six)).toBe("unexpected")
    expect(classify(tcp6(node6, addressBytes("2001:db8:99::2"), [40_000, 4222]), six)).toBe("unexpected")
  })

  it.each([
    ["a question to the group of all who may have the address", nd()],
    ["a question to the neighbour itself", nd({ to: "2001:db8:99::12" })],
    ["a question from a link-local address", nd({ from: "fe80::1" })],
    ["a question without the sender's link-layer address", nd({ to: "2001:db8:99::12", option: "" })],
    ["an answer", nd({ type: TELL })],
    ["an answer without a link-layer address", nd({ type: TELL, option: "" })],
    ["an answer to a link-local address", nd({ type: TELL, to: "fe80::1" })],
  ])("knows %s", (_, frame) => {
    expect(classify(frame, six)).toBe("neighbour")
  })

  it.each([
    ["from beyond the link", nd({ hops: 254 })],
    ["of another code", nd({ code: 1 })],
    ["to the group of another address", nd({ to: "ff02::1:ff00:13" })],
    ["to all nodes", nd({ to: "ff02::1" })],
    ["to a neighbour that it isn't about", nd({ to: "2001:db8:99::13" })],
    ["about a group", nd({ about: "ff02::1", to: "ff02::1" })],
    ["from no address (duplicate detection)", nd({ from: "::", option: "" })],
    ["from a group", nd({ from: "ff02::1" })],
    ["as an answer to all nodes", nd({ type: TELL, to: "ff02::1" })],
    ["with an answer's option in a question", nd({ option: "0201027673000101" })],
    ["with a prefix", nd({ option: "0301027673000101" })],
    ["with an option of another length", nd({ option: "0102027673000101" })],
    ["with two options", nd({ option: "01010276730001010101027673000101" })],
    ["with half an option", nd({ option: "01010276" })],
    ["with a wrong checksum", patched(nd(), 56, 0x12, 0x34)],
    ["as a router solicitation", nd({ type: 133 })],
    ["as a router advertisement", nd({ type: 134 })],
    ["as a redirect", nd({ type: 137 })],
    ["as an echo request", nd({ type: 128 })],
    ["as a report of groups", nd({ type: 143 })],
    ["behind an extension header", patched(nd(), 20, 0)],
  ])("does not know neighbour discovery %s", (_, frame) => {
    expect(classify(frame, six)).toBe("unexpected")
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

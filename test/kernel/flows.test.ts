/** Flows through the product's programs: what opens one, what answers in it, how long it stays, how many there may be. */
import { afterEach, describe, expect, test } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { testRun } from "../../services/common/kernel/libbpf.ts"
import { encodeFlowKey, type FlowKey, flowState } from "../../services/common/kernel/records.ts"
import { ETHERNET, frame, ICMP, icmpPacket, TCP, tcpPacket, UDP, udpPacket } from "./packets.ts"
import {
  DROP,
  edge1,
  edge2,
  edge3,
  type Outcome,
  OWN_PORT,
  own,
  PEER_PORT,
  type Plane,
  peer,
  REDIRECT,
  readyPlane,
} from "./plane.ts"
import { answer, bytes, incoming, reply, request, sealedBy } from "./traffic.ts"

const planes: Array<Plane> = []
afterEach(() => {
  for (const plane of planes.splice(0)) plane.close()
})
const ready = (): Plane => {
  const plane = readyPlane()
  planes.push(plane)
  return plane
}
const seal = "vs_seal"
const open = "vs_open"

describe("flows", () => {
  const second = 1_000_000_000n
  const ago = (ns: bigint): bigint => BigInt.asUintN(64, bootNow() - ns)
  const outward = { edge: 1, ownPort: 40_000, peerPort: PEER_PORT, protocol: UDP, role: 0 } as const
  const inward = { edge: 2, ownPort: OWN_PORT, peerPort: 50_000, protocol: UDP, role: 1 } as const

  test("an answer passes because its question did", () => {
    const plane = ready()
    expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
    expect(plane.flow(outward)).toBeDefined()
    expect(plane.run(open, sealedBy(edge1, 1n, answer())).verdict).toBe("OPENED")
    expect(plane.run(open, sealedBy(edge1, 2n, answer(bytes(4), 40_001))).verdict).toBe("NO_POLICY")
  })

  test("the same in the other direction", () => {
    const plane = ready()
    expect(plane.run(seal, frame(reply())).verdict).toBe("NO_POLICY")
    expect(plane.run(open, sealedBy(edge2, 1n, incoming())).verdict).toBe("OPENED")
    expect(plane.flow(inward)).toBeDefined()
    expect(plane.run(seal, frame(reply())).verdict).toBe("SEALED")
    expect(plane.run(seal, frame(reply(bytes(4), 50_001))).verdict).toBe("NO_POLICY")
  })

  test("an echo is answered by its identifier, each way", () => {
    const plane = ready()
    const [there, back] = [
      { source: own, target: peer },
      { source: peer, target: own },
    ]
    expect(plane.run(seal, frame(icmpPacket(there, 8, 7, bytes(8)))).verdict).toBe("SEALED")
    expect(plane.run(open, sealedBy(edge1, 1n, icmpPacket(back, 0, 7, bytes(8)))).verdict).toBe("OPENED")
    expect(plane.run(open, sealedBy(edge1, 2n, icmpPacket(back, 0, 8, bytes(8)))).verdict).toBe("NO_POLICY")
    expect(plane.run(open, sealedBy(edge2, 1n, icmpPacket(back, 8, 9, bytes(8)))).verdict).toBe("OPENED")
    expect(plane.run(seal, frame(icmpPacket(there, 0, 9, bytes(8)))).verdict).toBe("SEALED")
    expect(plane.flow({ edge: 1, ownPort: 7, peerPort: 7, protocol: ICMP, role: 0 })).toBeDefined()
  })

  for (const [protocol, idle] of [
    ["TCP", 7200n],
    ["UDP", 180n],
    ["ICMP", 30n],
  ] as const)
    test(`${protocol}: an answer is late after ${idle} s of silence, a new question renews`, () => {
      const plane = ready()
      const number = { TCP, UDP, ICMP }[protocol]
      const id = protocol === "ICMP" ? 7 : 40_000
      const key = {
        edge: 1,
        ownPort: id,
        peerPort: protocol === "ICMP" ? 7 : PEER_PORT,
        protocol: number,
        role: 0,
      }
      const build = (source: number, target: number, from: number, to: number, kind: number): Uint8Array => {
        if (protocol === "ICMP") return icmpPacket({ source, target }, kind, id, bytes(8))
        return (protocol === "TCP" ? tcpPacket : udpPacket)({ source, target, from, to }, bytes(8))
      }
      const question = build(own, peer, id, PEER_PORT, 8)
      const late = build(peer, own, PEER_PORT, id, 0)
      // Seen "before the boot", modulo 2^64, where the machine has not been up for so long: the same difference.
      plane.setFlow(key, ago((idle - 1n) * second))
      expect(plane.run(open, sealedBy(edge1, 1n, late)).verdict).toBe("OPENED")
      expect(bootNow() - (plane.flow(key) ?? 0n), "refreshed by the answer").toBeLessThan(second)
      plane.setFlow(key, ago(idle * second))
      expect(plane.run(open, sealedBy(edge1, 2n, late)).verdict).toBe("NO_POLICY")
      expect(plane.run(seal, frame(question)).verdict).toBe("SEALED")
      expect(bootNow() - (plane.flow(key) ?? 0n), "taken over in place").toBeLessThan(second)
      expect(plane.run(open, sealedBy(edge1, 3n, late)).verdict).toBe("OPENED")
    })

  test("any port (0) is looked up after the exact one", () => {
    const plane = ready().allow({ peer, port: 0, protocol: UDP, role: 0 }, 3)
    const to = (port: number): Uint8Array =>
      udpPacket({ source: own, target: peer, from: 40_000, to: port }, bytes(4))
    const spi = (out: Outcome): number => new DataView(out.packet.buffer).getUint32(ETHERNET + 28)
    expect(spi(plane.run(seal, frame(to(PEER_PORT))))).toBe(edge1.out.spi)
    expect(spi(plane.run(seal, frame(to(9))))).toBe(edge3.out.spi)
  })

  test("where edges overlap, an answer stays on the edge that its flow began on", () => {
    const plane = ready().allow({ peer, port: 0, protocol: UDP, role: 0 }, 3)
    const spi = (out: Outcome): number => new DataView(out.packet.buffer).getUint32(ETHERNET + 28)
    expect(plane.run(open, sealedBy(edge2, 1n, incoming())).verdict).toBe("OPENED")
    expect(spi(plane.run(seal, frame(reply())))).toBe(edge2.out.spi)
    expect(spi(plane.run(seal, frame(reply(bytes(4), 50_001))))).toBe(edge3.out.spi)
  })

  test("what could not be sealed or was not allowed takes no place in the table", () => {
    const plane = ready().lease(edge1, bootNow() - 1n)
    plane.run(seal, frame(request()))
    plane.run(open, sealedBy(edge2, 1n, udpPacket({ source: peer, target: own, from: 1, to: 1 }, bytes(4))))
    expect(plane.map("flows").keys().length).toBe(0)
  })

  test("FLOW_TABLE_FULL: new flows are refused, old ones stay", () => {
    const plane = ready()
    const now = bootNow()
    plane.setFlow(outward, now)
    for (let i = 1; i < 65_536; i++)
      plane.setFlow({ edge: 900, ownPort: i, peerPort: 1, protocol: UDP, role: 0 }, now)
    expect(plane.run(seal, frame(request(bytes(4), 41_000)))).toMatchObject({
      verdict: "FLOW_TABLE_FULL",
      retval: DROP,
    })
    expect(plane.run(open, sealedBy(edge2, 1n, incoming()))).toMatchObject({
      verdict: "FLOW_TABLE_FULL",
      retval: DROP,
    })
    expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
    expect(plane.run(open, sealedBy(edge1, 1n, answer())).verdict).toBe("OPENED")
  })

  /** Opens flows by packets from these ports on. */
  const openMany = (plane: Plane, count: number, from = 1000): void => {
    const fd = plane.object.programFd(seal)
    for (let i = 0; i < count; i++)
      expect(testRun(fd, frame(request(bytes(4), from + i))).retval).toBe(REDIRECT)
  }
  const onPort = (ownPort: number) => ({ ...outward, ownPort })
  const expire = (plane: Plane, keys: ReadonlyArray<FlowKey>): void => {
    for (const key of keys) plane.setFlow(key, ago(180n * second))
  }

  test("expired flows make room by themselves: a full table takes new ones again", () => {
    const plane = ready()
    openMany(plane, 100)
    const now = bootNow()
    for (let i = 0; i < 65_536 - 100; i++)
      plane.setFlow({ edge: 900, ownPort: i, peerPort: 1, protocol: UDP, role: 0 }, now)
    expect(plane.run(seal, frame(request(bytes(4), 50_000))).verdict).toBe("FLOW_TABLE_FULL")
    const old = Array.from({ length: 50 }, (_, i) => onPort(1000 + i))
    expire(plane, old)
    let refused = 0
    for (let i = 0; i < 50; i++)
      while (plane.run(seal, frame(request(bytes(4), 50_000 + i))).verdict !== "SEALED") refused++
    expect(refused, "as many as it takes to come round to the expired ones").toBeLessThan(4)
    expect(old.filter((key) => plane.flow(key) !== undefined)).toEqual([])
    for (let i = 50; i < 100; i++) expect(plane.flow(onPort(1000 + i)), "old ones stay").toBeDefined()
    expect(plane.flowCount(1)).toBe(100)
    expect(plane.run(seal, frame(request(bytes(4), 60_000))).verdict).toBe("FLOW_TABLE_FULL")
  })

  test("a table that is not full is cleaned too, by new flows and by those in use", () => {
    const plane = ready()
    openMany(plane, 200)
    expire(
      plane,
      Array.from({ length: 199 }, (_, i) => onPort(1000 + i)),
    )
    openMany(plane, 50, 5000)
    expect(plane.map("flows").keys().length).toBe(150)
    expect(plane.flowCount(1)).toBe(150)
    for (let i = 0; i < 160; i++) {
      plane.setFlow(onPort(1199), ago(second))
      expect(plane.run(seal, frame(request(bytes(4), 1199))).verdict).toBe("SEALED")
    }
    expect(plane.map("flows").keys().length).toBe(51)
    expect(plane.flowCount(1)).toBe(51)
  })

  test("FLOW_QUOTA: an edge has so many and no more; others go on, and so do its old ones", () => {
    const plane = ready()
    expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
    plane.setFlowCount(1, limits.flowsPerEdge - 1)
    expect(plane.run(seal, frame(request(bytes(4), 41_000))).verdict).toBe("SEALED")
    for (let i = 0; i < 3; i++)
      expect(plane.run(seal, frame(request(bytes(4), 41_001)))).toMatchObject({
        verdict: "FLOW_QUOTA",
        retval: DROP,
      })
    expect(plane.flowCount(1)).toBe(limits.flowsPerEdge)
    expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
    expect(plane.run(open, sealedBy(edge2, 1n, incoming())).verdict).toBe("OPENED")
    plane.setFlow(outward, ago(180n * second))
    expect(plane.run(seal, frame(request(bytes(4), 41_001))).verdict).toBe("SEALED")
    expect(plane.flow(outward)).toBeUndefined()
  })

  test("a note of a flow that user space removed does not end its successor", () => {
    const plane = ready()
    openMany(plane, 1)
    plane.map("flows").delete(encodeFlowKey(onPort(1000)))
    openMany(plane, 1)
    openMany(plane, 20, 2000)
    expect(plane.flow(onPort(1000))).toBeDefined()
  })

  test("flows and answers survive a change of keys", () => {
    const plane = ready()
    expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
    const next = { edge: 1, out: { ...edge1.out, spi: 0x1301 }, in: { ...edge1.in, spi: 0x2301 } }
    plane.keys(next)
    for (const keys of [edge1.in.spi, next.in.spi])
      expect(plane.run(open, sealedBy(keys === next.in.spi ? next : edge1, 1n, answer())).verdict).toBe(
        "OPENED",
      )
  })

  describe("TCP", () => {
    const key = { ...outward, protocol: TCP }
    const say = (plane: Plane, flags: number): string =>
      plane.run(
        seal,
        frame(tcpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, bytes(0), { flags })),
      ).verdict
    let sequence = 0n
    const hear = (plane: Plane, flags: number): string => {
      sequence += 1n
      const packet = tcpPacket({ source: peer, target: own, from: PEER_PORT, to: 40_000 }, bytes(0), {
        flags,
      })
      return plane.run(open, sealedBy(edge1, sequence, packet)).verdict
    }
    const [FIN, SYN, RST, ACK] = [1, 2, 4, 16]
    const begin = (): Plane => {
      sequence = 0n
      const plane = ready()
      expect(say(plane, SYN)).toBe("SEALED")
      return plane
    }
    /** The seconds of silence after which an answer is no longer let in. */
    const lasts = (plane: Plane): bigint => {
      const record = plane.flowRecord(key)
      if (record === undefined) throw new Error("no flow")
      const passes = (silent: bigint): boolean => {
        plane.setFlow(key, ago(silent * second), record.state)
        return hear(plane, 0) === "OPENED"
      }
      const found = [10n, 30n, 60n, 300n, 7200n].find((idle) => !passes(idle) && passes(idle - 1n))
      return found ?? 0n
    }

    test("unanswered 60 s, answered two hours", () => {
      const plane = begin()
      expect(plane.flowRecord(key)?.state).toBe(0)
      plane.setFlow(key, ago(60n * second), 0)
      expect(hear(plane, SYN | ACK)).toBe("NO_POLICY")
      expect(say(plane, SYN)).toBe("SEALED")
      expect(hear(plane, SYN | ACK)).toBe("OPENED")
      expect(plane.flowRecord(key)?.state).toBe(flowState.answered)
      expect(lasts(plane)).toBe(7200n)
    })

    test("closed by one side 300 s, by both 30 s, reset 10 s; begun anew it is new", () => {
      const plane = begin()
      hear(plane, SYN | ACK)
      expect(say(plane, FIN | ACK)).toBe("SEALED")
      expect(lasts(plane)).toBe(300n)
      expect(hear(plane, FIN | ACK)).toBe("OPENED")
      expect(lasts(plane)).toBe(30n)
      expect(say(plane, SYN)).toBe("SEALED")
      expect(plane.flowRecord(key)?.state).toBe(0)
      hear(plane, SYN | ACK)
      expect(hear(plane, RST)).toBe("OPENED")
      expect(lasts(plane)).toBe(10n)
    })
  })
})

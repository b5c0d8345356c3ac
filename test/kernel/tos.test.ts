/** DSCP and ECN across the tunnel: RFC 4301 section 5.1.2 and RFC 6040. */
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { checksum, ETHERNET, esp, frame, outerPacket, udpPacket } from "./packets.ts"
import {
  DROP,
  edge2,
  fromPeer,
  OWN_PORT,
  own,
  PEER_PORT,
  type Plane,
  peer,
  REDIRECT,
  readyPlane,
} from "./plane.ts"
import { bytes } from "./traffic.ts"

let plane: Plane
let sequence = 0n
beforeAll(() => {
  plane = readyPlane()
})
afterAll(() => plane.close())

const fields = ["Not-ECT", "ECT(1)", "ECT(0)", "CE"] as const
type Field = (typeof fields)[number]
const number = (field: Field): number => fields.indexOf(field)
const DSCP_EF = 46 << 2
const DSCP_CS1 = 8 << 2

/** RFC 6040 figure 4: inner, outer, and what goes on. */
const table: ReadonlyArray<readonly [Field, Field, Field | "drop"]> = [
  ["Not-ECT", "Not-ECT", "Not-ECT"],
  ["Not-ECT", "ECT(0)", "Not-ECT"],
  ["Not-ECT", "ECT(1)", "Not-ECT"],
  ["Not-ECT", "CE", "drop"],
  ["ECT(0)", "Not-ECT", "ECT(0)"],
  ["ECT(0)", "ECT(0)", "ECT(0)"],
  ["ECT(0)", "ECT(1)", "ECT(1)"],
  ["ECT(0)", "CE", "CE"],
  ["ECT(1)", "Not-ECT", "ECT(1)"],
  ["ECT(1)", "ECT(0)", "ECT(1)"],
  ["ECT(1)", "ECT(1)", "ECT(1)"],
  ["ECT(1)", "CE", "CE"],
  ["CE", "Not-ECT", "CE"],
  ["CE", "ECT(0)", "CE"],
  ["CE", "ECT(1)", "CE"],
  ["CE", "CE", "CE"],
]

const incoming = (tos: number): Uint8Array =>
  udpPacket({ source: peer, target: own, from: 50_000, to: OWN_PORT }, bytes(40), { tos })

describe("decapsulation", () => {
  test.each(table)("inner %s, outer %s: %s", (inner, outer, expected) => {
    sequence += 1n
    const packet = incoming(DSCP_EF | number(inner))
    const sealed = outerPacket(
      { ...fromPeer(), tos: DSCP_CS1 | number(outer) },
      esp(edge2.in, sequence, packet),
    )
    const out = plane.run("vs_open", frame(sealed))
    if (expected === "drop") {
      expect(out).toMatchObject({ verdict: "CONGESTED", retval: DROP })
      expect(plane.run("vs_open", frame(sealed)).verdict, "it was the peer's all the same").toBe("REPLAYED")
      return
    }
    expect(out).toMatchObject({ verdict: "OPENED", retval: REDIRECT })
    const opened = out.packet.subarray(ETHERNET)
    expect(opened).toEqual(incomingWith(packet, DSCP_EF | number(expected)))
    expect(checksum(opened.subarray(0, 20))).toBe(0)
  })

  const incomingWith = (packet: Uint8Array, tos: number): Uint8Array => {
    const changed = packet.slice()
    changed[1] = tos
    changed.fill(0, 10, 12)
    new DataView(changed.buffer).setUint16(10, checksum(changed.subarray(0, 20)))
    return changed
  }

  test("every DSCP and every ECN: the checksum stays right, and a wrong one stays wrong", () => {
    for (let dscp = 0; dscp < 64; dscp++)
      for (const broken of [0, 1]) {
        sequence += 1n
        const packet = incoming((dscp << 2) | 2)
        packet[10] = (packet[10] ?? 0) ^ broken
        const sealed = outerPacket({ ...fromPeer(), tos: 3 }, esp(edge2.in, sequence, packet))
        const { verdict, packet: out } = plane.run("vs_open", frame(sealed))
        expect(verdict).toBe("OPENED")
        expect(out[ETHERNET + 1]).toBe((dscp << 2) | 3)
        expect(checksum(out.subarray(ETHERNET, ETHERNET + 20)) === 0).toBe(broken === 0)
      }
  })
})

test("encapsulation copies both fields", () => {
  for (let tos = 0; tos < 256; tos++) {
    const packet = udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, bytes(8), { tos })
    const out = plane.run("vs_seal", frame(packet))
    expect([out.verdict, out.packet[ETHERNET + 1]]).toEqual(["SEALED", tos])
  }
})

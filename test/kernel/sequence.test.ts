/** Sequence numbers and keys: each number once, on both ends, also with two CPUs at work. */
import { resolve } from "node:path"
import { Worker } from "node:worker_threads"
import { chacha20poly1305 } from "@noble/ciphers/chacha.js"
import { describe, expect, test } from "vitest"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { inSaKey, outSaKey } from "../../services/common/kernel/records.ts"
import { closeAfterEach, keep, ready } from "./fresh-planes.ts"
import type { HammerResult, HammerWork } from "./hammer.ts"
import { concat, ETHERNET, esp, frame, hex, UDP } from "./packets.ts"
import { DROP, edge1, edge2, PEER_PORT, Plane, peer, REDIRECT, readyPlane } from "./plane.ts"
import { answer, bytes, incoming, request, sealedBy } from "./traffic.ts"
import { open, seal } from "./verdict-case.ts"

closeAfterEach()

describe("sequence numbers and keys", () => {
  test("a number is used once, and the record that user space wrote is only counted in", () => {
    const plane = ready()
    const seen = new Set<string>()
    for (let i = 0; i < 50; i++) {
      const out = plane.run(seal, frame(request(bytes(4), 40_000 + i)))
      seen.add(Buffer.from(out.packet.subarray(ETHERNET + 28, ETHERNET + 44)).toString("hex"))
    }
    expect(seen.size).toBe(50)
    const record = plane.map("sa_out").lookup(outSaKey(1, edge1.out.spi)) ?? new Uint8Array(48)
    expect(new DataView(record.buffer).getBigUint64(0, true)).toBe(50n)
    expect(record.slice(8, 40)).toEqual(edge1.out.key)
  })

  test("what is refused takes no number", () => {
    const plane = ready().lease(edge1, bootNow() - 1n)
    plane.run(seal, frame(request()))
    plane.lease(edge1)
    plane.run(seal, frame(request(bytes(1439 - 28))))
    const out = plane.run(seal, frame(request()))
    expect(out.packet.subarray(ETHERNET + 36, ETHERNET + 44)).toEqual(hex("00000000 00000001"))
  })

  test("the low half wraps into the high one, on both ends", () => {
    const plane = keep(readyPlane())
    plane.map("sa_out").delete(outSaKey(1, edge1.out.spi))
    plane.keys(edge1, 0xfffffffen)
    const numbers = [0xffffffffn, 0x1_0000_0000n, 0x1_0000_0001n]
    for (const number of numbers) {
      const packet = request()
      const out = plane.run(seal, frame(packet))
      expect(out.packet.subarray(ETHERNET + 28)).toEqual(esp(edge1.out, number, packet))
    }
    for (const number of [0xffff_ff00n, ...numbers, 0x1_0000_0500n, 0xffff_fff0n]) {
      const out = plane.run(open, sealedBy(edge2, number, incoming(), { iv: bytes(8) }))
      expect([number, out.verdict]).toEqual([number, "OPENED"])
    }
    expect(plane.run(open, sealedBy(edge2, 0xffffffffn, incoming())).verdict).toBe("REPLAYED")
  })

  for (const [name, esn, last] of [
    ["32-bit", false, 0xffff_ffffn],
    ["64-bit", true, 0xffff_fffe_ffff_ffffn],
  ] as const)
    test(`SEQUENCE_END: ${name} numbers stop at their end and the counter with them`, () => {
      const plane = keep(new Plane()).configure().endpoint(1)
      plane.allow({ peer, port: PEER_PORT, protocol: UDP, role: 0 }, 1)
      plane.keys({ ...edge1, out: { ...edge1.out, esn } }, last - 1n)
      expect(plane.run(seal, frame(request())).verdict).toBe("SEALED")
      for (let i = 0; i < 5; i++) {
        const out = plane.run(seal, frame(request()))
        expect([out.verdict, out.retval]).toEqual(["SEQUENCE_END", DROP])
      }
      const record = plane.map("sa_out").lookup(outSaKey(1, edge1.out.spi)) ?? new Uint8Array(48)
      expect(new DataView(record.buffer).getBigUint64(0, true)).toBe(last)
    })

  test("a forgery moves no window: neither its top nor a bit", () => {
    const plane = ready()
    expect(plane.run(open, sealedBy(edge2, 1n, incoming())).verdict).toBe("OPENED")
    const before = plane.map("windows").lookup(inSaKey(edge2.in.spi))
    for (const number of [2n, 900n, 0x7fff_ffffn]) {
      const forged = sealedBy(edge2, number, incoming())
      forged[forged.length - 20] = (forged[forged.length - 20] ?? 0) ^ 1
      expect(plane.run(open, forged).verdict).toBe("BAD_TAG")
    }
    expect(plane.map("windows").lookup(inSaKey(edge2.in.spi))).toEqual(before)
    expect(plane.run(open, sealedBy(edge2, 2n, incoming())).verdict).toBe("OPENED")
  })

  test("a lane's SA is changed by one update; what the old one sealed still opens", () => {
    const plane = ready()
    const next = {
      edge: 1,
      out: { ...edge1.out, spi: 0x1101, key: bytes(32) },
      in: { ...edge1.in, spi: 0x2101, key: bytes(32) },
    }
    const before = plane.run(seal, frame(request()))
    plane.keys(next)
    const after = plane.run(seal, frame(request()))
    expect(before.packet.subarray(ETHERNET + 28, ETHERNET + 32)).toEqual(hex("00001001"))
    expect(after.packet.subarray(ETHERNET + 28, ETHERNET + 36)).toEqual(hex("00001101 00000001"))
    expect(plane.run(open, sealedBy(edge1, 1n, answer())).verdict).toBe("OPENED")
    expect(plane.run(open, sealedBy(next, 1n, answer())).verdict).toBe("OPENED")
  })

  test("nothing that is known in plain shows in what is sealed", () => {
    const payload = new TextEncoder().encode(
      "a secret that must not be seen, twice: a secret that must not be seen",
    )
    const out = ready().run(seal, frame(request(Uint8Array.from(payload))))
    expect(Buffer.from(out.packet).includes(Buffer.from("secret"))).toBe(false)
    const nonce = concat(edge1.out.salt, out.packet.slice(ETHERNET + 36, ETHERNET + 44))
    const associated = concat(
      out.packet.slice(ETHERNET + 28, ETHERNET + 32),
      out.packet.slice(ETHERNET + 36, ETHERNET + 44),
    )
    const text = chacha20poly1305(edge1.out.key, nonce, associated).decrypt(out.packet.slice(ETHERNET + 44))
    expect(Buffer.from(text).includes(Buffer.from("secret"))).toBe(true)
  })
})

describe("two CPUs at once", () => {
  /** Runs each list of packets in a thread of its own, all from the same moment. */
  const hammer = (
    programFd: number,
    lists: ReadonlyArray<ReadonlyArray<Uint8Array>>,
  ): Promise<ReadonlyArray<HammerResult>> => {
    const gate = new SharedArrayBuffer(8)
    new Int32Array(gate)[1] = lists.length
    return Promise.all(
      lists.map(
        (packets) =>
          new Promise<HammerResult>((done, fail) => {
            const workerData: HammerWork = { programFd, packets, gate }
            const worker = new Worker(resolve("test/kernel/hammer.ts"), { workerData })
            worker.once("message", done)
            worker.once("error", fail)
          }),
      ),
    )
  }

  test("no sequence number is given out twice", async () => {
    const plane = ready()
    const packets = Array.from({ length: 3000 }, () => frame(request()))
    const results = await hammer(plane.object.programFd(seal), [packets, packets])
    expect(results.flatMap((result) => result.retvals).every((retval) => retval === REDIRECT)).toBe(true)
    expect(new Set(results.flatMap((result) => result.numbers)).size).toBe(6000)
  })

  test("a packet that arrives on both is opened on one", async () => {
    const plane = ready()
    const packets = Array.from({ length: 3000 }, (_, i) => sealedBy(edge2, BigInt(i) + 1n, incoming()))
    const results = await hammer(plane.object.programFd(open), [packets, packets])
    const opened = packets.map((_, i) => results.filter((result) => result.retvals[i] === REDIRECT).length)
    // Whichever thread is ahead opens it; for the other it is a replay, or, 1,984 numbers behind, too old.
    expect(Math.max(...opened)).toBe(1)
    expect(opened.filter((count) => count === 1).length).toBe(3000)
    expect(plane.stats(2).openedPackets).toBe(3000n)
  })
})

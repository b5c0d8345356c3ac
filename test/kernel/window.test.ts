/** The anti-replay window in the kernel: a numbered list of what comes and what must become of it, and a model beside it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { type BpfObject, loadObject, testRun } from "../../services/common/kernel/libbpf.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import { decodeWindowTop, emptyWindow, indexKey } from "../../services/common/kernel/records.ts"
import { byteSource, ETHERNET } from "./packets.ts"
import { exactSteps, reconstructions, USABLE } from "./window-table.ts"

let object: BpfObject
let windows: BpfMap
beforeAll(() => {
  object = loadObject("bpf/build/aead-test.bpf.o")
  windows = new BpfMap(object.mapFd("windows"))
})
afterAll(() => object.close())

interface Answer {
  readonly sequence: bigint
  /** What the look before the cipher said, and what the marking under the lock said. */
  readonly may: boolean
  readonly accepted: boolean
}

const ask = (id: number, value: bigint, exact: boolean): Answer => {
  const packet = new Uint8Array(ETHERNET + 32)
  const view = new DataView(packet.buffer, ETHERNET)
  view.setUint32(0, id, true)
  view.setUint32(4, Number(value & 0xffffffffn), true)
  view.setBigUint64(8, value, true)
  view.setUint32(16, exact ? 1 : 0, true)
  const out = testRun(object.programFd("test_window"), packet)
  expect(out.retval).toBe(0)
  const answer = new DataView(out.packet.buffer, out.packet.byteOffset + ETHERNET)
  return {
    sequence: answer.getBigUint64(8, true),
    may: answer.getUint32(20, true) !== 0,
    accepted: answer.getUint32(24, true) !== 0,
  }
}

const fresh = (id: number, top = 0n): void => {
  const value = emptyWindow()
  new DataView(value.buffer).setBigUint64(8, top, true)
  windows.update(indexKey(id), value)
}
const topOf = (id: number): bigint => decodeWindowTop(windows.lookup(indexKey(id)) ?? emptyWindow())

describe("whole sequence numbers", () => {
  for (const [title, steps] of exactSteps)
    test(title, () => {
      fresh(1)
      steps.forEach(([sequence, expected], i) => {
        const answer = ask(1, sequence, true)
        expect([i + 1, sequence, answer.accepted]).toEqual([i + 1, sequence, expected])
        expect(answer.may, "the look before agrees when nothing runs beside").toBe(expected)
      })
    })

  test("20,000 numbers in disorder, against a set", () => {
    fresh(2)
    const bytes = byteSource(11)
    const seen = new Set<bigint>()
    let top = 0n
    for (let i = 0; i < 20_000; i++) {
      const [a = 0, b = 0, c = 0] = bytes(3)
      // Mostly near the top, at times far ahead, at times far behind.
      const jump =
        a < 8
          ? BigInt(b * 40 + c)
          : a < 200
            ? BigInt(c & 3)
            : -BigInt((b << 3) + (c & 7) + (a > 250 ? 1500 : 0))
      const sequence = top + jump
      if (sequence < 0n) continue
      const expected = sequence > 0n && top - sequence < USABLE && !seen.has(sequence)
      expect([i, sequence, ask(2, sequence, true).accepted]).toEqual([i, sequence, expected])
      if (expected) seen.add(sequence)
      if (expected && sequence > top) top = sequence
    }
    expect(topOf(2)).toBe(top)
  })
})

describe("the high half (RFC 4303 appendix A)", () => {
  for (const [title, top, low, expected] of reconstructions)
    test(title, () => {
      fresh(3, top)
      expect(ask(3, low, false).sequence).toBe(expected)
    })

  test("every number sent comes back whole across the wrap, with losses, reordering and repeats", () => {
    fresh(4, 0xffff_f000n)
    const bytes = byteSource(12)
    let next = 0xffff_f001n
    const accepted = new Set<bigint>()
    for (let i = 0; i < 8000; i++) {
      const [a = 0, b = 0] = bytes(2)
      next += a < 20 ? BigInt(b) : 1n
      const sequence = a > 180 ? next - BigInt(b << 2) : next
      const answer = ask(4, sequence & 0xffff_ffffn, false)
      expect(answer.sequence).toBe(sequence)
      expect(answer.accepted, `once: ${sequence}`).toBe(!accepted.has(sequence))
      accepted.add(sequence)
    }
    expect(topOf(4) > 0x1_0000_0000n).toBe(true)
  })
})

import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { isDeepStrictEqual } from "node:util"
import { Packr } from "msgpackr"
import { describe, expect, it } from "vitest"
import { CHECKOUT } from "../../infra/lab/hardware.ts"
import { ReadFault, read } from "../../services/common/codec/read.ts"

/** Another decoder, as lenient as it can be made. */
const other = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: "bigint", copyBuffers: true })
const pack = (value: unknown) => new Uint8Array(other.pack(value))

const golden = join(CHECKOUT, "schemas/generated/golden")
const seeds = readdirSync(golden)
  .filter((name) => name.endsWith(".hex"))
  .map((name) => Buffer.from(readFileSync(join(golden, name), "utf8").replace(/\s/g, ""), "hex"))

/** Repeatable numbers below `n`. */
const dice = (seed: number) => {
  let state = seed
  return (n: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % n
  }
}

const tags = Uint8Array.from(
  Buffer.from("c0c1c4c5c6cacbcccdcecfd0d1d2d3d4d9dadbdcdddedf80818f90919fa0a1bfe0ff", "hex"),
)

const mutated = (seed: Uint8Array, roll: (n: number) => number): Uint8Array => {
  let bytes = Uint8Array.from(seed)
  for (let i = roll(3); i >= 0; i--) {
    const at = roll(bytes.length)
    const how = roll(4)
    const tag = tags[roll(tags.length)] ?? 0
    if (how === 0) bytes[at] = tag
    else if (how === 1) bytes[at] = roll(256)
    else if (how === 2) bytes = bytes.slice(0, at + 1)
    else bytes = Uint8Array.from([...bytes.subarray(0, at), tag, ...bytes.subarray(at)])
  }
  return bytes
}

describe("reading", () => {
  it("gives what another decoder gives, of whatever it accepts, and throws nothing else", () => {
    const roll = dice(7)
    let accepted = 0
    for (let round = 0; round < 20_000; round++) {
      const bytes = mutated(seeds[roll(seeds.length)] ?? Buffer.of(0xc0), roll)
      let value: unknown
      try {
        value = read(bytes)
      } catch (fault) {
        expect(fault).toBeInstanceOf(ReadFault)
        continue
      }
      accepted += 1
      if (!isDeepStrictEqual(value, other.unpack(bytes))) throw new Error(Buffer.from(bytes).toString("hex"))
    }
    expect(accepted).toBeGreaterThan(1_000)
  })

  it("tells texts apart that it remembers in one place, and never by their length or beginning alone", () => {
    const long = Array.from({ length: 20_000 }, (_, i) => `key-${i % 3_000}-${"x".repeat(i % 29)}`)
    for (const text of long) expect(read(pack({ [text]: text }))).toEqual({ [text]: text })
    for (const text of ["", "a", "aa", "ab", "ba", "ä", "日本", "\ufeffa", "a\u0000"])
      for (let twice = 0; twice < 2; twice++) expect(read(pack([text]))).toEqual([text])
  })

  it("refuses text that is no UTF-8 each time, whatever it has seen", () => {
    expect(read(Uint8Array.of(0xa2, 0xc3, 0xa4))).toBe("ä")
    for (let twice = 0; twice < 2; twice++)
      expect(() => read(Uint8Array.of(0xa2, 0xc3, 0x28))).toThrow("text that is not UTF-8")
  })

  it("makes nothing of lengths that are only promised", () => {
    for (const hex of ["dd7fffffff", "df7fffffff", "c67fffffff", "db7fffffff"])
      expect(() => read(Uint8Array.from(Buffer.from(hex, "hex")))).toThrow("cut short")
  })

  it("keeps names of an object's own out of its prototype", () => {
    const value = read(pack({ constructor: 1, toString: 2, hasOwnProperty: 3 }))
    expect(Object.entries(value as object)).toEqual([
      ["constructor", 1],
      ["toString", 2],
      ["hasOwnProperty", 3],
    ])
  })
})

import { isDeepStrictEqual } from "node:util"
import { Packr } from "msgpackr"
import { describe, expect, it, vi } from "vitest"
import { messages } from "../../schemas/generate/messages.ts"
import { limits } from "../../schemas/limits.ts"
import { read } from "../../services/common/codec/read.ts"
import { write } from "../../services/common/codec/write.ts"

/** The packer as it comes, with memory of its own. */
const other = new Packr({ useRecords: false, variableMapSize: true, int64AsType: "bigint", moreTypes: false })
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

const lengths = [0, 1, 15, 16, 31, 32, 47, 48, 49, 127, 128, 255, 256, 65_535, 65_536]
const repeated = (text: string) => lengths.map((length) => text.repeat(length))
const fields = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, i]))
const powers = [5, 7, 8, 15, 16, 31, 32, 40, 53].map((bits) => 2 ** bits)
const bigs = [0n, 1n, 2n ** 32n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, -1n, -(2n ** 63n)]

const values: ReadonlyArray<unknown> = [
  ...powers.flatMap((power) => [power - 1, power, power + 1, -power - 1, -power, -power + 1]),
  ...[0, 0.5, -1.25, Number.MAX_VALUE, Number.POSITIVE_INFINITY, Number.NaN],
  ...[...bigs, true, false, null],
  ...["a", "ä", "日", "😀", "\u0000", "\u007f", "\u0080"].flatMap(repeated),
  ...[`${"a".repeat(30)}ä`, `${"a".repeat(31)}ä`, `${"a".repeat(47)}ä`],
  ...lengths.map((length) => new Array(length).fill(1)),
  ...lengths.map((length) => new Uint8Array(length).fill(length)),
  ...[0, 1, 15, 16, 17, 65_535, 65_536].map(fields),
  ...[Buffer.from("of a pool"), { a: [{ b: [[], {}] }] }, { "": { ä: "ö" } }],
  ...Object.values(messages).map(({ example }) => example),
]

describe("writing", () => {
  it("gives the shortest form of each value", () => {
    for (const value of values) {
      const [ours, theirs] = [hex(write(value)), hex(other.pack(value))]
      if (ours !== theirs) throw new Error(`${ours.slice(0, 64)} is not ${theirs.slice(0, 64)}`)
    }
  })

  it("gives what can be read again, with memory of its own", () => {
    const example = messages["release-payload"].example
    const [first, second] = [write(example), write(null)]
    expect(read(first)).toEqual(example)
    expect(second.buffer.byteLength).toBe(1)
    expect(first.buffer).not.toBe(write(example).buffer)
  })

  it("takes what is larger than any message, and starts again where it began", () => {
    const large = Array.from({ length: 40 }, (_, i) => new Uint8Array(i * 2_000).fill(i))
    for (let twice = 0; twice < 2; twice++) expect(isDeepStrictEqual(read(write(large)), large)).toBe(true)
    expect(hex(write([1, "a"]))).toBe("9201a161")
  })

  it("is as before after what has no form", () => {
    const ring: Record<string, unknown> = { secret: "hunter2" }
    ring.ring = ring
    for (const value of [2n ** 64n, ring]) {
      expect(() => write(value)).toThrow()
      expect(() => write(value)).not.toThrow(/hunter2/)
      expect(hex(write({ a: 1 }))).toBe("81a16101")
    }
  })

  it("leaves nothing of a message in the memory that the packer writes to", () => {
    const secret = "d1g3st-of-a-k3y"
    const memory: Array<Buffer> = []
    const { useBuffer } = Packr.prototype as unknown as { useBuffer: (buffer: Buffer) => void }
    const spied = vi.spyOn(Packr.prototype as unknown as { useBuffer: typeof useBuffer }, "useBuffer")
    spied.mockImplementation(function (this: Packr, buffer) {
      memory.push(buffer)
      useBuffer.call(this, buffer)
    })
    try {
      expect(Buffer.from(write({ secret })).includes(secret)).toBe(true)
      expect(() => write({ secret, number: 2n ** 64n })).toThrow()
    } finally {
      spied.mockRestore()
    }
    expect(memory).toHaveLength(2)
    for (const buffer of memory) expect(buffer.every((byte) => byte === 0)).toBe(true)
  })

  it("nor in the packer's own, which it takes for what is larger than any message", () => {
    const packed: Uint8Array[] = []
    const prototype = Packr.prototype as unknown as { useBuffer: (this: Packr, buffer: Buffer) => void }
    const { useBuffer } = prototype
    let restore = (): void => undefined
    const spied = vi.spyOn(prototype, "useBuffer").mockImplementation(function (this: Packr, buffer) {
      const { pack } = this
      this.pack = (value) => {
        const made = pack.call(this, value)
        packed.push(made)
        return made
      }
      restore = () => {
        this.pack = pack
      }
      useBuffer.call(this, buffer)
    })
    try {
      expect(write(new Uint8Array(2 * limits.messageBytes).fill(1)).at(-1)).toBe(1)
    } finally {
      spied.mockRestore()
      restore()
    }
    expect(packed.map((bytes) => bytes.every((byte) => byte === 0))).toEqual([true])
  })
})

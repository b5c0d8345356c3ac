import { describe, expect, it } from "vitest"
import { peekBytes } from "../../services/common/codec/peek.ts"

describe("peekBytes", () => {
  const map = (...parts: ReadonlyArray<number | string>): Uint8Array =>
    Uint8Array.from(
      parts.flatMap((part) =>
        typeof part === "number" ? [part] : [0xa0 | part.length, ...Buffer.from(part)],
      ),
    )
  it("gives a field that is bytes, wherever it stands among the first", () => {
    expect(peekBytes(map(0x82, "v", 1, "n", 0xc4, 2, 7, 8), "n", 64)).toEqual(Uint8Array.of(7, 8))
    expect(peekBytes(map(0x83, "a", 0xcd, 1, 2, "t", "text", "n", 0xc4, 1, 9), "n", 64)).toEqual(
      Uint8Array.of(9),
    )
    // What comes after it isn't looked at.
    expect(peekBytes(map(0x83, "n", 0xc4, 1, 9, 0xc1), "n", 64)).toEqual(Uint8Array.of(9))
  })
  it("gives none for anything else", () => {
    const good = map(0x82, "v", 1, "n", 0xc4, 2, 7, 8)
    for (let length = 0; length < good.length; length++) {
      expect(peekBytes(good.subarray(0, length), "n", 64)).toBeUndefined()
      expect(peekBytes(good, "n", length)).toBeUndefined()
    }
    expect(peekBytes(map(0x82, "n", 1, "n", 0xc4, 1, 9), "n", 64)).toBeUndefined()
    expect(peekBytes(map(0x81, "a", 0x81, "n", 0xc4, 1, 9), "n", 64)).toBeUndefined()
    expect(peekBytes(map(0x92, "n", 0xc4, 1, 9), "n", 64)).toBeUndefined()
    expect(peekBytes(map(0x82, "a", 0x91, 1, "n", 0xc4, 1, 9), "n", 64)).toBeUndefined()
    expect(peekBytes(map(0xc1), "n", 64)).toBeUndefined()
    expect(peekBytes(map(0x82, "a", 0xc5, 0xff, 0xff, "n", 0xc4, 1, 9), "n", 64)).toBeUndefined()
  })
})

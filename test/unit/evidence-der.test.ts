/** The reader takes one encoding of a value and no other; the writer writes that one. */
import { describe, expect, it } from "vitest"
import {
  DerError,
  readAll,
  readByte,
  readOnly,
  readText,
  tags,
  write,
  writeBitString,
  writeIa5,
  writeInteger,
  writeOid,
  writeTime,
} from "../../services/evidence/der.ts"
import { bytesOf, hexOf } from "./crypto-support.ts"

describe("reading", () => {
  it("takes definite, shortest lengths of one to three bytes", () => {
    for (const length of [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff]) {
      const { content } = readOnly(write(tags.octetString, new Uint8Array(length)), tags.octetString)
      expect(content).toHaveLength(length)
    }
  })

  it.each([
    ["nothing", ""],
    ["half a header", "30"],
    ["an indefinite length", "30800000"],
    ["a long form that isn't needed", `308105${"00".repeat(5)}`],
    ["a zero in front of the length", `30820080${"00".repeat(128)}`],
    ["a length of three bytes", "3083010000"],
    ["a length that ends", "3082"],
    ["a value that ends", "300300"],
    ["something behind it", "300000"],
    ["a tag of several bytes", "1f8101"],
    ["another tag", "3100"],
  ])("refuses %s", (_, hex) => {
    expect(() => readOnly(bytesOf(hex), tags.sequence)).toThrow(DerError)
  })

  it("stops at the most values it was told to take", () => {
    const nulls = bytesOf("0500".repeat(9))
    expect(readAll(nulls, 9)).toHaveLength(9)
    expect(() => readAll(nulls, 8)).toThrow(DerError)
  })

  it("takes integers of a byte in their shortest form", () => {
    for (const value of [0, 1, 0x7f, 0x80, 0xff]) expect(readByte(writeInteger(value))).toBe(value)
    for (const hex of ["0200", "020180", "02020001", "02020100", "0203000080", "040101"])
      expect(() => readByte(bytesOf(hex))).toThrow(DerError)
  })

  it("takes short printable text", () => {
    expect(readText(writeIa5("Milan-B0"))).toBe("Milan-B0")
    for (const text of ["", "x".repeat(129), "a\nb", "a\0b", "é"])
      expect(() => readText(writeIa5(text))).toThrow(DerError)
  })
})

describe("writing", () => {
  it("writes integers, identifiers, bit strings and times as X.690 and RFC 5280 say", () => {
    expect(hexOf(writeInteger(65_537))).toBe("0203010001")
    expect(hexOf(writeOid("1.2.840.113549.1.1.10"))).toBe("06092a864886f70d01010a")
    expect(hexOf(writeOid("1.3.6.1.4.1.3704.1.3.8"))).toBe("060a2b060104019c78010308")
    expect(hexOf(writeBitString(bytesOf("ff")))).toBe("030200ff")
    expect(hexOf(writeTime(new Date("2049-12-31T23:59:59Z")))).toBe(
      `170d${hexOf(Buffer.from("491231235959Z"))}`,
    )
    expect(hexOf(writeTime(new Date("2050-01-01T00:00:00Z")))).toBe(
      `180f${hexOf(Buffer.from("20500101000000Z"))}`,
    )
  })
})

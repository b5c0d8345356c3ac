import { Schema } from "effect"
import { Packr } from "msgpackr"
import { describe, expect, it } from "vitest"
import { Count, U64, Version } from "../../schemas/fields.ts"
import { limits } from "../../schemas/limits.ts"
import { HelloReply } from "../../schemas/messages/attestation.ts"
import { Beacon } from "../../schemas/messages/release.ts"
import { Stats } from "../../schemas/messages/stats.ts"
import {
  DecodeError,
  decode,
  EncodeError,
  encode,
  type MessageSchema,
} from "../../services/common/codec/index.ts"

const Numbers = Schema.Struct({ v: Version, big: U64, count: Count })
const beacon: Beacon = { v: 1, releaser: "r1", control: "cp", term: 7n, nonce: new Uint8Array(32).fill(5) }

const refused = (schema: MessageSchema, bytes: Uint8Array, bytesMax?: number): DecodeError => {
  const found = decode(schema, bytes, { subject: "test", ...(bytesMax === undefined ? {} : { bytesMax }) })
  if (found.ok) throw new Error(`accepted: ${JSON.stringify(found.value)}`)
  expect(found.error).toBeInstanceOf(DecodeError)
  return found.error
}
const raw = (hex: string) => new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"))
const loose = new Packr({ useRecords: false, variableMapSize: true })
const pack = (value: unknown) => new Uint8Array(loose.pack(value))

describe("numbers", () => {
  const bigs = [0n, 1n, 255n, 2n ** 31n, 2n ** 32n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]
  const counts = [0, 127, 128, 65_536, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 1, Number.MAX_SAFE_INTEGER]

  it.each(bigs)("%s stays a bigint", (big) => {
    const bytes = encode(Numbers, { v: 1, big, count: 0 })
    expect(decode(Numbers, bytes, { subject: "test" })).toEqual({ ok: true, value: { v: 1, big, count: 0 } })
  })
  it.each(counts)("%s stays a number", (count) => {
    const bytes = encode(Numbers, { v: 1, big: 0n, count })
    expect(decode(Numbers, bytes, { subject: "test" })).toEqual({ ok: true, value: { v: 1, big: 0n, count } })
  })
  it("refuses the other kind, fractions, NaN and negative numbers", () => {
    for (const [field, value] of [
      ["big", 7],
      ["big", -1n],
      ["count", 7n],
      ["count", 1.5],
      ["count", Number.NaN],
      ["count", Number.POSITIVE_INFINITY],
      ["count", -1],
    ] as const) {
      const error = refused(Numbers, pack({ v: 1, big: 0n, count: 0, [field]: value }))
      expect([error.code, error.field]).toEqual(["BAD_FIELD", field])
    }
  })
})

describe("bytes", () => {
  it("come out as plain arrays with memory of their own", () => {
    const wire = encode(Beacon, beacon)
    const found = decode(Beacon, Buffer.from(wire), { subject: "test" })
    if (!found.ok) throw found.error
    expect(Object.getPrototypeOf(found.value.nonce)).toBe(Uint8Array.prototype)
    expect(found.value).toEqual(beacon)
    wire.fill(0)
    expect(found.value.nonce[0]).toBe(5)
    expect(found.value.nonce.buffer.byteLength).toBe(32)
  })
  it("of an encoded message do not share a pool", () => {
    const wire = encode(Beacon, beacon)
    expect(wire.buffer.byteLength).toBe(wire.length)
    expect(Object.getPrototypeOf(wire)).toBe(Uint8Array.prototype)
  })
})

describe("refusals", () => {
  const code = (hex: string) => refused(Beacon, raw(hex)).code

  it("before anything is built", () => {
    expect(code("")).toBe("NOT_MSGPACK")
    expect(code("c1")).toBe("NOT_MSGPACK")
    expect(code("81 a1")).toBe("NOT_MSGPACK")
    expect(code("df ffffffff")).toBe("NOT_MSGPACK")
    expect(code("dd ffffffff")).toBe("NOT_MSGPACK")
    expect(code("c6 ffffffff 00")).toBe("NOT_MSGPACK")
    expect(code("81 a1 ff 01")).toBe("NOT_MSGPACK")
    expect(code("81 a1 76 a2 c3 28")).toBe("NOT_MSGPACK")
    expect(code("80 80")).toBe("TRAILING")
    expect(code("81 01 02")).toBe("FORBIDDEN_TYPE")
    expect(code("81 c4 01 61 02")).toBe("FORBIDDEN_TYPE")
    expect(code("82 a1 76 01 a1 76 01")).toBe("DUPLICATE_KEY")
    expect(code("82 a1 76 01 d9 01 76 01")).toBe("DUPLICATE_KEY")
    expect(code(`${"91".repeat(40)}01`)).toBe("TOO_DEEP")
    expect(code("81 a9 5f5f70726f746f5f5f 80")).toBe("UNKNOWN_FIELD")
  })
  it("of every extension type, wherever it is", () => {
    for (const ext of [
      "d4 72 40",
      "d5 00 0000",
      "d6 ff 00000000",
      "d7 ff 00000000 00000000",
      `d8 01 ${"00".repeat(16)}`,
      "c7 01 69 00",
      "c8 0001 70 00",
      "c9 00000001 78 00",
    ]) {
      expect(code(ext)).toBe("FORBIDDEN_TYPE")
      expect(code(`81 a1 76 ${ext}`)).toBe("FORBIDDEN_TYPE")
    }
    expect(refused(Beacon, pack(new Date())).code).toBe("FORBIDDEN_TYPE")
    expect(refused(Beacon, new Uint8Array(new Packr().pack({ v: 1 }))).code).toBe("FORBIDDEN_TYPE")
  })
  it("of more bytes or values than allowed", () => {
    expect(refused(Beacon, encode(Beacon, beacon), 16).code).toBe("TOO_LARGE")
    expect(refused(Beacon, pack(new Array(limits.messageItems).fill(0))).code).toBe("TOO_MANY")
    expect(refused(Beacon, new Uint8Array(limits.messageBytes + 1)).code).toBe("TOO_LARGE")
  })
  it("name the field and never its value", () => {
    const without = { v: 1, releaser: "r1", control: "cp", nonce: beacon.nonce }
    expect(refused(Beacon, pack(without))).toMatchObject({
      code: "BAD_FIELD",
      field: "term",
      message: "missing",
    })
    expect(refused(Beacon, pack({ ...beacon, extra: 1 }))).toMatchObject({
      code: "UNKNOWN_FIELD",
      field: "extra",
    })
    expect(refused(Beacon, pack({ ...beacon, v: 2, extra: 1 }))).toMatchObject({
      code: "WRONG_VERSION",
      field: "v",
    })
    const secret = refused(Beacon, pack({ ...beacon, releaser: "hunter2 hunter2" }))
    expect(secret).toMatchObject({ code: "BAD_FIELD", field: "releaser" })
    expect(secret.message).not.toContain("hunter2")
    expect(refused(Beacon, pack({ ...beacon, nonce: new Uint8Array(31) }))).toMatchObject({
      field: "nonce",
      message: "32 bytes, not 31",
    })
    expect(refused(Beacon, pack([1]))).toMatchObject({ code: "BAD_FIELD", field: "" })
    expect(refused(Beacon, pack(null))).toMatchObject({ code: "BAD_FIELD", field: "" })
  })
  it("cannot smuggle control characters into logs", () => {
    const error = refused(Beacon, pack({ ...beacon, "x\n\u001b[31m": 1 }))
    expect(error.field).toBe("x??[31m")
  })
  it("of one of several forms say which field", () => {
    const refusal = { v: 1, kind: "refused", by: "v1", code: "lower", field: "", message: "" }
    expect(refused(HelloReply, pack(refusal))).toMatchObject({ code: "BAD_FIELD", field: "code" })
    expect(refused(HelloReply, pack({ v: 1, kind: "nothing" }))).toMatchObject({
      code: "BAD_FIELD",
      field: "",
    })
    expect(refused(HelloReply, pack({ v: 3, kind: "nothing" })).code).toBe("WRONG_VERSION")
  })
  it("of record keys outside their pattern", () => {
    const stats = { v: 1, node: "n1", stage: "", state: "denied", backend: "bpf", dataplane: "", edges: [] }
    expect(decode(Stats, pack({ ...stats, verdicts: { SEALED: 1 } }), { subject: "t" }).ok).toBe(true)
    expect(refused(Stats, pack({ ...stats, verdicts: { "a b": 1 } }))).toMatchObject({
      code: "UNKNOWN_FIELD",
      field: "verdicts.a b",
    })
  })
})

describe("encode", () => {
  it("refuses what its own decoder would refuse", () => {
    expect(() => encode(Beacon, { ...beacon, nonce: new Uint8Array(31) })).toThrow(EncodeError)
    expect(() => encode(Beacon, { ...beacon, extra: undefined } as Beacon)).toThrow(/extra/)
  })
})

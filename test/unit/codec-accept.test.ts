import { isDeepStrictEqual } from "node:util"
import { Result, Schema, SchemaParser } from "effect"
import { describe, expect, it } from "vitest"
import { messages } from "../../schemas/generate/messages.ts"
import { acceptOf } from "../../services/common/codec/accept.ts"
import { read } from "../../services/common/codec/read.ts"
import { write } from "../../services/common/codec/write.ts"

/** Repeatable numbers below `n`. */
const dice = (seed: number) => {
  let state = seed
  return (n: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % n
  }
}
type Roll = ReturnType<typeof dice>

const strange: ReadonlyArray<unknown> = [
  ...[undefined, null, true, 0, 1, -1, 2, 255, 256, 65_536, 2 ** 32, 2 ** 53, 0.5, Number.NaN],
  ...[0n, 1n, -1n, 2n ** 64n, "", "a", "raw:n1:n2", "A".repeat(64), "x".repeat(600), "ä.*>", "offer", "snp"],
  ...[[], [1], new Array(2_000).fill("a"), {}, { v: 1 }, new Map(), new Date(0), () => 0, Symbol("a")],
  ...[0, 16, 31, 32, 33, 48, 64, 65, 1_184].map((length) => new Uint8Array(length)),
  ...[new Int8Array(32), Buffer.alloc(32), new Uint8Array(32).buffer],
]

/** What a class made, and what has no prototype, is no plain object. */
const reborn = (value: object, roll: Roll): object =>
  roll(2) === 0 ? Object.assign(Object.create(null), value) : Object.assign(new (class Made {})(), value)

const names = ["v", "kind", "extra", "constructor", "toString", "node", "edges"]

const steps = [1, -1, 0.5, 2 ** 32, -(2 ** 53)]

/** A copy in which something, somewhere, is different. */
const changed = (value: unknown, roll: Roll): unknown => {
  if (roll(4) === 0) return strange[roll(strange.length)]
  if (value instanceof Uint8Array) return value.slice(roll(2), value.length - roll(2))
  if (Array.isArray(value)) return changedArray(value, roll)
  if (typeof value === "object" && value !== null) return changedObject(value, roll)
  if (typeof value === "number") return value + (steps[roll(steps.length)] ?? 0)
  if (typeof value === "bigint") return roll(2) === 0 ? value + 1n : -value - 1n
  if (typeof value === "string") return [`${value}a`, value.slice(1), `${value}\n`, value.repeat(9)][roll(4)]
  return strange[roll(strange.length)]
}

const changedArray = (value: ReadonlyArray<unknown>, roll: Roll): unknown => {
  const at = roll(value.length + 1)
  if (roll(4) === 0) return value.toSpliced(at, 1)
  if (roll(4) === 0) return value.concat(value)
  return value.length === 0
    ? [1]
    : value.map((item, i) => (i === at % value.length ? changed(item, roll) : item))
}

const changedObject = (value: object, roll: Roll): unknown => {
  const keys = Object.keys(value)
  const at = keys[roll(keys.length)] ?? "a"
  const how = roll(12)
  if (how === 0) return Object.fromEntries(Object.entries(value).filter(([key]) => key !== at))
  if (how === 1) return { ...value, [names[roll(names.length)] ?? ""]: strange[roll(strange.length)] }
  if (how === 2) return reborn(value, roll)
  if (how === 3) return Object.fromEntries(Object.entries(value).reverse())
  return { ...value, [at]: changed((value as Record<string, unknown>)[at], roll) }
}

describe("acceptance", () => {
  const schemas = Object.entries(messages).map(([name, { schema, example }]) => ({
    name,
    example,
    accepts: acceptOf(schema.ast),
    parse: SchemaParser.decodeUnknownResult(schema, { onExcessProperty: "error" }),
  }))

  /** Whether a value was taken. It must never be where the parser refuses it, or would give back another. */
  const agreed = ({ name, accepts, parse }: (typeof schemas)[number], value: unknown): boolean => {
    const taken = accepts?.(value) === true
    const parsed = parse(value)
    const fits = Result.isSuccess(parsed)
    if (taken && !(fits && isDeepStrictEqual(parsed.success, value))) throw new Error(`${name} was taken`)
    return taken
  }

  it("is known of every message", () => {
    for (const each of schemas) {
      expect(each.accepts, each.name).toBeDefined()
      expect(agreed(each, each.example), each.name).toBe(true)
      expect(agreed(each, read(write(each.example))), each.name).toBe(true)
    }
  })

  it("is what the schema's parser says, of values that are a little wrong", () => {
    const roll = dice(11)
    let [taken, refused] = [0, 0]
    for (let round = 0; round < 20_000; round++) {
      const each = schemas[roll(schemas.length)]
      if (each === undefined) continue
      let value = changed(each.example, roll)
      if (roll(3) === 0) value = changed(value, roll)
      if (agreed(each, value)) taken++
      else refused++
    }
    expect(taken).toBeGreaterThan(500)
    expect(refused).toBeGreaterThan(5_000)
  })

  it("is what the schema's parser says, of bytes that are a little wrong", () => {
    const roll = dice(13)
    let [taken, refused] = [0, 0]
    for (let round = 0; round < 20_000; round++) {
      const each = schemas[roll(schemas.length)]
      if (each === undefined) continue
      const bytes = write(each.example)
      for (let i = roll(2); i >= 0; i--) bytes[roll(bytes.length)] = roll(256)
      let value: unknown
      try {
        value = read(bytes)
      } catch {
        continue
      }
      // Read, it is plain: here the two must agree both ways.
      const fits = Result.isSuccess(each.parse(value))
      expect(agreed(each, value)).toBe(fits)
      if (fits) taken++
      else refused++
    }
    expect(taken).toBeGreaterThan(1_000)
    expect(refused).toBeGreaterThan(1_000)
  })

  it("is unknown of forms that no message has", () => {
    const { String: Text, Struct } = Schema
    for (const { ast } of [
      Schema.NumberFromString,
      Schema.Date,
      Schema.instanceOf(Date),
      Schema.Tuple([Text]),
      Schema.Unknown,
      Struct({ inner: Schema.NumberFromString }),
      Schema.Array(Schema.Date),
      Schema.Union([Text, Schema.Date]),
      Schema.Union([Text, Schema.Literal("a")], { mode: "oneOf" }),
      Struct({ constructor: Text }),
      Schema.Record(Text, Schema.Date),
    ])
      expect(acceptOf(ast)).toBeUndefined()
  })
})

/** Bytes that no service should believe, made from a message's example. */
import { jsonSchema } from "../../schemas/generate/json-schema.ts"
import type { Message } from "../../schemas/generate/messages.ts"
import { msgpack } from "../../schemas/generate/msgpack.ts"
import { limits } from "../../schemas/limits.ts"

export interface Attack {
  readonly name: string
  readonly bytes: Uint8Array
}

type Fields = Record<string, unknown>

const raw = (...parts: ReadonlyArray<Uint8Array | ReadonlyArray<number>>): Uint8Array =>
  Uint8Array.from(parts.flatMap((part) => [...part]))

/** A small generator of numbers that is the same in every run (xorshift32). */
export const dice = (seed: number): (() => number) => {
  let x = seed | 1
  return () => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return x >>> 0
  }
}

/** Every value inside, with a way to make the whole again around another one. */
const places = (
  value: unknown,
  rebuild: (inner: unknown) => unknown,
): Array<{ old: unknown; replaced: (by: unknown) => unknown }> => {
  const here = { old: value, replaced: rebuild }
  if (Array.isArray(value))
    return [
      here,
      ...value.flatMap((item, i) =>
        places(item, (by) => rebuild(value.map((old, j) => (i === j ? by : old)))),
      ),
    ]
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return [here]
  return [
    here,
    ...Object.entries(value).flatMap(([name, inner]) =>
      places(inner, (by) => rebuild({ ...value, [name]: by })),
    ),
  ]
}

const without = (fields: Fields, name: string): Fields => {
  const { [name]: _, ...rest } = fields
  return rest
}

const extensions: ReadonlyArray<ReadonlyArray<number>> = [
  [0xd4, 0x72, 0x40],
  [0xd4, 0x00, 0x00],
  [0xd6, 0xff, 0, 0, 0, 0],
  [0xd7, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
  [0xd8, 0x74, ...new Array<number>(16).fill(1)],
  [0xc7, 0x04, 0x65, 0x93, 0xa1, 0x78, 0xa1],
  [0xc8, 0x00, 0x01, 0x78, 0x00],
  [0xc9, 0xff, 0xff, 0xff, 0xff, 0x78],
]

const bombs: ReadonlyArray<Attack> = [
  { name: "an array that claims 2^32-1 items", bytes: raw([0xdd, 0xff, 0xff, 0xff, 0xff]) },
  { name: "a map that claims 2^32-1 fields", bytes: raw([0xdf, 0xff, 0xff, 0xff, 0xff]) },
  { name: "text that claims 4 GiB", bytes: raw([0xdb, 0xff, 0xff, 0xff, 0xff, 0x61]) },
  { name: "nested claims", bytes: raw(new Array<number>(2_000).fill(0xdd)) },
  { name: "100,000 arrays inside each other", bytes: raw(new Array<number>(100_000).fill(0x91)) },
  {
    name: "100,000 maps inside each other",
    bytes: raw(...new Array<number[]>(50_000).fill([0x81, 0xa1, 0x61])),
  },
  {
    name: "more values than allowed",
    bytes: raw([0xdd, 0, 2, 0, 1], new Uint8Array(0x20001).fill(0x90)),
  },
  {
    name: "the largest message, all text",
    bytes: raw([0xdb, 0, 0x0f, 0xff, 0xfb], new Uint8Array(limits.messageBytes - 5).fill(0x61)),
  },
]

/** Attacks that hold for any message: none of them may be accepted. */
export const attacksOn = ({ schema, example }: Message): ReadonlyArray<Attack> => {
  const fields = example as Fields
  const good = msgpack(example)
  const { properties, required } = jsonSchema(schema) as { properties?: Fields; required?: string[] }
  const optional = (name: string) => properties !== undefined && required?.includes(name) === false
  const attacks: Attack[] = [...bombs]
  const add = (name: string, bytes: Uint8Array): void => void attacks.push({ name, bytes })

  add("nothing", new Uint8Array(0))
  add("text", new TextEncoder().encode('{"v":1}'))
  for (let length = 0; length < good.length; length++) add(`cut at byte ${length}`, good.subarray(0, length))
  add("a byte after it", raw(good, [0xc0]))
  add("twice", raw(good, good))
  add("inside an array", raw([0x91], good))
  for (const v of [0, 2, 255, 1n, "1", true, 1.5]) add(`version ${typeof v} ${v}`, msgpack({ ...fields, v }))
  add("an unknown field", msgpack({ ...fields, surprise: 1 }))
  for (const name of Object.keys(fields)) {
    if (!optional(name)) add(`without ${name}`, msgpack(without(fields, name)))
    const value = msgpack(fields[name])
    const key = msgpack(name)
    const count = Object.keys(fields).length + 1
    add(`${name} twice`, raw([0xde, 0, count], key, value, msgpack(fields).subarray(count > 16 ? 3 : 1)))
    for (const [i, extension] of extensions.entries()) {
      const others = Object.entries(without(fields, name)).flatMap(([other, inner]) => [
        ...msgpack(other),
        ...msgpack(inner),
      ])
      add(`extension ${i} as ${name}`, raw([0xde, 0, count - 1], key, extension, others))
    }
  }
  for (const [i, { old, replaced }] of places(example, (by) => by).entries()) {
    const kind = Array.isArray(old) ? "array" : old instanceof Uint8Array ? "bytes" : typeof old
    const others: ReadonlyArray<readonly [string, unknown]> = [
      ["number", -1.5],
      ["string", "\u0000 not a token"],
      ["bytes", new Uint8Array(5_000)],
      ["array", [[[[[]]]]]],
      ["object", { constructor: "x", toString: "y" }],
      ["boolean", true],
      ["bigint", 5n],
    ]
    for (const [other, value] of others)
      if (other !== kind) add(`value ${i} (${kind}) as ${other}`, msgpack(replaced(value)))
  }
  return attacks
}

/** `count` random changes of one or a few bytes, the same in every run. Some may still be good messages. */
export const mutations = ({ example }: Message, count: number, seed: number): ReadonlyArray<Uint8Array> => {
  const good = msgpack(example)
  const roll = dice(seed)
  return Array.from({ length: count }, () => {
    const bytes = Uint8Array.from(good)
    for (let changes = 1 + (roll() % 4); changes > 0; changes--) bytes[roll() % bytes.length] = roll() & 0xff
    return bytes
  })
}

/** Bytes of no form at all. */
export const garbage = (count: number, seed: number): ReadonlyArray<Uint8Array> => {
  const roll = dice(seed)
  return Array.from({ length: count }, () => Uint8Array.from({ length: roll() % 400 }, () => roll() & 0xff))
}

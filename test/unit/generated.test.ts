import { readFileSync } from "node:fs"
import { isIP } from "node:net"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { type Json, jsonSchema, twin } from "../../schemas/generate/json-schema.ts"
import { documents, type MessageName, messages } from "../../schemas/generate/messages.ts"
import { msgpack } from "../../schemas/generate/msgpack.ts"
import { stale } from "../../schemas/generate.ts"
import { decode, encode } from "../../services/common/codec/index.ts"

const read = (path: string) =>
  readFileSync(fileURLToPath(new URL(`../../schemas/generated/${path}`, import.meta.url)), "utf8")
const names = Object.keys(messages) as MessageName[]

type Map = { readonly [name: string]: Json }
const map = (value: unknown): value is Map =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** Checks a value against the keywords of JSON Schema that the generator uses; gives the path of the first fault. */
const fault = (schema: Map, value: Json, path = "$"): string | undefined => {
  if ("const" in schema) return value === schema.const ? undefined : path
  if (Array.isArray(schema.enum)) return schema.enum.includes(value) ? undefined : path
  if (Array.isArray(schema.anyOf))
    return schema.anyOf.some((one: Map) => fault(one, value, path) === undefined) ? undefined : path
  switch (schema.type) {
    case "string": {
      if (typeof value !== "string") return path
      if (schema.format !== undefined && `ipv${isIP(value)}` !== schema.format) return path
      if (typeof schema.pattern === "string" && !new RegExp(schema.pattern).test(value)) return path
      return value.length > Number(schema.maxLength ?? Number.POSITIVE_INFINITY) ? path : undefined
    }
    case "integer":
    case "number":
      if (typeof value !== "number" || (schema.type === "integer" && !Number.isInteger(value))) return path
      return value < Number(schema.minimum) || value > Number(schema.maximum) ? path : undefined
    case "boolean":
      return typeof value === "boolean" ? undefined : path
    case "array": {
      if (
        !Array.isArray(value) ||
        value.length > Number(schema.maxItems) ||
        value.length < Number(schema.minItems ?? 0)
      )
        return path
      return value
        .map((item: Json, i) => fault(schema.items as Map, item, `${path}[${i}]`))
        .find((found) => found !== undefined)
    }
    case "object": {
      if (!map(value)) return path
      const properties = (schema.properties ?? {}) as Map
      for (const name of (schema.required ?? []) as string[]) if (!(name in value)) return `${path}.${name}`
      for (const [name, inner] of Object.entries(value)) {
        const known =
          properties[name] ?? (map(schema.additionalProperties) ? schema.additionalProperties : undefined)
        if (
          known === undefined ||
          (map(schema.propertyNames) && fault(schema.propertyNames, name) !== undefined)
        )
          return `${path}.${name}`
        const found = fault(known as Map, inner, `${path}.${name}`)
        if (found !== undefined) return found
      }
      return undefined
    }
    default:
      throw new Error(`unknown type ${schema.type} at ${path}`)
  }
}

describe("the generated files", () => {
  it("are those that the tables and schemas give (if not: npm run generate)", () => {
    expect(stale()).toEqual({ changed: [], left: [] })
  })

  it.each(names)("golden %s: the codec writes these bytes and reads them back", (name) => {
    const { schema, example } = messages[name]
    const bytes = new Uint8Array(Buffer.from(read(`golden/${name}.msgpack.hex`).replaceAll("\n", ""), "hex"))
    expect(Buffer.from(encode(schema, example)).toString("hex")).toBe(Buffer.from(bytes).toString("hex"))
    expect(decode(schema, bytes, { subject: name })).toEqual({ ok: true, value: example })
    expect(twin(example)).toEqual(JSON.parse(read(`golden/${name}.json`)))
  })

  it.each(names)("JSON Schema of %s fits its twin and nothing with a field more or less", (name) => {
    const schema = JSON.parse(read(`${name}.schema.json`)) as Map
    const json = JSON.parse(read(`golden/${name}.json`)) as Map
    expect(fault(schema, json)).toBeUndefined()
    expect(fault(schema, { ...json, surprise: 1 })).toBeDefined()
    const { v: _, ...without } = json
    expect(fault(schema, without)).toBeDefined()
  })

  it("JSON Schemas of documents fit their examples", () => {
    for (const [name, { schema, example }] of Object.entries(documents)) {
      expect([name, fault(jsonSchema(schema), twin(example))]).toEqual([name, undefined])
      expect(JSON.parse(read(`${name}.schema.json`))).toMatchObject(jsonSchema(schema))
    }
  })

  it("every reference of the AsyncAPI document leads somewhere", () => {
    const document = JSON.parse(read("asyncapi.json")) as Map
    const references = JSON.stringify(document).match(/"\$ref":"#[^"]+"/g) ?? []
    expect(references.length).toBeGreaterThan(50)
    for (const reference of references) {
      const path = reference.slice(9, -1).split("/").slice(1)
      let at: Json | undefined = document
      for (const step of path) at = map(at) ? at[step] : undefined
      expect([reference, at]).not.toEqual([reference, undefined])
    }
  })
})

describe("the second writer of msgpack", () => {
  it("refuses what no message holds", () => {
    for (const value of [null, undefined, () => 0, Symbol("x")]) expect(() => msgpack(value)).toThrow()
  })
  it("agrees with the codec at every width", () => {
    const { schema } = messages.refusal
    for (const length of [0, 31, 32, 128]) {
      const value = {
        ...(messages.refusal.example as object),
        field: "a".repeat(length),
        message: "b".repeat(length * 3),
      }
      expect(msgpack(value)).toEqual(encode(schema, value))
    }
  })
})

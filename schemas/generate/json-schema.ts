/**
 * JSON Schema (2020-12) of a message's JSON twin: the same fields, with bytes in base64 and 64-bit integers in decimal.
 * `x-msgpack` names the form that travels. Only what the project's schemas use is known; anything else throws.
 */
import type { Schema, SchemaAST } from "effect"

export type Json = null | boolean | number | string | ReadonlyArray<Json> | { readonly [name: string]: Json }
type Fragment = { readonly [name: string]: Json }

interface Check {
  readonly id: string
  readonly payload: Readonly<Record<string, unknown>>
}

const checksOf = (ast: SchemaAST.AST): ReadonlyArray<Check> =>
  (ast.checks ?? []).map((check) => {
    const found = check.annotations?.representation as { id?: unknown; payload?: unknown } | undefined
    if (typeof found?.id !== "string") throw new Error(`a check of ${ast._tag} without a representation`)
    return { id: found.id, payload: (found.payload ?? {}) as Record<string, unknown> }
  })

const bytesFragment = ({ minimum, maximum }: Check["payload"]): Fragment => ({
  "x-bytes": { minimum: Number(minimum), maximum: Number(maximum) },
  maxLength: 4 * Math.ceil(Number(maximum) / 3),
})

const addressFragment = ({ families }: Check["payload"]): Fragment => {
  const formats = (families as ReadonlyArray<number>).map((family) => ({
    type: "string",
    format: `ipv${family}`,
  }))
  const [only, ...others] = formats
  return only !== undefined && others.length === 0 ? only : { anyOf: formats }
}

const checkFragment = ({ id, payload }: Check): Fragment => {
  switch (id) {
    case "vouchsafe/bytes":
      return bytesFragment(payload)
    case "vouchsafe/address":
      return addressFragment(payload)
    case "vouchsafe/bytes-in-all":
      return { "x-bytes-in-all": Number(payload.maximum) }
    case "effect/schema/isPattern":
      return { pattern: String(payload.source) }
    case "effect/schema/isMaxLength":
      return { maxLength: Number(payload.maxLength) }
    case "effect/schema/isMinLength":
      return { minLength: Number(payload.minLength) }
    case "effect/schema/isInt":
      return { type: "integer", "x-msgpack": "int, or float64 beyond 32 bits" }
    case "effect/schema/isBetween":
      return { minimum: Number(payload.minimum), maximum: Number(payload.maximum) }
    case "effect/schema/isBetweenBigInt":
      return { "x-minimum": String(payload.minimum), "x-maximum": String(payload.maximum) }
    default:
      throw new Error(`no JSON Schema for the check ${id}`)
  }
}

const checked = (ast: SchemaAST.AST, base: Fragment): Fragment =>
  Object.assign({}, base, ...checksOf(ast).map(checkFragment))

const objects = (ast: SchemaAST.Objects): Fragment => {
  const properties = Object.fromEntries(
    ast.propertySignatures.map(({ name, type }) => [String(name), of(type)]),
  )
  const required = ast.propertySignatures
    .filter(({ type }) => type.context?.isOptional !== true)
    .map(({ name }) => String(name))
  const base = { type: "object", "x-msgpack": "map" }
  const [index] = ast.indexSignatures
  if (index === undefined) return { ...base, properties, required, additionalProperties: false }
  return { ...base, propertyNames: of(index.parameter), additionalProperties: of(index.type) }
}

const arrays = (ast: SchemaAST.Arrays): Fragment => {
  const [items] = ast.rest
  if (items === undefined || ast.elements.length > 0) throw new Error("no JSON Schema for tuples")
  const { maxLength, minLength, ...others } = checked(ast, {})
  return {
    type: "array",
    "x-msgpack": "array",
    items: of(items),
    ...(minLength === undefined ? {} : { minItems: minLength }),
    ...(maxLength === undefined ? {} : { maxItems: maxLength }),
    ...others,
  }
}

const union = (ast: SchemaAST.Union): Fragment => {
  const members = ast.types.map(of)
  const literals = members.map((member) => member.const)
  return literals.every((literal) => literal !== undefined)
    ? { enum: literals as Json[] }
    : { anyOf: members }
}

const of = (ast: SchemaAST.AST): Fragment => {
  switch (ast._tag) {
    case "String":
      return checked(ast, { type: "string", "x-msgpack": "str" })
    case "Number":
      return checked(ast, { type: "number", "x-msgpack": "number" })
    case "Boolean":
      return { type: "boolean", "x-msgpack": "bool" }
    case "BigInt":
      return checked(ast, {
        type: "string",
        pattern: "^(0|[1-9][0-9]{0,19})$",
        "x-msgpack": "int64 or uint64, always 9 bytes",
      })
    case "Literal":
      return { const: ast.literal as Json }
    case "Declaration":
      if ((ast.annotations?.representation as { id?: string } | undefined)?.id !== "effect/schema/Uint8Array")
        throw new Error("no JSON Schema for this declaration")
      return checked(ast, { type: "string", contentEncoding: "base64", "x-msgpack": "bin" })
    case "Objects":
      return objects(ast)
    case "Arrays":
      return arrays(ast)
    case "Union":
      return union(ast)
    default:
      throw new Error(`no JSON Schema for ${ast._tag}`)
  }
}

/** The JSON Schema of a message, without `$schema` and `title`. */
export const jsonSchema = (schema: Schema.Constraint): Fragment => of(schema.ast)

/** The JSON twin of a value: bytes in base64, bigints in decimal. */
export const twin = (value: unknown): Json => {
  if (typeof value === "bigint") return value.toString()
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64")
  if (Array.isArray(value)) return value.map(twin)
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, twin(inner)]))
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value
  throw new Error(`no JSON twin of a ${typeof value}`)
}

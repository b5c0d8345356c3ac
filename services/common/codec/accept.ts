/**
 * Whether a value fits a schema, found out without making anything: most messages do. Derived from the schema itself and
 * its own checks; where this says no, or can't be derived, the schema's parser has the word, and the reasons.
 */
import { Schema, SchemaAST } from "effect"

/** True only where a parser that refuses unknown fields would give back an equal value. */
export type Accept = (value: unknown) => boolean

const BYTES = Schema.Uint8Array.ast
const options: SchemaAST.ParseOptions = { onExcessProperty: "error" }

const isBytes = (ast: SchemaAST.AST): boolean =>
  SchemaAST.isDeclaration(ast) && ast.run === (BYTES as SchemaAST.Declaration).run

const ofType = (ast: SchemaAST.AST): Accept | undefined => {
  switch (ast._tag) {
    case "String":
      return (value) => typeof value === "string"
    case "Number":
      return (value) => typeof value === "number"
    case "BigInt":
      return (value) => typeof value === "bigint"
    case "Boolean":
      return (value) => typeof value === "boolean"
    case "Literal": {
      const { literal } = ast
      return (value) => value === literal
    }
    case "Declaration":
      return isBytes(ast) ? (value) => value instanceof Uint8Array : undefined
    case "Arrays":
      return ofArray(ast)
    case "Objects":
      return ast.indexSignatures.length === 0 ? ofStruct(ast) : ofRecord(ast)
    case "Union":
      return ofUnion(ast)
    default:
      return undefined
  }
}

const ofArray = ({ elements, rest }: SchemaAST.Arrays): Accept | undefined => {
  const [item] = rest
  const accepts = item === undefined ? undefined : acceptOf(item)
  if (accepts === undefined || elements.length > 0 || rest.length > 1) return undefined
  return (value) => {
    if (!Array.isArray(value)) return false
    for (const each of value as ReadonlyArray<unknown>) if (!accepts(each)) return false
    return true
  }
}

/** A plain object, whose fields are its own. */
const isPlain = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype

interface Member {
  readonly name: string
  readonly optional: boolean
  readonly accepts: Accept
}

const memberOf = ({ name, type }: SchemaAST.PropertySignature): Member | undefined => {
  const accepts = acceptOf(type)
  // What every object has would be taken for a field.
  if (accepts === undefined || typeof name !== "string" || name in Object.prototype) return undefined
  return { name, optional: SchemaAST.isOptional(type), accepts }
}

const ofStruct = ({ propertySignatures }: SchemaAST.Objects): Accept | undefined => {
  const found = propertySignatures.map(memberOf)
  const members = found.filter((member) => member !== undefined)
  if (members.length < found.length) return undefined
  return (value) => {
    if (!isPlain(value)) return false
    let present = 0
    for (const { name, optional, accepts } of members) {
      const field = value[name]
      if (field === undefined) {
        if (!optional) return false
      } else if (accepts(field)) present++
      else return false
    }
    // More than that: unknown ones, or some that are there without a value.
    return Object.keys(value).length === present
  }
}

const ofRecord = ({ propertySignatures, indexSignatures }: SchemaAST.Objects): Accept | undefined => {
  const [index] = indexSignatures
  if (index === undefined || indexSignatures.length > 1 || propertySignatures.length > 0) return undefined
  const [name, item] = [acceptOf(index.parameter), acceptOf(index.type)]
  if (name === undefined || item === undefined || index.parameter._tag !== "String") return undefined
  return (value) => isPlain(value) && Object.keys(value).every((key) => name(key) && item(value[key]))
}

const ofUnion = ({ types, options: how }: SchemaAST.Union): Accept | undefined => {
  const found = types.map(acceptOf)
  const members = found.filter((member) => member !== undefined)
  if (members.length < found.length || how?.mode === "oneOf") return undefined
  return (value) => members.some((accepts) => accepts(value))
}

/** Undefined where the schema has a form that no message uses: transformations, classes, tuples and the like. */
export const acceptOf = (ast: SchemaAST.AST): Accept | undefined => {
  if (ast.encoding !== undefined || ("encodingChecks" in ast && ast.encodingChecks !== undefined))
    return undefined
  const fits = ofType(ast)
  const { checks } = ast
  if (fits === undefined || checks === undefined) return fits
  const filters = checks.filter((check) => check._tag === "Filter")
  if (filters.length < checks.length) return undefined
  return (value) => {
    if (!fits(value)) return false
    for (const filter of filters) if (filter.run(value, ast, options) !== undefined) return false
    return true
  }
}

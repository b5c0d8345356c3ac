/** From a schema's tree of issues to one code, one field and one sentence, without any value of the message. */
import type { SchemaIssue } from "effect"
import type { DecodeCode } from "./error.ts"

export interface Fault {
  readonly code: DecodeCode
  readonly field: string
  readonly message: string
}

interface Leaf {
  readonly path: ReadonlyArray<PropertyKey>
  readonly code: DecodeCode
  readonly message: string
}

const text = (annotations: object | undefined, name: string): string | undefined => {
  const found: unknown = (annotations as Record<string, unknown> | undefined)?.[name]
  return typeof found === "string" ? found : undefined
}

const leaf = (issue: SchemaIssue.Issue, path: ReadonlyArray<PropertyKey>): Leaf => {
  const bad = (message: string): Leaf => ({ path, code: "BAD_FIELD", message })
  switch (issue._tag) {
    case "Pointer":
      return leaf(issue.issue, [...path, ...issue.path])
    case "Composite":
      return leaf(issue.issues[0], path)
    case "Encoding":
      return leaf(issue.issue, path)
    case "Filter": {
      const inner = leaf(issue.issue, path)
      const expected = text(issue.filter.annotations, "expected")
      return inner.message === ""
        ? { ...inner, message: expected ? `wanted ${expected}` : "out of bounds" }
        : inner
    }
    case "AnyOf": {
      // No member had the wanted `kind`, or exactly one did and says what is wrong in it.
      const only = issue.issues.length === 1 ? issue.issues[0] : undefined
      return only === undefined ? bad("none of the forms that are allowed here") : leaf(only, path)
    }
    case "OneOf":
      return bad("more than one of the forms that are allowed here")
    case "MissingKey":
      return bad("missing")
    case "UnexpectedKey":
      return { path, code: "UNKNOWN_FIELD", message: "not a field of this message" }
    case "InvalidType":
      return bad(`not of the wanted type (${issue.ast._tag})`)
    case "InvalidValue":
      return bad(text(issue.annotations, "message") ?? "")
    case "Forbidden":
      return bad("forbidden")
  }
}

const version = (value: unknown): unknown =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>).v : undefined

/** What is wrong, the first fault that was found. A message of another version is said to be that, whatever else is wrong. */
export const fault = (issue: SchemaIssue.Issue, value?: unknown): Fault => {
  const { path, code, message } = leaf(issue, [])
  const field = path.map(String).join(".")
  const v = version(value)
  if (v !== undefined && v !== 1 && !(code === "UNKNOWN_FIELD" && field === "v"))
    return { code: "WRONG_VERSION", field: "v", message: "only version 1 is understood" }
  return { code, field, message: message === "" ? "out of bounds" : message }
}

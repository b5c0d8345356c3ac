/** Typed reading of the JSON that Intel signs. Members that aren't asked for may be there: Intel adds some with time. */
import { isoOf, TdxError } from "./error.ts"

const fail = (field: string, found: string, wanted: string): never => {
  throw new TdxError("COLLATERAL_MALFORMED", field, found, wanted)
}

const kindOf = (value: unknown): string =>
  value === undefined
    ? "none"
    : Array.isArray(value)
      ? "a list"
      : value === null
        ? "null"
        : `a ${typeof value}`

export class JsonObject {
  readonly #value: object
  readonly field: string

  constructor(value: unknown, field: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      fail(field, kindOf(value), "an object")
    this.#value = value as object
    this.field = field
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#value, name)
  }

  #member(name: string): unknown {
    return this.has(name) ? (this.#value as Readonly<Record<string, unknown>>)[name] : undefined
  }

  object(name: string): JsonObject {
    return new JsonObject(this.#member(name), `${this.field}.${name}`)
  }

  list(name: string, most: number): JsonObject[] {
    const value = this.#member(name)
    const field = `${this.field}.${name}`
    if (!Array.isArray(value)) return fail(field, kindOf(value), "a list")
    if (value.length > most) return fail(field, `${value.length} members`, `at most ${most}`)
    return value.map((one, i) => new JsonObject(one, `${field}[${i}]`))
  }

  text(name: string): string {
    const value = this.#member(name)
    return typeof value === "string" && value.length <= 128
      ? value
      : fail(`${this.field}.${name}`, kindOf(value), "a text of at most 128 characters")
  }

  texts(name: string, most: number): string[] {
    const value = this.#member(name)
    if (value === undefined) return []
    const isText = (one: unknown): one is string => typeof one === "string" && one.length <= 128
    return Array.isArray(value) && value.length <= most && value.every(isText)
      ? value
      : fail(`${this.field}.${name}`, kindOf(value), `at most ${most} texts`)
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const text = this.text(name)
    return allowed.find((one) => one === text) ?? fail(`${this.field}.${name}`, text, allowed.join(", "))
  }

  integer(name: string, most: number): number {
    const value = this.#member(name)
    return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= most
      ? value
      : fail(`${this.field}.${name}`, typeof value === "number" ? `${value}` : kindOf(value), `0 to ${most}`)
  }

  hex(name: string, length: number): Uint8Array {
    const text = this.text(name)
    return text.length === 2 * length && /^[0-9a-fA-F]*$/.test(text)
      ? Uint8Array.from(Buffer.from(text, "hex"))
      : fail(`${this.field}.${name}`, `${text.length} characters`, `${length} bytes in hex`)
  }

  date(name: string): Date {
    const text = this.text(name)
    const date = new Date(text)
    return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text) && isoOf(date) === text.replace("Z", ".000Z")
      ? date
      : fail(`${this.field}.${name}`, JSON.stringify(text.slice(0, 40)), "a time in UTC to the second")
  }
}

/** Typed reading of JSON, chiefly what Intel signs. Members that aren't asked for may be there: Intel adds some with time. */
import { isoOf } from "../text.ts"
import { TdxError, type TdxErrorCode } from "./error.ts"

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
  readonly #code: TdxErrorCode
  readonly field: string

  /** @param code of the errors that come of it */
  constructor(value: unknown, field: string, code: TdxErrorCode = "COLLATERAL_MALFORMED") {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new TdxError(code, field, kindOf(value), "an object")
    this.#value = value
    this.#code = code
    this.field = field
  }

  #fail(field: string, found: string, wanted: string): never {
    throw new TdxError(this.#code, field, found, wanted)
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#value, name)
  }

  #member(name: string): unknown {
    return this.has(name) ? (this.#value as Readonly<Record<string, unknown>>)[name] : undefined
  }

  object(name: string): JsonObject {
    return new JsonObject(this.#member(name), `${this.field}.${name}`, this.#code)
  }

  list(name: string, most: number): JsonObject[] {
    const value = this.#member(name)
    const field = `${this.field}.${name}`
    if (!Array.isArray(value)) return this.#fail(field, kindOf(value), "a list")
    if (value.length > most) return this.#fail(field, `${value.length} members`, `at most ${most}`)
    return value.map((one, i) => new JsonObject(one, `${field}[${i}]`, this.#code))
  }

  text(name: string, most = 128): string {
    const value = this.#member(name)
    return typeof value === "string" && value.length <= most
      ? value
      : this.#fail(`${this.field}.${name}`, kindOf(value), `a text of at most ${most} characters`)
  }

  texts(name: string, most: number): string[] {
    const value = this.#member(name)
    if (value === undefined) return []
    const isText = (one: unknown): one is string => typeof one === "string" && one.length <= 128
    return Array.isArray(value) && value.length <= most && value.every(isText)
      ? value
      : this.#fail(`${this.field}.${name}`, kindOf(value), `at most ${most} texts`)
  }

  oneOf<T extends string>(name: string, allowed: readonly T[]): T {
    const text = this.text(name)
    return (
      allowed.find((one) => one === text) ?? this.#fail(`${this.field}.${name}`, text, allowed.join(", "))
    )
  }

  integer(name: string, most: number): number {
    const value = this.#member(name)
    return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= most
      ? value
      : this.#fail(
          `${this.field}.${name}`,
          typeof value === "number" ? `${value}` : kindOf(value),
          `0 to ${most}`,
        )
  }

  hex(name: string, length: number): Uint8Array {
    const text = this.text(name)
    return text.length === 2 * length && /^[0-9a-fA-F]*$/.test(text)
      ? Uint8Array.from(Buffer.from(text, "hex"))
      : this.#fail(`${this.field}.${name}`, `${text.length} characters`, `${length} bytes in hex`)
  }

  date(name: string): Date {
    const text = this.text(name)
    const date = new Date(text)
    return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(text) && isoOf(date) === text.replace("Z", ".000Z")
      ? date
      : this.#fail(`${this.field}.${name}`, JSON.stringify(text.slice(0, 40)), "a time in UTC to the second")
  }
}

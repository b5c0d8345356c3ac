/** One line per entry on stderr: text for people, JSON for collectors. Values are names, codes and counts, never payloads. */
import { Cause, type Layer, Logger, References } from "effect"
import { plainJson, plainLine } from "./plain-text.ts"

export type LogFormat = "text" | "json"

export interface Entry {
  readonly time: string
  readonly level: string
  readonly service: string
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
  readonly cause: string | undefined
}

const shown = (value: unknown): string => {
  if (typeof value === "string") return /^[\w./:@+-]+$/.test(value) ? value : JSON.stringify(plainLine(value))
  if (typeof value === "bigint" || typeof value === "number" || typeof value === "boolean")
    return String(value)
  if (value instanceof Uint8Array) return `<${value.length} bytes>`
  if (value instanceof Error) return JSON.stringify(plainLine(`${value.name}: ${value.message}`))
  return plainLine(JSON.stringify(value, replacer) ?? "undefined")
}

function replacer(_: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString()
  if (value instanceof Uint8Array) return `<${value.length} bytes>`
  if (value instanceof Error) return `${value.name}: ${value.message}`
  return value
}

const record = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype

const own: ReadonlySet<string> = new Set(["time", "level", "service", "message", "cause"])

/** What happened, where and when isn't for a field to say: one of such a name gets another. */
const named = (fields: Entry["fields"]): Entry["fields"] =>
  Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [own.has(name) ? `field_${name}` : name, value]),
  )

export const line = (entry: Entry, format: LogFormat): string => {
  const { time, level, service, message, fields, cause } = entry
  if (format === "json") {
    const first = { time, level, service, message, ...(cause === undefined ? {} : { cause }) }
    return `${plainJson(JSON.stringify({ ...first, ...named(fields) }, replacer))}\n`
  }
  const rest = Object.entries(fields).map(([name, value]) => ` ${plainLine(name)}=${shown(value)}`)
  const why = cause === undefined ? "" : ` cause=${shown(cause)}`
  return `${time} ${level.padEnd(5)} ${service}: ${plainLine(message)}${rest.join("")}${why}\n`
}

const entryOf = (service: string, options: Logger.Options<unknown>): Entry => {
  const parts = Array.isArray(options.message) ? options.message : [options.message]
  const fields: Record<string, unknown> = { ...options.fiber.getRef(References.CurrentLogAnnotations) }
  const texts: string[] = []
  for (const part of parts) {
    if (record(part)) Object.assign(fields, part)
    else texts.push(typeof part === "string" ? part : shown(part))
  }
  return {
    time: options.date.toISOString(),
    level: options.logLevel.toUpperCase(),
    service,
    message: texts.join(" "),
    fields,
    cause: options.cause.reasons.length === 0 ? undefined : Cause.pretty(options.cause),
  }
}

/** Replaces Effect's loggers by one that writes to stderr. */
export const logTo = (service: string, format: LogFormat): Layer.Layer<never> =>
  Logger.layer([
    Logger.make((options) => {
      process.stderr.write(line(entryOf(service, options), format))
    }),
  ])

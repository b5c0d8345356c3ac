/** An inspection for people: what it is, what was checked, what stands in it; at most 100 columns. */
import type { Check, Inspection } from "./inspection.ts"

const columns = 100

const clip = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, most - 3)}...`

/** Nothing of what evidence holds may move the cursor or break a line. */
const safe = (text: string): string => text.replaceAll(/[^\x20-\x7e]/g, "?")

const marks: Readonly<Record<Check["result"], string>> = {
  passed: "ok",
  failed: "FAILED",
  "not reached": "-",
  "not applicable": "note",
}

export const tableOf = (inspection: Inspection): readonly string[] => {
  const { file, kind, genuine, usable, platform, version, at, checks, status, fields, error } = inspection
  const doubt = checks.some(({ result }) => result === "failed") ? ", BUT UNFIT" : ""
  const verdict = genuine ? `GENUINE${doubt}` : usable ? "NOT GENUINE" : "UNUSABLE"
  const what = [platform ?? kind ?? "no known kind of evidence", version === null ? "" : `version ${version}`]
  return [
    `${verdict}  ${what.filter((part) => part !== "").join(", ")}, at ${at}`,
    `  ${file}`,
    ...(error === null ? [] : wrapped(`${error.code}  ${error.message}`)),
    ...checks.map(checkLine),
    ...section("status", status),
    ...section(genuine ? "fields" : "fields (NOT to be believed)", fields),
  ].map((line) => clip(safe(line), columns))
}

/** The reason is worth three lines; hex in it has no words to break at. */
const wrapped = (text: string): readonly string[] =>
  (clip(safe(text), 3 * (columns - 4)).match(new RegExp(`.{1,${columns - 4}}`, "g")) ?? []).map(
    (line, i) => `${i === 0 ? "  " : "    "}${line}`,
  )

const checkLine = ({ name, result, found, wanted }: Check): string =>
  `  ${marks[result].padEnd(6)}  ${name.padEnd(22)}  ${result === "failed" ? `found ${clip(found, 28)}, wanted ${wanted}` : result === "not reached" ? "" : found}`.trimEnd()

/** Values that are empty, zero or false say little: they are left to --json. */
const section = (title: string, values: Readonly<Record<string, unknown>>): readonly string[] => {
  const lines = Object.entries(values)
    .flatMap(([name, value]) => (isNested(value) ? nestedEntries(name, value) : [[name, value] as const]))
    .map(([name, value]) => [name, textOf(value)] as const)
    .filter(([, text]) => text !== "" && !/^0*$/.test(text))
  return lines.length === 0
    ? []
    : [`  ${title}:`, ...lines.map(([name, text]) => `    ${name.padEnd(20)}  ${text}`)]
}

const isObject = (value: unknown): value is object =>
  typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype

/** An object of objects takes a line for each. */
const isNested = (value: unknown): value is object =>
  isObject(value) && Object.values(value).length > 0 && Object.values(value).every(isObject)

const nestedEntries = (name: string, value: object): readonly (readonly [string, unknown])[] =>
  Object.entries(value).map(([member, each]) => [`${name}.${member}`, each] as const)

const textOf = (value: unknown): string => {
  const plain = value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value
  if (plain === null || plain === undefined || plain === false) return ""
  if (Array.isArray(plain))
    return plain
      .map(textOf)
      .filter((text) => text !== "")
      .join(" ")
  if (plain instanceof Date) return plain.toISOString()
  if (typeof plain === "object")
    return Object.entries(plain)
      .map(([name, each]) => [name, textOf(each)] as const)
      .filter(([, text]) => text !== "" && !/^0*$/.test(text))
      .map(([name, text]) => (text === "true" ? name : `${name} ${clip(text, 20)}`))
      .join(", ")
  return String(plain)
}

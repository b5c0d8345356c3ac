/** Results for people or, with --json, for scripts; everything else goes to stderr. */
import { plainJson, plainLine } from "../common/process/plain-text.ts"

export interface Output {
  readonly json: boolean
  /** The one result of a command. */
  readonly result: (value: unknown, lines: ReadonlyArray<string>) => void
  /** One of many, as they come. */
  readonly item: (value: unknown, line: string) => void
}

/** The command line itself was wrong: exit status 64. */
export class UsageError extends Error {
  override readonly name = "UsageError"
}

const plain = (_key: string, value: unknown): unknown => {
  if (typeof value === "bigint") return value.toString()
  return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value
}

export const createOutput = (json: boolean): Output => {
  const write = (text: string) => void process.stdout.write(`${text}\n`)
  const writeJson = (value: unknown, indent?: number) =>
    write(plainJson(JSON.stringify(value, plain, indent)))
  // What the bus and files say may be a stranger's.
  const writeLine = (line: string) => write(plainLine(line))
  return {
    json,
    result: (value, lines) => (json ? writeJson(value, 2) : lines.forEach(writeLine)),
    item: (value, line) => (json ? writeJson(value) : writeLine(line)),
  }
}

/** To stderr, as results go to stdout. */
export const warn = (text: string): void =>
  void process.stderr.write(`${text.split("\n").map(plainLine).join("\n")}\n`)

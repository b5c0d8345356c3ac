/** Results for people or, with --json, for scripts; everything else goes to stderr. */
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
  return {
    json,
    result: (value, lines) => (json ? write(JSON.stringify(value, plain, 2)) : lines.forEach(write)),
    item: (value, line) => write(json ? JSON.stringify(value, plain) : line),
  }
}

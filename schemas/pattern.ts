/** Subject patterns: `attest.{node}.{identity}`. Every subject that is ever used or permitted is filled in here. */
import { TOKEN } from "./fields.ts"

/** The names between braces, as a type. */
export type TokenNames<P extends string> = P extends `${string}{${infer T}}${infer Rest}`
  ? T | TokenNames<Rest>
  : never

const PREFIX = /^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,3}$/

/** A token or prefix that could change what a subject means: wildcards, dots, blanks, line breaks, too long, absent. */
export class SubjectError extends Error {
  override readonly name = "SubjectError"
  readonly token: string

  constructor(token: string, message: string) {
    super(message)
    this.token = token
  }
}

/** Gives `text` back if it is one subject token; throws `SubjectError` with the token's `name` if not. */
export const token = (name: string, text: unknown): string => {
  if (typeof text === "string" && TOKEN.test(text)) return text
  throw new SubjectError(name, `${name} is not a subject token: 1 to 64 of A-Z a-z 0-9 _ -`)
}

/** Gives `text` back if it can start every subject: one to four tokens. */
export const prefixed = (text: string): string => {
  if (PREFIX.test(text)) return text
  throw new SubjectError("prefix", "the prefix is not one to four subject tokens joined by dots")
}

/**
 * Fills in a pattern. `value` gives the text of each token, or "*" where any will do (`wild`); everything else is
 * checked and refused with `SubjectError`.
 */
export const fill = (
  prefix: string,
  pattern: string,
  value: (name: string) => unknown,
  { wild = false }: { readonly wild?: boolean } = {},
): string => {
  const filled = pattern.replace(/\{(\w+)\}/g, (_, name: string) => {
    const text = value(name)
    return wild && text === "*" ? "*" : token(name, text)
  })
  return `${prefixed(prefix)}.${filled}`
}

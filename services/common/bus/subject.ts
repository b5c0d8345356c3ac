/** The one builder of subjects, and its inverse. The client library checks nothing: a line break would be a second command. */
import { TOKEN } from "../../../schemas/fields.ts"
import { fill, prefixed, type TokenNames, token } from "../../../schemas/pattern.ts"
import { type Role, type SubjectName, subjects, type Token } from "../../../schemas/subjects.ts"

export { SubjectError } from "../../../schemas/pattern.ts"

export type Tokens<N extends SubjectName> = {
  readonly [T in TokenNames<(typeof subjects)[N]["pattern"]>]: string
}

/** A subject's parts between the dots, the prefix's before its own; one that a token fills in goes by the token's name. */
interface Part {
  readonly text: string
  readonly isToken: boolean
}

const shapes = new Map<string, Map<SubjectName, ReadonlyArray<Part>>>()

/** Taken apart once: each message that comes or goes asks. Throws `SubjectError` for a prefix that is none. */
const shapeOf = (prefix: string, name: SubjectName): ReadonlyArray<Part> => {
  const known = shapes.get(prefix)?.get(name)
  if (known !== undefined) return known
  const made = `${prefixed(prefix)}.${subjects[name].pattern}`
    .split(".")
    .map((part) =>
      part.startsWith("{") ? { text: part.slice(1, -1), isToken: true } : { text: part, isToken: false },
    )
  const ofPrefix = shapes.get(prefix) ?? new Map<SubjectName, ReadonlyArray<Part>>()
  shapes.set(prefix, ofPrefix.set(name, made))
  return made
}

/** The subject of `name` with these tokens; throws `SubjectError` when one of them is not a token. */
export const subject = <N extends SubjectName>(prefix: string, name: N, tokens: Tokens<N>): string => {
  const given = tokens as Readonly<Record<string, string>>
  let filled = ""
  for (const { text, isToken } of shapeOf(prefix, name)) {
    if (filled !== "") filled += "."
    filled += isToken ? token(text, given[text]) : text
  }
  return filled
}

/** Like `subject`, for subscribing: tokens that are left out match any. */
export const filter = <N extends SubjectName>(prefix: string, name: N, tokens: Partial<Tokens<N>>): string =>
  fill(prefix, subjects[name].pattern, (wanted) => (tokens as Record<string, string>)[wanted] ?? "*", {
    wild: true,
  })

/** The tokens of a subject that arrived; undefined unless it has exactly the shape of `name`. */
export const parse = <N extends SubjectName>(
  prefix: string,
  name: N,
  text: string,
): Tokens<N> | undefined => {
  const shape = shapeOf(prefix, name)
  const parts = text.split(".")
  if (parts.length !== shape.length) return undefined
  const tokens: Record<string, string> = {}
  for (const [i, { text: wanted, isToken }] of shape.entries()) {
    const part = parts[i] ?? ""
    if (isToken ? !TOKEN.test(part) : part !== wanted) return undefined
    if (isToken) tokens[wanted] = part
  }
  return tokens as Tokens<N>
}

/** Who a NATS user is: its name is `<role>-<instance>`, its inbox `_INBOX.<name>.>`. */
export interface Identity {
  readonly role: Role
  readonly instance: string
  readonly name: string
}

/** Throws `SubjectError` when the instance is not a token or makes the name longer than one. */
export const identity = (role: Role, instance: string): Identity => ({
  role,
  instance: token("instance", instance),
  name: token("identity", `${role}-${instance}`),
})

export const inbox = (name: string): string => `_INBOX.${token("identity", name)}`

const INBOX_REST = /^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,2}$/

/** Whether an answer to `reply` can reach only the identity `sender`. */
export const insideInbox = (reply: string, sender: string): boolean => {
  const start = `${inbox(sender)}.`
  return reply.startsWith(start) && INBOX_REST.test(reply.slice(start.length))
}

/**
 * Which identity may have published on a subject with these tokens, by the table: the `{identity}` token where there is
 * one, else the publishing role with its own node or instance; undefined where the subject does not tell.
 * An `{identity}` that is no role's that may publish here, or another node's, is nobody: null.
 */
export const senderOf = <N extends SubjectName>(name: N, tokens: Tokens<N>): string | undefined | null => {
  const given = tokens as Readonly<Partial<Record<Token, string>>>
  const { publishers } = subjects[name]
  if (given.identity !== undefined) {
    const claimed = given.identity
    const known = publishers.some(({ role, own }: { role: Role; own: ReadonlyArray<Token> }) =>
      own.includes("node") ? claimed === `${role}-${given.node}` : claimed.startsWith(`${role}-`),
    )
    return known ? claimed : null
  }
  const [publisher] = publishers
  if (publishers.length !== 1 || publisher === undefined) return undefined
  const own: ReadonlyArray<Token> = publisher.own
  const instance = own.includes("node") ? given.node : own.includes("instance") ? given.instance : undefined
  return instance === undefined ? undefined : `${publisher.role}-${instance}`
}

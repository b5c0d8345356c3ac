/** The one builder of subjects, and its inverse. The client library checks nothing: a line break would be a second command. */
import { fill, SubjectError, type TokenNames, token } from "../../../schemas/pattern.ts"
import { type Role, type SubjectName, subjects, type Token } from "../../../schemas/subjects.ts"

export { SubjectError } from "../../../schemas/pattern.ts"

export type Tokens<N extends SubjectName> = {
  readonly [T in TokenNames<(typeof subjects)[N]["pattern"]>]: string
}

/** The subject of `name` with these tokens; throws `SubjectError` when one of them is not a token. */
export const subject = <N extends SubjectName>(prefix: string, name: N, tokens: Tokens<N>): string =>
  fill(prefix, subjects[name].pattern, (wanted) => (tokens as Record<string, string>)[wanted])

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
  const shape = `${prefix}.${subjects[name].pattern}`.split(".")
  const parts = text.split(".")
  if (parts.length !== shape.length) return undefined
  const tokens: Record<string, string> = {}
  for (const [i, wanted] of shape.entries()) {
    const part = parts[i] ?? ""
    if (!wanted.startsWith("{")) {
      if (part !== wanted) return undefined
      continue
    }
    const known = wanted.slice(1, -1)
    try {
      tokens[known] = token(known, part)
    } catch (error) {
      if (error instanceof SubjectError) return undefined
      throw error
    }
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

/** A verifier takes back what it has vouched for. */
import { Schema } from "effect"
import { Digest, list, Nonce, Session, Token, text, U64, Version } from "../fields.ts"

/** How many results one message takes back at most: one piece of news may concern a whole fleet. */
export const WITHDRAWN_MAX = 256

export const WithdrawnResult = Schema.Struct({
  node: Token,
  session: Session,
  /** Of the result's body, which the same key has signed. Absent where the verifier refuses a node that it has signed nothing for. */
  result: Schema.optionalKey(Digest),
  /** The newest beacon when the node was judged: no result with this or an older one counts, whichever verifier has signed it. */
  beacon: Schema.optionalKey(Nonce),
  /** Why, as in refusals: for people and records. */
  code: text(64),
  field: text(128),
})
export type WithdrawnResult = typeof WithdrawnResult.Type

/** The body that a verifier signs. */
export const Withdrawal = Schema.Struct({
  v: Version,
  domain: Token,
  workflow: Digest,
  verifier: Token,
  /** Counts what this verifier has said since its start: a gap in what was heard is somebody's doing. */
  sequence: U64,
  results: list(WithdrawnResult, WITHDRAWN_MAX),
})
export type Withdrawal = typeof Withdrawal.Type

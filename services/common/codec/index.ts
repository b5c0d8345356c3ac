/**
 * Messages to bytes and back: msgpack inside, an Effect Schema around it. Nothing asynchronous. There is no canonical
 * form: sign the bytes, verify the bytes, then decode the same bytes.
 *
 * Whole numbers beyond 32 bits travel as float64 (`Count`), bigints always as 64-bit integers (`U64`).
 */
import { Result as EffectResult, type Schema, type SchemaIssue, SchemaParser } from "effect"
import { limits } from "../../../schemas/limits.ts"
import { type Accept, acceptOf } from "./accept.ts"
import { DecodeError, EncodeError } from "./error.ts"
import { fault } from "./issue.ts"
import { ReadFault, read } from "./read.ts"
import { write } from "./write.ts"

export { type DecodeCode, DecodeError, EncodeError } from "./error.ts"

export type Result<T, E> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: E }

/** A schema whose decoded and encoded forms are the same, as those of all messages are. */
export type MessageSchema<T = unknown> = Schema.ConstraintCodec<T, T, never, never>

type Parse = (input: unknown) => EffectResult.Result<unknown, SchemaIssue.Issue>

interface Check {
  readonly accepts: Accept | undefined
  readonly parse: Parse
}

const compiled = new WeakMap<MessageSchema, Check>()
const compile = (schema: MessageSchema): Check => {
  const made = {
    accepts: acceptOf(schema.ast),
    parse: SchemaParser.decodeUnknownResult(schema, { onExcessProperty: "error" }),
  }
  compiled.set(schema, made)
  return made
}

/** What the schema's parser makes of a value; it is asked only about those that aren't known to fit. */
const check = (schema: MessageSchema, value: unknown): ReturnType<Parse> => {
  const { accepts, parse } = compiled.get(schema) ?? compile(schema)
  return accepts?.(value) ? EffectResult.succeed(value) : parse(value)
}

/** Encodes a value of our own. Throws `EncodeError` when it does not fit the schema. The bytes own their memory. */
export const encode = <S extends MessageSchema>(schema: S, value: S["Type"]): Uint8Array => {
  const checked = check(schema, value)
  if (EffectResult.isFailure(checked)) {
    const { field, message } = fault(checked.failure)
    throw new EncodeError(field, message)
  }
  return write(value)
}

/**
 * Encodes a value that was put together from values that have been checked, without checking it again: for messages that
 * are large and made often. Whoever decodes it checks it all the same. The bytes own their memory.
 */
export const encodeChecked = <S extends MessageSchema>(_schema: S, value: S["Type"]): Uint8Array =>
  write(value)

export interface DecodeOptions {
  /** Where the bytes came from, for the error. */
  readonly subject: string
  /** Most bytes that are looked at; `limits.messageBytes` unless told. */
  readonly bytesMax?: number
}

/**
 * Decodes hostile bytes. Byte fields of the value are copies of their own, never views of `bytes`.
 * Never throws for anything that `bytes` may hold.
 */
export const decode = <S extends MessageSchema>(
  schema: S,
  bytes: Uint8Array,
  { subject, bytesMax = limits.messageBytes }: DecodeOptions,
): Result<S["Type"], DecodeError> => {
  const refuse = (error: DecodeError): Result<S["Type"], DecodeError> => ({ ok: false, error })
  if (bytes.length > bytesMax)
    return refuse(new DecodeError("TOO_LARGE", subject, "", `${bytes.length} bytes, at most ${bytesMax}`))
  let value: unknown
  try {
    value = read(bytes)
  } catch (error) {
    if (!(error instanceof ReadFault)) throw error
    return refuse(new DecodeError(error.code, subject, "", error.message))
  }
  const checked = check(schema, value)
  if (EffectResult.isSuccess(checked)) return { ok: true, value: checked.success }
  const { code, field, message } = fault(checked.failure, value)
  return refuse(new DecodeError(code, subject, field, message))
}

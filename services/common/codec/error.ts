/** Why bytes were not believed. */

export type DecodeCode =
  /** More bytes than the subject allows; nothing was looked at. */
  | "TOO_LARGE"
  /** Not msgpack: cut short, a length that points past the end, the reserved byte 0xc1, text that is not UTF-8. */
  | "NOT_MSGPACK"
  /** Well-formed, but a form that no message uses: extension types, keys that are not strings. */
  | "FORBIDDEN_TYPE"
  | "TOO_DEEP"
  | "TOO_MANY"
  | "DUPLICATE_KEY"
  /** A second value, or anything else, after the first. */
  | "TRAILING"
  | "WRONG_VERSION"
  | "UNKNOWN_FIELD"
  /** Missing, of another type, or out of its bounds. */
  | "BAD_FIELD"

const FIELD_MAX = 128
const MESSAGE_MAX = 512

/** Field names can come from the sender: only printable ASCII gets into logs and answers, and not much of it. */
const printable = (text: string, most: number): string => text.slice(0, most).replace(/[^\x20-\x7e]/g, "?")

/**
 * A message was refused. `field` is the path of the wrong field, dots between names ("evidence.certificates.0"), or ""
 * for the whole message. Neither text ever holds a value of the message.
 */
export class DecodeError extends Error {
  override readonly name = "DecodeError"
  readonly code: DecodeCode
  readonly subject: string
  readonly field: string

  constructor(code: DecodeCode, subject: string, field: string, message: string) {
    super(printable(message, MESSAGE_MAX))
    this.code = code
    this.subject = printable(subject, MESSAGE_MAX)
    this.field = printable(field, FIELD_MAX)
  }
}

/** A value of our own that does not fit its schema: a programming error, thrown by `encode`. */
export class EncodeError extends Error {
  override readonly name = "EncodeError"
  readonly field: string

  constructor(field: string, message: string) {
    super(
      `cannot encode ${field === "" ? "the message" : printable(field, FIELD_MAX)}: ${printable(message, MESSAGE_MAX)}`,
    )
    this.field = printable(field, FIELD_MAX)
  }
}

/** From the protocol's errors to refusals that may be told to a stranger: what was wrong and where, never a value. */
import { Effect } from "effect"
import { Refused } from "../common/bus/types.ts"
import { decode, type MessageSchema } from "../common/codec/index.ts"
import { MakeError } from "../make/errors.ts"

/** A refusal, its texts cut to what a message may hold. */
export const refuse = (code: string, field: string, message: string): Refused =>
  new Refused({ code: code.slice(0, 64), field: field.slice(0, 128), message: message.slice(0, 512) })

/** Runs a piece of the pure core. Its MakeErrors become refusals; anything else is a defect. */
export const attempt = <A>(run: () => A): Effect.Effect<A, Refused> =>
  Effect.try({
    try: run,
    catch: (error) => {
      if (!(error instanceof MakeError)) throw error
      return refuse(error.code, error.field, error.message)
    },
  })

/** Decodes bytes whose signature or seal has been verified. @throws MakeError MALFORMED naming the field */
export const decodeBody = <T>(schema: MessageSchema<T>, bytes: Uint8Array, subject: string): T => {
  const decoded = decode(schema, bytes, { subject })
  if (decoded.ok) return decoded.value
  throw new MakeError("MALFORMED", `${subject}.${decoded.error.field}`, decoded.error.message)
}

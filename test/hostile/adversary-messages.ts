/** What anybody who sees the bus can read of a message. */
import { Signed } from "../../schemas/messages/common.ts"
import { DEFAULT_PREFIX } from "../../schemas/subjects.ts"
import { decode, type MessageSchema } from "../../services/common/codec/index.ts"
import type { Sent } from "./adversary-bus.ts"

export const PREFIX = DEFAULT_PREFIX

/** The prefix of everything in the table. */
export const on = (rest: string): string => `${PREFIX}.${rest}`

export const short = (subject: string): string => subject.replace(`${PREFIX}.`, "")

export const kindOf = ({ subject }: Pick<Sent, "subject">): string =>
  subject.startsWith("_INBOX.") ? "reply" : (subject.split(".")[2] ?? "")

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

export const understood = <T>(schema: MessageSchema<T>, data: Uint8Array): T | undefined => {
  const found = decode(schema, data, { subject: "observed" })
  return found.ok ? found.value : undefined
}

/** A signed message, opened without asking whether the signature holds. */
export const opened = <T>(
  schema: MessageSchema<T>,
  data: Uint8Array,
): { readonly signed: Signed; readonly body: T } | undefined => {
  const signed = understood(Signed, data)
  const body = signed && understood(schema, signed.body)
  return signed === undefined || body === undefined ? undefined : { signed, body }
}

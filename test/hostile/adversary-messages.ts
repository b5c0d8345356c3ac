/** What anybody who sees the bus can read of a message. */

import { permissionsFor } from "../../schemas/generate/permissions.ts"
import { Signed } from "../../schemas/messages/common.ts"
import { DEFAULT_PREFIX, type Role } from "../../schemas/subjects.ts"
import { decode, type MessageSchema } from "../../services/common/codec/index.ts"
import { fits, type Sent } from "./adversary-bus.ts"

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

const allowed = new Map<string, ReadonlyArray<string>>()

/** Whether the table lets an identity publish on a plain subject: what a server would refuse, nobody may even try. */
export const mayPublish = (from: string, domain: string, subject: string): boolean => {
  const [role = "", ...rest] = from.split("-")
  const patterns =
    allowed.get(`${domain} ${from}`) ??
    permissionsFor({ role: role as Role, instance: rest.join("-"), domain }).publish
  allowed.set(`${domain} ${from}`, patterns)
  return !/[\s*>]/.test(subject) && patterns.some((pattern) => fits(pattern, subject))
}

/** What the commands of a domain's life have in common: which domain, whose key, and what they are told. */
import { parseArgs } from "node:util"
import { UsageError } from "./output.ts"

const options = {
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
  key: { type: "string", multiple: true },
  from: { type: "string" },
  domain: { type: "string" },
  node: { type: "string", multiple: true },
  chip: { type: "string", multiple: true },
  measurement: { type: "string", multiple: true },
  yes: { type: "boolean", default: false },
} as const

export type LifecycleValues = ReturnType<typeof parseLifecycle>["values"]

export const parseLifecycle = (args: ReadonlyArray<string>) =>
  parseArgs({ args: [...args], options, allowPositionals: true, strict: true })

const TOKEN = /^[A-Za-z0-9_-]{1,64}$/

export const domainOf = ({ domain = process.env.VOUCHSAFE_DOMAIN }: LifecycleValues): string => {
  if (domain === undefined || !TOKEN.test(domain))
    throw new UsageError("name the domain: --domain NAME, or VOUCHSAFE_DOMAIN in the environment")
  return domain
}

/** One for each operator that the domain's threshold asks for. */
export const keyFilesOf = ({ key = [] }: LifecycleValues): ReadonlyArray<string> => {
  if (key.length === 0) throw new UsageError("--key KEYFILE is missing")
  return key
}

/** Where one operator's word is enough. */
export const keyFileOf = (values: LifecycleValues): string => {
  const [key, more] = keyFilesOf(values)
  if (key === undefined || more !== undefined) throw new UsageError("one --key KEYFILE is enough here")
  return key
}

/** What the commands of a domain's life have in common: which domain, whose key, and what they are told. */
import { parseArgs } from "node:util"
import { UsageError } from "./output.ts"

export const lifecycleUsage = `  rotate [EDGE] --key KEYFILE          new keys at once, without a gap: for an edge, an instance of it, or all
  revoke --node ID | --chip KIND:ID | --measurement HEX ... --key KEYFILE ... [--from FILE] [--yes]
                                       a new version of the workflow (the one in force, or that in FILE) without them
  enroll list                          machines that asked for a node's place and are not enrolled for it
  enroll approve|deny|replace NODE [--chip KIND:ID] --key KEYFILE ... [--from FILE] [--yes]
                                       a new version of the workflow: a pending node gets its machine, a machine
                                       is refused for good, a node gets another machine
                                       All of these take --domain NAME or VOUCHSAFE_DOMAIN; a --key for each signer
`

const lifecycle = ["rotate", "enroll", "revoke"] as const
export type Lifecycle = (typeof lifecycle)[number]

export const isLifecycle = (command: string | undefined): command is Lifecycle =>
  lifecycle.some((one) => one === command)

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

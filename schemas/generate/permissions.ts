/**
 * What each NATS identity may publish and subscribe, from the table of subjects: allow lists only, never
 * `allow_responses`, and the text of a server's configuration that grants exactly that.
 */
import { limits } from "../limits.ts"
import { fill, prefixed, token } from "../pattern.ts"
import {
  type Bucket,
  DEFAULT_PREFIX,
  type Party,
  type Role,
  type Subject,
  streams,
  subjects,
} from "../subjects.ts"

/** Who a NATS user is. For attesters and loaders the instance is their node's id. */
export interface NatsIdentity {
  readonly role: Role
  readonly instance: string
  /** The one domain whose workflow it may read; every domain's when absent. */
  readonly domain?: string
}

export interface NatsUser extends NatsIdentity {
  /** The user's public nkey (`U...`). */
  readonly publicKey: string
}

export interface Permissions {
  readonly publish: ReadonlyArray<string>
  readonly subscribe: ReadonlyArray<string>
}

/** The streams that the operator keeps: of events, and behind each bucket. */
const keptStreams = [
  streams.events,
  `KV_${streams.workflows}`,
  `KV_${streams.collateral}`,
  `KV_${streams.leaders}`,
  `KV_${streams.proofs}`,
]
const roleOf = (parties: ReadonlyArray<Party>, role: Role) => parties.find((party) => party.role === role)

/** The identity's name, which is also its inbox: throws `SubjectError` when it is not one token. */
export const nameOf = ({ role, instance }: NatsIdentity): string =>
  token("identity", `${role}-${token("instance", instance)}`)

const subjectOf = (prefix: string, row: Subject, party: Party, who: NatsIdentity): string =>
  fill(
    prefix,
    row.pattern,
    (name) => {
      if (!(party.own as ReadonlyArray<string>).includes(name)) return "*"
      return name === "identity" ? nameOf(who) : who.instance
    },
    { wild: true },
  )

/**
 * JetStream subjects of a bucket. Followers of one key read it directly and listen to the subject that fills it; a bucket
 * without keys of anybody's own is read through, or by the digest of what is wanted.
 */
const bucket = (
  row: Subject,
  name: Bucket,
  who: NatsIdentity,
): { readonly publish: string[]; readonly subscribe: string[] } => {
  const isWhole = row.pattern.endsWith(".{key}")
  const isByDigest = row.pattern.endsWith(".{digest}")
  const own = isWhole || isByDigest || who.domain === undefined ? "*" : token("domain", who.domain)
  const key = `$KV.${streams[name]}.${own}`
  const get = `$JS.API.DIRECT.GET.KV_${streams[name]}`
  const reads = roleOf(row.subscribers, who.role) !== undefined
  const writes = roleOf(row.publishers, who.role) !== undefined
  return {
    publish: [...(reads ? [isWhole ? get : `${get}.${key}`] : []), ...(writes ? [key] : [])],
    subscribe: reads && !isWhole && !isByDigest ? [key] : [],
  }
}

/** Making and changing the streams. Never deleting, purging or restoring them, and no consumers: those could deliver anywhere. */
const upkeep = (row: Subject, role: Role): string[] =>
  row.kind === "kv" && role === "operator"
    ? keptStreams.flatMap((name) => [
        `$JS.API.STREAM.CREATE.${name}`,
        `$JS.API.STREAM.UPDATE.${name}`,
        `$JS.API.STREAM.INFO.${name}`,
      ])
    : []

/** Everything that `who` may publish and subscribe under `prefix`. Throws `SubjectError` for names that are not tokens. */
export const permissionsFor = (who: NatsIdentity, prefix: string = DEFAULT_PREFIX): Permissions => {
  prefixed(prefix)
  const publish = new Set<string>()
  const subscribe = new Set([`_INBOX.${nameOf(who)}.>`])
  for (const row of Object.values(subjects) as ReadonlyArray<Subject>) {
    if (row.bucket !== undefined) {
      const own = bucket(row, row.bucket, who)
      for (const subject of [...own.publish, ...upkeep(row, who.role)]) publish.add(subject)
      for (const subject of own.subscribe) subscribe.add(subject)
      continue
    }
    const publisher = roleOf(row.publishers, who.role)
    const subscriber = roleOf(row.subscribers, who.role)
    if (publisher !== undefined) publish.add(subjectOf(prefix, row, publisher, who))
    if (subscriber === undefined) continue
    const subject = subjectOf(prefix, row, subscriber, who)
    subscribe.add(row.queue === undefined ? subject : `${subject} ${row.queue}`)
    if (row.kind === "event") publish.add(`$JS.API.DIRECT.GET.${streams.events}`)
    // NATS has no wildcard inside a token: the services see to it that an answer goes to the asker's own inbox.
    if (row.kind === "request") publish.add("_INBOX.*.>")
  }
  return { publish: [...publish].sort(), subscribe: [...subscribe].sort() }
}

export interface ServerOptions {
  readonly identities: ReadonlyArray<NatsUser>
  readonly prefix?: string
  /** An address to listen on; 127.0.0.1 unless told. */
  readonly host?: string
  /** A TCP port; -1 lets the server choose a free one. */
  readonly port: number
  /** Where JetStream keeps its files. */
  readonly storeDir: string
  /** Most bytes that JetStream may fill. */
  readonly storeBytesMax?: number
}

/** Room for the headers of a message of the largest payload. */
const HEADER_BYTES = 4_096
const PUBLIC_NKEY = /^U[A-Z2-7]{55}$/

const user = (who: NatsUser, prefix: string): string => {
  if (!PUBLIC_NKEY.test(who.publicKey)) throw new Error(`${nameOf(who)}: not a public nkey of a user (U...)`)
  const { publish, subscribe } = permissionsFor(who, prefix)
  const list = (subjects: ReadonlyArray<string>) =>
    subjects.map((text) => `          ${JSON.stringify(text)}`).join("\n")
  return `    { # ${nameOf(who)}
      nkey: ${who.publicKey}
      permissions: {
        publish: { allow: [
${list(publish)}
        ] }
        subscribe: { allow: [
${list(subscribe)}
        ] }
      }
    }`
}

/**
 * The text of a nats-server configuration (2.9.10 and later): nkey users with exactly their permissions, JetStream, no
 * anonymous user, payloads no larger than any message may be.
 */
export const serverConfig = (options: ServerOptions): string => {
  const { identities, prefix = DEFAULT_PREFIX, host = "127.0.0.1", port, storeDir } = options
  const names = new Set(identities.map(nameOf))
  if (names.size !== identities.length) throw new Error("two users of one name")
  // A list without users would switch authorization off.
  if (names.size === 0) throw new Error("a server needs at least one user")
  return `# Generated from the table of subjects.
host: ${JSON.stringify(host)}
port: ${port}
max_payload: ${limits.messageBytes + HEADER_BYTES}
max_subscriptions: 1024
write_deadline: "5s"
jetstream: {
  store_dir: ${JSON.stringify(storeDir)}
  max_memory_store: 1048576
  max_file_store: ${options.storeBytesMax ?? 536_870_912}
}
authorization: {
  timeout: 2
  users: [
${identities.map((who) => user(who, prefix)).join("\n")}
  ]
}
`
}

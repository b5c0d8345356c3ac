/** What a service needs to reach the bus, from the environment. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs"
import { Config, ConfigProvider, Effect, Redacted } from "effect"
import { readIpv6 } from "../../../schemas/address.ts"
import { Token } from "../../../schemas/fields.ts"
import { prefixed } from "../../../schemas/pattern.ts"
import { DEFAULT_PREFIX, type Role } from "../../../schemas/subjects.ts"
import { type Identity, identity } from "./subject.ts"

export interface BusConfig {
  readonly url: string
  /** The text of the identity's nkey seed. */
  readonly seed: Redacted.Redacted<Uint8Array>
  readonly prefix: string
  readonly identity: Identity
}

/** Refuses a setting with its name and a sentence that does not hold its value. */
export const refuseSetting = (name: string, message: string): Effect.Effect<never, Config.ConfigError> =>
  Effect.fail(new Config.ConfigError(new ConfigProvider.SourceError({ message: `${name}: ${message}` })))

const setting = <T>(name: string, read: (text: string) => T): Config.Config<T> =>
  Config.NonEmptyString(name).pipe(
    Config.mapEffect((text) => {
      try {
        return Effect.succeed(read(text))
      } catch (error) {
        return refuseSetting(name, (error as Error).message)
      }
    }),
  )

/** A token from the environment: a node's or an instance's name. */
export const tokenConfig = (name: string): Config.Config<string> => Config.schema(Token, name)

/** A host by name or IPv4 address, or an IPv6 address in brackets (RFC 3986, section 3.2.2); the port may be left out. */
const SERVER = /^(?:nats|tls):\/\/(?:[A-Za-z0-9._-]+|\[([0-9A-Fa-f:.]{2,45})\])(?::(\d{1,5}))?$/

const isServer = (url: string): boolean => {
  const found = SERVER.exec(url)
  if (found === null) return false
  const [, six, port] = found
  return (six === undefined || readIpv6(six) !== undefined) && (port === undefined || isPort(Number(port)))
}

const isPort = (port: number): boolean => port > 0 && port <= 65_535

const readUrl = (text: string): string => {
  if (text.split(",").every(isServer)) return text
  throw new Error(
    "nats://host:port or tls://host:port (several with commas; IPv6 as [address]), without user or password",
  )
}

/** An nkey user's seed: base32 that starts with SU. */
const SEED = /^SU[A-Z2-7]{56}$/

const SEED_FILE_BYTES = 128

/** The text of a file that only this user and root can have written or read; a link to it is fine, as orchestrators make them. */
const readSecretText = (path: string): string => {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) throw new Error(`${path} is no plain file`)
    if ((stat.mode & 0o077) !== 0)
      throw new Error(`others than its owner may read ${path}: chmod 600 it, or make a new seed`)
    if (stat.uid !== 0 && stat.uid !== process.getuid?.())
      throw new Error(
        `${path} belongs to user ${stat.uid}, who may read and change it: chown it to this user`,
      )
    const bytes = Buffer.alloc(SEED_FILE_BYTES)
    const text = bytes.toString("latin1", 0, readSync(fd, bytes, 0, bytes.length, 0))
    bytes.fill(0)
    return text.trim()
  } finally {
    closeSync(fd)
  }
}

const readSeed = (path: string): Redacted.Redacted<Uint8Array> => {
  let text: string
  try {
    text = readSecretText(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw code === undefined ? error : new Error(`${path} cannot be read (${code})`)
  }
  if (!SEED.test(text)) throw new Error(`${path} does not hold the seed of a NATS user (SU...)`)
  return Redacted.make(new TextEncoder().encode(text), { label: "nkey seed" })
}

/**
 * VOUCHSAFE_NATS_URL, VOUCHSAFE_NATS_SEED (path of a file of mode 0600), VOUCHSAFE_PREFIX (default "vs.v1") and
 * VOUCHSAFE_INSTANCE. The identity is `<role>-<instance>`; for attesters and loaders the instance is the node's id.
 */
export const busConfig = (role: Role): Config.Config<BusConfig> =>
  Config.all({
    url: setting("VOUCHSAFE_NATS_URL", readUrl),
    seed: setting("VOUCHSAFE_NATS_SEED", readSeed),
    prefix: setting("VOUCHSAFE_PREFIX", prefixed).pipe(Config.withDefault(DEFAULT_PREFIX)),
    identity: setting("VOUCHSAFE_INSTANCE", (text) => identity(role, text)),
  })

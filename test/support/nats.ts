/** A real nats-server for one test file: its own free port, its own store, gone when it is stopped. */
import type { ChildProcess } from "node:child_process"
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Redacted } from "effect"
import { type NatsUser, serverConfig } from "../../schemas/generate/permissions.ts"
import { DEFAULT_PREFIX, type Role } from "../../schemas/subjects.ts"
import { type BusConfig, identity, newUser } from "../../services/common/bus/bus.ts"
import { scratchDirectory, spawnMortal } from "./scratch.ts"

export interface TestUser {
  readonly role: Role
  readonly instance: string
}

interface Changes {
  /** Names of users that the server forgets. */
  readonly without?: ReadonlyArray<string>
  readonly edit?: (configuration: string) => string
}

export interface TestNats {
  readonly url: string
  readonly directory: string
  /** The configuration of a bus for one of the users. */
  readonly config: (role: Role, instance: string) => BusConfig
  /** The nkey seed of a user, for raw connections. */
  readonly seed: (role: Role, instance: string) => Uint8Array
  /** Ends the server and starts it again on the same port with the same store, without some users or with other settings. */
  readonly restart: (changes?: Changes & { readonly downMs?: number }) => Promise<void>
  readonly stop: () => Promise<void>
}

const BINARY = process.env.VOUCHSAFE_NATS_SERVER ?? "nats-server"
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

const exited = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((resolve) => child.once("exit", () => resolve()))

/** Starts the server and waits until it has written where it listens. */
const launch = async (
  directory: string,
  configPath: string,
): Promise<{ child: ChildProcess; url: string }> => {
  const child = spawnMortal(BINARY, ["-c", configPath, "--ports_file_dir", directory], {
    stdio: ["ignore", "ignore", "pipe"],
  })
  let log = ""
  let broken: Error | undefined
  child.stderr?.on("data", (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-4_000)
  })
  child.on("error", (error) => {
    broken = error
  })
  for (let i = 0; i < 500; i++) {
    if (broken !== undefined)
      throw new Error(`nats-server does not start: ${broken.message} (apt-get install nats-server)`)
    // `setpriv`, which starts it, says 127 when there is no such program.
    if (child.exitCode === 127)
      throw new Error(`nats-server is missing (apt-get install nats-server):\n${log}`)
    if (child.exitCode !== null) throw new Error(`nats-server ended:\n${log}`)
    const file = readdirSync(directory).find((name) => name === `nats-server_${child.pid}.ports`)
    if (file !== undefined) {
      try {
        const found = JSON.parse(readFileSync(join(directory, file), "utf8")) as {
          nats?: ReadonlyArray<string>
        }
        const url = found.nats?.find((text) => text.includes("127.0.0.1"))
        if (url !== undefined) return { child, url }
      } catch {
        // Half written: look again.
      }
    }
    await pause(10)
  }
  child.kill("SIGKILL")
  throw new Error(`nats-server was not ready in 5 s:\n${log}`)
}

/** Boots a server that knows exactly these users, with the permissions that the table of subjects gives them. */
export const startNats = async (
  users: ReadonlyArray<TestUser>,
  { prefix = DEFAULT_PREFIX, domain = "lab" }: { readonly prefix?: string; readonly domain?: string } = {},
): Promise<TestNats> => {
  const directory = scratchDirectory("nats")
  const seeds = new Map<string, Uint8Array>()
  const identities: NatsUser[] = users.map(({ role, instance }) => {
    const keys = newUser()
    seeds.set(identity(role, instance).name, keys.seed)
    return { role, instance, domain, publicKey: keys.publicKey }
  })
  const write = (port: number, { without = [], edit = (text) => text }: Changes = {}): string => {
    const known = identities.filter((who) => !without.includes(identity(who.role, who.instance).name))
    // A server without any user would let everyone in.
    if (known.length === 0)
      known.push({ role: "auditor", instance: "nobody", publicKey: newUser().publicKey })
    const storeDir = join(directory, "store")
    const path = join(directory, "nats.conf")
    writeFileSync(path, edit(serverConfig({ prefix, identities: known, host: "127.0.0.1", port, storeDir })))
    return path
  }
  let running = await launch(directory, write(-1))
  const { url } = running
  const seed = (role: Role, instance: string): Uint8Array => {
    const found = seeds.get(identity(role, instance).name)
    if (found === undefined) throw new Error(`no user ${role}-${instance}`)
    return Uint8Array.from(found)
  }
  const end = async (): Promise<void> => {
    running.child.kill("SIGTERM")
    const late = setTimeout(() => running.child.kill("SIGKILL"), 3_000)
    await exited(running.child)
    clearTimeout(late)
  }
  return {
    url,
    directory,
    seed,
    config: (role, instance) => ({
      url,
      prefix,
      seed: Redacted.make(seed(role, instance)),
      identity: identity(role, instance),
    }),
    restart: async ({ downMs = 0, ...changes } = {}) => {
      await end()
      await pause(downMs)
      running = await launch(directory, write(Number(new URL(url).port), changes))
    },
    stop: async () => {
      await end()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** The lab's bus: a NATS server of its own with JetStream, on loopback, with one user per identity and a relay onto the wire. */
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { familyOf } from "../../schemas/address.ts"
import { type NatsUser, nameOf, serverConfig } from "../../schemas/generate/permissions.ts"
import type { Role } from "../../schemas/subjects.ts"
import { newUser } from "../../services/common/bus/nats.ts"
import { BUS_PORT } from "./names.ts"
import { firstLine, lastLines, type Processes, type Running } from "./processes.ts"

export interface LabBus {
  /** For whoever is on the machine's own loopback. */
  readonly url: string
  /** For the nodes, over the wire. */
  readonly wireUrl: string
  readonly version: string
  /** Path of an identity's seed, e.g. `loader-n1`. */
  seed(identity: string): string
}

const READY_MS = 10_000

interface Users {
  readonly users: ReadonlyArray<NatsUser>
  readonly seeds: ReadonlyMap<string, string>
}

const makeUsers = (
  directory: string,
  domain: string,
  who: ReadonlyArray<{ readonly role: Role; readonly instance: string }>,
): Users => {
  const seeds = new Map<string, string>()
  const users = who.map(({ role, instance }): NatsUser => {
    const { seed, publicKey } = newUser()
    const user = { role, instance, domain, publicKey }
    const path = join(directory, `${nameOf(user)}.nk`)
    writeFileSync(path, seed, { mode: 0o600 })
    seed.fill(0)
    seeds.set(nameOf(user), path)
    return user
  })
  return { users, seeds }
}

/** The server says in a file where it listens, as soon as it does. */
const untilListening = async (server: Running, directory: string): Promise<string> => {
  const file = join(directory, `nats-server_${server.pid}.ports`)
  const deadline = performance.now() + READY_MS
  while (performance.now() < deadline && server.child.exitCode === null) {
    if (existsSync(file)) {
      try {
        const ports = JSON.parse(readFileSync(file, "utf8")) as { readonly nats?: ReadonlyArray<string> }
        const url = ports.nats?.find((one) => one.startsWith("nats://127.0.0.1:"))
        if (url !== undefined) return url
      } catch {
        // Half written: look again.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  throw new Error(`nats-server did not start: ${lastLines(server.log, 5)}`)
}

export interface BusOrder {
  readonly processes: Processes
  /** Root-only; keys, configuration and the store go below it. */
  readonly directory: string
  readonly domain: string
  readonly identities: ReadonlyArray<{ readonly role: Role; readonly instance: string }>
  /** Full name of the namespace in which the bus has its address on the wire. */
  readonly busNetns: string
  /** That address, of either family. */
  readonly wireAddress: string
}

/** Starts the server and its relay; resolves when both take connections. */
export const startBus = async (order: BusOrder): Promise<LabBus> => {
  const { processes, directory } = order
  const seedDirectory = join(directory, "seeds")
  const storeDir = join(directory, "jetstream")
  for (const path of [seedDirectory, storeDir]) mkdirSync(path, { mode: 0o700 })
  const { users, seeds } = makeUsers(seedDirectory, order.domain, order.identities)
  const config = join(directory, "nats.conf")
  writeFileSync(config, serverConfig({ identities: users, port: -1, storeDir }), { mode: 0o600 })
  const version = execFileSync("nats-server", ["--version"], { encoding: "utf8" }).replace(/^.*v/s, "").trim()
  const server = processes.start({
    name: "nats-server",
    command: "nats-server",
    args: ["-c", config, "--ports_file_dir", directory],
  })
  const socket = join(directory, "bus.sock")
  const relay = (name: string, listen: string, target: string, netns?: string): Running =>
    processes.start({
      name,
      command: process.execPath,
      args: [fileURLToPath(new URL("relay.ts", import.meta.url)), listen, target],
      stdout: "pipe",
      ...(netns === undefined ? {} : { netns }),
    })
  const at = familyOf(order.wireAddress) === 6 ? `[${order.wireAddress}]` : order.wireAddress
  const outer = relay("relay-wire", `tcp:${at}:${BUS_PORT}`, `unix:${socket}`, order.busNetns)
  const url = await untilListening(server, directory)
  const inner = relay("relay-loopback", `unix:${socket}`, url.replace("nats://", "tcp:"))
  await Promise.all([firstLine(outer, READY_MS), firstLine(inner, READY_MS)])
  return {
    url,
    wireUrl: `nats://${at}:${BUS_PORT}`,
    version,
    seed: (identity) => {
      const path = seeds.get(identity)
      if (path === undefined) throw new Error(`the bus has no user ${identity}`)
      return path
    },
  }
}

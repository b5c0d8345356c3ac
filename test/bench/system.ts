/** What the path bench asks of a system, and what all of them use. */
import { execFileSync } from "node:child_process"

export const INNER_MTU = 1438

export interface Path {
  /** Names of the two ends' namespaces. */
  readonly client: string
  readonly server: string
  /** What the client connects to, and what the server listens on. */
  readonly target: string
  readonly listen: string
  readonly udp: boolean
  readonly close: () => Promise<void>
}

export interface System {
  readonly name: string
  readonly version: () => string
  readonly make: () => Promise<Path>
}

export const run = (...args: readonly string[]): string =>
  execFileSync(args[0] ?? "", args.slice(1), { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })

/** A command as it runs in a namespace of this name; mounts stay ours, with the pins. */
export const inside = (space: string, ...args: readonly string[]): readonly string[] => [
  "nsenter",
  `--net=/run/netns/${space}`,
  ...args,
]

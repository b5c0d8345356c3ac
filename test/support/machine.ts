/**
 * What test files that run beside each other share on this machine, there before the first of them: a file that found it missing and made it
 * would also take it away, under the others' feet.
 */
import { spawnSync } from "node:child_process"
import { mkdirSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { emulatedRoot } from "../../infra/lab/hardware.ts"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { foreignRoot } from "../hostile/support.ts"
import { lives } from "./scratch.ts"

const NETNS = "/run/netns"

/** Names of what kernel tests make, `<prefix>-<process id>-...`, of which the process is gone: it was killed, and could not clean up. */
const abandoned = (directory: string): ReadonlyArray<string> =>
  readdirSync(directory).filter((name) => {
    const owner = /^vs(?:kern|pair)-(\d+)-/.exec(name)?.[1]
    return owner !== undefined && !lives(Number(owner))
  })

const sweep = (): void => {
  for (const name of abandoned(NETNS)) spawnSync("ip", ["netns", "del", name])
  for (const name of abandoned(BPFFS)) {
    try {
      removePins(join(BPFFS, name))
    } catch {
      // Another run clears the same away at this moment; what is left is the next one's.
    }
  }
}

export const setup = (): void => {
  // Keys that take seconds to make and are kept.
  emulatedRoot()
  foreignRoot()
  // Others can't, and their tests say so themselves.
  if (process.getuid?.() !== 0) return
  ensureBpffs()
  mkdirSync(NETNS, { recursive: true })
  sweep()
}

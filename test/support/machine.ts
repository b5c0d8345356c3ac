/**
 * What test files that run beside each other share on this machine, there before the first of them: a file that found it missing and made it
 * would also take it away, under the others' feet.
 */
import { mkdirSync } from "node:fs"
import { emulatedRoot } from "../../infra/lab/hardware.ts"
import { ensureBpffs } from "../../services/common/kernel/bpffs.ts"
import { foreignRoot } from "../hostile/support.ts"

export const setup = (): void => {
  // Keys that take seconds to make and are kept.
  emulatedRoot()
  foreignRoot()
  // Others can't, and their tests say so themselves.
  if (process.getuid?.() !== 0) return
  ensureBpffs()
  mkdirSync("/run/netns", { recursive: true })
}

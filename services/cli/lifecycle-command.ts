/** Commands about the life of nodes and keys: each of them is signed by an operator. */

import { enroll } from "./enroll.ts"
import { type LifecycleValues, parseLifecycle } from "./lifecycle-options.ts"
import { createOutput, type Output } from "./output.ts"
import { revoke } from "./revoke.ts"
import { rotate } from "./rotate.ts"

export const lifecycleUsage = `  rotate [EDGE] --key KEYFILE          new keys at once, without a gap: for an edge, an instance of it, or all
  revoke --node ID | --chip KIND:ID | --measurement HEX ... --key KEYFILE ... [--from FILE] [--yes]
                                       a new version of the workflow (the one in force, or that in FILE) without them
  enroll list                          machines that asked for a node's place and are not enrolled for it
  enroll approve|deny|replace NODE [--chip KIND:ID] --key KEYFILE ... [--from FILE] [--yes]
                                       a new version of the workflow: a pending node gets its machine, a machine
                                       is refused for good, a node gets another machine
                                       All of these take --domain NAME or VOUCHSAFE_DOMAIN; a --key for each signer
`

type Run = (out: Output, rest: ReadonlyArray<string>, values: LifecycleValues) => Promise<void>

const commands: Readonly<Record<string, Run>> = {
  rotate: (out, [edge], values) => rotate(out, edge, values),
  enroll,
  revoke: (out, _rest, values) => revoke(out, values),
}

/** @returns false when the arguments are another command's */
export const lifecycleCommand = async (args: ReadonlyArray<string>): Promise<boolean> => {
  const [command = "", ...rest] = args
  const run = Object.hasOwn(commands, command) ? commands[command] : undefined
  if (run === undefined || rest.includes("--help") || rest.includes("-h")) return false
  const { values, positionals } = parseLifecycle(rest)
  await run(createOutput(values.json), positionals, values)
  return true
}

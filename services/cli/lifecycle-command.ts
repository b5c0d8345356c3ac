/** Commands about the life of nodes and keys: each of them is signed by an operator. */
import { parseLifecycle } from "./lifecycle-options.ts"
import { createOutput } from "./output.ts"
import { rotate } from "./rotate.ts"

export const lifecycleUsage = `  rotate [EDGE] --key KEYFILE          new keys at once, without a gap: for an edge, an instance of it, or all
`

/** @returns false when the arguments are another command's */
export const lifecycleCommand = async (args: ReadonlyArray<string>): Promise<boolean> => {
  const [command, ...rest] = args
  if (command !== "rotate" || rest.includes("--help") || rest.includes("-h")) return false
  const { values, positionals } = parseLifecycle(rest)
  const out = createOutput(values.json)
  await rotate(out, positionals[0], values)
  return true
}

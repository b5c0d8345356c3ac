/** Commands about the life of nodes and keys: each of them is signed by an operator. */
import { enroll } from "./enroll.ts"
import { type Lifecycle, type LifecycleValues, parseLifecycle } from "./lifecycle-options.ts"
import { createOutput, type Output } from "./output.ts"
import { revoke } from "./revoke.ts"
import { rotate } from "./rotate.ts"

type Run = (out: Output, rest: ReadonlyArray<string>, values: LifecycleValues) => Promise<void>

const commands: Readonly<Record<Lifecycle, Run>> = {
  rotate: (out, [edge], values) => rotate(out, edge, values),
  enroll,
  revoke: (out, _rest, values) => revoke(out, values),
}

export const lifecycleCommand = async (command: Lifecycle, args: ReadonlyArray<string>): Promise<void> => {
  const { values, positionals } = parseLifecycle(args)
  await commands[command](createOutput(values.json), positionals, values)
}

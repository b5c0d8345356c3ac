/** `vouchsafe revoke`: nodes, machines and measurements that take part no longer, as a new version of the workflow. */
import { type Document, isMap, isSeq } from "yaml"
import { identities } from "../../schemas/platforms.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import type { LifecycleValues } from "./lifecycle-options.ts"
import { type Output, UsageError } from "./output.ts"
import { type Edit, revise } from "./revise.ts"

/** The sequence at a path; made, with the maps above it, where it isn't there. */
export const addTo = (yaml: Document, path: ReadonlyArray<string>, value: unknown): void => {
  for (let depth = 1; depth < path.length; depth++) {
    const above = path.slice(0, depth)
    if (!isMap(yaml.getIn(above))) yaml.setIn(above, yaml.createNode({}))
  }
  if (isSeq(yaml.getIn(path))) yaml.addIn(path, yaml.createNode(value))
  else yaml.setIn(path, yaml.createNode([value]))
}

const KINDS = Object.values(identities)

/** `sev_snp:0a1b...`, or the identity alone where a node of the workflow has it. */
export const chipFrom = (text: string, { nodes }: Workflow): Readonly<Record<string, string>> => {
  const [kind, id] = text.split(/:(.*)/s)
  const named = KINDS.find((one) => one === kind)
  if (named !== undefined && id !== undefined && id !== "") return { [named]: id }
  const known = nodes.flatMap(({ chip }) => (typeof chip === "string" ? [] : Object.entries(chip)))
  const found = known.find(([, one]) => one === text)
  if (found === undefined)
    throw new UsageError(`--chip ${text}: say of which kind, as ${KINDS.join(":... or ")}:...`)
  return { [found[0]]: found[1] }
}

const sameChip = (a: object, b: object): boolean => JSON.stringify(a) === JSON.stringify(b)

export const revocation =
  ({ node = [], chip = [], measurement = [] }: LifecycleValues): Edit =>
  (yaml, workflow) => {
    const known = workflow.revoked
    const nodes = node.filter((one) => !known?.nodes?.includes(one))
    const chips = chip
      .map((one) => chipFrom(one, workflow))
      .filter((one) => !known?.chips?.some((other) => sameChip(one, other)))
    const measurements = measurement.filter((one) => !known?.measurements?.includes(one))
    for (const one of nodes)
      if (!workflow.nodes.some(({ id }) => id === one)) throw new Error(`the workflow has no node "${one}"`)
    if (nodes.length + chips.length + measurements.length === 0)
      throw new Error("all of that is revoked already")
    for (const one of nodes) addTo(yaml, ["revoked", "nodes"], one)
    for (const one of chips) addTo(yaml, ["revoked", "chips"], one)
    for (const one of measurements) addTo(yaml, ["revoked", "measurements"], one)
  }

export const revoke = (out: Output, values: LifecycleValues): Promise<void> => {
  const { node = [], chip = [], measurement = [] } = values
  if (node.length + chip.length + measurement.length === 0)
    throw new UsageError("name what to revoke: --node ID, --chip KIND:ID, --measurement HEX")
  return revise(out, values, revocation(values), "Revoked:")
}

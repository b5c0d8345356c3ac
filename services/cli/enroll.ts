/** `vouchsafe enroll`: which machines have asked for a node's place, and which of them get it. */
import { Effect } from "effect"
import { isMap, isSeq } from "yaml"
import type { Chip } from "../../schemas/platforms.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import type { StoredEvent } from "../common/bus/types.ts"
import { onBus } from "./bus-commands.ts"
import type { LifecycleValues } from "./lifecycle-options.ts"
import { type Output, UsageError } from "./output.ts"
import { type Edit, revise } from "./revise.ts"
import { addTo, chipFrom } from "./revoke.ts"

const BATCH = 256
/** The newest event of each machine counts; of so many machines, those that asked first. */
const ASKERS_MAX = 1_024

/** A machine whose evidence was genuine and fresh, but which isn't the one that the node is pinned to. */
export interface Asker {
  readonly node: string
  readonly chip: Chip
  readonly platform: string | undefined
  readonly emulated: boolean
  readonly first: string
  readonly last: string
  readonly times: number
  /** What else its evidence lacks; empty when only the operator's word does. */
  readonly lacks: ReadonlyArray<string>
}

const nameOf = (chip: Chip): string =>
  Object.entries(chip)
    .map(([kind, id]) => `${kind}:${id}`)
    .sort()
    .join(",")

/** Pure: from events, oldest first, to who asked. */
export const askersIn = (events: Iterable<StoredEvent>): ReadonlyArray<Asker> => {
  const askers = new Map<string, Asker>()
  for (const { identity, event } of events) {
    const { node, chip, checks = [], platform, emulated = false } = event.data
    const asks = event.type === "vouchsafe.attestation.refused" && identity.startsWith("verifier-")
    const failed = checks.filter(({ result }) => result === "failed").map(({ name }) => name)
    if (!asks || node === undefined || chip === undefined || !failed.includes("chip-id")) continue
    const key = `${node} ${nameOf(chip)}`
    const known = askers.get(key)
    if (known === undefined && askers.size >= ASKERS_MAX) continue
    askers.set(key, {
      node,
      chip,
      platform,
      emulated,
      first: known?.first ?? event.time,
      last: event.time,
      times: (known?.times ?? 0) + 1,
      lacks: failed.filter((name) => name !== "chip-id"),
    })
  }
  return [...askers.values()]
}

const asked = (): Promise<ReadonlyArray<Asker>> =>
  onBus((bus) =>
    Effect.gen(function* () {
      const kept: StoredEvent[] = []
      for (let after = 0; ; ) {
        const found = yield* bus.history({ after, most: BATCH })
        kept.push(...found.filter(({ event }) => event.data.chip !== undefined))
        const last = found.at(-1)
        if (found.length < BATCH || last === undefined) return askersIn(kept)
        after = last.sequence
      }
    }),
  )

const list = async (out: Output): Promise<void> => {
  const askers = await asked()
  out.result(
    askers,
    askers.length === 0
      ? ["No machine has asked for a place that isn't its own."]
      : askers.map(({ node, chip, platform, emulated, first, last, times, lacks }) => {
          const what = lacks.length === 0 ? "nothing else is wrong" : `also fails ${lacks.join(", ")}`
          return `${node.padEnd(12)} ${nameOf(chip)}  ${platform ?? "?"}${emulated ? " EMULATED" : ""}  ${times} times, ${first} to ${last}  ${what}`
        }),
  )
}

/** The machine that is named, or the only one that has asked for the node's place with nothing else wrong. */
const machineFor = async (node: string, chip: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
  if (chip.length > 0) return chip
  const able = (await asked()).filter((one) => one.node === node && one.lacks.length === 0)
  const [only, more] = able
  if (only === undefined) throw new Error(`no machine that could be ${node} has asked; name it with --chip`)
  if (more !== undefined)
    throw new Error(`${able.length} machines have asked to be ${node}; name one with --chip`)
  return Object.entries(only.chip).map(([kind, id]) => `${kind}:${id}`)
}

/** Pins the node to the machine: only a pending node when approving, one that has a machine when replacing. */
export const pin =
  (node: string, chips: ReadonlyArray<string>, replacing: boolean): Edit =>
  (yaml, workflow: Workflow) => {
    const at = workflow.nodes.findIndex(({ id }) => id === node)
    const found = workflow.nodes[at]
    if (found === undefined) throw new Error(`the workflow has no node "${node}"`)
    if (!replacing && found.chip !== "pending")
      throw new Error(`${node} has a machine already, or takes any: enroll replace gives it another`)
    if (replacing && found.chip === "pending")
      throw new Error(`${node} has no machine yet: enroll approve gives it one`)
    const chip = Object.assign({}, ...chips.map((one) => chipFrom(one, workflow)))
    const nodes = yaml.get("nodes")
    const entry = isSeq(nodes) ? nodes.items[at] : undefined
    if (!isMap(entry)) throw new Error(`nodes.${node}: is not written as a map`)
    entry.set("chip", yaml.createNode(chip))
  }

/** The machine is refused from now on, whatever node it asks to be. */
export const denial =
  (chips: ReadonlyArray<string>): Edit =>
  (yaml, workflow) => {
    for (const one of chips) addTo(yaml, ["revoked", "chips"], chipFrom(one, workflow))
  }

export const enroll = async (
  out: Output,
  [what, node]: ReadonlyArray<string>,
  values: LifecycleValues,
): Promise<void> => {
  if (what === "list") return list(out)
  if (what !== "approve" && what !== "deny" && what !== "replace")
    throw new UsageError("enroll list, approve, deny or replace")
  if (node === undefined) throw new UsageError(`enroll ${what}: name the node`)
  if (what === "replace" && values.chip === undefined)
    throw new UsageError("enroll replace: name the new machine with --chip KIND:ID")
  const chips = await machineFor(node, values.chip ?? [])
  const edit = what === "deny" ? denial(chips) : pin(node, chips, what === "replace")
  return revise(out, values, edit, what === "deny" ? "Denied:" : "Enrolled:")
}

/**
 * What of a signed document stands: its stages without the values that it revokes or whose time is over, and the nodes that
 * it lets take part no longer. Pure.
 */
import { identities, partsOf } from "../../schemas/platforms.ts"
import type { Stage, Workflow } from "../../schemas/workflow.ts"

/** Digests and identities of 16 bytes and more: nothing else that a stage lists is written like this. */
const VALUE = /^[0-9a-f]{32,}$/

/** Every list of values in the stage, at any depth, without those that `keep` doesn't keep. */
const sifted = <T>(part: T, keep: (value: string) => boolean): T => {
  if (Array.isArray(part))
    return part.filter((one) => typeof one !== "string" || !VALUE.test(one) || keep(one)) as T
  if (typeof part !== "object" || part === null) return part
  return Object.fromEntries(
    Object.entries(part).map(([name, value]) => [name, name === "until" ? value : sifted(value, keep)]),
  ) as T
}

/** All values that the stage lists, at any depth. */
export const valuesOf = (part: unknown): ReadonlyArray<string> => {
  if (typeof part === "string") return VALUE.test(part) ? [part] : []
  if (typeof part !== "object" || part === null) return []
  return Object.entries(part).flatMap(([name, value]) => (name === "until" ? [] : valuesOf(value)))
}

/** Whether a list of values, at any depth, has become empty: then nothing can meet it. */
const hasEmptied = (before: unknown, after: unknown): boolean => {
  if (Array.isArray(before)) return before.length > 0 && Array.isArray(after) && after.length === 0
  if (typeof before !== "object" || before === null) return false
  return Object.entries(before).some(([name, value]) =>
    hasEmptied(value, (after as Readonly<Record<string, unknown>>)[name]),
  )
}

const revokedValues = ({ revoked }: Workflow): ReadonlySet<string> => new Set(revoked?.measurements)

/**
 * The stage as evidence is to be held against at this time. A list that has become empty takes nothing.
 * @param nowMs wall-clock time in ms since the epoch
 */
export const standingStage = (document: Workflow, stage: Stage, nowMs: number): Stage => {
  const revoked = revokedValues(document)
  const { until = {} } = stage
  return sifted(stage, (value) => {
    const end = until[value]
    return !revoked.has(value) && (end === undefined || nowMs < Date.parse(end))
  })
}

/**
 * The nodes that the document revokes: by their id, by the chip that they are pinned to, or because a value was revoked
 * without which their stage takes nobody. Nobody gets or keeps an edge to them.
 */
export const revokedNodes = (document: Workflow): ReadonlySet<string> => {
  const { revoked } = document
  const gone = new Set(revoked?.nodes)
  if (revoked === undefined) return gone
  const values = revokedValues(document)
  const dead = new Set(
    Object.entries(document.stages)
      .filter(([, stage]) => takesNobody(stage, values))
      .map(([id]) => id),
  )
  for (const { id, stage, chip } of document.nodes)
    if (dead.has(stage) || (typeof chip !== "string" && isRevokedChip(document, chip))) gone.add(id)
  return gone
}

/** Of several platforms, one that is left is enough. */
const takesNobody = (stage: Stage, revoked: ReadonlySet<string>): boolean => {
  const left = sifted(stage, (value) => !revoked.has(value))
  if (left.dataplane.length === 0) return true
  return stage.platforms.every((platform) =>
    partsOf(platform).some((part) => hasEmptied(stage[identities[part]], left[identities[part]])),
  )
}

/** An enclave has a new name each time that it starts, which begins with its instance's. */
const isSame = (kind: string, own: string | undefined, revoked: string): boolean =>
  own === revoked || (kind === "nitro" && own?.startsWith(`${revoked}-`) === true)

/** Whether any of these identities of one machine is revoked. */
export const isRevokedChip = (
  { revoked }: Workflow,
  machine: Readonly<Record<string, string | undefined>>,
): boolean =>
  revoked?.chips?.some((chip) =>
    Object.entries(chip).some(([kind, id]) => id !== undefined && isSame(kind, machine[kind], id)),
  ) ?? false

/** What a result in force says of a node. */
export interface Vouched {
  readonly node: string
  readonly stage: string
  readonly chip: Uint8Array
  readonly dataplane?: Uint8Array
  /** Of the values that the stage listed, those that its Evidence has shown. */
  readonly values?: ReadonlyArray<Uint8Array>
}

/**
 * Whether a list, at any depth, has lost a value that Evidence has shown. A list that isn't there any more asks for nothing;
 * a whole section that isn't there takes nothing.
 */
const hasLost = (before: unknown, after: unknown, shown: ReadonlySet<string>, depth = 0): boolean => {
  if (Array.isArray(before)) {
    const left = Array.isArray(after) ? new Set<unknown>(after) : undefined
    return before.some((value) => shown.has(value) && left?.has(value) === false)
  }
  if (typeof before !== "object" || before === null) return false
  if (after === undefined) return depth === 1 && valuesOf(before).some((value) => shown.has(value))
  return Object.entries(before).some(
    ([name, value]) =>
      name !== "until" &&
      hasLost(value, (after as Readonly<Record<string, unknown>>)[name], shown, depth + 1),
  )
}

/**
 * Of nodes that were vouched for under another document those that this one lets take part no longer, as far as their
 * results tell: gone, revoked, of another stage, on another machine, or by a value or data plane that it doesn't take.
 * @param nowMs wall-clock time in ms since the epoch
 * @param before the document that they were vouched for under
 * @returns ids
 */
export const forbiddenNodes = (
  document: Workflow,
  vouched: ReadonlyArray<Vouched>,
  nowMs: number,
  before?: Workflow,
): ReadonlyArray<string> => {
  const nodes = new Map(document.nodes.map((node) => [node.id, node]))
  const revoked = revokedNodes(document)
  const revokedOnes = revokedValues(document)
  const stages = new Map(
    Object.entries(document.stages).map(([id, stage]) => [id, standingStage(document, stage, nowMs)]),
  )
  const mayStay = ({ node: id, stage, chip, dataplane, values = [] }: Vouched): boolean => {
    const node = nodes.get(id)
    const taken = stages.get(stage)
    if (node === undefined || taken === undefined || node.stage !== stage || revoked.has(id)) return false
    const isIts = (ids: object): boolean =>
      Object.entries(ids).some(([kind, value]) => isSame(kind, chipText(kind, chip), value))
    if (node.chip === "pending" || (node.chip !== "any" && !isIts(node.chip))) return false
    if (document.revoked?.chips?.some(isIts)) return false
    const shown = new Set(values.map((value) => Buffer.from(value).toString("hex")))
    if ([...shown].some((value) => revokedOnes.has(value))) return false
    if (hasLost(before?.stages[stage], taken, shown)) return false
    return dataplane === undefined || taken.dataplane.includes(Buffer.from(dataplane).toString("hex"))
  }
  return vouched.filter((one) => !mayStay(one)).map(({ node }) => node)
}

const chipText = (kind: string, chip: Uint8Array): string =>
  Buffer.from(chip).toString(kind === "nitro" ? "utf8" : "hex")

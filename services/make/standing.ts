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

const revokedOf = new WeakMap<Workflow, ReadonlySet<string>>()

/**
 * The nodes that the document revokes: by their id, by the chip that they are pinned to, or because a value was revoked
 * without which their stage takes nobody. Nobody gets or keeps an edge to them. Found once for each document.
 */
export const revokedNodes = (document: Workflow): ReadonlySet<string> => {
  const found = revokedOf.get(document) ?? findRevoked(document)
  revokedOf.set(document, found)
  return found
}

const findRevoked = (document: Workflow): ReadonlySet<string> => {
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

type Identities = Readonly<Record<string, string | undefined>>

/** By kind, the identities that are revoked: one look for each machine, however many there are. */
const chipsOf = new WeakMap<Workflow, ReadonlyMap<string, ReadonlySet<string>>>()

const revokedChips = (document: Workflow): ReadonlyMap<string, ReadonlySet<string>> => {
  const known = chipsOf.get(document)
  if (known !== undefined) return known
  const byKind = new Map<string, Set<string>>()
  for (const chip of document.revoked?.chips ?? [])
    for (const [kind, id] of Object.entries(chip)) {
      if (id === undefined) continue
      const ids = byKind.get(kind) ?? new Set()
      byKind.set(kind, ids.add(id))
    }
  chipsOf.set(document, byKind)
  return byKind
}

/** All that a revoked identity of this kind may be called which means this machine: see `isSame`. */
const namesOf = (kind: string, own: string): ReadonlyArray<string> => {
  if (kind !== "nitro") return [own]
  return [own, ...[...own.matchAll(/-/g)].map(({ index }) => own.slice(0, index))]
}

const isAmong = (revoked: ReadonlySet<string>, kind: string, own: string): boolean =>
  namesOf(kind, own).some((name) => revoked.has(name))

/** Whether any of these identities of one machine is revoked. */
export const isRevokedChip = (document: Workflow, machine: Identities): boolean => {
  const byKind = revokedChips(document)
  return Object.entries(machine).some(([kind, own]) => {
    const revoked = byKind.get(kind)
    return own !== undefined && revoked !== undefined && isAmong(revoked, kind, own)
  })
}

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
    return before.some((value) => shown.has(value) && Array.isArray(after) && !after.includes(value))
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
 * Whether a node that was vouched for under another document may still take part in this one, as far as its result tells: not
 * when it is gone, revoked, of another stage, on another machine, or there by a value or data plane that isn't taken. What
 * that needs of the document is found once, for all results.
 * @param nowMs wall-clock time in ms since the epoch
 * @returns given what was vouched for, and the document of then
 */
export const standing = (
  document: Workflow,
  nowMs: number,
): ((vouched: Vouched, before?: Workflow) => boolean) => {
  const nodes = new Map(document.nodes.map((node) => [node.id, node]))
  const revoked = revokedNodes(document)
  const revokedOnes = revokedValues(document)
  const machines = [...revokedChips(document)]
  const stages = new Map(
    Object.entries(document.stages).map(([id, stage]) => [id, standingStage(document, stage, nowMs)]),
  )
  return ({ node: id, stage, chip, dataplane, values = [] }, before) => {
    const node = nodes.get(id)
    const taken = stages.get(stage)
    if (node === undefined || taken === undefined || node.stage !== stage || revoked.has(id)) return false
    const isIts = (ids: object): boolean =>
      Object.entries(ids).some(([kind, value]) => isSame(kind, chipText(kind, chip), value))
    if (node.chip === "pending" || (node.chip !== "any" && !isIts(node.chip))) return false
    if (machines.some(([kind, ids]) => isAmong(ids, kind, chipText(kind, chip)))) return false
    const shown = new Set(values.map((value) => Buffer.from(value).toString("hex")))
    if ([...shown].some((value) => revokedOnes.has(value))) return false
    if (hasLost(before?.stages[stage], taken, shown)) return false
    return dataplane === undefined || taken.dataplane.includes(Buffer.from(dataplane).toString("hex"))
  }
}

/**
 * Of nodes that were vouched for under another document those that this one lets take part no longer; see `standing`.
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
  const mayStay = standing(document, nowMs)
  return vouched.filter((one) => !mayStay(one, before)).map(({ node }) => node)
}

const chipText = (kind: string, chip: Uint8Array): string =>
  Buffer.from(chip).toString(kind === "nitro" ? "utf8" : "hex")

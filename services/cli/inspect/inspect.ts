/** From paths to one inspection for each piece of evidence among them. Reads files; prints nothing. */
import { join } from "node:path"
import type { Context } from "./context.ts"
import { type Item, isFolder, namesIn, readItem } from "./files.ts"
import { type EvidenceKind, type Inspection, UnusableError, unusable } from "./inspection.ts"
import { inspectNitro } from "./nitro.ts"
import { recogniseEvidence, recogniseSupport } from "./recognise.ts"
import { inspectSnp } from "./snp.ts"
import { inspectTdx } from "./tdx.ts"
import { inspectTpm } from "./tpm.ts"

export interface InspectOptions {
  readonly at: Date
  readonly collateral?: string
  readonly nonce?: Uint8Array
}

const evidenceBytesMost = 65_536

/**
 * @param paths files, or folders whose evidence is looked at
 * @returns one for each piece of evidence, and one for each path that is none; never throws for what the files hold
 */
export const inspectPaths = (paths: readonly string[], options: InspectOptions): readonly Inspection[] => {
  const { items, failed } = readPaths(paths, options.at)
  const found = items.map((item) => ({ item, kind: recogniseEvidence(item.bytes) }))
  const given = found.filter(({ kind }) => kind === undefined).map(({ item }) => item)
  const recognised = found.filter(({ kind }) => kind !== undefined).map(({ item }) => item)
  const context: Context = { ...options, given, evidence: recognised }
  const evidence = found.flatMap(({ item, kind }) =>
    kind === undefined ? [] : [inspectOne(item, kind, context)],
  )
  // With evidence beside it, an unknown file may be a signature; alone, or empty, it is nothing.
  const strange = given.filter(
    ({ bytes }) => bytes.length === 0 || (recogniseSupport(bytes) === undefined && evidence.length === 0),
  )
  const others = [...failed, ...strange.map((item) => unusable(item.path, null, options.at, unknown(item)))]
  if (evidence.length + others.length > 0) return [...evidence, ...others]
  const what = "certificates, collateral or signatures, but no report, quote or document that they belong to"
  return [unusable(paths[0] ?? "", null, options.at, new UnusableError("EVIDENCE_MISSING", "file", what))]
}

const unknown = ({ bytes }: Item): UnusableError =>
  bytes.length === 0
    ? new UnusableError("FILE_EMPTY", "file", "is empty")
    : new UnusableError("KIND_UNKNOWN", "file", `${bytes.length} bytes that are no evidence of a known kind`)

const readPaths = (
  paths: readonly string[],
  at: Date,
): { items: readonly Item[]; failed: readonly Inspection[] } => {
  const items: Item[] = []
  const failed: Inspection[] = []
  const read = (path: string, wanted: (item: Item) => boolean) => {
    try {
      const item = readItem(path)
      if (wanted(item)) items.push(item)
    } catch (error) {
      if (!(error instanceof UnusableError)) throw error
      failed.push(unusable(path, null, at, error))
    }
  }
  for (const path of paths) {
    if (!isFolder(path)) {
      read(path, () => true)
      continue
    }
    const before = items.length
    for (const name of namesIn(path))
      read(join(path, name), ({ bytes }) => recogniseEvidence(bytes) !== undefined)
    if (items.length === before)
      failed.push(
        unusable(path, null, at, new UnusableError("EVIDENCE_MISSING", "file", "a folder without evidence")),
      )
  }
  return { items, failed }
}

const inspectors: Readonly<Record<EvidenceKind, (item: Item, context: Context) => Inspection>> = {
  snp: inspectSnp,
  tdx: inspectTdx,
  tpm: inspectTpm,
  nitro: inspectNitro,
}

const inspectOne = (item: Item, kind: EvidenceKind, context: Context): Inspection => {
  if (item.bytes.length > evidenceBytesMost)
    return unusable(
      item.path,
      kind,
      context.at,
      new UnusableError("FILE_TOO_LARGE", "file", `${item.bytes.length} bytes, at most ${evidenceBytesMost}`),
    )
  try {
    return inspectors[kind](item, context)
  } catch (error) {
    if (error instanceof UnusableError) return unusable(item.path, kind, context.at, error)
    throw error
  }
}

/** 0 all genuine, 3 something not genuine, 2 something that can't be judged. */
export const exitStatusOf = (inspections: readonly Inspection[]): 0 | 2 | 3 => {
  if (inspections.some(({ usable }) => !usable)) return 2
  return inspections.every(({ genuine }) => genuine) ? 0 : 3
}

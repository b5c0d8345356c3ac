/**
 * What a changed document would do to a fleet: the last evidence of each node, as verifiers have kept it, judged by the
 * document in hand. Beside it stands what the node's own document says at the same time, so that what the change does can
 * be told from what time does (collateral that has expired since).
 */
import { join } from "node:path"
import { limits } from "../../schemas/limits.ts"
import type { RecordedVerdict, VerdictRecord } from "../../schemas/messages/record.ts"
import { crypto } from "../common/crypto/index.ts"
import { EvidenceCaches } from "../evidence/index.ts"
import { RecordError, recordEnding, replayLookup, unpackRecord } from "../evidence/record/index.ts"
import { judgeSubject } from "../guest/judge-record.ts"
import { readCollateral } from "./appraise-files.ts"
import { clip, safe } from "./appraise-table.ts"
import { type Document, workflowOf } from "./appraise-workflow.ts"
import { isFolder, namesIn, readRecordItem } from "./inspect/files.ts"
import { UnusableError } from "./inspect/inspection.ts"

export type Outcome =
  /** Refused, though its own document accepts it at this time. */
  | "refused by the change"
  /** Refused by its own document too. */
  | "refused anyway"
  | "accepted"
  /** Though its own document refuses it. */
  | "accepted by the change"
  /** The document in hand names no such node. */
  | "not named"
  /** Nobody has kept evidence of it. */
  | "no evidence"

export interface FleetNode {
  readonly node: string
  readonly outcome: Outcome
  readonly stage?: string
  /** Why refused. */
  readonly code?: string
  readonly check?: { readonly name: string; readonly found: string; readonly wanted: string }
  /** When its evidence was judged last, ISO 8601. */
  readonly evidence_of?: string
}

export interface Fleet {
  readonly nodes: readonly FleetNode[]
  /** Files that aren't usable records. */
  readonly unusable: readonly { readonly file: string; readonly code: string; readonly message: string }[]
}

interface Kept {
  readonly record: VerdictRecord
  readonly path: string
}

/** Accepted ones before refused ones, then the newest: whoever may speak as a node can add a refusal, and nothing else. */
const isBetter = (one: Kept, than: Kept): boolean => {
  const isRefused = ({ path }: Kept) => path.endsWith(`.refused${recordEnding}`)
  if (isRefused(one) !== isRefused(than)) return isRefused(than)
  return one.record.at_ms > than.record.at_ms
}

const nodeOf = ({ subject }: VerdictRecord): string | undefined =>
  subject.kind === "node" ? (subject.asked?.node ?? subject.evidence.claims.node) : subject.node

/** Folders as verifiers keep them, with one below for each document; or a folder of records. */
const recordPaths = (folder: string): readonly string[] => {
  if (!isFolder(folder)) throw new UnusableError("FOLDER_UNREADABLE", "fleet", `${folder} is no folder`)
  const folders = [folder, ...namesIn(folder, "folders").map((name) => join(folder, name))]
  return folders.flatMap((one) =>
    namesIn(one, "files", 2 * limits.nodes + 8)
      .filter((name) => name.endsWith(recordEnding))
      .map((name) => join(one, name)),
  )
}

const readKept = (folders: readonly string[]) => {
  const last = new Map<string, Kept>()
  const unusable: Fleet["unusable"][number][] = []
  for (const path of folders.flatMap(recordPaths)) {
    try {
      const record = unpackRecord(readRecordItem(path).bytes)
      const node = nodeOf(record)
      if (node === undefined) continue
      const kept = { record, path }
      const before = last.get(node)
      if (before === undefined || isBetter(kept, before)) last.set(node, kept)
    } catch (error) {
      if (!(error instanceof RecordError || error instanceof UnusableError)) throw error
      unusable.push({ file: path, code: error.code, message: error.message })
    }
  }
  return { last, unusable }
}

export interface FleetOptions {
  readonly at: Date
  /** A folder of collateral to judge with, instead of what the records hold. */
  readonly collateral?: string
}

/** @throws UnusableError where a folder can't be read, CollateralError */
export const tryFleet = (
  folders: readonly string[],
  workflow: Document,
  { at, collateral }: FleetOptions,
): Fleet => {
  const { last, unusable } = readKept(folders)
  const store =
    collateral === undefined ? undefined : readCollateral(collateral, at, workflow.document.roots).view
  const problems = [...unusable]
  const bench: Bench = { at, workflow, store, documents: new Map(), caches: new EvidenceCaches() }
  const named = new Set(workflow.document.nodes.map(({ id }) => id))
  const tried = [...last].flatMap(([node, kept]): readonly FleetNode[] => {
    if (!named.has(node)) return [{ node, outcome: "not named" }]
    try {
      return [tryNode(node, kept, bench)]
    } catch (error) {
      if (!(error instanceof RecordError)) throw error
      problems.push({ file: kept.path, code: error.code, message: error.message })
      return []
    }
  })
  const absent = [...named].filter((node) => !last.has(node))
  const nodes = [...tried, ...absent.map((node): FleetNode => ({ node, outcome: "no evidence" }))]
  return { nodes: nodes.toSorted((a, b) => (a.node < b.node ? -1 : 1)), unusable: problems }
}

/** What all nodes of one fleet are judged by. */
interface Bench {
  readonly at: Date
  readonly workflow: Document
  readonly store: ReturnType<typeof readCollateral>["view"] | undefined
  /** Those that verdicts went by, by digest: parsed once each. */
  readonly documents: Map<string, Document>
  readonly caches: EvidenceCaches
}

const ownDocument = ({ documents }: Bench, { record, path }: Kept): Document => {
  const name = Buffer.from(record.workflow.digest).toString("hex")
  const known = documents.get(name) ?? workflowOf(record, path, undefined)
  documents.set(name, known)
  return known
}

const tryNode = (node: string, kept: Kept, bench: Bench): FleetNode => {
  const { record } = kept
  const { at, workflow, store } = bench
  const lookup = store ?? (record.consulted.length > 0 ? replayLookup(record.consulted) : undefined)
  const judge = (document: Document): RecordedVerdict =>
    judgeSubject(crypto, record.subject, document, {
      at,
      ...(lookup && { collateral: lookup }),
      otherDocument: true,
      caches: bench.caches,
    }).verdict
  const verdict = judge(workflow)
  const own = judge(ownDocument(bench, kept))
  const failed = verdict.checks.find(({ result }) => result === "failed")
  const isAccepted = verdict.verdict === "accepted"
  const wasAccepted = own.verdict === "accepted"
  return {
    node,
    outcome: isAccepted
      ? wasAccepted
        ? "accepted"
        : "accepted by the change"
      : wasAccepted
        ? "refused by the change"
        : "refused anyway",
    stage: verdict.stage,
    ...(verdict.code !== undefined && { code: verdict.code }),
    ...(failed && { check: { name: failed.name, found: failed.found, wanted: failed.wanted } }),
    evidence_of: new Date(record.at_ms).toISOString(),
  }
}

const linesOf = (nodes: readonly FleetNode[], title: string): readonly string[] =>
  nodes.length === 0
    ? []
    : [
        "",
        `${title}:`,
        ...nodes.flatMap(({ node, stage, check, code, evidence_of }) => [
          `  ${node.padEnd(16)} ${(stage ?? "").padEnd(14)} ${(code ?? "").padEnd(24)} ${evidence_of === undefined ? "" : `evidence of ${evidence_of}`}`.trimEnd(),
          ...(check === undefined
            ? []
            : [
                clip(safe(`      ${check.name}: found  ${check.found}`), 110),
                clip(safe(`      ${" ".repeat(check.name.length)}  wanted ${check.wanted}`), 110),
              ]),
        ]),
      ]

/** The same reason for many nodes is worth one line. */
const reasonsOf = (nodes: readonly FleetNode[]): string =>
  Object.entries(Object.groupBy(nodes, ({ check, code }) => check?.name ?? code ?? "unknown"))
    .map(([name, of]) => `${name} (${of?.length ?? 0})`)
    .join(", ")

export const fleetLines = ({ nodes, unusable }: Fleet): readonly string[] => {
  const of = (outcome: Outcome) => nodes.filter((one) => one.outcome === outcome)
  const refused = of("refused by the change")
  const named = nodes.filter(({ outcome }) => outcome !== "not named").length
  const counts = (["refused anyway", "accepted by the change", "no evidence", "not named"] as const)
    .map((outcome) => [outcome, of(outcome).length] as const)
    .filter(([, count]) => count > 0)
    .map(([outcome, count]) => `${count} ${outcome}`)
  return [
    `${refused.length} of ${named} nodes would be refused by the change${refused.length === 0 ? "." : `, for ${reasonsOf(refused)}.`}`,
    `${of("accepted").length} accepted as before${counts.length === 0 ? "" : `; ${counts.join(", ")}`}.`,
    ...linesOf(refused, "Refused by the change"),
    ...linesOf(
      of("refused anyway"),
      "Refused now by their own document too (has collateral expired? --collateral, --at)",
    ),
    ...linesOf(of("accepted by the change"), "Accepted by the change"),
    ...linesOf(of("no evidence"), "No evidence kept: nothing is known of"),
    ...linesOf(of("not named"), "Evidence of nodes that the document doesn't name"),
    ...unusable.map(({ file, code, message }) => clip(safe(`unusable  ${file}: ${code}: ${message}`), 200)),
  ]
}

/** 0 all accepted, 3 some refused, 2 for some of them nothing can be said. */
export const fleetStatus = ({ nodes, unusable }: Fleet): 0 | 2 | 3 => {
  if (nodes.some(({ outcome }) => outcome.startsWith("refused"))) return 3
  return unusable.length > 0 || nodes.some(({ outcome }) => outcome === "no evidence") ? 2 : 0
}

/** From files to what can be appraised: a record, a node's recorded answer, or evidence as vendors' tools leave it. */
import { createPublicKey } from "node:crypto"
import { join } from "node:path"
import { limits } from "../../schemas/limits.ts"
import { NodeEvidence } from "../../schemas/messages/attestation.ts"
import { Evidence, type PcrValue, type Piece } from "../../schemas/messages/common.ts"
import type { VerdictRecord } from "../../schemas/messages/record.ts"
import type { HardwareRoot } from "../../schemas/platforms.ts"
import { decode, EncodeError, encode } from "../common/codec/index.ts"
import {
  type CollateralView,
  collateralViewOf,
  emptySnapshot,
  genuineRoots,
  offerCollateral,
  readCollateralTree,
} from "../evidence/collateral/index.ts"
import { SnpError, verifyReport } from "../evidence/index.ts"
import { looksLikeRecord, unpackRecord } from "../evidence/record/index.ts"
import { parseQuoteAttest, TpmError } from "../evidence/tpm/index.ts"
import type { Context } from "./inspect/context.ts"
import { type Item, isFolder, namesIn, readItem, readRecordItem } from "./inspect/files.ts"
import { type EvidenceKind, UnusableError } from "./inspect/inspection.ts"
import { pcrValuesOf } from "./inspect/pcr-values.ts"
import { recogniseEvidence, recogniseSupport } from "./inspect/recognise.ts"
import { amdChains } from "./inspect/snp.ts"
import { filesOf } from "./inspect/tpm-files.ts"

export type Found =
  | { readonly kind: "record"; readonly record: VerdictRecord; readonly path: string }
  | { readonly kind: "node"; readonly evidence: NodeEvidence }
  | { readonly kind: "pieces"; readonly evidence: Evidence }

export interface FindOptions {
  readonly at: Date
  readonly collateral?: string
  readonly roots: readonly HardwareRoot[]
}

/**
 * @param paths files, or folders whose evidence is taken; all of one machine
 * @throws UnusableError, RecordError
 */
export const findEvidence = (paths: readonly string[], options: FindOptions): Found => {
  const items = paths.flatMap((path) => (isFolder(path) ? evidenceIn(path) : [readRecordItem(path)]))
  const [only] = items
  if (items.length === 1 && only !== undefined) {
    if (looksLikeRecord(only.bytes))
      return { kind: "record", record: unpackRecord(only.bytes), path: only.path }
    const node = recordedAnswer(only)
    if (node !== undefined) return { kind: "node", evidence: node }
  }
  const found = items.map((item) => ({ item, kind: recogniseEvidence(item.bytes) }))
  const given = found.filter(({ kind }) => kind === undefined).map(({ item }) => item)
  const evidence = found.filter(({ kind }) => kind !== undefined).map(({ item }) => item)
  const strange = given.find(({ bytes }) => recogniseSupport(bytes) === undefined)
  if (evidence.length === 0)
    throw new UnusableError(
      strange === undefined ? "EVIDENCE_MISSING" : "KIND_UNKNOWN",
      "evidence",
      strange === undefined
        ? "no report, quote, document or recorded answer among the files"
        : `${strange.path}: ${strange.bytes.length} bytes that are no evidence of a known kind`,
    )
  const { at, collateral } = options
  const context: Context = { at, given, evidence, ...(collateral !== undefined && { collateral }) }
  const pieces = found.flatMap(({ item, kind }) =>
    kind === undefined ? [] : [pieceOf(item, kind, context, options)],
  )
  expectOneMachine(pieces)
  return { kind: "pieces", evidence: bounded({ pieces }) }
}

const evidenceIn = (folder: string): readonly Item[] => {
  const items = namesIn(folder)
    .map((name) => readItem(join(folder, name)))
    .filter(({ bytes }) => recogniseEvidence(bytes) !== undefined)
  if (items.length === 0)
    throw new UnusableError("EVIDENCE_MISSING", "evidence", `${folder}: a folder without evidence`)
  return items
}

/** A `NodeEvidence` as it travels; undefined for what doesn't say that it is one. */
const recordedAnswer = ({ path, bytes }: Item): NodeEvidence | undefined => {
  if (!Buffer.from(bytes.subarray(0, 64)).includes("node-evidence")) return undefined
  const decoded = decode(NodeEvidence, bytes, { subject: path, bytesMax: limits.messageBytes })
  if (!decoded.ok) throw new UnusableError("EVIDENCE_MALFORMED", "evidence", decoded.error.message)
  return decoded.value
}

const expectOneMachine = (pieces: readonly Piece[]): void => {
  const kinds = pieces.map(({ kind }) => kind)
  const twice = kinds.find((kind, i) => kinds.indexOf(kind) !== i)
  if (twice !== undefined)
    throw new UnusableError(
      "EVIDENCE_AMBIGUOUS",
      "evidence",
      `${kinds.filter((kind) => kind === twice).length} pieces of kind ${twice}: name those of one machine`,
    )
}

/** Held to the same bounds as evidence from the wire. */
const bounded = (evidence: Evidence): Evidence => {
  try {
    encode(Evidence, evidence)
    return evidence
  } catch (error) {
    if (!(error instanceof EncodeError)) throw error
    throw new UnusableError("EVIDENCE_TOO_LARGE", `evidence.${error.field}`, error.message)
  }
}

const pieceOf = (item: Item, kind: EvidenceKind, context: Context, options: FindOptions): Piece => {
  switch (kind) {
    case "snp":
      return { kind, report: item.bytes, certificates: chainOf(item, context, options) }
    case "tdx":
      return { kind, quote: item.bytes, certificates: [], ...eventLogOf(context) }
    case "tpm":
      return tpmPiece(item, context)
    case "nitro":
      return { kind, document: item.bytes }
  }
}

/** The chain that holds, of those that may belong to the report; else the first, for the appraisal to say why not. */
const chainOf = (item: Item, context: Context, { roots, at }: FindOptions): readonly Uint8Array[] => {
  const chains = amdChains(item, context)
  const own = roots.filter((root) => root.vendor === "amd")
  const holds = chains.find(
    (certificates) =>
      !(verifyReport({ report: item.bytes, certificates }, { roots: own, now: at }) instanceof SnpError),
  )
  return holds ?? chains[0] ?? []
}

const eventLogOf = ({ given }: Context): { readonly event_log?: Uint8Array } => {
  const log = given.find(({ bytes }) => recogniseSupport(bytes) === "event-log")
  return log === undefined ? {} : { event_log: log.bytes }
}

const tpmPiece = (item: Item, context: Context): Piece => {
  const attest = selectionsOf(item)
  const files = filesOf(item, context, attest)
  const missing = (["signature", "ak", "pcrs"] as const).filter((role) => files[role] === undefined)
  const { signature, ak, pcrs, hcl, eventLog } = files
  if (signature === undefined || ak === undefined || pcrs === undefined)
    throw new UnusableError(
      "TPM_FILES_MISSING",
      "evidence",
      `${item.path}: the quote's ${missing.join(", ")} aren't beside it`,
    )
  return {
    kind: "tpm",
    attest: item.bytes,
    signature: signature.bytes,
    ak: spkiOf(ak),
    certificates: hcl === undefined ? files.akCertificates.slice(0, 1) : [],
    ...(hcl && { hcl_report: hcl.bytes }),
    pcrs: valuesOf(pcrs, attest),
    ...(eventLog && { boot_log: eventLog.bytes }),
  }
}

const selectionsOf = ({ bytes, path }: Item) => {
  try {
    return parseQuoteAttest(bytes).selections
  } catch (error) {
    if (error instanceof TpmError)
      throw new UnusableError(error.code, error.field, `${path}: ${error.message}`)
    throw error
  }
}

/** Registers of a bank that no policy can name are left out. */
const valuesOf = (item: Item, order: Parameters<typeof pcrValuesOf>[1]): readonly PcrValue[] =>
  Object.entries(pcrValuesOf(item, order) ?? {}).flatMap(([bank, values]) =>
    bank === "sha256" || bank === "sha384" || bank === "sha512"
      ? [...values].map(([index, value]) => ({ bank, index, value: Uint8Array.from(value) }) as const)
      : [],
  )

/** Tools write keys in PEM; messages carry them in DER, or as TPMs write them. */
const spkiOf = ({ bytes, path }: Item): Uint8Array => {
  if (recogniseSupport(bytes) !== "pem") return bytes
  try {
    return Uint8Array.from(createPublicKey(Buffer.from(bytes)).export({ format: "der", type: "spki" }))
  } catch {
    throw new UnusableError("KEY_UNREADABLE", "ak", `${path}: isn't a public key`)
  }
}

export interface Stored {
  readonly view: CollateralView
  /** Files that don't count, and why. */
  readonly refused: readonly string[]
}

/** A folder of collateral as it stands at that time: files have no age of their own, vendors' dates count. */
export const readCollateral = (folder: string, at: Date, roots: readonly HardwareRoot[]): Stored => {
  const { snapshot, outcomes } = offerCollateral(emptySnapshot, readCollateralTree(folder), {
    now: at,
    roots: {
      amd: [...genuineRoots.amd, ...roots.filter((root) => root.vendor === "amd")],
      intel: [...genuineRoots.intel, ...roots.filter((root) => root.vendor === "intel")],
    },
  })
  return {
    view: collateralViewOf(snapshot, at, { unconfirmedMs: Number.POSITIVE_INFINITY }),
    refused: outcomes
      .filter(({ outcome, code }) => outcome === "refused" && code !== "SUPERSEDED")
      .map(({ name, code, message }) => `${name}: ${code}: ${message}`),
  }
}

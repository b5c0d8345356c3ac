/**
 * The signed workflow document, from bytes to something that can be relied on: enough operators have signed these very
 * bytes, they decode, every name in them resolves, and the document is not past its end.
 */
import { Result, Schema } from "effect"
import { parseDocument } from "yaml"
import { canBeOne, demandsProblem, partsOf } from "../../schemas/platforms.ts"
import { type SignedWorkflow, type Stage, Workflow } from "../../schemas/workflow.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { PORTS } from "./edges.ts"
import { labels } from "./labels.ts"
import { valuesOf } from "./standing.ts"
import { encodeFields, workflowDigest } from "./transcript.ts"

export class WorkflowError extends Error {
  override readonly name = "WorkflowError"
  readonly code: "UNSIGNED" | "NOT_YAML" | "BAD_FIELD" | "WRONG_DOMAIN" | "EXPIRED" | "INCONSISTENT"
  readonly field: string

  constructor(code: WorkflowError["code"], field: string, message: string) {
    super(`${field}: ${message}`)
    this.code = code
    this.field = field
  }
}

export interface VerifiedWorkflow {
  readonly document: Workflow
  /** 32 bytes, over the received document: what report data, results and keys are bound to. */
  readonly digest: Uint8Array
  /** The received document, where it is at hand: for records. */
  readonly bytes?: Uint8Array
}

export interface WorkflowTrust {
  readonly domain: string
  /** Ed25519 public keys, 32 bytes each. */
  readonly operatorKeys: ReadonlyArray<Uint8Array>
  /** How many different operators must have signed. */
  readonly threshold: number
}

/** The bytes that an operator signs (Ed25519). */
export const workflowSigningBytes = (document: Uint8Array): Uint8Array =>
  encodeFields(labels.signedWorkflow, document)

/**
 * Verifies the signatures over the received bytes, then decodes those bytes.
 * @param nowMs wall-clock time in ms since the epoch, held against `not_after`
 * @throws WorkflowError
 */
export const verifyWorkflow = (
  crypto: Crypto,
  signed: SignedWorkflow,
  trust: WorkflowTrust,
  nowMs: number,
): VerifiedWorkflow => {
  checkSignatures(crypto, signed, trust)
  const document = parseWorkflow(new TextDecoder("utf-8", { fatal: false }).decode(signed.document))
  if (document.domain !== trust.domain) {
    throw new WorkflowError(
      "WRONG_DOMAIN",
      "domain",
      `"${document.domain}", but this guest is of "${trust.domain}"`,
    )
  }
  if (!isInForce(document, nowMs)) {
    throw new WorkflowError(
      "EXPIRED",
      "not_after",
      `the workflow ended at ${document.not_after}; sign a new version`,
    )
  }
  return { document, digest: workflowDigest(crypto, signed.document), bytes: signed.document }
}

/** Whether the document's end has not come. It comes for a running process too: what has been accepted is asked again. */
export const isInForce = (document: Workflow, nowMs: number): boolean =>
  nowMs < Date.parse(document.not_after)

const checkSignatures = (crypto: Crypto, signed: SignedWorkflow, trust: WorkflowTrust): void => {
  const bytes = workflowSigningBytes(signed.document)
  const signers = new Set<number>()
  for (const { key, signature } of signed.signatures) {
    const index = trust.operatorKeys.findIndex((known) => crypto.equalConstantTime(known, key))
    if (index >= 0 && crypto.ed25519.verify(signature, bytes, key)) signers.add(index)
  }
  if (trust.threshold < 1 || signers.size < trust.threshold) {
    throw new WorkflowError(
      "UNSIGNED",
      "signatures",
      `${signers.size} valid signatures of this guest's operators, ${trust.threshold} needed`,
    )
  }
}

const decodeWorkflow = Schema.decodeUnknownResult(Workflow)

/**
 * Parses the YAML and checks that it is consistent in itself; says nothing about who signed it.
 * @throws WorkflowError
 */
export const parseWorkflow = (yaml: string): Workflow => {
  const parsed = parseDocument(yaml, { uniqueKeys: true, strict: true, schema: "core", merge: false })
  const problem = parsed.errors[0] ?? parsed.warnings[0]
  if (problem !== undefined) throw new WorkflowError("NOT_YAML", "document", problem.message.slice(0, 200))
  let value: unknown
  try {
    // No aliases: a document of 128 KiB must not unfold into gigabytes.
    value = parsed.toJS({ maxAliasCount: 0 })
  } catch {
    throw new WorkflowError(
      "NOT_YAML",
      "document",
      "aliases (&name, *name) are not allowed: write each part out",
    )
  }
  const decoded = decodeWorkflow(value, { onExcessProperty: "error" })
  if (Result.isFailure(decoded)) {
    const text = decoded.failure.message
    const field = /\n\s*at (\[.*\])/.exec(text)?.[1] ?? "document"
    throw new WorkflowError(
      "BAD_FIELD",
      field.slice(0, 120),
      text.split("\n")[0]?.slice(0, 300) ?? "does not decode",
    )
  }
  checkConsistency(decoded.success)
  return decoded.success
}

const inconsistent = (field: string, message: string) => new WorkflowError("INCONSISTENT", field, message)

/** One that the document has: ids may be called like what every object has. */
const stageOf = ({ stages }: Workflow, id: string): Stage | undefined =>
  Object.hasOwn(stages, id) ? stages[id] : undefined

const checkUnique = (field: string, values: ReadonlyArray<string>): void => {
  const seen = new Set<string>()
  for (const value of values) {
    if (seen.has(value)) throw inconsistent(field, `"${value}" is there twice`)
    seen.add(value)
  }
}

/**
 * A verifier proves an endorsement key by a credential that the TPM opens for it; a peer, which has only the Evidence, can't
 * ask, and would take keys for no edge.
 */
const checkProvable = (w: Workflow): void => {
  for (const edge of w.edges) {
    if ((edge.peers ?? w.peers) !== "evidence") continue
    const isEnd = ({ id, stage }: Workflow["nodes"][number]): boolean =>
      edge.pairs === undefined ? stage === edge.from || stage === edge.to : edge.pairs.flat().includes(id)
    const pinned = w.nodes.find(
      (node) =>
        isEnd(node) &&
        typeof node.chip !== "string" &&
        node.chip.tpm_ek !== undefined &&
        stageOf(w, node.stage)?.platforms.some((platform) => partsOf(platform).includes("tpm")),
    )
    if (pinned !== undefined)
      throw inconsistent(
        `nodes.${pinned.id}.chip.tpm_ek`,
        `peers of edge "${edge.id}" can't prove an endorsement key (peers: evidence); pin the node by "tpm" alone, or let the edge take results`,
      )
  }
}

const checkConsistency = (w: Workflow): void => {
  checkUnique(
    "nodes.id",
    w.nodes.map((n) => n.id),
  )
  checkUnique(
    "nodes.address",
    w.nodes.flatMap(({ address, address6 }) => [address, address6].filter((one) => one !== undefined)),
  )
  checkUnique(
    "nodes.wire",
    w.nodes.map((n) => n.wire),
  )
  checkUnique(
    "nodes.chip",
    w.nodes.flatMap(({ chip }) => (typeof chip === "string" ? [] : Object.values(chip))),
  )
  checkUnique(
    "edges.id",
    w.edges.map((e) => e.id),
  )
  for (const node of w.nodes) {
    const stage = stageOf(w, node.stage)
    if (stage === undefined) throw inconsistent(`nodes.${node.id}.stage`, `no stage "${node.stage}"`)
    if (typeof node.chip !== "string" && !canBeOne(node.chip, stage.platforms))
      throw inconsistent(
        `nodes.${node.id}.chip`,
        `names no machine of ${stage.platforms.join(" or ")}; write "chip: any" to take any`,
      )
    if (node.address === undefined && node.address6 === undefined)
      throw inconsistent(`nodes.${node.id}.address`, "needs an address, an address6, or both")
  }
  checkUnique("revoked.nodes", w.revoked?.nodes ?? [])
  checkUnique("revoked.measurements", w.revoked?.measurements ?? [])
  if (w.revoked?.chips?.some((chip) => Object.keys(chip).length === 0))
    throw inconsistent("revoked.chips", "an entry names no machine")
  for (const edge of w.edges) {
    for (const end of [edge.from, edge.to]) {
      if (stageOf(w, end) === undefined) throw inconsistent(`edges.${edge.id}`, `no stage "${end}"`)
    }
    if (edge.from === edge.to && edge.pairs === undefined)
      throw inconsistent(`edges.${edge.id}`, "leads from a stage to itself: name the pairs")
    const wantsPort = PORTS.has(edge.protocol)
    if (wantsPort !== (edge.port !== undefined && edge.port > 0)) {
      throw inconsistent(
        `edges.${edge.id}.port`,
        wantsPort ? `${edge.protocol} needs a port` : `${edge.protocol} has no port`,
      )
    }
  }
  checkProvable(w)
  for (const [id, stage] of Object.entries(w.stages)) {
    const problem = demandsProblem(stage, w.roots)
    if (problem !== undefined) throw inconsistent(`stages.${id}.${problem.field}`, problem.message)
    const values = new Set(valuesOf(stage))
    for (const [value, end] of Object.entries(stage.until ?? {})) {
      if (!values.has(value)) throw inconsistent(`stages.${id}.until`, `the stage lists no ${value}`)
      if (Number.isNaN(Date.parse(end))) throw inconsistent(`stages.${id}.until`, `there is no ${end}`)
    }
  }
}

/**
 * The way from what a record holds to its verdict: the one that verifiers go, taken again by whoever replays a record or
 * tries a document on evidence. Deterministic: the same subject, document, time and collateral give the same bytes.
 */
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { Check } from "../../schemas/messages/common.ts"
import type {
  Consulted,
  RecordedVerdict,
  RecordSubject,
  VerdictRecord,
} from "../../schemas/messages/record.ts"
import type { Chip } from "../../schemas/platforms.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { appraise } from "../evidence/appraisal/appraise.ts"
import { describeMachine, machineOf } from "../evidence/appraisal/machine-rules.ts"
import { tpmExtraData } from "../evidence/appraisal/report-data.ts"
import {
  type CollateralLookup,
  EvidenceCaches,
  type VerifiedPieces,
  verifyPieces,
} from "../evidence/appraisal/verify-pieces.ts"
import { EvidenceError } from "../evidence/error.ts"
import {
  nobodyAsked,
  packVerdict,
  RecordError,
  recordedUses,
  recordLookup,
} from "../evidence/record/index.ts"
import { toHex } from "../evidence/text.ts"
import { standingStage } from "../make/standing.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { appraiseNode, type Outstanding, refusalCode, type Verdict } from "./appraise-node.ts"

export interface Judged {
  readonly verdict: RecordedVerdict
  readonly consulted: readonly Consulted[]
}

export interface JudgeOptions {
  readonly at: Date
  readonly collateral?: CollateralLookup
  /** Of whoever judges many. They save time and change no verdict. */
  readonly caches?: EvidenceCaches
  /** The evidence was made for another document than this one: which it names isn't checked. */
  readonly otherDocument?: boolean
}

/** @throws RecordError STAGE_UNKNOWN, NODE_UNKNOWN; for evidence by itself only */
export const judgeSubject = (
  crypto: Crypto,
  subject: RecordSubject,
  workflow: VerifiedWorkflow,
  options: JudgeOptions,
): Judged =>
  subject.kind === "node"
    ? judgeNode(crypto, subject, workflow, options)
    : judgePieces(crypto, subject, workflow, options)

/** What a challenge fixes, by the names of the checks. */
const ofChallenge = ["nonce", "challenge", "control-plane", "session"]

const judgeNode = (
  crypto: Crypto,
  { evidence, asked }: RecordSubject & { kind: "node" },
  workflow: VerifiedWorkflow,
  { at, collateral, caches = new EvidenceCaches(), otherDocument = false }: JudgeOptions,
): Judged => {
  const { claims } = evidence
  const isOther = otherDocument || asked === undefined
  const outstanding: Outstanding = {
    nodeId: asked?.node ?? claims.node,
    session: asked?.session ?? claims.session,
    nonce: asked?.nonce ?? claims.nonce,
    value: asked?.challenge ?? claims.challenge,
    controlDigest: asked?.control ?? claims.control,
    verifierNonce: evidence.verifier_nonce,
    beacon: evidence.beacon,
    activation: asked?.activation && {
      secret: asked.activation.secret,
      ek: asked.activation.ek,
      akName: asked.activation.ak_name,
    },
    workflow: isOther ? { ...workflow, digest: claims.workflow } : workflow,
  }
  const verdict = appraiseNode(
    {
      crypto,
      // Of results that nobody signs.
      instance: "record",
      control: "record",
      caches,
      ...(collateral && { collateral: () => collateral }),
    },
    evidence,
    outstanding,
    at,
  )
  const unasked = [...(isOther ? ["workflow"] : []), ...(asked === undefined ? ofChallenge : [])]
  const recorded = recordedVerdict(verdict, workflow.digest, outstanding.nodeId, at)
  return {
    verdict: { ...recorded, checks: withoutQuestion(recorded.checks, unasked) },
    consulted: verdict.consulted ?? [],
  }
}

/** Checks whose question nobody remembers: they say what was found, and neither passed nor failed. */
const withoutQuestion = (checks: readonly Check[], names: readonly string[]): readonly Check[] =>
  checks.map((check) =>
    names.includes(check.name) ? { ...check, result: "not-applicable", wanted: nobodyAsked } : check,
  )

const platformOf = (verdict: Verdict): string | undefined =>
  verdict.accepted ? verdict.result.platform : verdict.appraisal?.platform

/** What a verifier has found, in the form that is kept. */
const recordedVerdict = (verdict: Verdict, workflow: Uint8Array, node: string, at: Date): RecordedVerdict => {
  const { appraisal, checks } = verdict
  const platform = platformOf(verdict)
  const stage = verdict.accepted ? verdict.result.stage : verdict.stage
  return {
    v: 1,
    verdict: verdict.accepted ? "accepted" : "refused",
    ...(!verdict.accepted && { code: verdict.code.slice(0, 64) }),
    workflow,
    stage,
    node,
    at_ms: at.getTime(),
    ...(platform !== undefined && { platform }),
    ...(appraisal?.assurance !== undefined && { assurance: appraisal.assurance }),
    checks,
    collateral: recordedUses(appraisal?.collateral ?? []),
  }
}

/** All that a verdict on a node's answer was given by, without the document. */
export const nodeRecord = (
  verdict: Verdict,
  evidence: NodeEvidence,
  asked: Outstanding,
  at: Date,
): VerdictRecord => ({
  v: 1,
  kind: "verdict-record",
  at_ms: at.getTime(),
  workflow: { digest: asked.workflow.digest },
  subject: {
    kind: "node",
    evidence,
    asked: {
      node: asked.nodeId,
      session: asked.session,
      nonce: asked.nonce,
      challenge: asked.value,
      control: asked.controlDigest,
      ...(asked.activation && {
        activation: {
          secret: asked.activation.secret,
          ek: asked.activation.ek,
          ak_name: asked.activation.akName,
        },
      }),
    },
  },
  consulted: verdict.consulted ?? [],
  verdict: packVerdict(recordedVerdict(verdict, asked.workflow.digest, asked.nodeId, at)),
})

const judgePieces = (
  crypto: Crypto,
  subject: RecordSubject & { kind: "pieces" },
  workflow: VerifiedWorkflow,
  { at, collateral }: JudgeOptions,
): Judged => {
  const { document, digest } = workflow
  const stage = Object.hasOwn(document.stages, subject.stage) ? document.stages[subject.stage] : undefined
  if (stage === undefined)
    throw new RecordError("STAGE_UNKNOWN", "stage", `the workflow has no stage "${subject.stage}"`)
  const recorder = collateral && recordLookup(collateral)
  const pieces = verifyPieces(subject.evidence, {
    roots: document.roots,
    now: at,
    crypto,
    ...(recorder && { collateral: recorder.lookup }),
  })
  const reportData = subject.report_data
  const appraisal = appraise(
    pieces,
    {
      ...standingStage(document, stage, at.getTime()),
      roots: document.roots,
      chips: chipsOf(workflow, subject),
    },
    {
      reportData: reportData ?? ownReportData(pieces),
      extraData: reportData === undefined ? ownExtraData(pieces) : tpmExtraData(reportData),
      ...(subject.dataplane && { dataplane: toHex(subject.dataplane) }),
    },
    at,
  )
  const checks = withoutQuestion(appraisal.checks, [
    ...(reportData === undefined ? ["report-data", "tpm-report-data"] : []),
    ...(subject.dataplane === undefined ? ["dataplane"] : []),
  ])
  const machine = machineOf(pieces)
  const failed = checks.find(({ result }) => result === "failed")
  const isAccepted = machine !== undefined && failed === undefined
  const platform = machine === undefined ? appraisal.platform : describeMachine(machine).slice(0, 64)
  return {
    verdict: {
      v: 1,
      verdict: isAccepted ? "accepted" : "refused",
      ...(!isAccepted && { code: refusalCode(failed?.name ?? "genuine", pieces).slice(0, 64) }),
      workflow: digest,
      stage: subject.stage,
      ...(subject.node !== undefined && { node: subject.node }),
      at_ms: at.getTime(),
      ...(platform !== undefined && { platform }),
      ...(appraisal.assurance !== undefined && { assurance: appraisal.assurance }),
      checks,
      collateral: recordedUses(appraisal.collateral),
    },
    consulted: recorder?.consulted() ?? [],
  }
}

/** Of the node that is meant, or of all that may take the stage. */
const chipsOf = (
  { document }: VerifiedWorkflow,
  { stage, node }: RecordSubject & { kind: "pieces" },
): readonly Chip[] | "any" => {
  const meant = document.nodes.filter((one) => one.stage === stage && (node === undefined || one.id === node))
  if (node !== undefined && meant.length === 0)
    throw new RecordError("NODE_UNKNOWN", "node", `the workflow has no node "${node}" of stage "${stage}"`)
  const chips = meant.flatMap(({ chip }) => (typeof chip === "string" ? [] : [chip]))
  return meant.some(({ chip }) => chip === "any") ? "any" : chips
}

/** What evidence says of itself stands for the question that nobody knows; the check is taken out afterwards. */
const ownReportData = ({ snp, tdx, nitro }: VerifiedPieces): Uint8Array => {
  if (snp !== undefined && !(snp instanceof EvidenceError)) return snp.report.reportData
  if (tdx !== undefined && !(tdx instanceof EvidenceError)) return tdx.quote.td.reportData
  if (nitro !== undefined && !(nitro instanceof EvidenceError))
    return nitro.document.userData ?? new Uint8Array(0)
  return new Uint8Array(0)
}

const ownExtraData = ({ tpm }: VerifiedPieces): Uint8Array =>
  tpm !== undefined && !(tpm instanceof EvidenceError) ? tpm.quote.nonce : new Uint8Array(0)

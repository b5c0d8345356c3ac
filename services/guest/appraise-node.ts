/**
 * Appraisal of one node's answer to one challenge: does everything it claims fit what this verifier knows, does the
 * hardware vouch for exactly that, and is it what the signed workflow demands of the stage?
 */
import { limits } from "../../schemas/limits.ts"
import type { AttestationResult, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { type Check, Checks } from "../../schemas/messages/common.ts"
import type { Consulted } from "../../schemas/messages/record.ts"
import type { Chip } from "../../schemas/platforms.ts"
import type { Stage, Workflow } from "../../schemas/workflow.ts"
import { encode } from "../common/codec/index.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { toHex } from "../common/hex.ts"
import { appraise } from "../evidence/appraisal/appraise.ts"
import {
  assuranceOf,
  chipBytesOf,
  describeMachine,
  identitiesOf,
  launchOf,
  type Machine,
  machineOf,
} from "../evidence/appraisal/machine-rules.ts"
import type { Appraisal } from "../evidence/appraisal/policy.ts"
import { tpmExtraData } from "../evidence/appraisal/report-data.ts"
import {
  type CollateralLookup,
  type EvidenceCaches,
  type VerifiedPieces,
  verifyPieces,
} from "../evidence/appraisal/verify-pieces.ts"
import { EvidenceError } from "../evidence/error.ts"
import { recordLookup } from "../evidence/record/index.ts"
import { type AskedActivation, activationProof } from "../make/activation.ts"
import type { Challenge } from "../make/challenge.ts"
import { MakeError } from "../make/errors.ts"
import { expectSealable } from "../make/release.ts"
import { kemKeyDigest } from "../make/result.ts"
import { isRevokedChip, standingStage, valuesOf } from "../make/standing.ts"
import type { SuiteId } from "../make/suites.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { reportDataFor } from "./node-claims.ts"

/** What the verifier remembers of a challenge that it issued. */
export interface Outstanding extends Challenge {
  readonly workflow: VerifiedWorkflow
  /** N, that the node said hello with. */
  readonly nonce: Uint8Array
  readonly controlDigest: Uint8Array
  /** Whose term the offer was of. */
  readonly releaser?: string
  /** Where the hello named an endorsement key. */
  readonly activation?: AskedActivation | undefined
}

export interface Verifier {
  readonly crypto: Crypto
  readonly instance: string
  readonly control: string
  readonly caches: EvidenceCaches
  /** What vendors say, of that moment: looked up in memory. */
  readonly collateral?: (now: Date) => CollateralLookup
}

export type Verdict = (
  | { readonly accepted: true; readonly result: AttestationResult; readonly checks: Checks }
  | {
      readonly accepted: false
      readonly code: string
      readonly reason: Check
      readonly checks: Checks
      readonly stage: string
      readonly emulated: boolean
      /** Which machine it is, where the evidence is genuine and answers this very challenge: an operator may enrol it. */
      readonly chip?: Chip
      /** The same machine as results name it. */
      readonly machine?: Uint8Array
      readonly platform?: string
    }
) & {
  /** Absent where the workflow knows no such node. */
  readonly appraisal?: Appraisal
  /** What was asked of the store of collateral. */
  readonly consulted?: readonly Consulted[]
}

/** A node that no release can be sealed to is told so here, rather than vouched for in vain. */
const keysCheck = (crypto: Crypto, { claims }: NodeEvidence, suite: SuiteId): Check => {
  const wanted = `keys that ${suite} can seal to`
  try {
    expectSealable(crypto, suite, { dhKey: claims.dh_key, kemKey: claims.kem_key })
    return { name: "keys", result: "passed", found: "usable", wanted }
  } catch (error) {
    if (error instanceof MakeError) return { name: "keys", result: "failed", found: error.message, wanted }
    throw error
  }
}

/** Every claim that the challenge fixes, as checks beside those of the hardware. */
const claimChecks = (crypto: Crypto, evidence: NodeEvidence, asked: Outstanding): ReadonlyArray<Check> => {
  const { claims } = evidence
  const same = (name: string, found: Uint8Array, wanted: Uint8Array): Check => ({
    name,
    result: crypto.equalConstantTime(found, wanted) ? "passed" : "failed",
    found: toHex(found),
    wanted: toHex(wanted),
  })
  const { document, digest } = asked.workflow
  return [
    {
      name: "domain",
      result: claims.domain === document.domain ? "passed" : "failed",
      found: claims.domain,
      wanted: document.domain,
    },
    {
      name: "node",
      result: claims.node === asked.nodeId ? "passed" : "failed",
      found: claims.node,
      wanted: asked.nodeId,
    },
    {
      name: "suite",
      result: claims.suites.includes(document.suite) ? "passed" : "failed",
      found: claims.suites.join(", ").slice(0, 256),
      wanted: document.suite,
    },
    keysCheck(crypto, evidence, document.suite),
    same("workflow", claims.workflow, digest),
    same("nonce", claims.nonce, asked.nonce),
    same("challenge", claims.challenge, asked.value),
    same("control-plane", claims.control, asked.controlDigest),
    same("session", claims.session, asked.session),
  ]
}

/**
 * Keys go to a machine that can be told from others: a result without a chip id would let one machine pass for another
 * under `identity: any`.
 */
const chipCheck = (machine: Machine | undefined): Check => {
  const wanted = "an identity of at most 64 bytes"
  if (machine === undefined)
    return { name: "chip-known", result: "not-applicable", found: "no genuine evidence", wanted }
  const known = chipBytesOf(machine) !== undefined
  return {
    name: "chip-known",
    result: known ? "passed" : "failed",
    found: known ? "known" : "masked by the host, and the signing key is not the chip's own",
    wanted,
  }
}

/** The secret is of this challenge, which is used up: there is no second try. */
const activationCheck = (
  crypto: Crypto,
  { activation }: NodeEvidence,
  asked: Outstanding,
  reportData: Uint8Array,
): Check => {
  const wanted = "proof that the TPM with this endorsement key has opened the credential"
  const name = "activation"
  if (asked.activation === undefined)
    return { name, result: "not-applicable", found: "not asked for", wanted }
  if (activation === undefined) return { name, result: "failed", found: "none", wanted }
  const { secret, ek } = asked.activation
  const isRight = crypto.equalConstantTime(activation, activationProof(crypto, secret, reportData))
  return { name, result: isRight ? "passed" : "failed", found: isRight ? toHex(ek) : "another proof", wanted }
}

/** Old evidence of a genuine machine says nothing of who asks now. */
const isAnswer = (checks: ReadonlyArray<Check>): boolean =>
  ["report-data", "tpm-report-data", "challenge", "nonce", "session", "node"].every(
    (name) => !checks.some((check) => check.name === name && check.result === "failed"),
  )

const chipOf = (machine: Machine): Chip =>
  Object.fromEntries(Object.entries(identitiesOf(machine)).filter(([, id]) => id !== undefined))

/** Whatever node it came as: a revoked machine is none of any. */
const revokedChecks = (document: Workflow, machine: Machine | undefined): ReadonlyArray<Check> => {
  if (document.revoked?.chips === undefined || machine === undefined) return []
  const isRevoked = isRevokedChip(document, identitiesOf(machine))
  const wanted = "a machine that the workflow does not revoke"
  return [
    {
      name: "revoked",
      result: isRevoked ? "failed" : "passed",
      found: isRevoked ? "revoked" : "not revoked",
      wanted,
    },
  ]
}

/** Of what the stage lists. The data plane's digest has a field of its own. */
const shownValues = (stage: Stage, { shown }: Appraisal): ReadonlyArray<string> => {
  const listed = new Set(valuesOf(stage))
  const values = shown
    .filter(({ name }) => name !== "dataplane")
    .flatMap(({ values }) => values)
    .filter((value) => listed.has(value))
  return [...new Set(values)]
}

/** A result that left values out would outlive their revocation: rather none. */
const valuesChecks = (values: ReadonlyArray<string>): ReadonlyArray<Check> =>
  values.length <= limits.shownValues
    ? []
    : [
        {
          name: "shown-values",
          result: "failed",
          found: `${values.length} values of the stage's lists`,
          wanted: `at most ${limits.shownValues}: fewer images or registers`,
        },
      ]

/**
 * @param now for certificate dates; also the record's time of issue
 * @returns an accepted result ready to be signed, or every check and the first that failed. Never throws on what a node sent.
 */
export const appraiseNode = (
  verifier: Verifier,
  evidence: NodeEvidence,
  asked: Outstanding,
  now: Date,
): Verdict => {
  const { crypto } = verifier
  const { claims } = evidence
  const node = asked.workflow.document.nodes.find(({ id }) => id === asked.nodeId)
  const stage = node === undefined ? undefined : asked.workflow.document.stages[node.stage]
  if (node === undefined || stage === undefined) {
    const check: Check = {
      name: "node",
      result: "failed",
      found: asked.nodeId,
      wanted: "a node of the workflow",
    }
    return {
      accepted: false,
      code: "UNKNOWN_NODE",
      reason: check,
      checks: [check],
      stage: "none",
      emulated: false,
    }
  }
  const { roots } = asked.workflow.document
  const reportData = reportDataFor(crypto, claims)
  const activation = activationCheck(crypto, evidence, asked, reportData)
  const recorder = verifier.collateral && recordLookup(verifier.collateral(now))
  const pieces = verifyPieces(evidence.evidence, {
    roots,
    now,
    crypto,
    caches: verifier.caches,
    ...(activation.result === "passed" && { activated: asked.activation }),
    ...(recorder && { collateral: recorder.lookup }),
  })
  const machine = machineOf(pieces)
  const appraisal = appraise(
    pieces,
    {
      ...standingStage(asked.workflow.document, stage, now.getTime()),
      roots,
      chips: node.chip === "any" ? "any" : node.chip === "pending" ? [] : [node.chip],
    },
    { reportData, extraData: tpmExtraData(reportData), dataplane: toHex(claims.dataplane) },
    now,
  )
  const values = shownValues(stage, appraisal)
  const checks = [
    ...claimChecks(crypto, evidence, asked),
    chipCheck(machine),
    ...(asked.activation === undefined ? [] : [activation]),
    ...revokedChecks(asked.workflow.document, machine),
    ...appraisal.checks,
    ...valuesChecks(values),
  ]
  const reason = checks.find(({ result }) => result === "failed")
  const chip = machine && chipBytesOf(machine)
  const consulted = recorder?.consulted() ?? []
  if (
    reason !== undefined ||
    appraisal.verdict !== "accepted" ||
    machine === undefined ||
    chip === undefined
  ) {
    const failed = reason ?? {
      name: "evidence",
      result: "failed",
      found: "no check passed",
      wanted: "genuine evidence",
    }
    return {
      accepted: false,
      code: refusalCode(failed.name, pieces),
      reason: failed,
      checks,
      stage: node.stage,
      emulated: appraisal.assurance === "emulated",
      ...(machine && isAnswer(checks) && { chip: chipOf(machine), platform: describeMachine(machine) }),
      ...(chip && isAnswer(checks) && { machine: chip }),
      appraisal,
      consulted,
    }
  }
  return {
    accepted: true,
    checks,
    appraisal,
    consulted,
    result: {
      v: 1,
      domain: claims.domain,
      workflow: claims.workflow,
      node: claims.node,
      session: claims.session,
      stage: node.stage,
      assurance: assuranceOf(machine),
      platform: describeMachine(machine).slice(0, 64),
      chip,
      boot: claims.boot,
      launch: launchOf(machine),
      signing_key: claims.signing_key,
      dh_key: claims.dh_key,
      kem_key_digest: kemKeyDigest(crypto, claims.kem_key),
      dataplane: claims.dataplane,
      values: values.map((value) => Uint8Array.from(Buffer.from(value, "hex"))),
      verifier: verifier.instance,
      control: verifier.control,
      verifier_nonce: asked.verifierNonce,
      beacon: asked.beacon,
      issued_ms: now.getTime(),
      appraisal: crypto.sha256(encode(Checks, checks)),
    },
  }
}

/** Evidence that isn't genuine is refused by the verification's own code, all else by the name of the check. */
export const refusalCode = (check: string, { snp, tdx, tpm, nitro }: VerifiedPieces): string => {
  const wrong = check === "genuine" ? (snp ?? tdx ?? nitro ?? tpm) : check === "tpm-genuine" ? tpm : undefined
  return wrong instanceof EvidenceError ? wrong.code : check.toUpperCase().replaceAll("-", "_")
}

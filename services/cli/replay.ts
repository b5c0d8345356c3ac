/** Gives a recorded verdict again, from what it was given by and nothing else, and says whether it comes out the same. */

import { AttestationResult } from "../../schemas/messages/attestation.ts"
import type { Check, Checks } from "../../schemas/messages/common.ts"
import type { RecordedVerdict, VerdictRecord } from "../../schemas/messages/record.ts"
import { SignedResult } from "../../schemas/messages/result.ts"
import { decode } from "../common/codec/index.ts"
import { crypto } from "../common/crypto/index.ts"
import { toHex } from "../common/hex.ts"
import {
  appraisalDigest,
  packVerdict,
  recordEnding,
  replayLookup,
  resultEnding,
  unpackVerdict,
} from "../evidence/record/index.ts"
import { judgeSubject } from "../guest/judge-record.ts"
import { clip, headline, safe, verdictLines } from "./appraise-table.ts"
import { workflowOf } from "./appraise-workflow.ts"
import { readItem } from "./inspect/files.ts"
import { UnusableError } from "./inspect/inspection.ts"

export interface Replayed {
  /** Byte for byte. */
  readonly same: boolean
  readonly recorded: RecordedVerdict
  readonly replayed: RecordedVerdict
  /** Checks that are there and not here, or that say another thing. */
  readonly differences: readonly {
    readonly name: string
    readonly recorded?: Check
    readonly replayed?: Check
  }[]
  /** SHA-256 of the packed verdict, hex. */
  readonly sha256: string
  /** What a signed result about it calls `appraisal`, hex. */
  readonly appraisal: string
}

/**
 * @param workflow a path, where the document is neither in the record nor beside it
 * @throws RecordError
 */
export const replay = (record: VerdictRecord, path: string, workflow?: string): Replayed => {
  const recorded = unpackVerdict(record.verdict)
  const { verdict: replayed } = judgeSubject(crypto, record.subject, workflowOf(record, path, workflow), {
    at: new Date(record.at_ms),
    // Nothing consulted: the appraisal had no store, or asked it for nothing. Either way it is asked for nothing now.
    ...(record.consulted.length > 0 && { collateral: replayLookup(record.consulted) }),
  })
  const bytes = packVerdict(replayed)
  return {
    same: Buffer.compare(bytes, record.verdict) === 0,
    recorded,
    replayed,
    differences: differencesOf(recorded.checks, replayed.checks),
    sha256: toHex(crypto.sha256(record.verdict)),
    appraisal: toHex(appraisalDigest(recorded.checks)),
  }
}

const differencesOf = (before: Checks, after: Checks): Replayed["differences"] => {
  const names = [...new Set([...before, ...after].map(({ name }) => name))]
  return names.flatMap((name) => {
    const [recorded, replayed] = [before, after].map((checks) => checks.find((check) => check.name === name))
    return JSON.stringify(recorded) === JSON.stringify(replayed)
      ? []
      : [{ name, ...(recorded && { recorded }), ...(replayed && { replayed }) }]
  })
}

export interface Matched {
  readonly file: string
  readonly matches: boolean
  /** Which of the result's words aren't the verdict's. */
  readonly differs: readonly string[]
}

/**
 * Whether a signed result tells this verdict. Says nothing about who signed it.
 * @throws UnusableError
 */
export const matchResult = (path: string, { recorded, appraisal }: Replayed): Matched => {
  const { bytes } = readItem(path)
  const signed = decode(SignedResult, bytes, { subject: path })
  const result = signed.ok ? decode(AttestationResult, signed.value.body, { subject: path }) : signed
  if (!result.ok) throw new UnusableError("RESULT_MALFORMED", "result", result.error.message)
  const { value } = result
  const differs = [
    ...(toHex(value.appraisal) === appraisal ? [] : ["appraisal"]),
    ...(value.node === recorded.node ? [] : ["node"]),
    ...(value.stage === recorded.stage ? [] : ["stage"]),
    ...(toHex(value.workflow) === toHex(recorded.workflow) ? [] : ["workflow"]),
    ...(value.issued_ms === recorded.at_ms ? [] : ["issued_ms"]),
    ...(recorded.verdict === "accepted" ? [] : ["verdict"]),
  ]
  return { file: path, matches: differs.length === 0, differs }
}

/** The result that a verifier has left beside its record; undefined where there is none. */
export const resultBeside = (recordPath: string): string | undefined => {
  if (!recordPath.endsWith(recordEnding)) return undefined
  const path = `${recordPath.slice(0, -recordEnding.length)}${resultEnding}`
  try {
    readItem(path)
    return path
  } catch (error) {
    if (error instanceof UnusableError) return undefined
    throw error
  }
}

const differenceLine = ({ name, recorded, replayed }: Replayed["differences"][number]): string => {
  const describe = (check: Check | undefined) =>
    check === undefined ? "no such check" : `${check.result}, found ${check.found}`
  return clip(safe(`  ${name.padEnd(20)} then ${describe(recorded)}; now ${describe(replayed)}`), 110)
}

const resultLine = ({ file, matches, differs }: Matched): string =>
  safe(
    matches
      ? `  the signed result ${file} tells this verdict`
      : `  THE SIGNED RESULT ${file} TELLS ANOTHER: ${differs.join(", ")}`,
  )

export const replayLines = (path: string, one: Replayed, matched?: Matched): readonly string[] => [
  one.same ? "THE SAME VERDICT, byte for byte" : "ANOTHER VERDICT",
  `  record    ${safe(path)}`,
  `  SHA-256   ${one.sha256}`,
  ...(matched === undefined
    ? [`  appraisal ${one.appraisal} (what a signed result about it says)`]
    : [resultLine(matched)]),
  ...(one.same ? [] : [`  then      ${headline(one.recorded)}`, `  now       ${headline(one.replayed)}`]),
  ...one.differences.map(differenceLine),
  "",
  ...verdictLines(one.recorded),
]

/** `vouchsafe appraise`: evidence against a workflow document, a verdict given again, a document against a whole fleet. */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import type { RecordedVerdict, RecordSubject, VerdictRecord } from "../../schemas/messages/record.ts"
import { crypto } from "../common/crypto/index.ts"
import { toHex } from "../common/hex.ts"
import { CollateralError } from "../evidence/index.ts"
import { packRecord, packVerdict, RecordError, unpackRecord } from "../evidence/record/index.ts"
import { judgeSubject } from "../guest/judge-record.ts"
import { type Found, findEvidence, readCollateral } from "./appraise-files.ts"
import { verdictLines } from "./appraise-table.ts"
import { type Document, readWorkflow, workflowOf } from "./appraise-workflow.ts"
import { fleetLines, fleetStatus, tryFleet } from "./fleet.ts"
import { readRecordItem } from "./inspect/files.ts"
import { UnusableError } from "./inspect/inspection.ts"
import { createOutput, type Output, UsageError, warn } from "./output.ts"
import { matchResult, replay, replayLines, resultBeside } from "./replay.ts"
import { parseTime } from "./time.ts"

const usage = `vouchsafe appraise --workflow FILE --evidence FILE... [--stage S | --node N] [--collateral DIR] [--at TIME] [--json]
       vouchsafe appraise --replay RECORD [--result FILE] [--json]
       vouchsafe appraise --workflow FILE --fleet DIR... [--collateral DIR] [--at TIME] [--json]

  The first judges evidence as a verifier would, by the stage of a workflow document that needn't be signed, and shows
  every check. Exit status: 0 accepted, 3 refused, 2 can't be judged.

  --evidence FILE    an SEV-SNP report (certificates beside it), a TDX quote, a TPM quote (signature, AK and PCR values
                     beside it), an AWS Nitro document, or a folder with one; a node's recorded answer; a record of a
                     verdict. Several make one machine. What goes with evidence is found as evidence inspect finds it.
  --stage S          which stage it shall take: any machine of its nodes. Not needed where there is only one
  --node N           which node it shall be: that node's stage, and that node's machine
  --collateral DIR   what vendors say, as vouchsafe collateral fetch fills it; else what the evidence brings itself
  --at TIME          the time to judge at, such as 2025-06-01T00:00:00Z; now if left out
  --report-data HEX  the 64 bytes that evidence must speak of; not checked if left out
  --dataplane HEX    the data plane's digest; not checked if left out (a recorded answer says itself)
  --save FILE        keeps the verdict with all that it was given by

  The second gives a recorded verdict again: with the same software the same bytes, whenever it is asked. Exit status: 0
  the same, 3 another, or the signed result tells another; 2 can't be replayed. --result: a signed result that must tell
  this verdict; one that lies beside the record (NODE.result) is looked at anyway.

  The third says what a changed document would do, before it is signed, to the nodes whose last evidence verifiers have
  kept (VOUCHSAFE_RECORDS). Exit status: 0 all accepted, 3 some refused, 2 some can't be judged.
`

const options = {
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
  workflow: { type: "string" },
  evidence: { type: "string", multiple: true },
  stage: { type: "string" },
  node: { type: "string" },
  collateral: { type: "string" },
  at: { type: "string" },
  "report-data": { type: "string" },
  dataplane: { type: "string" },
  save: { type: "string" },
  replay: { type: "string" },
  result: { type: "string" },
  fleet: { type: "string", multiple: true },
} as const

type Values = ReturnType<typeof parse>["values"]
const parse = (args: readonly string[]) =>
  parseArgs({ args: [...args], options, allowPositionals: true, strict: true })

const needed = (value: string | undefined, what: string): string => {
  if (value === undefined) throw new UsageError(`${what} is missing`)
  return value
}

const bytesOf = (option: string, text: string | undefined, length: number): Uint8Array | undefined => {
  if (text === undefined) return undefined
  if (!new RegExp(`^[0-9a-f]{${2 * length}}$`, "i").test(text))
    throw new UsageError(`--${option}: must be ${length} bytes in hex`)
  return new Uint8Array(Buffer.from(text, "hex"))
}

/** Exit status 2 for what can't be judged, with the reason in the form that was asked for. */
export const reportUnusable = (out: Output, error: unknown): 2 => {
  const known =
    error instanceof UnusableError || error instanceof RecordError
      ? { code: error.code, field: error.field, message: error.message }
      : error instanceof CollateralError
        ? { code: error.code, field: "collateral", message: error.message }
        : undefined
  if (known === undefined) throw error
  if (out.json) out.result({ verdict: null, error: known }, [])
  else warn(`vouchsafe: ${known.code}: ${known.message}`)
  return 2
}

/**
 * @param args what follows `appraise`
 * @returns the exit status
 * @throws UsageError
 */
export const appraiseCommand = (args: readonly string[]): 0 | 2 | 3 => {
  const { values, positionals } = parse(args)
  if (values.help) {
    process.stdout.write(usage)
    return 0
  }
  const out = createOutput(values.json)
  try {
    if (values.replay !== undefined) return replayRecord(out, values.replay, values)
    const workflow = readWorkflow(needed(values.workflow, "--workflow FILE"))
    const at = values.at === undefined ? new Date() : parseTime("at", values.at)
    if (values.fleet !== undefined)
      return judgeFleet(out, [...values.fleet, ...positionals], workflow, at, values)
    const paths = [...(values.evidence ?? []), ...positionals]
    if (paths.length === 0) throw new UsageError("--evidence FILE is missing")
    return judgeEvidence(out, paths, workflow, at, values)
  } catch (error) {
    return reportUnusable(out, error)
  }
}

/** Which stage and node are meant: as told, as the evidence says, or the only one. */
const subjectOf = (found: Found, { document }: Document, values: Values): RecordSubject => {
  const { stage, node } = values
  if (found.kind !== "pieces") {
    if (stage !== undefined || node !== undefined)
      throw new UsageError("--stage, --node: a recorded answer names its own node")
    return found.kind === "record" ? found.record.subject : { kind: "node", evidence: found.evidence }
  }
  const named = node === undefined ? undefined : document.nodes.find(({ id }) => id === node)
  if (node !== undefined && named === undefined)
    throw new UnusableError("NODE_UNKNOWN", "node", `the workflow names no node "${node}"`)
  if (named !== undefined && stage !== undefined && stage !== named.stage)
    throw new UsageError(`--stage: node "${node}" is of stage "${named.stage}"`)
  const stages = Object.keys(document.stages)
  const meant = named?.stage ?? stage ?? (stages.length === 1 ? stages[0] : undefined)
  if (meant === undefined)
    throw new UsageError(`--stage or --node: which of the stages ${stages.join(", ")}?`)
  const reportData = bytesOf("report-data", values["report-data"], 64)
  const dataplane = bytesOf("dataplane", values.dataplane, 48)
  return {
    kind: "pieces",
    evidence: found.evidence,
    stage: meant,
    ...(node !== undefined && { node }),
    ...(reportData && { report_data: reportData }),
    ...(dataplane && { dataplane }),
  }
}

const judgeEvidence = (
  out: Output,
  paths: readonly string[],
  workflow: Document,
  at: Date,
  values: Values,
): 0 | 3 => {
  const { roots } = workflow.document
  const { collateral: folder } = values
  const found = findEvidence(paths, { at, roots, ...(folder !== undefined && { collateral: folder }) })
  const subject = subjectOf(found, workflow, values)
  const stored = folder === undefined ? undefined : readCollateral(folder, at, roots)
  const { verdict, consulted } = judgeSubject(crypto, subject, workflow, {
    at,
    ...(stored && { collateral: stored.view }),
    otherDocument: found.kind === "record",
  })
  const { document, digest, bytes } = workflow
  if (values.save !== undefined) {
    if (found.kind === "record")
      throw new UsageError("--save: a record's verdict by another document isn't one that was ever given")
    save(values.save, {
      v: 1,
      kind: "verdict-record",
      at_ms: at.getTime(),
      workflow: { digest, document: bytes },
      subject,
      consulted,
      verdict: packVerdict(verdict),
    })
  }
  out.result(jsonOf(verdict, stored?.refused ?? []), [
    ...verdictLines(verdict, [
      ["evidence", paths.join(", ")],
      ["workflow", `${document.workflow} version ${document.version}, digest ${toHex(digest)}`],
    ]),
    ...(stored?.refused ?? []).map((line) => `  collateral that doesn't count: ${line.slice(0, 160)}`),
  ])
  return verdict.verdict === "accepted" ? 0 : 3
}

const save = (path: string, record: VerdictRecord): void => {
  try {
    writeFileSync(path, packRecord(record), { mode: 0o600, flag: "wx" })
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "can't be written"
    throw new UnusableError("FILE_UNWRITABLE", "save", `${path}: ${code}`)
  }
}

/** Bytes in hex, times as people write them. */
export const jsonOf = (verdict: RecordedVerdict, refused: readonly string[] = []): unknown => {
  const { v: _, at_ms, collateral, ...rest } = verdict
  return {
    ...rest,
    at: new Date(at_ms).toISOString(),
    collateral: collateral.map(({ issued_ms, expires_ms, ...one }) => ({
      ...one,
      issued: new Date(issued_ms).toISOString(),
      expires: new Date(expires_ms).toISOString(),
    })),
    collateral_refused: refused,
    error: null,
  }
}

const replayRecord = (out: Output, path: string, values: Values): 0 | 3 => {
  const record = unpackRecord(readRecordItem(path).bytes)
  const one = replay(record, path, values.workflow)
  const result = values.result ?? resultBeside(path)
  const matched = result === undefined ? undefined : matchResult(result, one)
  if (values.save !== undefined) {
    const { bytes, digest } = workflowOf(record, path, values.workflow)
    save(values.save, { ...record, workflow: { digest, document: bytes } })
  }
  const { same, sha256, appraisal, differences, recorded, replayed } = one
  out.result(
    {
      same,
      sha256,
      appraisal,
      result: matched ?? null,
      differences,
      recorded: jsonOf(recorded),
      replayed: jsonOf(replayed),
      error: null,
    },
    replayLines(path, one, matched),
  )
  return same && matched?.matches !== false ? 0 : 3
}

const judgeFleet = (
  out: Output,
  folders: readonly string[],
  workflow: Document,
  at: Date,
  { collateral }: Values,
): 0 | 2 | 3 => {
  const fleet = tryFleet(folders, workflow, { at, ...(collateral !== undefined && { collateral }) })
  out.result({ at, workflow: toHex(workflow.digest), ...fleet, error: null }, fleetLines(fleet))
  return fleetStatus(fleet)
}

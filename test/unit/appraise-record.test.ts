/** Verdicts that are kept and given again: byte for byte, in another process, years later; and whatever was changed, seen. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { stringify } from "yaml"
import { AttestationResult } from "../../schemas/messages/attestation.ts"
import type { Evidence } from "../../schemas/messages/common.ts"
import type { RecordSubject, VerdictRecord } from "../../schemas/messages/record.ts"
import { SignedResult } from "../../schemas/messages/result.ts"
import { matchResult, replay } from "../../services/cli/replay.ts"
import { encode } from "../../services/common/codec/index.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import type { CollateralLookup } from "../../services/evidence/index.ts"
import {
  packRecord,
  packVerdict,
  RecordError,
  unpackRecord,
  unpackVerdict,
} from "../../services/evidence/record/index.ts"
import { TdxError } from "../../services/evidence/tdx/index.ts"
import { judgeSubject, nodeRecord } from "../../services/guest/judge-record.ts"
import { signResults } from "../../services/make/result.ts"
import { Hierarchy } from "../support/tdx-lab.ts"
import { tdxPiece } from "./appraisal-support.ts"
import {
  attested,
  documentOf,
  type Fleet,
  type Given,
  type Known,
  known,
  makeFleet,
  vouchsafe,
} from "./appraise-support.ts"
import { hexOf, now, reportData } from "./evidence-support.ts"

let folder: string
let fleet: Fleet
let workflow: Known
let good: Given
let bad: Given

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "vouchsafe-record-"))
  fleet = makeFleet(1)
  workflow = known(documentOf(fleet))
  good = attested(fleet, 0, workflow)
  bad = attested(fleet, 0, workflow, { measurement: new Uint8Array(48).fill(9) })
}, 60_000)
afterAll(() => rmSync(folder, { recursive: true }))

const recordOf = ({ verdict, evidence, asked, at }: Given): VerdictRecord => {
  const { bytes, digest } = workflow
  return { ...nodeRecord(verdict, evidence, asked, at), workflow: { digest, document: bytes } }
}
const codeOf = (run: () => unknown): string => {
  try {
    run()
    return "nothing"
  } catch (error) {
    if (error instanceof RecordError) return error.code
    throw error
  }
}

describe("a record of a verdict", () => {
  it("comes out the same, accepted or refused", () => {
    for (const [given, wanted] of [
      [good, "accepted"],
      [bad, "refused"],
    ] as const) {
      const again = replay(unpackRecord(packRecord(recordOf(given))), "memory")
      expect(again).toMatchObject({ same: true, differences: [] })
      expect(again.recorded).toMatchObject({ verdict: wanted, stage: "source", node: "n1" })
    }
  })

  it("has one form: other orders pack alike, and other packings are refused", () => {
    const verdict = unpackVerdict(recordOf(good).verdict)
    const turned = Object.fromEntries(Object.entries(verdict).reverse()) as typeof verdict
    expect(packVerdict(turned)).toEqual(packVerdict(verdict))
    const bytes = packVerdict(verdict)
    // The same number, 1, in two bytes.
    const at = Buffer.from(bytes).indexOf(Buffer.from([0xa1, 0x76, 0x01]))
    const long = Buffer.concat([bytes.subarray(0, at + 2), Uint8Array.of(0xcc, 0x01), bytes.subarray(at + 3)])
    expect(codeOf(() => unpackVerdict(Uint8Array.from(long)))).toBe("VERDICT_MALFORMED")
  })

  it("shows every change of what it was given by", () => {
    const bytes = packRecord(recordOf(good))
    const { evidence } = good
    // The challenge joins these two; whoever replays holds the joined value against the evidence.
    const free = [evidence.verifier_nonce, evidence.beacon].map((part) => Buffer.from(bytes).indexOf(part))
    const isFree = (at: number) => free.some((from) => from <= at && at < from + 32)
    let seen = 0
    for (let i = 0; i < bytes.length; i += 17) {
      if (isFree(i)) continue
      const changed = Uint8Array.from(bytes)
      changed[i] = (changed[i] ?? 0) ^ 0x01
      const code = codeOf(() => {
        if (replay(unpackRecord(changed), "memory").same) throw new Error(`byte ${i} may be changed`)
      })
      seen += 1
      expect(code).not.toBe("COLLATERAL_UNRECORDED")
    }
    expect(seen).toBeGreaterThan(200)
  }, 240_000)

  it("is refused when it is too large, cut short, or without its document", () => {
    const whole = packRecord(recordOf(good))
    expect(codeOf(() => unpackRecord(new Uint8Array(2_097_153)))).toBe("RECORD_TOO_LARGE")
    expect(codeOf(() => unpackRecord(whole.subarray(0, whole.length - 1)))).toBe("RECORD_MALFORMED")
    const { digest } = workflow
    const without = { ...recordOf(good), workflow: { digest } }
    expect(codeOf(() => replay(without, join(folder, "nowhere", "n1.record")))).toBe("WORKFLOW_MISSING")
    const other = {
      ...recordOf(good),
      workflow: { digest: digest.map((b) => b ^ 1), document: workflow.bytes },
    }
    expect(codeOf(() => replay(other, "memory"))).toBe("WORKFLOW_DIGEST")
  })

  it("tells whether a signed result is about it", () => {
    if (!good.verdict.accepted) throw new Error("refused")
    const { result } = good.verdict
    const key = crypto.ed25519.generate()
    const path = join(folder, "n1.result")
    const write = (body: AttestationResult) => {
      const [signed] = signResults(crypto, key, [
        {
          domain: result.domain,
          workflow: result.workflow,
          node: result.node,
          dhKey: result.dh_key,
          body: encode(AttestationResult, body),
        },
      ])
      if (signed === undefined) throw new Error("unsigned")
      writeFileSync(path, encode(SignedResult, { ...signed, path: [...signed.path] }))
    }
    const again = replay(recordOf(good), "memory")
    write(result)
    expect(matchResult(path, again)).toMatchObject({ matches: true, differs: [] })
    expect(again.appraisal).toBe(hexOf(result.appraisal))
    write({ ...result, appraisal: new Uint8Array(32), stage: "sink" })
    expect(matchResult(path, again)).toMatchObject({ matches: false, differs: ["appraisal", "stage"] })
  })

  it("comes out the same in another process, and in one whose clock is ten years on", async () => {
    const path = join(folder, "alone.record")
    writeFileSync(path, packRecord(recordOf(good)))
    const args = ["appraise", "--replay", path, "--json"]
    const [one, later] = [await vouchsafe(args), await vouchsafe(args, 10 * 365 * 86_400_000)]
    expect(one).toMatchObject({ status: 0, err: "" })
    expect(later).toEqual(one)
    const told = JSON.parse(one.out) as { readonly same: boolean; readonly sha256: string }
    expect(told).toMatchObject({ same: true, sha256: hexOf(crypto.sha256(recordOf(good).verdict)) })
    // The clock was moved: what is judged anew is judged then.
    const document = join(folder, "workflow.yaml")
    writeFileSync(document, workflow.bytes)
    const anew = ["appraise", "--workflow", document, "--evidence", path, "--json"]
    const fresh = JSON.parse((await vouchsafe(anew, 10 * 365 * 86_400_000)).out) as { readonly at: string }
    expect(Date.parse(fresh.at)).toBeGreaterThan(Date.now() + 9 * 365 * 86_400_000)
  }, 240_000)
})

describe("collateral in a record", () => {
  const intel = new Hierarchy()
  const at = now
  const evidence: Evidence = { pieces: [tdxPiece(intel, { reportData })] }
  const tdxWorkflow = (): Known =>
    known(
      documentOf(fleet, (w) => ({
        ...w,
        roots: [intel.root],
        nodes: [{ id: "n1", stage: "source", chip: "any", address: "10.0.0.1", wire: "10.9.0.1" }],
        stages: {
          source: {
            assurance: "emulated",
            platforms: ["tdx"],
            tdx: {
              mrtd: ["00".repeat(48)],
              rtmrs: { 1: ["00".repeat(48)], 2: ["00".repeat(48)] },
              tcb: { statuses: ["UpToDate"] },
            },
            dataplane: ["0c".repeat(48)],
          },
        },
      })),
    )
  const subject: RecordSubject = { kind: "pieces", evidence, stage: "source", report_data: reportData }
  const recorded = (collateral: CollateralLookup): VerdictRecord => {
    const own = tdxWorkflow()
    const { verdict, consulted } = judgeSubject(crypto, subject, own, { at, collateral })
    return {
      v: 1,
      kind: "verdict-record",
      at_ms: at.getTime(),
      workflow: { digest: own.digest, document: own.bytes },
      subject,
      consulted,
      verdict: packVerdict(verdict),
    }
  }
  const good = () => recorded({ snp: () => ({}), tdx: () => intel.collateral() })

  it("is what the appraisal was given, and is enough to give it again", () => {
    const record = unpackRecord(packRecord(good()))
    expect(record.consulted.map(({ of }) => of)).toEqual(["tdx ee0000000001 platform"])
    const again = replay(record, "memory")
    expect(again.recorded.verdict).toBe("accepted")
    expect(again.recorded.collateral.length).toBeGreaterThan(2)
    expect(again.same).toBe(true)
  })

  it("gives another verdict where a byte of it is another, or some of it is gone", () => {
    const record = good()
    const [one] = record.consulted
    if (one === undefined) throw new Error("nothing consulted")
    for (const [i, item] of one.items.entries()) {
      const middle = item.bytes.length >> 1
      const bytes = item.bytes.map((byte, at) => (at === middle ? byte ^ 1 : byte))
      const items = one.items.map((each, n) => (n === i ? { ...each, bytes } : each))
      expect(replay({ ...record, consulted: [{ ...one, items }] }, "memory").same).toBe(false)
    }
    const without = { ...record, consulted: [{ ...one, items: one.items.slice(1) }] }
    expect(replay(without, "memory").same).toBe(false)
    const other = { ...record, consulted: [{ ...one, of: "snp Milan" }] }
    expect(codeOf(() => replay(other, "memory"))).toBe("COLLATERAL_UNRECORDED")
  })

  it("remembers that it was too old to be used", () => {
    const record = recorded({
      snp: () => ({}),
      tdx: () => {
        throw new TdxError("COLLATERAL_STALE", "collateral.tcbInfo", "issued long ago", "within the last 1 s")
      },
    })
    const again = replay(unpackRecord(packRecord(record)), "memory")
    expect(again).toMatchObject({ same: true, recorded: { verdict: "refused", code: "COLLATERAL_STALE" } })
  })

  it("says in the verdict what nobody asked, and judges it when somebody does", () => {
    const own = tdxWorkflow()
    const lookup: CollateralLookup = { snp: () => ({}), tdx: () => intel.collateral() }
    const judge = (change: Partial<RecordSubject & { kind: "pieces" }>) =>
      judgeSubject(crypto, { kind: "pieces", evidence, stage: "source", ...change }, own, {
        at,
        collateral: lookup,
      }).verdict
    const open = judge({})
    expect(open.verdict).toBe("accepted")
    expect(open.checks.filter(({ wanted }) => wanted === "nobody asked").map(({ name }) => name)).toEqual([
      "report-data",
      "dataplane",
    ])
    expect(judge({ report_data: new Uint8Array(64) })).toMatchObject({
      verdict: "refused",
      code: "REPORT_DATA",
    })
    expect(judge({ dataplane: new Uint8Array(48) })).toMatchObject({ verdict: "refused", code: "DATAPLANE" })
    expect(codeOf(() => judge({ stage: "nowhere" }))).toBe("STAGE_UNKNOWN")
    // Every object has this one without being given it.
    expect(codeOf(() => judge({ stage: "constructor" }))).toBe("STAGE_UNKNOWN")
    expect(codeOf(() => judge({ node: "n9" }))).toBe("NODE_UNKNOWN")
  })
})

it("a document that isn't sound is unusable, with the field that is wrong", async () => {
  const path = join(folder, "wrong.yaml")
  writeFileSync(path, stringify({ ...workflow.document, domain: "not a token" }))
  const ran = await vouchsafe(["appraise", "--workflow", path, "--evidence", path, "--json"])
  expect(ran.status).toBe(2)
  expect(JSON.parse(ran.out)).toMatchObject({ verdict: null, error: { code: "WORKFLOW_BAD_FIELD" } })
}, 60_000)

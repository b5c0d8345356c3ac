/** `vouchsafe appraise` over real evidence as it lies in folders: each kind, what goes with it, and what can't be judged. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { stringify } from "yaml"
import { AttestationResult, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { SignedResult } from "../../schemas/messages/result.ts"
import type { Demands, HardwareRoot } from "../../schemas/platforms.ts"
import { findEvidence, readCollateral } from "../../services/cli/appraise-files.ts"
import { UnusableError } from "../../services/cli/inspect/inspection.ts"
import { encode } from "../../services/common/codec/index.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { amdRoots, parseReport } from "../../services/evidence/index.ts"
import { awsRoots } from "../../services/evidence/nitro/roots.ts"
import { RecordError } from "../../services/evidence/record/index.ts"
import { parseQuote } from "../../services/evidence/tdx/index.ts"
import { intelRoots } from "../../services/evidence/tdx/roots.ts"
import { judgeSubject } from "../../services/guest/judge-record.ts"
import { signResults } from "../../services/make/result.ts"
import {
  attested,
  documentOf,
  type Fleet,
  type Known,
  known,
  makeFleet,
  vouchsafe,
} from "./appraise-support.ts"
import { flippedAt, haveVectors, hexOf, readVector, readVectorJson, vectorsDir } from "./evidence-support.ts"

if (!haveVectors)
  console.warn(
    `NO REAL EVIDENCE APPRAISED FROM FILES: 5 tests skipped, for there is nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`,
  )

let folder: string
let fleet: Fleet
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "vouchsafe-files-"))
  fleet = makeFleet(1)
}, 60_000)
afterAll(() => rmSync(folder, { recursive: true }))

const plain = (root: HardwareRoot & { readonly name?: string }): HardwareRoot => {
  const { name: _, ...rest } = root
  return rest
}
const roots: readonly HardwareRoot[] = [...amdRoots, ...intelRoots, ...awsRoots].map(plain)

const workflowFor = (demands: Demands): Known =>
  known(
    documentOf(fleet, (w) => ({
      ...w,
      roots: [...roots],
      stages: { source: { ...demands, dataplane: ["0c".repeat(48)] } },
      nodes: [{ id: "n1", stage: "source", chip: "any", address: "10.0.0.1", wire: "10.9.0.1" }],
    })),
  )

const pathOf = (file: string) => join(vectorsDir, file)

const appraise = (paths: readonly string[], demands: Demands, time: string, collateral?: string) => {
  const at = new Date(time)
  const workflow = workflowFor(demands)
  const found = findEvidence(paths, { at, roots, ...(collateral !== undefined && { collateral }) })
  if (found.kind !== "pieces") throw new Error(found.kind)
  const { verdict } = judgeSubject(crypto, { ...found, stage: "source" }, workflow, {
    at,
    ...(collateral !== undefined && { collateral: readCollateral(collateral, at, roots).view }),
  })
  return { outcome: verdict.code ?? verdict.verdict, verdict }
}

const codeOf = (run: () => unknown): string => {
  try {
    run()
    return "nothing"
  } catch (error) {
    if (error instanceof UnusableError || error instanceof RecordError) return error.code
    throw error
  }
}

const snpDemands = (file: string, platforms: Demands["platforms"] = ["sev-snp"]): Demands => ({
  assurance: "hardware",
  platforms,
  sev_snp: {
    measurements: [hexOf(parseReport(readVector(file)).measurement)],
    policy: { debug: false, migration_agent: false, vmpl_max: 3 },
  },
})

describe.runIf(haveVectors)("real evidence in files", () => {
  it("SNP: with the certificates beside it, under VCEK and VLEK, and not under another chip's", () => {
    for (const [name, time] of [
      ["snp/milan-v3-azure-aci.report.bin", "2025-10-01T00:00:00Z"],
      ["snp/genoa-v5-oak.report.bin", "2026-01-01T00:00:00Z"],
      ["snp/turin-v5-oak.report.bin", "2026-01-01T00:00:00Z"],
    ] as const)
      expect([name, appraise([pathOf(name)], snpDemands(name), time).outcome]).toEqual([name, "accepted"])
    const own = "snp/milan-v3-azure-aci.report.bin"
    const shared = "snp/milan-v3-vlek-aws.report.bin"
    const vlek = appraise([pathOf(shared)], snpDemands(shared), "2025-01-09T22:14:21Z").verdict
    expect(vlek.checks.find(({ name }) => name === "genuine")?.result).toBe("passed")
    expect(vlek.checks.find(({ name }) => name === "signing-key")).toMatchObject({
      result: "failed",
      wanted: "VCEK",
    })
    const foreign = [pathOf(own), pathOf("snp/milan-v2-azure-a.vcek.der")]
    expect(appraise(foreign, snpDemands(own), "2025-10-01T00:00:00Z").outcome).not.toBe("accepted")
    const other = snpDemands("snp/genoa-v5-oak.report.bin")
    expect(appraise([pathOf(own)], other, "2025-10-01T00:00:00Z").outcome).toBe("MEASUREMENT")
  })

  it("TDX: by the collateral of that time, out of folders of all times", () => {
    const name = "tdx/v4-gcp-cos113.quote.bin"
    const { td } = parseQuote(readVector(name))
    const demands: Demands = {
      assurance: "hardware",
      platforms: ["tdx"],
      tdx: {
        mrtd: [hexOf(td.mrTd)],
        rtmrs: { 1: [hexOf(td.rtmrs[1])], 2: [hexOf(td.rtmrs[2])] },
        tcb: { statuses: ["UpToDate"] },
      },
    }
    const at = "2025-06-15T00:00:00Z"
    const found = appraise([pathOf(name)], demands, at, pathOf("tdx"))
    expect(found.outcome).toBe("accepted")
    expect(found.verdict.collateral.map(({ kind }) => kind)).toContain("intel-tcb-info")
    expect(appraise([pathOf(name)], demands, at).outcome).toBe("COLLATERAL_MISSING")
    // Nothing in the folders is in force then.
    expect(appraise([pathOf(name)], demands, "2027-01-01T00:00:00Z", pathOf("tdx")).outcome).not.toBe(
      "accepted",
    )
  })

  it("TPM: a folder of an Azure machine beside its hardware report, and not beside another's", () => {
    const own = "snp/milan-v3-azure-vtpm-a.report.bin"
    const pcrs = readVectorJson("tpm/azure-snp-milan-a/pcrs-sha256.json") as Record<string, string>
    const demands: Demands = {
      ...snpDemands(own, ["sev-snp+tpm"]),
      tpm: { bank: "sha256", pcrs: { "7": [(pcrs["7"] ?? "").toLowerCase()] } },
    }
    const at = "2025-10-01T00:00:00Z"
    const folderOf = pathOf("tpm/azure-snp-milan-a")
    expect(appraise([folderOf, pathOf(own)], demands, at).outcome).toBe("accepted")
    const another = "snp/milan-v3-azure-vtpm-b.report.bin"
    const mixed = { ...demands, ...snpDemands(another, ["sev-snp+tpm"]) }
    expect(appraise([folderOf, pathOf(another)], mixed, at).outcome).toBe("BINDING")
    expect(appraise([folderOf], demands, at).outcome).toBe("PLATFORM")
  })

  it("Nitro: a document at its time, and never one in debug mode", () => {
    const demands = (pcr: string): Demands => ({
      assurance: "hardware",
      platforms: ["nitro"],
      nitro: { document: "enclave", pcrs: { "0": [pcr] } },
    })
    const zero = demands("00".repeat(48))
    const debug = [pathOf("nitro/evervault-2023-debug.cose.bin")]
    expect(appraise(debug, zero, "2023-09-18T15:03:30Z").outcome).not.toBe("accepted")
    const real = [pathOf("nitro/dstack-2025.cose.bin")]
    const { verdict } = appraise(real, zero, "2025-12-25T16:04:19Z")
    const pcr = verdict.checks.find(({ name }) => name === "nitro-pcr-0")?.found ?? ""
    expect(verdict.code).toBe("NITRO_PCR_0")
    expect(appraise(real, demands(pcr), "2025-12-25T16:04:19Z").outcome).toBe("accepted")
    expect(appraise(real, demands(pcr), "2026-12-25T16:04:19Z").outcome).toBe("CERTIFICATE_EXPIRED")
  })

  it("as a program: exit status, text and JSON; a changed byte is seen", async () => {
    const name = "milan-v3-azure-aci"
    const own = join(folder, "snp")
    mkdirSync(own)
    cpSync(pathOf("snp/certs"), join(own, "certs"), { recursive: true })
    cpSync(pathOf(`snp/${name}.vcek.der`), join(own, `${name}.vcek.der`))
    const report = join(own, `${name}.report.bin`)
    writeFileSync(report, readVector(`snp/${name}.report.bin`))
    const document = join(folder, "w.yaml")
    writeFileSync(document, workflowFor(snpDemands(`snp/${name}.report.bin`)).bytes)
    const saved = join(folder, "saved.record")
    const args = ["appraise", "--workflow", document, "--evidence", report, "--at", "2025-10-01"]
    const good = await vouchsafe([...args, "--save", saved])
    expect(good).toMatchObject({ status: 0, err: "" })
    expect(good.out).toMatch(/^ACCEPTED as far as asked {2}stage source, sev-snp Milan-B0 \(hardware\)\n/)
    expect(good.out.split("\n").every((line) => line.length <= 110)).toBe(true)
    expect(await vouchsafe([...args, "--save", saved])).toMatchObject({ status: 2 })
    expect(await vouchsafe(["appraise", "--replay", saved])).toMatchObject({ status: 0 })
    writeFileSync(report, flippedAt(readVector(`snp/${name}.report.bin`), 0x90))
    const bad = await vouchsafe([...args, "--json"])
    expect(bad.status).toBe(3)
    expect(JSON.parse(bad.out)).toMatchObject({ verdict: "refused", code: "REPORT_SIGNATURE", error: null })
    const unknown = await vouchsafe([...args, "--stage", "nowhere", "--json"])
    expect(unknown.status).toBe(2)
    expect(JSON.parse(unknown.out)).toMatchObject({ error: { code: "STAGE_UNKNOWN", field: "stage" } })
    expect((await vouchsafe([...args, "--at", "yesterday"])).status).toBe(64)
  }, 240_000)
})

describe("what can't be judged", () => {
  const at = "2026-01-01T00:00:00Z"
  const find = (name: string, bytes: Uint8Array) => {
    const path = join(folder, name)
    writeFileSync(path, bytes)
    return codeOf(() => findEvidence([path], { at: new Date(at), roots }))
  }

  it("is named: no evidence, too much of it, what says that it is ours and isn't", () => {
    expect(find("noise.bin", new Uint8Array(300).fill(7))).toBe("KIND_UNKNOWN")
    expect(find("empty.bin", new Uint8Array(0))).toBe("KIND_UNKNOWN")
    expect(find("large.bin", new Uint8Array(2_097_153))).toBe("FILE_TOO_LARGE")
    expect(find("r.record", Buffer.from("\x86 verdict-record and more"))).toBe("RECORD_MALFORMED")
    expect(find("n.bin", Buffer.from("\x86 node-evidence and more"))).toBe("EVIDENCE_MALFORMED")
    expect(codeOf(() => findEvidence([join(folder, "none")], { at: new Date(at), roots }))).toBe(
      "FILE_UNREADABLE",
    )
    const hollow = join(folder, "hollow")
    mkdirSync(hollow)
    expect(codeOf(() => findEvidence([hollow], { at: new Date(at), roots }))).toBe("EVIDENCE_MISSING")
  })

  it("is two machines at once, and a quote beyond the bounds of messages", () => {
    const report = new Uint8Array(1_184)
    report[0] = 3
    report[0x34] = 1
    const paths = ["a", "b"].map((name) => join(folder, `${name}.report.bin`))
    for (const path of paths) writeFileSync(path, report)
    expect(codeOf(() => findEvidence(paths, { at: new Date(at), roots }))).toBe("EVIDENCE_AMBIGUOUS")
    const quote = new Uint8Array(40_000)
    quote[0] = 4
    quote[4] = 0x81
    expect(find("quote.bin", quote)).toBe("EVIDENCE_TOO_LARGE")
  })
})

it("a node's recorded answer is judged by what it says of itself, and says what nobody remembers", async () => {
  const workflow = known(documentOf(fleet))
  const { evidence } = attested(fleet, 0, workflow)
  const [answer, document] = [join(folder, "answer.bin"), join(folder, "lab.yaml")]
  writeFileSync(answer, encode(NodeEvidence, evidence))
  writeFileSync(document, workflow.bytes)
  const args = ["appraise", "--workflow", document, "--evidence", answer, "--at", "2026-07-01", "--json"]
  const ran = await vouchsafe(args)
  const told = JSON.parse(ran.out)
  expect([ran.status, told.verdict, told.node, told.assurance]).toEqual([0, "accepted", "n1", "emulated"])
  const open = told.checks.filter(({ wanted }: { wanted: string }) => wanted === "nobody asked")
  expect(open.map(({ name }: { name: string }) => name)).toEqual([
    "workflow",
    "nonce",
    "challenge",
    "control-plane",
    "session",
  ])
  const claims = { ...evidence.claims, boot: new Uint8Array(16) }
  writeFileSync(answer, encode(NodeEvidence, { ...evidence, claims }))
  const changed = await vouchsafe(args)
  expect([changed.status, JSON.parse(changed.out).code]).toEqual([3, "REPORT_DATA"])
}, 120_000)

it("result show prints a signed result, and sees when it isn't as it was signed", async () => {
  const { verdict } = attested(fleet, 0, known(documentOf(fleet)))
  if (!verdict.accepted) throw new Error(verdict.code)
  const { result } = verdict
  const body = encode(AttestationResult, result)
  const { domain, workflow, node, dh_key: dhKey } = result
  const [signed] = signResults(crypto, crypto.ed25519.generate(), [{ domain, workflow, node, dhKey, body }])
  if (signed === undefined) throw new Error("unsigned")
  const path = join(folder, "n1.result")
  const write = (change: Partial<SignedResult>) =>
    writeFileSync(path, encode(SignedResult, { ...signed, path: [...signed.path], ...change }))
  write({})
  const good = await vouchsafe(["result", "show", path])
  expect(good).toMatchObject({ status: 0, err: "" })
  expect(good.out).toMatch(/^SIGNED {2}node n1, stage source, sev-snp Milan \(EMULATED\)\n/)
  write({ body: encode(AttestationResult, { ...result, stage: "sink" }) })
  const bad = await vouchsafe(["result", "show", path, "--json"])
  expect([bad.status, JSON.parse(bad.out).signature]).toEqual([3, "wrong"])
  writeFileSync(path, stringify({ not: "a result" }))
  expect(await vouchsafe(["result", "show", path])).toMatchObject({ status: 2 })
}, 120_000)

/** `vouchsafe evidence inspect` over real evidence, changed evidence, other things, and as a program. */
import { execFileSync, spawnSync } from "node:child_process"
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { exitStatusOf, inspectPaths } from "../../services/cli/inspect/inspect.ts"
import type { Inspection } from "../../services/cli/inspect/inspection.ts"
import { tableOf } from "../../services/cli/inspect/table.ts"
import { Random } from "./crypto-support.ts"
import { documentOf, madeAt, makeNitroLab } from "./evidence-nitro-support.ts"
import { flippedAt, haveVectors, readVector, readVectorJson, vectorsDir } from "./evidence-support.ts"

interface Verification {
  readonly collateral: string
  readonly at: string
  readonly pckCertValidThen: boolean
  readonly expectedStatus: {
    readonly platformTcb: string
    readonly platformTcbDate: string | null
    readonly tdxModule: string
    readonly qe: string
    readonly qeIsvSvn: number
  }
}

interface Entry {
  readonly file: string
  readonly kind: string
  readonly expect: "valid" | "invalid"
  readonly goesWith: readonly string[]
  readonly time: { readonly verifyAt?: string; readonly pckNotBefore?: string } | null
  readonly fields?: Readonly<Record<string, unknown>>
  readonly verifications?: readonly Verification[]
}

interface Pairing {
  readonly name: string
  readonly uses: readonly string[]
  readonly at?: string
  readonly expectedNonce?: string
}

const manifest = haveVectors ? (readVectorJson("MANIFEST.json") as readonly Entry[]) : []
const pairings = haveVectors ? (readVectorJson("NEGATIVE-PAIRINGS.json") as readonly Pairing[]) : []
const of = (...kinds: string[]) => manifest.filter(({ kind }) => kinds.includes(kind))
if (!haveVectors)
  console.warn(
    `NO REAL EVIDENCE INSPECTED: 56 pieces and 21 pairings skipped, for there is nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`,
  )

const pathOf = (file: string) => join(vectorsDir, file)
const usualTime = "2026-01-01T00:00:00Z"

interface How {
  readonly at?: string | undefined
  readonly collateral?: string
  readonly nonce?: string | undefined
}

const inspect = (paths: readonly string[], { at, collateral, nonce }: How = {}) =>
  inspectPaths(paths, {
    at: new Date(at ?? usualTime),
    ...(collateral !== undefined && { collateral }),
    ...(nonce !== undefined && { nonce: Uint8Array.from(Buffer.from(nonce, "hex")) }),
  })

/** As scripts see it: hex, and no undefined. */
const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_key, each) =>
      each instanceof Uint8Array
        ? Buffer.from(each).toString("hex")
        : typeof each === "bigint"
          ? `${each}`
          : each,
    ),
  )

const one = (inspections: readonly Inspection[]): Inspection => {
  const [first] = inspections
  if (first === undefined || inspections.length !== 1) expect.fail(`${inspections.length} answers`)
  for (const line of tableOf(first)) expect(line).toMatch(/^[\x20-\x7e]{0,100}$/)
  expect(tableOf(first).length).toBeLessThanOrEqual(50)
  return first
}

describe.each(of("snp-report", "nitro-attestation-doc"))(
  "$file",
  ({ file, kind, expect: expected, time, fields = {} }) => {
    it(`is ${expected}`, () => {
      const found = inspect([pathOf(file)], { at: time?.verifyAt })
      const inspection = one(found)
      expect(inspection.kind).toBe(kind === "snp-report" ? "snp" : "nitro")
      expect([inspection.error, inspection.genuine]).toEqual([
        expected === "valid" ? null : expect.anything(),
        expected === "valid",
      ])
      expect(exitStatusOf(found)).toBe(expected === "valid" ? 0 : 3)
      const shown = plain(inspection.fields) as Record<string, unknown>
      for (const name of [
        "measurement",
        "reportData",
        "chipId",
        "reportedTcb",
        "hostData",
        "moduleId",
        "timestamp",
        "pcrs",
      ])
        if (name in fields) expect([name, shown[name]]).toEqual([name, fields[name]])
    })
  },
)

describe.each(of("tdx-quote"))("$file", ({ file, expect: expected, time, verifications }) => {
  const later =
    time?.pckNotBefore === undefined ? undefined : new Date(Date.parse(time.pckNotBefore) + 86_400_000)

  it(`is ${expected} without collateral`, () => {
    const found = inspect([pathOf(file)], { at: later?.toISOString() })
    expect(one(found)).toMatchObject({ kind: "tdx", genuine: expected === "valid" })
    expect(exitStatusOf(found)).toBe(expected === "valid" ? 0 : 3)
  })

  it.each(verifications ?? [])("with $collateral at $at is what it was then", (then) => {
    const { platformTcb, platformTcbDate, tdxModule, qe, qeIsvSvn } = then.expectedStatus
    for (const collateral of ["tdx/collateral", then.collateral]) {
      const found = one(inspect([pathOf(file)], { at: then.at, collateral: pathOf(collateral) }))
      expect([found.genuine, found.error?.code]).toEqual(
        then.pckCertValidThen ? [true, undefined] : [false, expect.stringMatching(/^CERTIFICATE_/)],
      )
      if (!found.genuine) continue
      expect(found.status).toMatchObject({ platformTcb, qe, qeIsvSvn })
      expect(`${found.status.tdxModule}`).toContain(tdxModule.split(" ")[0] ?? "")
      if (platformTcbDate !== null)
        expect(new Date(`${found.status.platformTcbDate}`)).toEqual(new Date(platformTcbDate))
    }
  })
})

describe.each(of("tpm-quote"))("$file", ({ file, expect: expected, fields = {} }) => {
  it(`is ${expected}, with the files beside it`, () => {
    const found = inspect([pathOf(file)])
    expect(one(found)).toMatchObject({ kind: "tpm", error: null, genuine: expected === "valid" })
    expect(exitStatusOf(found)).toBe(0)
    const shown = plain(one(found).fields) as Record<string, unknown>
    if ("pcrDigest" in fields) expect(shown.pcrDigest).toBe(fields.pcrDigest)
  })

  it("is bound to its hardware report where that one's certificates are found", () => {
    const { status } = one(inspect([pathOf(file)], { collateral: pathOf("snp") }))
    expect(status.bound).toBe(/azure-snp|gce-cos85/.test(file))
  })
})

/** For each piece of evidence, all the files that go with it, named one by one. */
describe.runIf(haveVectors)("what goes together, named file by file", () => {
  const evidence = of("snp-report", "nitro-attestation-doc", "tpm-quote", "tdx-quote")
  it.each(evidence)("$file is as without", ({ file, goesWith, expect: expected, time, verifications }) => {
    const times = verifications?.filter(({ pckCertValidThen }) => pckCertValidThen).map(({ at }) => at) ?? []
    const at =
      times[0] ??
      time?.verifyAt ??
      (time?.pckNotBefore && new Date(Date.parse(time.pckNotBefore) + 1_000).toISOString())
    for (const each of times.length > 0 ? times : [at]) {
      const [found] = inspect([file, ...goesWith].map(pathOf), { at: each })
      expect([found?.error, found?.genuine]).toEqual([
        expected === "valid" ? null : expect.anything(),
        expected === "valid",
      ])
      if (times.length > 0) expect(found?.status).toHaveProperty("platformTcb")
    }
  })
})

describe.each(pairings)("$name", ({ uses, at, expectedNonce }) => {
  it("is not believed", () => {
    const found = inspect(uses.map(pathOf), { at, nonce: expectedNonce })
    expect(found.filter(({ genuine }) => genuine)).toEqual([])
    expect([2, 3]).toContain(exitStatusOf(found))
    // What is evidence and nothing else must be told to be false, not merely unusable.
    if (
      uses.some((file) => /report\.bin|quote\.bin|cose\.bin|attest\.bin/.test(file) && !file.includes("hcl"))
    )
      expect(exitStatusOf(found)).toBe(3)
  })
})

let work: string
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "vouchsafe-inspect-"))
})
afterAll(() => rmSync(work, { recursive: true, force: true }))

const file = (name: string, bytes: Uint8Array | string): string => {
  const path = join(work, name)
  writeFileSync(path, bytes)
  return path
}

describe("what is no evidence", () => {
  const codeOf = (paths: readonly string[]) => {
    const found = inspect(paths)
    expect(exitStatusOf(found)).toBe(2)
    expect(one(found)).toMatchObject({ kind: null, genuine: false, checks: [] })
    return one(found).error?.code
  }

  it("is unusable: nothing, garbage, text, one byte, a folder, a pipe, what isn't there", () => {
    expect(codeOf([file("empty", "")])).toBe("FILE_EMPTY")
    expect(codeOf([file("byte", "x")])).toBe("KIND_UNKNOWN")
    expect(codeOf([file("garbage", new Random("garbage").bytes(1_184))])).toBe("KIND_UNKNOWN")
    expect(codeOf([file("zeros", new Uint8Array(4_096))])).toBe("KIND_UNKNOWN")
    expect(codeOf([file("text", "hello, this is no report\n".repeat(100))])).toBe("KIND_UNKNOWN")
    expect(codeOf([file("json", '{"a":1}          ')])).toBe("EVIDENCE_MISSING")
    expect(codeOf([file("long", new Uint8Array((1 << 20) + 1))])).toBe("FILE_TOO_LARGE")
    mkdirSync(join(work, "nothing"))
    expect(codeOf([join(work, "nothing")])).toBe("EVIDENCE_MISSING")
    execFileSync("mkfifo", [join(work, "pipe")])
    expect(codeOf([join(work, "pipe")])).toBe("FILE_UNREADABLE")
    expect(codeOf([join(work, "absent")])).toBe("FILE_UNREADABLE")
  })

  it("beside evidence spoils the exit status, not the answer", () => {
    const document = file("lab.cose", documentOf(makeNitroLab()))
    const found = inspect([document, join(work, "absent")], { at: madeAt.toISOString() })
    expect(found.map(({ kind, error }) => [kind, error?.code])).toEqual([
      ["nitro", "ROOT_UNKNOWN"],
      [null, "FILE_UNREADABLE"],
    ])
    expect(exitStatusOf(found)).toBe(2)
    expect(exitStatusOf(inspect([document], { at: madeAt.toISOString() }))).toBe(3)
  })

  it("never throws: 4,000 inputs made of changed and random bytes", () => {
    const random = new Random("fuzz inspect")
    const from = [
      documentOf(makeNitroLab()),
      ...(haveVectors
        ? ["snp/turin-v5-oak.report.bin", "tdx/v4-spr-e4.quote.bin", "tpm/generic-swtpm/tpms-attest.bin"].map(
            readVector,
          )
        : []),
    ]
    for (let i = 0; i < 4_000; i++) {
      const bytes =
        i % 4 === 0 ? random.bytes(random.below(1_300)) : Uint8Array.from(from[i % from.length] ?? [])
      for (let n = random.below(5); n >= 0 && bytes.length > 0; n--)
        bytes[random.below(random.below(2) === 0 ? Math.min(64, bytes.length) : bytes.length)] =
          random.below(256)
      const found = inspect([
        file("fuzz", bytes.subarray(0, i % 7 === 0 ? random.below(bytes.length + 1) : bytes.length)),
      ])
      for (const each of found) tableOf(each)
      expect([2, 3]).toContain(exitStatusOf(found))
    }
  })
})

describe.runIf(haveVectors)("where things are found", () => {
  const report = "snp/milan-v2-virtee.report.bin"
  const folder = (name: string) => {
    mkdirSync(join(work, name), { recursive: true })
    return (from: string, to: string) => cpSync(pathOf(from), join(work, name, to))
  }
  const at = "2024-01-01T00:00:00Z"
  const answer = (path: string, how: How = {}) => {
    const { genuine, error } = one(inspect([join(work, path)], { at, ...how }))
    return genuine ? "genuine" : error?.code
  }

  it("a report of any name finds its certificate by the chip, and issuers in certs above", () => {
    const copy = folder("a/b")
    copy(report, "x")
    expect(answer("a/b/x")).toBe("CERTIFICATE_MISSING")
    expect(exitStatusOf(inspect([join(work, "a/b/x")]))).toBe(2)
    copy("snp/milan-v2-virtee.vcek.der", "y.der")
    expect(answer("a/b/x")).toBe("CERTIFICATE_MISSING")
    expect(answer("a/b/x", { collateral: pathOf("snp/certs") })).toBe("genuine")
    cpSync(pathOf("snp/certs"), join(work, "a/certs"), { recursive: true })
    expect(answer("a/b/x")).toBe("genuine")
    expect(one(inspect([join(work, "a/b")], { at }))).toMatchObject({ genuine: true })
  })

  it("issuers may be PEM, as AMD's key service gives them", () => {
    const copy = folder("pem")
    copy(report, "x.report.bin")
    copy("snp/milan-v2-virtee.vcek.der", "x.vcek.der")
    copy("snp/certs/milan-kds-cert-chain-vcek.pem", "chain.pem")
    expect(answer("pem/x.report.bin")).toBe("genuine")
  })

  it("what is named comes before what is found", () => {
    const wrong = ["snp/milan-v2-gce-debug.vcek.der", "snp/certs/genoa-ask.der", "snp/certs/genoa-ark.der"]
    for (const name of wrong)
      expect(one(inspect([pathOf(report), pathOf(name)], { at }))).toMatchObject({ genuine: false })
    const right = ["snp/milan-v2-virtee.vcek.der", "snp/certs/milan-ask.der", "snp/certs/milan-ark.der"]
    expect(one(inspect([report, ...right].map(pathOf), { at }))).toMatchObject({ genuine: true })
  })

  it("several pieces give several answers, each with its own certificates", () => {
    const names = [
      "snp/milan-v2-virtee.report.bin",
      "snp/turin-v5-oak.report.bin",
      "tpm/generic-swtpm/tpms-attest.bin",
    ]
    const found = inspect(names.map(pathOf))
    expect(found.map(({ kind, genuine }) => [kind, genuine])).toEqual([
      ["snp", true],
      ["snp", true],
      ["tpm", true],
    ])
  })

  it("a nonce is compared with what the evidence answers", () => {
    const right = one(inspect([pathOf("tpm/gce-cos85-nonce9009/sha256.tpms-attest.bin")], { nonce: "9009" }))
    expect(right.genuine).toBe(true)
    const document = pathOf("nitro/evervault-2022.cose.bin")
    const at = "2022-10-13T08:58:02Z"
    expect(one(inspect([document], { at, nonce: "00" }))).toMatchObject({ error: { code: "NONCE_MISMATCH" } })
  })

  it("changed evidence keeps its kind and is not genuine", () => {
    const cases = [
      ["snp/turin-v5-oak.report.bin", "snp", 0x90],
      ["tdx/v4-spr-e4.quote.bin", "tdx", 200],
      ["nitro/dstack-2025.cose.bin", "nitro", 3_000],
    ] as const
    for (const [name, kind, i] of cases) {
      const path = file(`changed-${kind}`, flippedAt(readVector(name), i))
      const how = { at: "2025-12-25T16:04:19Z", collateral: pathOf("snp") }
      const found = inspect([path], how)
      expect(found[0]).toMatchObject({ kind, genuine: false })
    }
  })
})

describe("the command", () => {
  const main = fileURLToPath(new URL("../../services/cli/main.ts", import.meta.url))
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, "evidence", "inspect", ...args], {
      encoding: "utf8",
      timeout: 25_000,
    })
    return { status, stdout, stderr }
  }

  it("wants a file, a real time, and says how it looks for things", () => {
    expect(run().status).toBe(64)
    expect(run("x", "--at", "yesterday").status).toBe(64)
    expect(run("x", "--at", "2025-02-31T00:00:00").status).toBe(64)
    expect(run("x", "--nonce", "abc").status).toBe(64)
    expect(run("x", "--unknown").status).toBe(64)
    const { status, stdout } = run("--help")
    expect([status, stdout]).toEqual([0, expect.stringContaining("certs")])
  })

  it("gives 2 for what can't be judged, in JSON too", () => {
    const { status, stdout } = run(file("nothing-in-it", ""), "--json")
    expect(status).toBe(2)
    expect(JSON.parse(stdout)).toMatchObject({ kind: null, genuine: false, error: { code: "FILE_EMPTY" } })
  })

  it("gives 3 for a document of an unknown root", () => {
    const document = file("lab-cli.cose", documentOf(makeNitroLab()))
    const { status, stdout } = run(document, "--json", "--at", madeAt.toISOString())
    expect(status).toBe(3)
    const answer = JSON.parse(stdout) as Record<string, unknown>
    expect(Object.keys(answer)).toEqual(
      expect.arrayContaining([
        "kind",
        "genuine",
        "platform",
        "version",
        "status",
        "fields",
        "checks",
        "error",
      ]),
    )
    expect(answer).toMatchObject({
      kind: "nitro",
      genuine: false,
      error: { code: "ROOT_UNKNOWN", field: "certificates.root" },
    })
    expect(answer.checks).toContainEqual(expect.objectContaining({ name: "pinned root", result: "failed" }))
  })

  it.runIf(haveVectors)("gives 0 for what is genuine, and a list for several", () => {
    const paths = ["snp/turin-v5-oak.report.bin", "nitro/dstack-2025.cose.bin"].map(pathOf)
    const { status, stdout } = run(...paths, "--json", "--at", "2025-12-25T16:04:19Z")
    expect(status).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject([
      { kind: "snp", genuine: true, error: null },
      { kind: "nitro", genuine: true, error: null },
    ])
    const people = run(...paths, "--at", "2025-12-25T16:04:19Z")
    expect(people.stdout).toMatch(/^GENUINE {2}AMD SEV-SNP Turin/)
  })
})

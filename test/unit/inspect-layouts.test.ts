/** The same real evidence, laid out as other tools and people lay it out: the answer must not depend on it. */
import { X509Certificate } from "node:crypto"
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { inspectPaths } from "../../services/cli/inspect/inspect.ts"
import { haveVectors, readVector, readVectorJson, vectorsDir } from "./evidence-support.ts"

interface Entry {
  readonly file: string
  readonly kind: string
  readonly expect: "valid" | "invalid"
  readonly goesWith: readonly string[]
  readonly time: { readonly verifyAt?: string } | null
  readonly verifications?: ReadonlyArray<{ readonly collateral: string; readonly at: string }>
}

const manifest = haveVectors ? (readVectorJson("MANIFEST.json") as readonly Entry[]) : []
const valid = (kind: string) => manifest.filter((one) => one.kind === kind && one.expect === "valid")
if (!haveVectors)
  console.warn(`NO REAL EVIDENCE LAID OUT: 36 pieces skipped, for there is nothing at ${vectorsDir}`)

const made: string[] = []
const folderWith = (files: Readonly<Record<string, Uint8Array | string>>): string => {
  const folder = mkdtempSync(join(tmpdir(), "vouchsafe-layout-"))
  made.push(folder)
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return folder
}
afterAll(() => {
  for (const folder of made) rmSync(folder, { recursive: true, force: true })
})

const at = new Date("2026-01-01T00:00:00Z")
const pemOf = (der: Uint8Array): string => new X509Certificate(der).toString()
const inCrLf = (text: string): string => text.replaceAll("\n", "\r\n")
const newline = Uint8Array.of(0x0a)

if (!haveVectors) it("has nothing to lay out", () => expect(manifest).toEqual([]))

describe.each(valid("snp-report"))("$file", ({ file, goesWith, time }) => {
  const report = readVector(file)
  const leaf = readVector(goesWith.find((one) => /\.(?:vcek|vlek)/.test(one)) ?? "")
  const issuers = goesWith.filter((one) => /certs\/.*\.der$/.test(one)).map((one) => readVector(one))
  const options = { at: new Date(time?.verifyAt ?? at) }
  const isGenuine = (folder: string, name: string, more: object = {}) => {
    const [found, ...others] = inspectPaths([join(folder, name)], { ...options, ...more })
    expect([found?.genuine, found?.error, others.length]).toEqual([true, null, 0])
  }

  it("is genuine in whatever way its certificates lie beside it", () => {
    const flat = Object.fromEntries(issuers.map((one, i) => [`c${i}.pem`, pemOf(one)]))
    isGenuine(folderWith({ "attestation-report.bin": report, "vcek.pem": pemOf(leaf), ...flat }), "")
    const preface = `Bag Attributes\n    friendlyName: ${"a name that is long ".repeat(8)}\n`
    const bundle = [...issuers, leaf].map((one) => inCrLf(pemOf(one))).join("\n")
    isGenuine(folderWith({ "report.bin": report, "bundle.pem": `${preface}${bundle}` }), "report.bin")
    // As AMD's service names them.
    const chain = issuers.map(pemOf).join("")
    isGenuine(folderWith({ "report.bin": report, vcek: leaf, cert_chain: chain }), "report.bin")
    const oneAfterAnother = Buffer.concat([leaf, ...issuers, newline])
    isGenuine(folderWith({ "report.bin": report, "certs.der": oneAfterAnother }), "report.bin")
    const collateral = folderWith({ "x.crt": pemOf(leaf), "chain.pem": chain })
    isGenuine(folderWith({ r: report }), "r", { collateral })
  })

  it("isn't, with a byte more or less, and that is the reason", () => {
    const folder = folderWith({ longer: Buffer.concat([report, newline]), shorter: report.subarray(0, -1) })
    for (const name of ["longer", "shorter"]) {
      const [found] = inspectPaths([join(folder, name)], options)
      expect([found?.kind, found?.genuine, found?.error?.code]).toEqual(["snp", false, "REPORT_LENGTH"])
    }
  })
})

const judged = valid("tdx-quote").filter(({ verifications = [] }) => verifications.length > 0)

describe.each(judged)("$file", ({ file, verifications = [] }) => {
  it.each(verifications)("is judged alike by $collateral under other names, among others", (one) => {
    const source = join(vectorsDir, one.collateral)
    const options = { at: new Date(one.at) }
    const [wanted] = inspectPaths([join(vectorsDir, file)], { ...options, collateral: source })
    const names = readdirSync(source)
    const renamed = Object.fromEntries(
      names.map((name, i) => [
        `file${i}${name.slice(name.lastIndexOf("."))}`,
        readVector(join(one.collateral, name)),
      ]),
    )
    // Of another platform family and of SGX's own enclave: not meant.
    const other = one.collateral.includes("50806f") ? "90c06f000000-2026-03" : "50806f000000-2026-03"
    renamed["a0.json"] = readVector(join("tdx/collateral", other, "tcb-info.json"))
    renamed["a1.json"] = readVector("tdx/invalid/sgx-qe-identity.json")
    renamed["a2.json"] = readVector("tdx/invalid/sgx-tcb-info-00606a.json")
    const folder = folderWith({ "quote.dat": Buffer.concat([readVector(file), newline]) })
    const [found] = inspectPaths([join(folder, "quote.dat")], { ...options, collateral: folderWith(renamed) })
    const of = (inspection: typeof found) => {
      const { collateral: _, ...status } = inspection?.status ?? {}
      return [inspection?.genuine, inspection?.error, status]
    }
    expect(of(found)).toEqual(of(wanted))
  })
})

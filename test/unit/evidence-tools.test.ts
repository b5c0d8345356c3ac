/**
 * Programs that others wrote say the same of the samples: tpm2_checkquote of TPM quotes, OpenSSL of AMD's and AWS's
 * chains. Both of what is genuine and of what was altered.
 */
import { spawnSync } from "node:child_process"
import { createPublicKey, X509Certificate } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { amdRoots, verifyReport } from "../../services/evidence/index.ts"
import { parseDocument } from "../../services/evidence/nitro/document.ts"
import { verifyNitro } from "../../services/evidence/nitro/index.ts"
import { parseQuoteAttest, verifyQuote } from "../../services/evidence/tpm/index.ts"
import { toolPcrs } from "../support/tool-pcrs.ts"
import { flippedAt, haveVectors, hexOf, readVector, readVectorJson } from "./evidence-support.ts"
import { evidenceOf, quotes } from "./evidence-tpm-support.ts"

const installed = (program: string): boolean => spawnSync("which", [program]).status === 0
const haveCheckquote = haveVectors && installed("tpm2_checkquote")
const haveOpenssl = haveVectors && installed("openssl")
if (!haveCheckquote)
  console.warn(
    "11 QUOTES NOT COMPARED: needs the samples (VOUCHSAFE_VECTORS) and tpm2_checkquote (apt: tpm2-tools)",
  )
if (!haveOpenssl) console.warn("23 CHAINS NOT COMPARED: needs the samples (VOUCHSAFE_VECTORS) and openssl")

const folder = mkdtempSync(join(tmpdir(), "vouchsafe-tools-"))
afterAll(() => rmSync(folder, { recursive: true }))
const put = (name: string, bytes: Uint8Array | string): string => {
  const path = join(folder, name)
  writeFileSync(path, bytes)
  return path
}
const succeeds = (program: string, ...args: readonly string[]): boolean =>
  spawnSync(program, args, { cwd: folder, timeout: 20_000 }).status === 0

type Evidence = ReturnType<typeof evidenceOf>

/** TPMT_PUBLIC holds the modulus or the point; the tool wants PEM, which our reading of it gives. */
const pemOf = (evidence: Evidence, nonce: Uint8Array): string => {
  if (typeof evidence.akPublic === "string") return evidence.akPublic
  const found = verifyQuote(evidence, { nonce, selection: selectionOf(evidence.attest) })
  if (found instanceof Error) throw found
  return createPublicKey({ key: Buffer.from(found.ak.spki), format: "der", type: "spki" })
    .export({ format: "pem", type: "spki" })
    .toString()
}

const selectionOf = (attest: Uint8Array) =>
  parseQuoteAttest(attest).selections.flatMap(({ bank, pcrs }) =>
    bank === undefined ? [] : [{ bank, pcrs }],
  )

/** TPMT_SIGNATURE with RSASSA and SHA-256 around a signature that is alone. */
const tpmtOf = (signature: Uint8Array): Uint8Array =>
  signature.length === 256 ? Uint8Array.of(0x00, 0x14, 0x00, 0x0b, 0x01, 0x00, ...signature) : signature

describe.runIf(haveCheckquote)("tpm2_checkquote", () => {
  const ours = (evidence: Evidence, nonce: Uint8Array): boolean => {
    try {
      return !(verifyQuote(evidence, { nonce, selection: selectionOf(evidence.attest) }) instanceof Error)
    } catch {
      return false
    }
  }
  const theirs = (evidence: Evidence, nonce: Uint8Array, pem: string, selected: Uint8Array): boolean => {
    const [selection] = selectionOf(selected)
    if (selection === undefined) throw new Error("no selection")
    const registers = evidence.pcrs[selection.bank]
    const values = selection.pcrs.map((pcr) => registers?.get(pcr) ?? new Uint8Array(0))
    return succeeds(
      "tpm2_checkquote",
      ...["-u", put("ak.pem", pem)],
      ...["-m", put("quote", evidence.attest)],
      ...["-s", put("signature", tpmtOf(evidence.signature))],
      ...["-f", put("pcrs", toolPcrs(selection.bank, selection.pcrs, values))],
      ...["-q", hexOf(nonce)],
      ...["-g", "sha256"],
    )
  }
  const usable = quotes.filter((entry) => {
    const { attest } = evidenceOf(entry)
    const { selections, extraData } = parseQuoteAttest(attest)
    return selections.length === 1 && selections[0]?.bank !== undefined && ours(evidenceOf(entry), extraData)
  })

  it("is asked of every quote of one bank that we believe", () =>
    expect(usable.length).toBeGreaterThanOrEqual(8))

  it.each(usable)("believes what we believe, and nothing altered: $file", (entry) => {
    const evidence = evidenceOf(entry)
    const nonce = parseQuoteAttest(evidence.attest).extraData
    const pem = pemOf(evidence, nonce)
    expect(theirs(evidence, nonce, pem, evidence.attest)).toBe(true)
    const last = evidence.attest.length - 1
    const altered: readonly (readonly [Evidence, Uint8Array])[] = [
      [evidence, nonce.length === 0 ? Uint8Array.of(1) : flippedAt(nonce, 0)],
      [{ ...evidence, attest: flippedAt(evidence.attest, last) }, nonce],
      [{ ...evidence, attest: flippedAt(evidence.attest, 20) }, nonce],
      [{ ...evidence, signature: flippedAt(evidence.signature, evidence.signature.length - 9) }, nonce],
    ]
    for (const [changed, asked] of altered) {
      expect(ours(changed, asked)).toBe(false)
      expect(theirs(changed, asked, pem, evidence.attest)).toBe(false)
    }
  })
})

const pem = (der: Uint8Array): string => new X509Certificate(der).toString()

/** @param chain leaf first, root last */
const believes = (chain: readonly Uint8Array[], at: Date): boolean => {
  const [leaf, ...others] = chain
  const root = others.pop()
  if (leaf === undefined || root === undefined) return false
  try {
    put("leaf.pem", pem(leaf))
    put("middle.pem", others.map(pem).join(""))
    put("root.pem", pem(root))
  } catch {
    return false
  }
  const time = `${Math.floor(at.getTime() / 1_000)}`
  return succeeds(
    "openssl",
    ...["verify", "-attime", time, "-CAfile", "root.pem", "-untrusted", "middle.pem", "leaf.pem"],
  )
}

interface Entry {
  readonly file: string
  readonly kind: string
  readonly expect: string
  readonly goesWith: readonly string[]
  readonly time: Readonly<Record<string, string>> | null
}
const manifest = haveVectors ? (readVectorJson("MANIFEST.json") as readonly Entry[]) : []
const century = new Date("2125-01-01T00:00:00Z")

describe.runIf(haveOpenssl)("OpenSSL, of AMD's chains", () => {
  const reports = manifest.filter(({ kind, expect: what }) => kind === "snp-report" && what === "valid")
  const product = (file: string) =>
    (/(milan|genoa|turin|bergamo)/.exec(file)?.[1] ?? "").replace("bergamo", "genoa")
  const chainOf = ({ file, goesWith }: Entry) => {
    const leaf = goesWith.find((one) => /\.v[cl]ek\.der$/.test(one)) ?? ""
    const issuer = leaf.endsWith(".vlek.der") ? "asvk" : "ask"
    return [leaf, `snp/certs/${product(file)}-${issuer}.der`, `snp/certs/${product(file)}-ark.der`].map(
      readVector,
    )
  }
  const ours = (report: Uint8Array, certificates: readonly Uint8Array[], now: Date): boolean =>
    !(verifyReport({ report, certificates }, { roots: amdRoots, now, missingCrl: "report" }) instanceof Error)

  it("is asked of every report", () => expect(reports.length).toBeGreaterThanOrEqual(18))

  it.each(reports)("says the same: $file", (entry) => {
    const report = readVector(entry.file)
    const chain = chainOf(entry)
    const [leaf = new Uint8Array(0), middle = leaf, root = leaf] = chain
    const at = new Date(Date.parse(new X509Certificate(leaf).validFrom) + 86_400_000)
    const other = product(entry.file) === "milan" ? "genoa" : "milan"
    const cases: readonly (readonly [string, readonly Uint8Array[], Date, boolean])[] = [
      ["as it is", chain, at, true],
      ["after its time", chain, century, false],
      ["with an altered leaf", [flippedAt(leaf, leaf.length - 9), middle, root], at, false],
      ["with an altered issuer", [leaf, flippedAt(middle, middle.length - 9), root], at, false],
      ["under another product's root", [leaf, middle, readVector(`snp/certs/${other}-ark.der`)], at, false],
    ]
    for (const [name, certificates, now, wanted] of cases) {
      expect([name, ours(report, certificates, now)]).toEqual([name, wanted])
      expect([name, believes(certificates, now)]).toEqual([name, wanted])
    }
  })
})

describe.runIf(haveOpenssl)("OpenSSL, of AWS's chains", () => {
  const documents = manifest.filter(
    ({ kind, expect: what }) => kind === "nitro-attestation-doc" && what === "valid",
  )

  it("is asked of every document", () => expect(documents.length).toBeGreaterThanOrEqual(5))

  it.each(documents)("says the same: $file", ({ file, time }) => {
    const bytes = readVector(file)
    const { certificate, cabundle } = parseDocument(bytes)
    const chain = [certificate, ...cabundle.toReversed()]
    const ours = (now: Date): boolean =>
      !(verifyNitro({ document: bytes }, { now, debug: "accept" }) instanceof Error)
    const at = new Date(time?.verifyAt ?? "")
    const late = new Date(Date.parse(time?.chainNotAfter ?? "") + 1_000)
    expect([ours(at), believes(chain, at)]).toEqual([true, true])
    expect([ours(late), believes(chain, late)]).toEqual([false, false])
    for (const i of chain.keys()) {
      const altered = chain.map((der, n) => (n === i ? flippedAt(der, der.length - 9) : der))
      // A root's own signature says nothing about it: it is known by its key.
      if (i < chain.length - 1) expect(believes(altered, at)).toBe(false)
    }
  })
})

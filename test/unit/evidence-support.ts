/** For the tests of evidence: where the real samples are, one emulated platform per test file, and policies that fit it. */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { SevSnp } from "../../schemas/platforms.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import {
  type AppraisalPolicy,
  createEmulatedChip,
  createEmulatedRoot,
  type EmulatedChip,
  type EmulatedRoot,
  type SnpEvidence,
} from "../../services/evidence/index.ts"
import { at, signatureComponentBytes, signedBytes } from "../../services/evidence/snp/report.ts"

const repository = fileURLToPath(new URL("../..", import.meta.url))
export const vectorsDir = process.env.VOUCHSAFE_VECTORS ?? join(repository, "..", "shared", "vectors")
export const haveVectors = existsSync(join(vectorsDir, "MANIFEST.json"))

export const readVector = (file: string): Uint8Array => Uint8Array.from(readFileSync(join(vectorsDir, file)))
export const readVectorJson = (file: string): unknown =>
  JSON.parse(readFileSync(join(vectorsDir, file), "utf8"))

export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

/** The lab's time in these tests. */
export const now = new Date("2026-07-01T00:00:00Z")
export const measurement = new Uint8Array(48).fill(0x4d)
export const dataplane = "d5".repeat(48)
export const reportData = new Uint8Array(64).fill(0x52)

/** Two keys of 4,096 bits: once per file. */
export const makeRoot = (product?: EmulatedRoot["product"]): EmulatedRoot =>
  createEmulatedRoot({ now, ...(product && { product }) })

export const makeChip = (root: EmulatedRoot) => createEmulatedChip(root, { now })

/** A policy that plain emulated guests meet; what differs for SNP comes second. */
export const policyFor = (
  root: EmulatedRoot,
  change: Partial<AppraisalPolicy> = {},
  snp: Partial<SevSnp> = {},
): AppraisalPolicy => ({
  platforms: ["sev-snp"],
  roots: [root.hardwareRoot],
  assurance: "emulated",
  sev_snp: {
    measurements: [hexOf(measurement)],
    policy: { debug: false, migration_agent: false, vmpl_max: 0 },
    ...snp,
  },
  dataplane: [dataplane],
  chips: "any",
  ...change,
})

/** `bytes` with all bits of byte `i` flipped. */
export const flippedAt = (bytes: Uint8Array, i: number): Uint8Array => {
  const copy = Uint8Array.from(bytes)
  copy[i] = (copy[i] ?? 0) ^ 0xff
  return copy
}

export const withCertificate = (evidence: SnpEvidence, i: number, der: Uint8Array): SnpEvidence => ({
  report: evidence.report,
  certificates: evidence.certificates.map((one, at) => (at === i ? der : one)),
})

/** The report with one of its fields changed and signed again: genuine to every check but the one that it is about. */
export const resigned = (
  chip: EmulatedChip,
  report: Uint8Array,
  change: (view: DataView) => void,
): Uint8Array => {
  const copy = Uint8Array.from(report)
  change(new DataView(copy.buffer))
  const signature = crypto.ecdsaP384.sign(copy.subarray(0, signedBytes), chip.key)
  copy.fill(0, at.signatureR, at.signatureS + signatureComponentBytes)
  copy.set(signature.slice(0, 48).reverse(), at.signatureR)
  copy.set(signature.slice(48).reverse(), at.signatureS)
  return copy
}

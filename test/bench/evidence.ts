/** Evidence to measure with: real samples where they are, a lab's own where not. */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Crypto } from "../../services/common/crypto/index.ts"
import {
  amdRoots,
  ChainCache,
  createEmulatedChip,
  createEmulatedRoot,
  launchGuest,
  verifyReport,
} from "../../services/evidence/index.ts"
import { NitroChainCache, verifyNitro } from "../../services/evidence/nitro/index.ts"
import { TdxCache, verifyQuote } from "../../services/evidence/tdx/index.ts"
import { parseQuoteAttest, verifyQuote as verifyTpmQuote } from "../../services/evidence/tpm/index.ts"
import { documentOf, madeAt, makeNitroLab } from "../unit/evidence-nitro-support.ts"

const repository = fileURLToPath(new URL("../..", import.meta.url))
const vectorsDir = process.env.VOUCHSAFE_VECTORS ?? join(repository, "..", "shared", "vectors")
export const haveVectors = existsSync(join(vectorsDir, "MANIFEST.json"))

export type Warmth = "cold" | "warm"

export interface Subject {
  readonly kind: "snp" | "tdx" | "tpm" | "nitro"
  readonly name: string
  /** One verification. Cold starts without a remembered chain. @throws what the verifier refused it for */
  readonly verify: (crypto: Crypto, warmth: Warmth) => void
}

const read = (file: string): Uint8Array => Uint8Array.from(readFileSync(join(vectorsDir, file)))

const must = <T>(result: T | Error): void => {
  if (result instanceof Error) throw result
}

const snpSubject = (): Subject => {
  const cache = new ChainCache()
  const { name, report, certificates, roots, now } = haveVectors ? realSnp() : emulatedSnp()
  return {
    kind: "snp",
    name,
    verify: (crypto, warmth) =>
      must(
        verifyReport({ report, certificates }, { roots, now, crypto, ...(warmth === "warm" && { cache }) }),
      ),
  }
}

const realSnp = () => ({
  name: "genoa-v5-oak (VCEK)",
  report: read("snp/genoa-v5-oak.report.bin"),
  certificates: ["snp/genoa-v5-oak.vcek.der", "snp/certs/genoa-ask.der", "snp/certs/genoa-ark.der"].map(read),
  roots: amdRoots,
  now: new Date("2026-01-01T00:00:00Z"),
})

const emulatedSnp = () => {
  const now = new Date("2026-07-01T00:00:00Z")
  const root = createEmulatedRoot({ now })
  const chip = createEmulatedChip(root, { now })
  const report = launchGuest(chip, { measurement: new Uint8Array(48) }).report(new Uint8Array(64))
  return { name: "emulated", report, certificates: chip.certificates, roots: [root.hardwareRoot], now }
}

const nitroSubject = (): Subject => {
  const cache = new NitroChainCache()
  const lab = haveVectors ? undefined : makeNitroLab()
  const document = lab === undefined ? read("nitro/dstack-2025.cose.bin") : documentOf(lab)
  const now = lab === undefined ? new Date("2025-12-25T16:04:19Z") : madeAt
  return {
    kind: "nitro",
    name: lab === undefined ? "dstack-2025" : "emulated",
    verify: (crypto, warmth) =>
      must(
        verifyNitro(
          { document },
          { now, crypto, ...(lab && { roots: [lab.root] }), ...(warmth === "warm" && { cache }) },
        ),
      ),
  }
}

const tdxSubject = (): Subject => {
  const cache = new TdxCache()
  const folder = "tdx/collateral/b0c06f000000-2025-06"
  const evidence = {
    quote: read("tdx/v4-b0c06f-uptodate.quote.bin"),
    collateral: {
      tcbInfo: read(`${folder}/tcb-info.json`),
      qeIdentity: read(`${folder}/qe-identity.json`),
      rootCrl: read(`${folder}/root-ca-crl.der`),
      pckCrl: read(`${folder}/pck-crl.der`),
    },
  }
  const now = new Date("2025-07-01T00:00:00Z")
  return {
    kind: "tdx",
    name: "v4-b0c06f-uptodate with collateral",
    verify: (crypto, warmth) =>
      must(verifyQuote(evidence, { now, crypto, ...(warmth === "warm" && { cache }) })),
  }
}

/** Nothing to remember: the key comes beside the quote. */
const tpmSubject = (): Subject => {
  const folder = "tpm/gce-cos85-nonce9009"
  const attest = read(`${folder}/sha256.tpms-attest.bin`)
  const values = JSON.parse(Buffer.from(read(`${folder}/sha256.pcrs.json`)).toString("utf8")) as Record<
    string,
    string
  >
  const evidence = {
    attest,
    signature: read(`${folder}/sha256.tpmt-signature.bin`),
    akPublic: read(`${folder}/ak.tpmt-public.bin`),
    pcrs: {
      sha256: new Map(
        Object.entries(values).map(([i, hex]) => [Number(i), Uint8Array.from(Buffer.from(hex, "hex"))]),
      ),
    },
  }
  const request = {
    nonce: parseQuoteAttest(attest).extraData,
    selection: [{ bank: "sha256" as const, pcrs: [0, 4, 7] }],
  }
  return {
    kind: "tpm",
    name: "gce-cos85 sha256 (RSA)",
    verify: (crypto) => must(verifyTpmQuote(evidence, request, { crypto })),
  }
}

/** TDX and TPM only where the samples are: nothing else here makes them. */
export const subjects = (): readonly Subject[] => [
  snpSubject(),
  ...(haveVectors ? [tdxSubject(), tpmSubject()] : []),
  nitroSubject(),
]

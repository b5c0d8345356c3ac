/**
 * Whose key was it? A quote proves what some TPM holds; a binding says which TPM, and refuses pieces of several machines.
 *
 *  - `azure-hcl`: a verified SNP report or TDX quote names the key in its report data; the strongest, since the TPM is
 *    then part of the confidential machine that the hardware measured;
 *  - `certified-ak`: an issuer that the operator named certified the attestation key;
 *  - `activated-credential`: the TPM showed that the key lives beside an EK that a named issuer certified;
 *  - `named-ek`: it showed the same for an EK that the operator named;
 *  - `named-key`: the operator named the key itself.
 */
import { crypto } from "../../common/crypto/index.ts"
import type { SnpReport } from "../snp/report.ts"
import { toHex } from "../text.ts"
import type { TpmIssuer } from "./certificate.ts"
import { type TpmChain, type TpmChainCache, verifyTpmChain } from "./chain.ts"
import type { PendingActivation } from "./credential.ts"
import { TpmError } from "./error.ts"
import { type HclConfiguration, parseHclReport } from "./hcl.ts"
import type { VerifiedQuote } from "./quote.ts"

/** A hardware report that was verified before: a `VerifiedSnp` is one; of a TDX quote its report data is needed. */
export type VerifiedHardware =
  | { readonly kind: "snp"; readonly report: Pick<SnpReport, "reportData" | "vmpl" | "signed"> }
  | { readonly kind: "tdx"; readonly reportData: Uint8Array }

export type BindingEvidence =
  | {
      readonly kind: "azure-hcl"
      readonly hclReport: Uint8Array
      readonly hardware: VerifiedHardware
    }
  | {
      readonly kind: "certified-ak"
      /** DER, leaf first, up to the named issuer's. */
      readonly certificates: readonly Uint8Array[]
      readonly issuers: readonly TpmIssuer[]
      readonly now: Date
      readonly cache?: TpmChainCache
    }
  | {
      readonly kind: "activated-credential"
      readonly pending: PendingActivation
      /** What the TPM gave back. */
      readonly answer: Uint8Array
      /** The EK's. DER, leaf first. */
      readonly certificates: readonly Uint8Array[]
      readonly issuers: readonly TpmIssuer[]
      readonly now: Date
      readonly cache?: TpmChainCache
    }
  | {
      readonly kind: "named-key"
      /** SHA-256 of SubjectPublicKeyInfos, hex. */
      readonly keyDigests: readonly string[]
    }

export type Binding =
  | {
      readonly kind: "azure-hcl"
      readonly hardware: "snp" | "tdx"
      readonly userData: string
      readonly configuration: HclConfiguration
    }
  | { readonly kind: "certified-ak"; readonly chain: TpmChain }
  | { readonly kind: "activated-credential"; readonly chain: TpmChain }
  | { readonly kind: "named-ek"; readonly keyDigest: string }
  | { readonly kind: "named-key"; readonly keyDigest: string }

/** @returns which binding holds, or why it doesn't */
export const bindQuote = (quote: VerifiedQuote, evidence: BindingEvidence): Binding | TpmError => {
  try {
    return bindOrThrow(quote, evidence)
  } catch (error) {
    if (error instanceof TpmError) return error
    throw error
  }
}

const bindOrThrow = (quote: VerifiedQuote, evidence: BindingEvidence): Binding => {
  switch (evidence.kind) {
    case "azure-hcl":
      return bindHcl(quote, evidence.hclReport, evidence.hardware)
    case "certified-ak": {
      const chain = verifyTpmChain(
        evidence.certificates,
        "ak",
        evidence.issuers,
        evidence.now,
        evidence.cache,
      )
      expectKey(quote, chain.spki, "certificates[0].publicKey")
      return { kind: "certified-ak", chain }
    }
    case "activated-credential":
      return bindActivated(quote, evidence)
    case "named-key":
      if (!evidence.keyDigests.includes(quote.ak.digest))
        throw new TpmError("BINDING_KEY_UNNAMED", "ak", quote.ak.digest, "a key that the operator named")
      return { kind: "named-key", keyDigest: quote.ak.digest }
  }
}

const expectKey = (quote: VerifiedQuote, spki: Uint8Array, field: string): void => {
  if (Buffer.compare(quote.ak.spki, spki) !== 0)
    throw new TpmError(
      "BINDING_KEY_MISMATCH",
      field,
      toHex(crypto.sha256(spki)),
      `${quote.ak.digest}, the key that signed the quote`,
    )
}

/** Where a TDREPORT holds its report data (Intel TDX Module ABI, REPORTMACSTRUCT). */
const tdReportDataAt = 128

const bindHcl = (quote: VerifiedQuote, bytes: Uint8Array, hardware: VerifiedHardware): Binding => {
  const hcl = parseHclReport(bytes)
  if (hcl.hardware !== hardware.kind)
    throw new TpmError("BINDING_REPORT_KIND", "hcl.runtime.reportType", hcl.hardware, hardware.kind)
  if (hardware.kind === "snp") expectParavisor(hardware.report, hcl.report)
  else expectSame("hcl.report", hcl.report.subarray(tdReportDataAt, tdReportDataAt + 64), hardware.reportData)
  const reportData = hardware.kind === "snp" ? hardware.report.reportData : hardware.reportData
  const wanted = new Uint8Array(64)
  wanted.set(hcl.runtimeDigest)
  expectSame("report.reportData", reportData, wanted)
  expectKey(quote, hcl.akPublic.spki, "hcl.runtime.keys.HCLAkPub")
  const { userData, configuration } = hcl
  return { kind: "azure-hcl", hardware: hardware.kind, userData, configuration }
}

/** The guest itself runs at a higher VMPL and may ask for reports with any data: only VMPL 0 is the paravisor. */
const expectParavisor = (report: Pick<SnpReport, "vmpl" | "signed">, inside: Uint8Array): void => {
  if (report.vmpl !== 0)
    throw new TpmError("BINDING_PRIVILEGE", "report.vmpl", `${report.vmpl}`, "0: asked for by the paravisor")
  if (Buffer.compare(inside.subarray(0, report.signed.length), report.signed) !== 0)
    throw new TpmError("BINDING_REPORT_MISMATCH", "hcl.report", "another report", "the one that was verified")
}

const expectSame = (field: string, found: Uint8Array, wanted: Uint8Array): void => {
  if (Buffer.compare(found, wanted) !== 0)
    throw new TpmError("BINDING_REPORT_MISMATCH", field, toHex(found), toHex(wanted))
}

type Activation = Extract<BindingEvidence, { readonly kind: "activated-credential" }>

const bindActivated = (quote: VerifiedQuote, evidence: Activation): Binding => {
  const { pending, answer } = evidence
  const name = quote.ak.public?.name
  if (name === undefined || Buffer.compare(name, pending.akName) !== 0)
    throw new TpmError(
      "BINDING_KEY_MISMATCH",
      "ak.name",
      name === undefined ? "a key without its TPMT_PUBLIC" : toHex(name),
      `${toHex(pending.akName)}, the name that was challenged`,
    )
  if (pending.secret.length < 16 || !crypto.equalConstantTime(answer, pending.secret))
    throw new TpmError(
      "BINDING_ACTIVATION",
      "answer",
      "another secret",
      "the secret that only its TPM could read",
    )
  const chain = verifyTpmChain(evidence.certificates, "ek", evidence.issuers, evidence.now, evidence.cache)
  const ekDigest = toHex(crypto.sha256(chain.spki))
  if (ekDigest !== pending.ekDigest)
    throw new TpmError("BINDING_KEY_MISMATCH", "certificates[0].publicKey", ekDigest, pending.ekDigest)
  return { kind: "activated-credential", chain }
}

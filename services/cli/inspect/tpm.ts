/** A TPM 2.0 quote with its signature, attestation key and PCR values, and what binds that key to a machine. */
import { toHex } from "../../common/hex.ts"
import { EventLogError, matchReplay, parseEventLog } from "../../evidence/eventlog/index.ts"
import { amdRoots, SnpError, verifyReport } from "../../evidence/index.ts"
import { outline } from "../../evidence/snp/certificate.ts"
import { TdxError, verifyQuoteSignatures } from "../../evidence/tdx/index.ts"
import {
  bindQuote,
  googleTpmRoot1,
  type HclReport,
  parseHclReport,
  parseQuoteAttest,
  type QuoteAttest,
  TpmError,
  type VerifiedHardware,
  type VerifiedQuote,
  verifyQuote,
} from "../../evidence/tpm/index.ts"
import type { Context } from "./context.ts"
import type { Item } from "./files.ts"
import {
  type Check,
  checksOf,
  errorOf,
  type Inspection,
  type InspectionError,
  type Stage,
  UnusableError,
  unusable,
} from "./inspection.ts"
import { pcrValuesOf } from "./pcr-values.ts"
import { amdChains } from "./snp.ts"
import { filesOf, type TpmFiles } from "./tpm-files.ts"

interface Step {
  readonly check: Check
  readonly error?: InspectionError
}

export const inspectTpm = (item: Item, context: Context): Inspection => {
  const { at } = context
  const base = {
    file: item.path,
    kind: "tpm",
    version: "2.0",
    at: at.toISOString(),
    certificates: [],
  } as const
  const attest = typed(() => parseQuoteAttest(item.bytes))
  if (attest instanceof TpmError)
    return { ...base, ...refused(attest), platform: "TPM", fields: {}, usable: true }
  const fields = fieldsOf(attest)
  const files = filesOf(item, context, attest.selections)
  const missing = (["signature", "ak", "pcrs"] as const).filter((role) =>
    role === "ak" ? files.ak === undefined && files.hcl === undefined : files[role] === undefined,
  )
  if (missing.length > 0 || files.signature === undefined || files.pcrs === undefined) {
    const message = `the quote's ${missing.join(", ")} aren't beside it`
    return unusable(item.path, "tpm", at, new UnusableError("TPM_FILES_MISSING", "file", message), {
      platform: "TPM",
      version: "2.0",
      fields,
    })
  }
  const hcl =
    files.hcl === undefined ? undefined : typed(() => parseHclReport(files.hcl?.bytes ?? new Uint8Array(0)))
  if (hcl instanceof TpmError) return { ...base, ...refused(hcl), platform: "TPM", fields, usable: true }
  const quote = verifyQuote(
    {
      attest: item.bytes,
      signature: files.signature.bytes,
      // A hardware report that the caller gave says whose key it must be.
      akPublic: keyOf(files, hcl, context),
      pcrs: pcrValuesOf(files.pcrs, attest.selections) ?? {},
    },
    {
      nonce: context.nonce ?? attest.extraData,
      selection: attest.selections.flatMap(({ bank, pcrs }) => (bank === undefined ? [] : [{ bank, pcrs }])),
    },
    { sha1: "allow" },
  )
  if (quote instanceof TpmError) return { ...base, ...refused(quote), platform: "TPM", fields, usable: true }

  const steps = [bindingStep(quote, files, hcl, context), eventLogStep(quote, files)]
  const broken = steps.find(({ error }) => error !== undefined)
  return {
    ...base,
    genuine: broken === undefined,
    platform: hcl === undefined ? "TPM 2.0" : `TPM 2.0 of an Azure confidential machine (${hcl.hardware})`,
    status: {
      binding: steps[0]?.check.found,
      bound: steps[0]?.check.result === "passed",
      usesSha1: quote.usesSha1,
      nonceChecked: context.nonce !== undefined,
      clockSafe: quote.clockInfo.safe,
    },
    fields: { ...fields, akDigest: quote.ak.digest, pcrs: plainPcrs(quote) },
    checks: [...checksOf(stagesOf(quote)), ...steps.map(({ check }) => check)],
    error: broken?.error ?? null,
    usable: true,
  }
}

const typed = <T>(read: () => T): T | TpmError => {
  try {
    return read()
  } catch (error) {
    if (error instanceof TpmError) return error
    throw error
  }
}

const refused = (error: TpmError): Pick<Inspection, "genuine" | "status" | "checks" | "error"> => ({
  genuine: false,
  status: {},
  checks: checksOf(stagesOf(), error),
  error: errorOf(error),
})

const keyOf = (files: TpmFiles, hcl: HclReport | undefined, { given }: Context): Uint8Array => {
  const own = files.ak?.bytes
  const named = files.hcl !== undefined && given.includes(files.hcl)
  return hcl !== undefined && (named || own === undefined) ? hcl.akPublic.spki : (own ?? new Uint8Array(0))
}

const failed = (name: string, error: TpmError | EventLogError): Step => ({
  check: { name, result: "failed", found: error.found, wanted: error.wanted },
  error: errorOf(error),
})

/** The strongest binding that the files allow. Without any, nothing says which machine's TPM it was. */
const bindingStep = (
  quote: VerifiedQuote,
  files: TpmFiles,
  hcl: HclReport | undefined,
  context: Context,
): Step => {
  const name = "key binding"
  const wanted = "the key bound to hardware or certified by a known issuer"
  if (hcl !== undefined && files.hcl !== undefined) {
    const hardware = hardwareOf(hcl, files.hcl, context)
    if (hardware instanceof TpmError) return failed(name, hardware)
    if (hardware === undefined) {
      const inner = checkInner(quote, hcl)
      if (inner !== undefined) return failed(name, inner)
      const found = `named in runtime data for ${hcl.hardware}; that report's own signature not checked (no certificate or quote)`
      return { check: { name, result: "not applicable", found, wanted } }
    }
    const binding = bindQuote(quote, { kind: "azure-hcl", hclReport: files.hcl.bytes, hardware })
    if (binding instanceof TpmError) return failed(name, binding)
    return {
      check: {
        name,
        result: "passed",
        found: `in the report data of a genuine ${hcl.hardware} report`,
        wanted,
      },
    }
  }
  const certificates = chainOf(files, quote)
  if (certificates.length >= 2) {
    const { at } = context
    const binding = bindQuote(quote, {
      kind: "certified-ak",
      certificates,
      issuers: [googleTpmRoot1],
      now: at,
    })
    if (binding instanceof TpmError) return failed(name, binding)
    return { check: { name, result: "passed", found: `certified by ${googleTpmRoot1.name}`, wanted } }
  }
  const found = "none: whose key it is isn't known"
  return { check: { name, result: "not applicable", found, wanted } }
}

/** What can be said without the report's own signature: it names the runtime data, and that the key. */
const checkInner = (quote: VerifiedQuote, hcl: HclReport): TpmError | undefined => {
  if (Buffer.compare(hcl.akPublic.spki, quote.ak.spki) !== 0)
    return new TpmError(
      "BINDING_KEY_MISMATCH",
      "hcl.runtime.keys.HCLAkPub",
      "another key",
      "the key that signed the quote",
    )
  const from = reportDataAt[hcl.hardware]
  const wanted = new Uint8Array(64)
  wanted.set(hcl.runtimeDigest)
  const found = hcl.report.subarray(from, from + 64)
  return Buffer.compare(found, wanted) === 0
    ? undefined
    : new TpmError("BINDING_REPORT_MISMATCH", "hcl.report.reportData", toHex(found), toHex(wanted))
}

/** In an SNP report (AMD 56860, table 23) and in a TDREPORT (Intel TDX Module ABI, REPORTMACSTRUCT). */
const reportDataAt = { snp: 0x50, tdx: 128 } as const

/** The report inside, where its certificates are found; for TDX a quote on the command line. Undefined: not to be had. */
const hardwareOf = (
  hcl: HclReport,
  file: Item,
  context: Context,
): VerifiedHardware | TpmError | undefined => {
  if (hcl.hardware === "tdx") {
    const quotes = context.evidence.flatMap(({ bytes }) => {
      const verified = verifyQuoteSignatures({ quote: bytes }, { now: context.at })
      return verified instanceof TdxError ? [] : [verified]
    })
    const [first] = quotes
    return first && { kind: "tdx", reportData: first.quote.td.reportData }
  }
  const [certificates] = amdChains({ path: file.path, bytes: hcl.report }, context)
  if (certificates === undefined) return undefined
  const verified = verifyReport({ report: hcl.report, certificates }, { roots: amdRoots, now: context.at })
  return verified instanceof SnpError
    ? new TpmError("BINDING_REPORT_MISMATCH", verified.field, verified.found, verified.wanted)
    : verified
}

/** From the certificate that holds the quote's key upwards, by name, to a certificate that names itself. */
const chainOf = (files: TpmFiles, quote: VerifiedQuote): readonly Uint8Array[] => {
  const named = [...files.akCertificates, ...files.certificates].flatMap((der) => {
    try {
      return [outline("certificate", der)]
    } catch (error) {
      if (error instanceof SnpError) return []
      throw error
    }
  })
  const chain: typeof named = []
  let next = named.find(({ spki }) => Buffer.compare(spki, quote.ak.spki) === 0)
  while (next !== undefined && chain.length < 5) {
    const below = next
    chain.push(below)
    if (Buffer.compare(below.issuer, below.subject) === 0) break
    next = named.find(({ subject }) => Buffer.compare(subject, below.issuer) === 0)
  }
  return chain.map(({ der }) => der)
}

const eventLogStep = (quote: VerifiedQuote, { eventLog }: TpmFiles): Step => {
  const name = "event log"
  const wanted = "replays to the quoted PCRs"
  if (eventLog === undefined)
    return { check: { name, result: "not applicable", found: "no log beside it", wanted } }
  try {
    const log = parseEventLog(eventLog.bytes)
    const bank = quote.selections
      .map((one) => one.bank)
      .find((one) => one !== undefined && log.banks.includes(one))
    const quoted = bank && quote.pcrs[bank]
    if (bank === undefined || quoted === undefined)
      throw new EventLogError("BANK_ABSENT", "log.banks", log.banks.join(", "), "a bank that was quoted")
    const proven = matchReplay(log, bank, quoted)
    const found = `${log.events.length} events explain PCR ${proven.join(", ")} (${bank})`
    return { check: { name, result: "passed", found, wanted } }
  } catch (error) {
    if (error instanceof EventLogError) return failed(name, error)
    throw error
  }
}

const stagesOf = (quote?: VerifiedQuote): readonly Stage[] => {
  const scheme = quote === undefined ? "" : `${quote.scheme} with ${quote.signingHash}`
  const covered = quote?.selections.map(({ bank, pcrs }) => `${bank}: ${pcrs.length} PCRs`).join(", ") ?? ""
  return [
    {
      name: "quote format",
      codes: /^STRUCTURE_|^ATTEST_|^HCL_/,
      wanted: "TPMS_ATTEST of a quote",
      found: quote ? "TPMS_ATTEST" : "",
    },
    {
      name: "attestation key",
      codes: /^KEY_/,
      wanted: "RSA or ECDSA, restricted where it says so",
      found: quote?.ak.digest ?? "",
    },
    {
      name: "quote signature",
      codes: /^SIGNATURE_|^QUOTE_|^SHA1_/,
      wanted: "by the attestation key",
      found: scheme,
    },
    {
      name: "nonce",
      codes: /^NONCE_/,
      wanted: "what was asked, where --nonce says it",
      found: quote ? Buffer.from(quote.nonce).toString("hex") : "",
    },
    {
      name: "PCR values",
      codes: /^SELECTION_|^PCR_/,
      wanted: "hash to the quote's PCR digest",
      found: covered,
    },
  ]
}

/** The names are those of the TPM's structures. */
const fieldsOf = ({ signed: _, clockInfo, ...rest }: QuoteAttest) => ({
  ...rest,
  firmwareVersion: rest.firmwareVersion.toString(16),
  clock: clockInfo.clock,
  resetCount: clockInfo.resetCount,
  restartCount: clockInfo.restartCount,
  safe: clockInfo.safe,
})

const plainPcrs = ({ pcrs }: VerifiedQuote) =>
  Object.fromEntries(Object.entries(pcrs).map(([bank, values]) => [bank, Object.fromEntries(values ?? [])]))

/**
 * From the pieces of a message to what each proves. Nothing is judged here: a piece that isn't genuine is carried as the
 * error that says why, for the appraisal to list.
 */
import type {
  Evidence,
  NitroPiece,
  Piece,
  SnpPiece,
  TdxPiece,
  TpmPiece,
} from "../../../schemas/messages/common.ts"
import type { HardwareRoot, Platform } from "../../../schemas/platforms.ts"
import type { Crypto } from "../../common/crypto/port.ts"
import type { CollateralView } from "../collateral/view.ts"
import type { Bank } from "../eventlog/bank.ts"
import { EventLogError } from "../eventlog/error.ts"
import { type EventLog, parseEventLog } from "../eventlog/log.ts"
import type { Registers } from "../eventlog/replay.ts"
import { NitroChainCache } from "../nitro/chain.ts"
import type { NitroError } from "../nitro/error.ts"
import { type VerifiedNitro, verifyNitro } from "../nitro/verify.ts"
import { ChainCache } from "../snp/chain.ts"
import { SnpError } from "../snp/error.ts"
import { productNames, productOfCpuid } from "../snp/product.ts"
import { parseReport } from "../snp/report.ts"
import { type VerifiedSnp, verifyReport } from "../snp/verify.ts"
import { TdxCache } from "../tdx/cache.ts"
import { TdxError } from "../tdx/error.ts"
import { type VerifiedTdx, verifyQuote as verifyTdxQuote } from "../tdx/verify.ts"
import { type Binding, bindQuote, type VerifiedHardware } from "../tpm/binding.ts"
import { TpmChainCache } from "../tpm/chain.ts"
import { TpmError } from "../tpm/error.ts"
import { type VerifiedQuote, verifyQuote as verifyTpmQuote } from "../tpm/quote.ts"
import { parseQuoteAttest } from "../tpm/structures.ts"

/** Where vendors' own words are at hand: looked up in memory, never fetched. */
export type CollateralLookup = Pick<CollateralView, "snp" | "tdx"> & Partial<CollateralView>

/** What was verified before, so that the next piece of the same machine costs less. */
export class EvidenceCaches {
  readonly snp = new ChainCache()
  readonly tdx = new TdxCache()
  readonly tpm = new TpmChainCache()
  readonly nitro = new NitroChainCache()
}

export interface VerifyEvidenceOptions {
  readonly roots: readonly HardwareRoot[]
  readonly now: Date
  readonly collateral?: CollateralLookup
  readonly caches?: EvidenceCaches
  readonly crypto?: Crypto
  /** By credential activation: an endorsement key, and the TPM name of the attestation key beside it. */
  readonly activated?: { readonly ek: Uint8Array; readonly akName: Uint8Array } | undefined
}

/** A genuine quote; what says whose it is, and the log beside it, are judged apart. */
export interface VerifiedTpm {
  readonly kind: "tpm"
  readonly quote: VerifiedQuote
  /** SHA-256 of the endorsement key, hex, where it has proven to be of the TPM that made the quote. */
  readonly ek?: string
  readonly binding: Binding | TpmError
  /** The root that vouches for the key alone is a lab's. */
  readonly emulated: boolean
  readonly bootLog: EventLog | EventLogError | undefined
}

export interface VerifiedPieces {
  /** What the pieces are together; undefined when no platform is made of these. */
  readonly platform: Platform | undefined
  /** Their kinds, in the order of the message. */
  readonly kinds: readonly Piece["kind"][]
  readonly snp?: VerifiedSnp | SnpError
  readonly tdx?: (VerifiedTdx & { readonly eventLog: Uint8Array | undefined }) | TdxError
  readonly tpm?: VerifiedTpm | TpmError
  readonly nitro?: VerifiedNitro | NitroError
}

const platforms: ReadonlyMap<string, Platform> = new Map([
  ["snp", "sev-snp"],
  ["tdx", "tdx"],
  ["tpm", "tpm"],
  ["nitro", "nitro"],
  ["snp+tpm", "sev-snp+tpm"],
  ["tdx+tpm", "tdx+tpm"],
])

/** @returns each piece verified; what belongs to no platform isn't looked at */
export const verifyPieces = ({ pieces }: Evidence, options: VerifyEvidenceOptions): VerifiedPieces => {
  const kinds = pieces.map(({ kind }) => kind)
  const platform = platforms.get([...kinds].sort().join("+"))
  if (platform === undefined) return { platform, kinds }
  const of = <K extends Piece["kind"]>(kind: K) =>
    pieces.find((piece): piece is Extract<Piece, { kind: K }> => piece.kind === kind)
  const [snpPiece, tdxPiece, tpmPiece, nitroPiece] = [of("snp"), of("tdx"), of("tpm"), of("nitro")]
  const snp = snpPiece && verifySnp(snpPiece, options)
  const tdx = tdxPiece && verifyTdx(tdxPiece, options)
  const tpm = tpmPiece && verifyTpm(tpmPiece, options, hardwareOf(snp, tdx))
  const nitro = nitroPiece && verifyDocument(nitroPiece, options)
  return {
    platform,
    kinds,
    ...(snp && { snp }),
    ...(tdx && { tdx }),
    ...(tpm && { tpm }),
    ...(nitro && { nitro }),
  }
}

type Vendor = HardwareRoot["vendor"]

const rootsOf = <V extends Vendor>(roots: readonly HardwareRoot[], vendor: V) =>
  roots.filter((root): root is Extract<HardwareRoot, { vendor: V }> => root.vendor === vendor)

const verifySnp = (piece: SnpPiece, options: VerifyEvidenceOptions): VerifiedSnp | SnpError => {
  const { roots, now, collateral, caches, crypto } = options
  return verifyReport(
    {
      report: piece.report,
      certificates:
        piece.certificates.length > 0 ? piece.certificates : storedCertificates(piece, collateral),
      // AMD's lists say nothing of what a lab's root has issued.
      ...(collateral && {
        collateral: (product, root) => (root.emulated ? {} : collateral.snp(product)),
      }),
    },
    {
      roots: rootsOf(roots, "amd"),
      now,
      missingCrl: "report",
      ...(caches && { cache: caches.snp }),
      ...(crypto && { crypto }),
    },
  )
}

/** Hosts often have no certificates to give: AMD's stand in, checked like any. */
const storedCertificates = (
  { report: bytes }: SnpPiece,
  collateral: CollateralLookup | undefined,
): readonly Uint8Array[] => {
  if (collateral?.snpCertificates === undefined) return []
  try {
    const report = parseReport(bytes)
    const product = report.cpuid && productOfCpuid(report.cpuid)
    for (const one of product === undefined ? productNames : [product]) {
      const found = collateral.snpCertificates(report, one)
      if (found !== undefined) return found
    }
  } catch (error) {
    // The verifier reads the report again and says what is wrong with it.
    if (!(error instanceof SnpError)) throw error
  }
  return []
}

const verifyTdx = (piece: TdxPiece, options: VerifyEvidenceOptions): VerifiedPieces["tdx"] => {
  const { roots, now, collateral, caches, crypto } = options
  const verified = verifyTdxQuote(
    {
      quote: piece.quote,
      ...(piece.certificates.length > 0 && { certificates: piece.certificates }),
      collateral: collateral?.tdx ?? {},
    },
    { roots: rootsOf(roots, "intel"), now, ...(caches && { cache: caches.tdx }), ...(crypto && { crypto }) },
  )
  return verified instanceof TdxError ? verified : { ...verified, eventLog: piece.event_log }
}

const verifyDocument = (piece: NitroPiece, { roots, now, caches, crypto }: VerifyEvidenceOptions) =>
  verifyNitro(
    { document: piece.document },
    {
      roots: rootsOf(roots, "aws").map((root) => ({ ...root, name: "named by the policy" })),
      now,
      ...(caches && { cache: caches.nitro }),
      ...(crypto && { crypto }),
    },
  )

/** Only genuine hardware can name a TPM's key. */
const hardwareOf = (
  snp: VerifiedSnp | SnpError | undefined,
  tdx: VerifiedPieces["tdx"],
): VerifiedHardware | undefined => {
  if (snp !== undefined && !(snp instanceof SnpError)) return { kind: "snp", report: snp.report }
  if (tdx !== undefined && !(tdx instanceof TdxError))
    return { kind: "tdx", reportData: tdx.quote.td.reportData }
  return undefined
}

const verifyTpm = (
  piece: TpmPiece,
  options: VerifyEvidenceOptions,
  hardware: VerifiedHardware | undefined,
): VerifiedTpm | TpmError => {
  const quote = genuineQuote(piece, options.crypto)
  if (quote instanceof TpmError) return quote
  const ek = activatedEk(quote, options)
  const binding = bindPiece(piece, quote, options, hardware, ek)
  return { kind: "tpm", quote, ...(ek !== undefined && { ek }), ...binding, bootLog: readLog(piece.boot_log) }
}

/** Only of the key that made the quote: another one in the same TPM proves nothing of it. */
const activatedEk = ({ ak }: VerifiedQuote, { activated }: VerifyEvidenceOptions): string | undefined =>
  activated !== undefined && ak.public !== undefined && Buffer.compare(ak.public.name, activated.akName) === 0
    ? Buffer.from(activated.ek).toString("hex")
    : undefined

/** The quote's own extraData and selection stand for what was asked: whether they are right, rules of the appraisal say. */
const genuineQuote = (piece: TpmPiece, crypto: Crypto | undefined): VerifiedQuote | TpmError => {
  const pcrs: Partial<Record<Bank, Map<number, Uint8Array>>> = {}
  for (const { bank, index, value } of piece.pcrs) {
    const registers = pcrs[bank] ?? new Map<number, Uint8Array>()
    if (registers.has(index))
      return new TpmError(
        "STRUCTURE_VALUE",
        `pcrs.${bank}[${index}]`,
        "given twice",
        "one value for each register",
      )
    pcrs[bank] = registers.set(index, value)
  }
  const values: Readonly<Partial<Record<Bank, Registers>>> = pcrs
  try {
    const { extraData: nonce, selections } = parseQuoteAttest(piece.attest)
    const selection = selections.flatMap(({ bank, pcrs }) => (bank === undefined ? [] : [{ bank, pcrs }]))
    return verifyTpmQuote(
      { attest: piece.attest, signature: piece.signature, akPublic: piece.ak, pcrs: values },
      { nonce, selection },
      { ...(crypto && { crypto }) },
    )
  } catch (error) {
    if (error instanceof TpmError) return error
    throw error
  }
}

const bindPiece = (
  piece: TpmPiece,
  quote: VerifiedQuote,
  { roots, now, caches }: VerifyEvidenceOptions,
  hardware: VerifiedHardware | undefined,
  ek: string | undefined,
): Pick<VerifiedTpm, "binding" | "emulated"> => {
  const named = rootsOf(roots, "tpm")
  const isEmulated = (digest: string): boolean =>
    named.some(({ key_digest, emulated }) => key_digest === digest && emulated)
  if (piece.hcl_report !== undefined) {
    const binding =
      hardware === undefined
        ? new TpmError("BINDING_REPORT_KIND", "hcl_report", "alone", "a genuine hardware report beside it")
        : bindQuote(quote, { kind: "azure-hcl", hclReport: piece.hcl_report, hardware })
    return { binding, emulated: false }
  }
  if (piece.certificates.length > 0) {
    const issuers = named
      .filter(({ use }) => use === "issuer")
      .map(({ key_digest }) => ({ name: key_digest, keyDigest: key_digest }))
    const binding = bindQuote(quote, {
      kind: "certified-ak",
      certificates: piece.certificates,
      issuers,
      now,
      ...(caches && { cache: caches.tpm }),
    })
    const root = "kind" in binding && binding.kind === "certified-ak" ? binding.chain.issuer.name : ""
    return { binding, emulated: isEmulated(root) }
  }
  if (ek !== undefined && named.some((root) => root.use === "ek" && root.key_digest === ek))
    return { binding: { kind: "named-ek", keyDigest: ek }, emulated: isEmulated(ek) }
  const keyDigests = named.filter(({ use }) => use === "ak").map(({ key_digest }) => key_digest)
  return {
    binding: bindQuote(quote, { kind: "named-key", keyDigests }),
    emulated: isEmulated(quote.ak.digest),
  }
}

const readLog = (bytes: Uint8Array | undefined): EventLog | EventLogError | undefined => {
  if (bytes === undefined) return undefined
  try {
    return parseEventLog(bytes)
  } catch (error) {
    if (error instanceof EventLogError) return error
    throw error
  }
}

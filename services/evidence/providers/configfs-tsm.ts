/** Evidence of SEV-SNP and TDX guests, through the kernel's configfs-tsm. */
import { limits } from "../../../schemas/limits.ts"
import type { Piece, SnpPiece, TdxPiece } from "../../../schemas/messages/common.ts"
import { parseEventLog } from "../eventlog/index.ts"
import { at, reportBytes } from "../snp/report.ts"
import { TdxError } from "../tdx/error.ts"
import { parseQuote } from "../tdx/quote.ts"
import { toHex } from "../text.ts"
import { chainOf, parseCertificateTable } from "./certificate-table.ts"
import { ProviderError } from "./error.ts"
import { defaultLogs, fittingLog, type LogChoice } from "./logs.ts"
import { type AttestationProvider, bytesOf, expectRoom } from "./provider.ts"
import { probeTsm, readTsmReport, removeLeftOvers, type TsmOptions, type TsmReport, tsmRoot } from "./tsm.ts"

export interface ConfigfsTsmOptions extends TsmOptions {
  /** TDX: whether the firmware's log goes along. */
  readonly logs?: LogChoice
  /** Where the kernel shows the firmware's log of a TD. */
  readonly ccel?: string
}

const ccelPath = "/sys/firmware/acpi/tables/data/CCEL"
/** What firmware sets aside, padding included. */
const ccelBytesMost = 1_048_576

/**
 * @throws ProviderError ABSENT where the kernel has no such interface or no provider behind it, PERMISSION, BUSY, IO,
 *   MALFORMED
 */
export const configfsTsm = async (options: ConfigfsTsmOptions = {}): Promise<AttestationProvider> => {
  const { root = tsmRoot, logs = defaultLogs, ccel = ccelPath } = options
  const provider = await probeTsm(options)
  await removeLeftOvers(options)
  return {
    platform: provider === "sev_guest" ? "sev-snp" : "tdx",
    emulated: false,
    about: `${provider} at ${root}`,
    attest: async (reportData, room = limits.evidenceBytes) => {
      const made = await readTsmReport(reportData, options)
      if (made.provider !== provider)
        throw new ProviderError(
          "MISMATCH",
          `${root}/*/provider`,
          made.provider,
          `${provider}, as at the start`,
        )
      const piece: Piece =
        provider === "sev_guest" ? snpPiece(options, made, reportData) : tdxPiece(root, made, reportData)
      const bytes = bytesOf([piece])
      expectRoom(root, bytes, room, "")
      if (piece.kind !== "tdx") return [piece]
      const wanted = { path: ccel, choice: logs.boot, trim: unpadded, fileBytesMost: ccelBytesMost } as const
      const event_log = await fittingLog(wanted, room - bytes)
      return [{ ...piece, ...(event_log && { event_log }) }]
    },
    close: async () => undefined,
  }
}

const expectOver = (path: string, found: Uint8Array, wanted: Uint8Array): void => {
  if (Buffer.compare(found, wanted) !== 0)
    throw new ProviderError("MISMATCH", path, `report data ${toHex(found)}`, toHex(wanted))
}

/** Bits 2 to 4 of the word at `signer`: which key signed. */
const leafOf = (report: Uint8Array): "vcek" | "vlek" =>
  (((report[at.signer] ?? 0) >> 2) & 7) === 1 ? "vlek" : "vcek"

const snpPiece = (
  { root = tsmRoot, warn }: TsmOptions,
  { report, auxiliary }: TsmReport,
  reportData: Uint8Array,
): SnpPiece => {
  if (report.length !== reportBytes)
    throw new ProviderError("LENGTH", `${root}/*/outblob`, `${report.length} bytes`, `${reportBytes} bytes`)
  expectOver(`${root}/*/outblob`, report.subarray(at.reportData, at.reportData + 64), reportData)
  return { kind: "snp", report, certificates: auxiliary ? hostChain(auxiliary, leafOf(report), warn) : [] }
}

/** The report stands without the host's table, where the verifier has the certificates: a bad one isn't worth failing. */
const hostChain = (table: Uint8Array, leaf: "vcek" | "vlek", warn: TsmOptions["warn"]): Uint8Array[] => {
  try {
    return chainOf(parseCertificateTable(table), leaf)
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error
    warn?.(error)
    return []
  }
}

const tdxPiece = (root: string, { report: quote }: TsmReport, reportData: Uint8Array): TdxPiece => {
  try {
    expectOver(`${root}/*/outblob`, parseQuote(quote).td.reportData, reportData)
  } catch (error) {
    if (!(error instanceof TdxError)) throw error
    throw new ProviderError("MALFORMED", `${root}/*/outblob`, `${error.field}: ${error.found}`, error.wanted)
  }
  return { kind: "tdx", quote, certificates: [] }
}

/** The firmware's log without its padding; one that can't be read is sent as it is, for a verifier to refuse. */
const unpadded = (log: Uint8Array): Uint8Array => {
  try {
    return log.subarray(0, log.length - parseEventLog(log).paddingBytes)
  } catch {
    return log
  }
}

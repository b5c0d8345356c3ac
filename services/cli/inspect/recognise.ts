/** What a file holds, told by its bytes alone. Says nothing about whether they are right. */
import type { EvidenceKind } from "./inspection.ts"

export type SupportKind =
  | "certificate"
  | "crl"
  | "pem"
  | "json"
  | "tpm-signature"
  | "tpm-public"
  | "hcl-report"
  | "event-log"

const snpReportBytes = 1_184
const lengthErrorMost = 64
/** Text may stand before the first block, as openssl writes it. */
const pemHeadMost = 65_536
const intelQeVendor = "939a7233f79c4ca9940a0db3957f0607"
const tpmGenerated = 0xff544347

/** The kind of evidence that the bytes are, if any. */
export const recogniseEvidence = (bytes: Uint8Array): EvidenceKind | undefined => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (bytes.length >= 8 && view.getUint32(0) === tpmGenerated) return "tpm"
  if (isQuote(bytes, view)) return "tdx"
  if (isCoseSign1(bytes)) return "nitro"
  if (isSnpReport(bytes, view)) return "snp"
  return undefined
}

/**
 * A small version number, the ECDSA algorithm's, and a length that nothing else here has. A report with a few bytes more or
 * less, as a line's end after it, is one that is refused with that reason: then the algorithm and the privilege level must be right.
 */
const isSnpReport = (bytes: Uint8Array, view: DataView): boolean => {
  if (bytes.length === snpReportBytes)
    return view.getUint32(0, true) <= 0xff && view.getUint32(0x34, true) <= 0xff
  if (Math.abs(bytes.length - snpReportBytes) > lengthErrorMost) return false
  const version = view.getUint32(0, true)
  return version >= 2 && version <= 8 && view.getUint32(0x30, true) <= 3 && view.getUint32(0x34, true) === 1
}

/** Intel's quoting enclaves name themselves; SGX quotes too, which are refused with a reason. */
const isQuote = (bytes: Uint8Array, view: DataView): boolean =>
  bytes.length >= 48 &&
  view.getUint16(0, true) <= 0xff &&
  (Buffer.from(bytes.subarray(12, 28)).toString("hex") === intelQeVendor || view.getUint32(4, true) === 0x81)

/** An array of four, tagged or not, that begins with a byte string holding a map. */
const isCoseSign1 = (bytes: Uint8Array): boolean => {
  const at = bytes[0] === 0xd2 ? 1 : 0
  const header = bytes[at + 1] ?? 0
  return bytes[at] === 0x84 && header >= 0x41 && header <= 0x58 && bytes.length >= 64
}

/** What goes with evidence. */
export const recogniseSupport = (bytes: Uint8Array): SupportKind | undefined => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (bytes.length < 8) return undefined
  const head = Buffer.from(bytes.subarray(0, 64)).toString("latin1")
  if (/^\s*[[{]/.test(head)) return "json"
  if (isPem(bytes, head)) return "pem"
  if (head.startsWith("HCLA")) return "hcl-report"
  if (bytes[0] === 0x30 && bytes[1] === 0x82) return signedKind(bytes)
  const algorithm = view.getUint16(0)
  const hash = view.getUint16(2)
  if ([0x14, 0x16, 0x18].includes(algorithm) && [0x04, 0x0b, 0x0c, 0x0d].includes(hash))
    return "tpm-signature"
  if ([0x01, 0x23].includes(algorithm) && [0x0b, 0x0c, 0x0d].includes(hash)) return "tpm-public"
  // TCG event logs begin with EV_NO_ACTION (a CCEL's in register 1), older ones with an event of PCR 0.
  if (bytes.length >= 32 && view.getUint32(0, true) <= 1 && [3, 8].includes(view.getUint32(4, true)))
    return "event-log"
  return undefined
}

/** Binary evidence may hold PEM too: only what begins as text is meant. */
const isPem = (bytes: Uint8Array, head: string): boolean =>
  !/[^\t\r\n -\xff]/.test(head) && Buffer.from(bytes.subarray(0, pemHeadMost)).includes("-----BEGIN ")

/** tbsCertificate begins with [0] { INTEGER 2 }, tbsCertList with INTEGER 1; other signed things are none of these. */
const signedKind = (bytes: Uint8Array): SupportKind | undefined => {
  const at = (bytes[5] ?? 0) < 0x80 ? 6 : 6 + ((bytes[5] ?? 0) & 0x7f)
  const begin = Buffer.from(bytes.subarray(at, at + 5)).toString("hex")
  if (begin === "a003020102") return "certificate"
  return begin.startsWith("020101") ? "crl" : undefined
}

/**
 * Intel's TD quote, versions 4 and 5 (TDX DCAP Quoting Library API, appendix 3): a header, the TD report, and the
 * signature data, whose parts are nested and state their own sizes. Every size must come out exactly; only what follows
 * the signature data is let be, since collectors hand over whole buffers. It is counted, and nothing reads it.
 */
import { limits } from "../../../schemas/limits.ts"
import { toHex } from "../text.ts"
import { TdxError } from "./error.ts"
import { decodeTdReport, type TdReport, type TdReportVersion, tdReportBytes } from "./td-report.ts"

export const headerBytes = 48
const qeReportBytes = 384
const teeTypeTdx = 0x81
const ecdsaP256 = 2
const intelQeVendor = "939a7233f79c4ca9940a0db3957f0607"

export interface TdxQuote {
  readonly version: 4 | 5
  /** Chosen by the quoting enclave. */
  readonly userData: Uint8Array
  readonly td: TdReport
  /** Header and TD report: the bytes that were signed. */
  readonly signed: Uint8Array
  /** r || s, big-endian, 64 bytes. */
  readonly signature: Uint8Array
  /** x || y, big-endian, 64 bytes. */
  readonly attestationKey: Uint8Array
  readonly qe: QeReport
  /** r || s, by the PCK. */
  readonly qeSignature: Uint8Array
  readonly qeAuthData: Uint8Array
  /** What the platform says about its PCK. Type 5 is a certificate chain; 1 to 4 need one from elsewhere. */
  readonly certification: { readonly type: number; readonly data: Uint8Array }
  /** How many bytes follow the quote. They are no part of it. */
  readonly trailingBytes: number
}

/** The quoting enclave's own report: an SGX REPORT body. */
export interface QeReport {
  readonly raw: Uint8Array
  readonly cpuSvn: Uint8Array
  readonly miscSelect: number
  readonly attributes: Uint8Array
  readonly mrEnclave: Uint8Array
  readonly mrSigner: Uint8Array
  readonly isvProdId: number
  readonly isvSvn: number
  readonly reportData: Uint8Array
}

/** Reads on from where it stands, never past the end. */
class Cursor {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  get at(): number {
    return this.#at
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  take(length: number, field: string): Uint8Array {
    return this.#bytes.slice(this.#step(length, field), this.#at)
  }

  u16(field: string): number {
    return this.#view.getUint16(this.#step(2, field), true)
  }

  u32(field: string): number {
    return this.#view.getUint32(this.#step(4, field), true)
  }

  /** A reader of the next `length` bytes alone. */
  part(length: number, field: string): Cursor {
    return new Cursor(this.take(length, field))
  }

  end(field: string): void {
    if (this.left !== 0)
      throw new TdxError("QUOTE_STRUCTURE", field, `${this.left} bytes more`, "parts that fill their size")
  }

  #step(length: number, field: string): number {
    const from = this.#at
    if (length > this.left)
      throw new TdxError("QUOTE_STRUCTURE", field, `${this.left} bytes left`, `${length} bytes`)
    this.#at += length
    return from
  }
}

/**
 * @param bytes the quote, at most 65,536 bytes; what follows its end is counted only
 * @throws TdxError QUOTE_LENGTH, QUOTE_VERSION, QUOTE_NOT_TDX, QUOTE_STRUCTURE, QUOTE_VALUE
 */
export const parseQuote = (bytes: Uint8Array): TdxQuote => {
  if (bytes.length > limits.evidenceBytes)
    throw new TdxError("QUOTE_LENGTH", "quote", `${bytes.length} bytes`, `at most ${limits.evidenceBytes}`)
  const own = Uint8Array.from(bytes)
  const cursor = new Cursor(own)
  const { version, userData } = parseHeader(cursor)
  const tdVersion = version === 4 ? "1.0" : parseBodyHeader(cursor)
  const td = decodeTdReport(tdVersion, cursor.take(tdReportBytes[tdVersion], "quote.body"))
  const signed = own.slice(0, cursor.at)

  const size = cursor.u32("quote.signatureSize")
  const data = cursor.part(size, "quote.signatureData")
  const signature = data.take(64, "quote.signature")
  const attestationKey = data.take(64, "quote.attestationKey")
  const certified = parseQeCertification(data)
  data.end("quote.signatureData")
  return {
    version,
    userData,
    td,
    signed,
    signature,
    attestationKey,
    ...certified,
    trailingBytes: cursor.left,
  }
}

const parseHeader = (cursor: Cursor): { version: 4 | 5; userData: Uint8Array } => {
  const version = cursor.u16("quote.version")
  if (version !== 4 && version !== 5)
    throw new TdxError("QUOTE_VERSION", "quote.version", `${version}`, "4 or 5")
  const keyType = cursor.u16("quote.attestationKeyType")
  const teeType = cursor.u32("quote.teeType")
  if (teeType !== teeTypeTdx)
    throw new TdxError("QUOTE_NOT_TDX", "quote.teeType", `0x${teeType.toString(16)}`, "0x81 (TDX)")
  if (keyType !== ecdsaP256)
    throw new TdxError("QUOTE_VALUE", "quote.attestationKeyType", `${keyType}`, "2 (ECDSA P-256)")
  // Versions of QE and PCE in older layouts; what counts of them is in the QE report and the PCK certificate.
  cursor.take(4, "quote.reserved")
  const vendor = toHex(cursor.take(16, "quote.qeVendorId"))
  if (vendor !== intelQeVendor)
    throw new TdxError("QUOTE_VALUE", "quote.qeVendorId", vendor, `${intelQeVendor} (Intel)`)
  return { version, userData: cursor.take(20, "quote.userData") }
}

const parseBodyHeader = (cursor: Cursor): TdReportVersion => {
  const type = cursor.u16("quote.bodyType")
  const size = cursor.u32("quote.bodySize")
  if (type !== 2 && type !== 3)
    throw new TdxError("QUOTE_NOT_TDX", "quote.bodyType", `${type}`, "2 (TD 1.0) or 3 (TD 1.5)")
  const version = type === 2 ? "1.0" : "1.5"
  if (size !== tdReportBytes[version])
    throw new TdxError("QUOTE_STRUCTURE", "quote.bodySize", `${size}`, `${tdReportBytes[version]}`)
  return version
}

/** Certification data of type 6: the QE's report, and inside of it the data that leads to the PCK. */
const parseQeCertification = (data: Cursor) => {
  const type = data.u16("quote.certificationType")
  if (type !== 6)
    throw new TdxError(
      "QUOTE_VALUE",
      "quote.certificationType",
      `${type}`,
      "6 (QE report certification data)",
    )
  const inner = data.part(data.u32("quote.certificationSize"), "quote.certificationData")
  const qe = parseQeReport(inner.take(qeReportBytes, "quote.qeReport"))
  const qeSignature = inner.take(64, "quote.qeReportSignature")
  const qeAuthData = inner.take(inner.u16("quote.qeAuthDataSize"), "quote.qeAuthData")
  const certificationType = inner.u16("quote.qeCertificationType")
  if (certificationType < 1 || certificationType > 5)
    throw new TdxError("QUOTE_VALUE", "quote.qeCertificationType", `${certificationType}`, "1 to 5")
  const certificates = inner.take(inner.u32("quote.qeCertificationSize"), "quote.qeCertificationData")
  inner.end("quote.certificationData")
  return { qe, qeSignature, qeAuthData, certification: { type: certificationType, data: certificates } }
}

const parseQeReport = (raw: Uint8Array): QeReport => {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.length)
  return {
    raw,
    cpuSvn: raw.slice(0, 16),
    miscSelect: view.getUint32(16, true),
    attributes: raw.slice(48, 64),
    mrEnclave: raw.slice(64, 96),
    mrSigner: raw.slice(128, 160),
    isvProdId: view.getUint16(256, true),
    isvSvn: view.getUint16(258, true),
    reportData: raw.slice(320, 384),
  }
}

/**
 * The blob that Azure's paravisor (HCL) leaves in the virtual TPM: a hardware report, and the runtime data whose SHA-256
 * is the first half of that report's data. The runtime data holds the TPM's attestation key.
 *
 * Layout: a header of 32 bytes ("HCLA"), the hardware report in 1,184 bytes, five words about the runtime data, the
 * runtime data (JSON), zeros. Little-endian. Every byte is checked, or derived from one that is; the two exceptions are
 * the header's version (1 or 2), and the parts of the hardware report that its own verifier has to judge.
 */
import { crypto } from "../../common/crypto/index.ts"
import { Reader } from "../eventlog/reader.ts"
import { toHex } from "../text.ts"
import { TpmError } from "./error.ts"
import { keyFromJwk, type PublicKey } from "./public.ts"

const hclBytesMost = 8_192
const headerBytes = 32
const reportBytes = 1_184
const wordsBytes = 20

export interface HclReport {
  readonly hardware: "snp" | "tdx"
  /** The SNP report (1,184 bytes), or the TDREPORT (1,024 bytes, which only the same machine can verify). */
  readonly report: Uint8Array
  /** SHA-256 of the runtime data: what the first half of the report data must be. */
  readonly runtimeDigest: Uint8Array
  readonly akPublic: PublicKey
  /** 64 bytes in hex that the guest may have chosen. */
  readonly userData: string
  readonly configuration: HclConfiguration
}

export interface HclConfiguration {
  readonly secureBoot?: boolean
  readonly tpmEnabled?: boolean
  readonly consoleEnabled?: boolean
  readonly vmUniqueId?: string
}

const malformed = (field: string, found: string, wanted: string): TpmError =>
  new TpmError("HCL_MALFORMED", field, found, wanted)

const expectWord = (field: string, found: number, wanted: readonly number[]): void => {
  if (!wanted.includes(found)) throw malformed(field, `${found}`, wanted.join(" or "))
}

/** @throws TpmError HCL_MALFORMED, KEY_MALFORMED, KEY_ALGORITHM */
export const parseHclReport = (bytes: Uint8Array): HclReport => {
  if (bytes.length > hclBytesMost)
    throw malformed("hcl", `${bytes.length} bytes`, `at most ${hclBytesMost} bytes`)
  const reader = new Reader(Uint8Array.from(bytes), true, malformed)
  const signature = Buffer.from(reader.take("hcl.signature", 4)).toString("latin1")
  if (signature !== "HCLA") throw malformed("hcl.signature", JSON.stringify(signature), "HCLA")
  expectWord("hcl.version", reader.u32("hcl.version"), [1, 2])
  const size = reader.u32("hcl.size")
  expectWord("hcl.requestType", reader.u32("hcl.requestType"), [2])
  expectZeros("hcl.status", reader.take("hcl.status", 16))
  const report = reader.take("hcl.report", reportBytes)
  const runtimeSize = reader.u32("hcl.runtime.size")
  expectWord("hcl.runtime.version", reader.u32("hcl.runtime.version"), [1])
  const type = reader.u32("hcl.runtime.reportType")
  expectWord("hcl.runtime.reportType", type, [2, 4])
  // 1 is SHA-256. Azure defines 2 and 3 (SHA-384, SHA-512), which no known machine uses.
  expectWord("hcl.runtime.hashType", reader.u32("hcl.runtime.hashType"), [1])
  const length = reader.u32("hcl.runtime.length")
  const runtime = reader.take("hcl.runtime.data", length)
  expectWord("hcl.runtime.size", runtimeSize, [wordsBytes + length])
  expectWord("hcl.size", size, [headerBytes + reportBytes + wordsBytes + length])
  expectZeros("hcl.padding", reader.rest())
  const hardware = type === 2 ? "snp" : "tdx"
  if (hardware === "tdx") expectZeros("hcl.report.padding", report.subarray(tdReportBytes))
  return {
    hardware,
    report: hardware === "snp" ? report : report.subarray(0, tdReportBytes),
    runtimeDigest: crypto.sha256(runtime),
    ...readRuntime(runtime),
  }
}

const tdReportBytes = 1_024

const expectZeros = (field: string, bytes: Uint8Array): void => {
  if (bytes.some((byte) => byte !== 0)) throw malformed(field, toHex(bytes.subarray(0, 16)), "zeros")
}

type Json = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const readRuntime = (bytes: Uint8Array): Pick<HclReport, "akPublic" | "userData" | "configuration"> => {
  const json = parseJson(bytes)
  const keys = Array.isArray(json.keys) ? json.keys.filter(isObject) : []
  const named = keys.filter(({ kid }) => kid === "HCLAkPub")
  const [jwk] = named
  if (jwk === undefined || named.length > 1)
    throw malformed("hcl.runtime.keys", `${named.length} called HCLAkPub`, "one")
  const { kty, n, e } = jwk
  if (kty !== "RSA" || typeof n !== "string" || e !== "AQAB")
    throw malformed("hcl.runtime.keys.HCLAkPub", "another kind of key", "RSA, exponent AQAB")
  const userData = json["user-data"]
  if (typeof userData !== "string" || !/^[0-9A-Fa-f]{128}$/.test(userData))
    throw malformed("hcl.runtime.user-data", "another value", "64 bytes in hex")
  return {
    akPublic: keyFromJwk({ kty, n, e }, "hcl.runtime.keys.HCLAkPub"),
    userData: userData.toLowerCase(),
    configuration: readConfiguration(json["vm-configuration"]),
  }
}

const parseJson = (bytes: Uint8Array): Json => {
  try {
    const json: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes))
    if (isObject(json)) return json
  } catch {
    // Said below.
  }
  throw malformed("hcl.runtime.data", "something else", "a JSON object")
}

const readConfiguration = (value: unknown): HclConfiguration => {
  if (!isObject(value)) return {}
  const flag = (name: string) => (typeof value[name] === "boolean" ? value[name] : undefined)
  const secureBoot = flag("secure-boot")
  const tpmEnabled = flag("tpm-enabled")
  const consoleEnabled = flag("console-enabled")
  const { vmUniqueId } = value
  return {
    ...(secureBoot !== undefined && { secureBoot }),
    ...(tpmEnabled !== undefined && { tpmEnabled }),
    ...(consoleEnabled !== undefined && { consoleEnabled }),
    ...(typeof vmUniqueId === "string" && /^[0-9A-Fa-f-]{36}$/.test(vmUniqueId) && { vmUniqueId }),
  }
}

/**
 * A Nitro attestation document: COSE_Sign1 (RFC 9052, 4.2) with ES384 around a CBOR map, as AWS describes it for enclaves
 * ("Verifying the root of trust") and for instances with a NitroTPM ("Validate a NitroTPM Attestation Document"). The two
 * differ in the name of the map of PCRs. Everything is bounded here; nothing is believed before `verify.ts` has checked it.
 */
import { toHex } from "../text.ts"
import { decodeCbor } from "./cbor.ts"
import { NitroError } from "./error.ts"

/** What AWS's own bounds add up to is below 15 KiB. */
const documentBytesMost = 16_384
export const certificateBytesMost = 1_024
/** AWS's chains have four issuers. */
export const issuersMost = 8
const textBytesMost = 1_024
const pcrIndexMost = 31
const digestBytes = { SHA256: 32, SHA384: 48, SHA512: 64 } as const

export type NitroPlatform = "nitro-enclave" | "nitro-tpm"

export interface NitroDocument {
  readonly platform: NitroPlatform
  /** Instance and enclave (`i-...-enc...`) or instance and TPM (`i-...-tpm...`). */
  readonly moduleId: string
  /** When the hypervisor made the document. */
  readonly timestamp: Date
  readonly digest: keyof typeof digestBytes
  /** By index, ascending; all of the digest's length. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>
  /** DER. */
  readonly certificate: Uint8Array
  /** DER, the root first, the leaf's issuer last. */
  readonly cabundle: readonly Uint8Array[]
  /** At most 1,024 bytes each; undefined where absent or null. */
  readonly publicKey: Uint8Array | undefined
  readonly userData: Uint8Array | undefined
  readonly nonce: Uint8Array | undefined
  /** r || s, big-endian, 96 bytes. */
  readonly signature: Uint8Array
  /** The bytes that were signed: COSE's Sig_structure (RFC 9052, 4.4). */
  readonly signed: Uint8Array
}

/** `{1: -35}`: algorithm ES384, and nothing else. */
const protectedEs384 = "a1013822"

/**
 * @param given the document, with or without COSE's tag 18; copied
 * @throws NitroError DOCUMENT_LENGTH, DOCUMENT_MALFORMED, DOCUMENT_HEADER, DOCUMENT_ALGORITHM, DOCUMENT_FIELD,
 *   DOCUMENT_VALUE, CHAIN_LENGTH
 */
export const parseDocument = (given: Uint8Array): NitroDocument => {
  if (given.length === 0 || given.length > documentBytesMost)
    throw new NitroError(
      "DOCUMENT_LENGTH",
      "document",
      `${given.length} bytes`,
      `1 to ${documentBytesMost} bytes`,
    )
  const bytes = Uint8Array.from(given)
  const { payload, signature } = parseEnvelope(
    read("document", bytes[0] === 0xd2 ? bytes.subarray(1) : bytes),
  )
  const fields = new Fields(read("document.payload", payload))
  const platform = fields.platform()
  const digest = fields.digest()
  const document: NitroDocument = {
    platform,
    moduleId: fields.moduleId(),
    timestamp: fields.timestamp(),
    digest,
    pcrs: fields.pcrs(pcrsFieldOf[platform], digestBytes[digest]),
    certificate: fields.certificate(),
    cabundle: fields.cabundle(),
    publicKey: fields.optional("public_key"),
    userData: fields.optional("user_data"),
    nonce: fields.optional("nonce"),
    signature,
    signed: sigStructure(payload),
  }
  fields.expectNoMore()
  return document
}

const pcrsFieldOf: Readonly<Record<NitroPlatform, string>> = {
  "nitro-enclave": "pcrs",
  "nitro-tpm": "nitrotpm_pcrs",
}

const read = (field: string, bytes: Uint8Array): unknown => {
  try {
    return decodeCbor(bytes)
  } catch {
    // Whatever it was, a RangeError for depth included: the bytes aren't one strict CBOR item of bounded size.
    throw new NitroError(
      "DOCUMENT_MALFORMED",
      field,
      "bytes that can't be read",
      "one strictly encoded CBOR item",
    )
  }
}

const parseEnvelope = (item: unknown): { payload: Uint8Array; signature: Uint8Array } => {
  if (!Array.isArray(item) || item.length !== 4)
    throw new NitroError("DOCUMENT_MALFORMED", "document", describe(item), "a COSE_Sign1 array of 4")
  const [header, unprotected, payload, signature] = item as readonly unknown[]
  if (!(header instanceof Uint8Array) || toHex(header) !== protectedEs384)
    throw new NitroError(
      "DOCUMENT_ALGORITHM",
      "document.protected",
      header instanceof Uint8Array ? toHex(header.subarray(0, 32)) : describe(header),
      `${protectedEs384}: ES384 and nothing else`,
    )
  // Outside of the signature: anything here would be anybody's.
  if (!(unprotected instanceof Map) || unprotected.size !== 0)
    throw new NitroError("DOCUMENT_HEADER", "document.unprotected", describe(unprotected), "an empty map")
  return {
    payload: expectBytes("document.payload", payload, 1, documentBytesMost),
    signature: expectBytes("document.signature", signature, 96, 96),
  }
}

const expectBytes = (field: string, value: unknown, least: number, most: number): Uint8Array => {
  if (!(value instanceof Uint8Array))
    throw new NitroError("DOCUMENT_FIELD", field, describe(value), "a byte string")
  if (value.length < least || value.length > most)
    throw new NitroError(
      "DOCUMENT_VALUE",
      field,
      `${value.length} bytes`,
      least === most ? `${least} bytes` : `${least} to ${most} bytes`,
    )
  return value
}

/** What a value is, never what it holds. */
const describe = (value: unknown): string => {
  if (value === undefined) return "nothing"
  if (value === null) return "null"
  if (value instanceof Uint8Array) return `a byte string of ${value.length}`
  if (value instanceof Map) return `a map of ${value.size}`
  if (Array.isArray(value)) return `an array of ${value.length}`
  return `a ${typeof value}`
}

/** `module_id` goes into results and onto screens. */
const moduleIdShape = /^[A-Za-z0-9._:-]{1,128}$/

/** The payload's map. Remembers which fields were asked for, so that one that isn't known is refused by name. */
class Fields {
  readonly #map: ReadonlyMap<unknown, unknown>
  readonly #asked = new Set<unknown>()

  constructor(item: unknown) {
    if (!(item instanceof Map))
      throw new NitroError("DOCUMENT_MALFORMED", "document.payload", describe(item), "a map")
    this.#map = item
  }

  #get(name: string): unknown {
    this.#asked.add(name)
    return this.#map.get(name)
  }

  platform(): NitroPlatform {
    const names = ["nitro-enclave", "nitro-tpm"] as const
    const found = names.filter((name) => this.#map.has(pcrsFieldOf[name]))
    const [platform] = found
    if (platform === undefined || found.length !== 1)
      throw new NitroError(
        "DOCUMENT_FIELD",
        "document.pcrs",
        found.length === 0 ? "neither" : "both",
        "either pcrs (enclaves) or nitrotpm_pcrs (NitroTPM)",
      )
    return platform
  }

  moduleId(): string {
    const value = this.#get("module_id")
    if (typeof value !== "string")
      throw new NitroError("DOCUMENT_FIELD", "document.module_id", describe(value), "a text")
    if (!moduleIdShape.test(value))
      throw new NitroError("DOCUMENT_VALUE", "document.module_id", "another text", String(moduleIdShape))
    return value
  }

  /** Milliseconds since 1970, UTC; the year 9999 at most, so that every value is a date. */
  timestamp(): Date {
    const value = this.#get("timestamp")
    if (typeof value !== "number" || !Number.isInteger(value))
      throw new NitroError("DOCUMENT_FIELD", "document.timestamp", describe(value), "an integer")
    if (value <= 0 || value > 253_402_300_799_999)
      throw new NitroError("DOCUMENT_VALUE", "document.timestamp", `${value}`, "milliseconds since 1970")
    return new Date(value)
  }

  digest(): keyof typeof digestBytes {
    const value = this.#get("digest")
    if (value === "SHA256" || value === "SHA384" || value === "SHA512") return value
    throw new NitroError(
      typeof value === "string" ? "DOCUMENT_VALUE" : "DOCUMENT_FIELD",
      "document.digest",
      typeof value === "string" ? "another text" : describe(value),
      "SHA256, SHA384 or SHA512",
    )
  }

  pcrs(name: string, length: number): ReadonlyMap<number, Uint8Array> {
    const value = this.#get(name)
    const field = `document.${name}`
    if (!(value instanceof Map)) throw new NitroError("DOCUMENT_FIELD", field, describe(value), "a map")
    const pcrs: [number, Uint8Array][] = []
    for (const [index, pcr] of value) {
      if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index > pcrIndexMost)
        throw new NitroError(
          "DOCUMENT_VALUE",
          field,
          typeof index === "number" ? `index ${index}` : describe(index),
          `indices 0 to ${pcrIndexMost}`,
        )
      pcrs.push([index, expectBytes(`${field}[${index}]`, pcr, length, length)])
    }
    // Without them nothing would tell what was booted, nor whether it ran for debugging.
    for (const index of [0, 1, 2])
      if (!pcrs.some(([each]) => each === index))
        throw new NitroError("DOCUMENT_FIELD", `${field}[${index}]`, "nothing", "PCR 0, 1 and 2")
    return new Map(pcrs.sort(([a], [b]) => a - b))
  }

  certificate(): Uint8Array {
    return expectBytes("document.certificate", this.#get("certificate"), 1, certificateBytesMost)
  }

  cabundle(): readonly Uint8Array[] {
    const value = this.#get("cabundle")
    if (!Array.isArray(value))
      throw new NitroError("DOCUMENT_FIELD", "document.cabundle", describe(value), "an array")
    if (value.length < 1 || value.length > issuersMost)
      throw new NitroError("CHAIN_LENGTH", "document.cabundle", `${value.length}`, `1 to ${issuersMost}`)
    return value.map((der: unknown, i) =>
      expectBytes(`document.cabundle[${i}]`, der, 1, certificateBytesMost),
    )
  }

  /** Absent, null, or bytes. */
  optional(name: string): Uint8Array | undefined {
    const value = this.#get(name)
    return value === undefined || value === null
      ? undefined
      : expectBytes(`document.${name}`, value, 0, textBytesMost)
  }

  expectNoMore(): void {
    for (const name of this.#map.keys())
      if (!this.#asked.has(name))
        throw new NitroError(
          "DOCUMENT_FIELD",
          "document.payload",
          typeof name === "string" && moduleIdShape.test(name)
            ? `a field ${name}`
            : "a field without a plain name",
          "only fields that are understood",
        )
  }
}

const signature1 = Buffer.from("\x84\x6aSignature1\x44", "latin1")

/** ["Signature1", protected, external_aad (none), payload] */
const sigStructure = (payload: Uint8Array): Uint8Array => {
  const { length } = payload
  const head =
    length < 24 ? [0x40 | length] : length < 0x100 ? [0x58, length] : [0x59, length >> 8, length & 0xff]
  return Uint8Array.from(
    Buffer.concat([signature1, Buffer.from(protectedEs384, "hex"), Uint8Array.of(0x40, ...head), payload]),
  )
}

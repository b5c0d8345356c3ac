/**
 * The certificates that an SNP host gives along with a report (GHCB specification, 4.1.8.1): entries of a GUID, an offset
 * and a length, little-endian, up to one of zeros; the certificates behind them, in any order, some perhaps missing.
 *
 * The host wrote it and nothing vouches for it: a verifier has to judge the chain. Here it is only taken apart, within
 * its bounds. Hosts write a GUID as its text reads; the mixed-endian form that GUIDs have elsewhere is understood too.
 */
import { limits } from "../../../schemas/limits.ts"
import { DerError, readAll, readOnly, tags } from "../der.ts"
import { toHex } from "../text.ts"
import { ProviderError } from "./error.ts"

export type TableCertificate = "vcek" | "vlek" | "ask" | "ark"

/** Each as DER, without padding. */
export type CertificateTable = Readonly<Partial<Record<TableCertificate, Uint8Array>>>

const guids: Readonly<Record<TableCertificate, string>> = {
  vcek: "63da758d-e664-4564-adc5-f4b93be8accd",
  vlek: "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
  // For a VLEK, the ASVK.
  ask: "4ab7b379-bbac-4fe4-a02f-05aef327c782",
  ark: "c0b406a4-a803-4952-9743-3fb6014cd0ae",
}

const asRead = (guid: string): string => guid.replaceAll("-", "")

/** The first three fields turned round. */
const asMixed = (guid: string): string => {
  const bytes = Buffer.from(asRead(guid), "hex")
  bytes.subarray(0, 4).reverse()
  bytes.subarray(4, 6).reverse()
  bytes.subarray(6, 8).reverse()
  return toHex(bytes)
}

const names = new Map(
  (Object.keys(guids) as TableCertificate[]).flatMap((name) => [
    [asRead(guids[name]), name] as const,
    [asMixed(guids[name]), name] as const,
  ]),
)

const entryBytes = 24
const entriesMost = 64
const malformed = (field: string, found: string, wanted: string): ProviderError =>
  new ProviderError("MALFORMED", field, found, wanted)

/**
 * @param blob SNP's `auxblob`
 * @throws ProviderError MALFORMED, LENGTH naming the entry
 */
export const parseCertificateTable = (blob: Uint8Array): CertificateTable => {
  const bytes = Uint8Array.from(blob)
  const view = new DataView(bytes.buffer)
  const found: Partial<Record<TableCertificate, Uint8Array>> = {}
  for (let i = 0; ; i++) {
    const start = i * entryBytes
    const field = `auxblob.entries[${i}]`
    if (i === entriesMost || start + entryBytes > bytes.length)
      throw malformed(field, "another entry", `an entry of zeros at the end of at most ${entriesMost}`)
    const guid = bytes.subarray(start, start + 16)
    const offset = view.getUint32(start + 16, true)
    const length = view.getUint32(start + 20, true)
    if (offset === 0 && length === 0 && guid.every((byte) => byte === 0)) return found
    if (offset > bytes.length || length > bytes.length - offset)
      throw malformed(field, `${length} bytes at ${offset}`, `within ${bytes.length} bytes`)
    const name = names.get(toHex(guid))
    // Lists of revoked certificates, and what hosts add of their own.
    if (name === undefined || length === 0) continue
    if (found[name] !== undefined) throw malformed(field, `${name} twice`, "each certificate once")
    found[name] = readCertificate(`auxblob.${name}`, bytes.slice(offset, offset + length))
  }
}

const pem = /^-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----[\r\n\0]*$/

/** One certificate: DER as the specification has it, PEM as some hosts do; zeros may follow. */
const readCertificate = (field: string, bytes: Uint8Array): Uint8Array => {
  const armoured = pem.exec(Buffer.from(bytes).toString("latin1"))?.[1]
  const der = armoured === undefined ? bytes : Uint8Array.from(Buffer.from(armoured, "base64"))
  const certificate = withoutPadding(field, der)
  if (certificate.length > limits.certificateBytes)
    throw new ProviderError(
      "LENGTH",
      field,
      `${certificate.length} bytes`,
      `at most ${limits.certificateBytes} bytes`,
    )
  return certificate
}

/**
 * The one DER SEQUENCE that `bytes` begin with; only padding, zeros or ones, may follow it.
 * @throws ProviderError MALFORMED
 */
export const withoutPadding = (field: string, bytes: Uint8Array): Uint8Array => {
  try {
    const length = sequenceBytes(bytes)
    const rest = bytes.subarray(length)
    const [filler = 0] = rest
    if ((filler === 0 || filler === 0xff) && rest.every((byte) => byte === filler))
      return readOnly(bytes.slice(0, length), tags.sequence).raw
  } catch (error) {
    if (!(error instanceof DerError)) throw error
    throw malformed(field, `something that ${error.message}`, "a certificate")
  }
  throw malformed(field, "a certificate and other bytes", "a certificate")
}

/** Header and content of the first value. */
const sequenceBytes = (bytes: Uint8Array): number => {
  const [tag, first, high, low] = bytes
  if (tag !== tags.sequence || first !== 0x82 || high === undefined || low === undefined)
    throw new DerError("doesn't begin like a certificate")
  const length = 4 + high * 256 + low
  if (length > bytes.length) throw new DerError("ends inside a value")
  return readAll(bytes.slice(0, length), 1)[0]?.raw.length ?? 0
}

/**
 * The chain of the key that signed the report, leaf first: all three, or none. A verifier that keeps certificates has its
 * own for a report without any; half a chain helps nobody.
 */
export const chainOf = (table: CertificateTable, leaf: "vcek" | "vlek"): Uint8Array[] => {
  const { [leaf]: signer, ask, ark } = table
  return signer === undefined || ask === undefined || ark === undefined ? [] : [signer, ask, ark]
}

/** The structures of UEFI that firmware puts into events. All of them answer undefined for bytes that don't fit. */
import { crypto } from "../../common/crypto/index.ts"
import { toHex } from "../text.ts"
import { Reader } from "./reader.ts"

class Misfit extends Error {}

const reading = <T>(bytes: Uint8Array, read: (reader: Reader) => T): T | undefined => {
  try {
    return read(new Reader(bytes, true, (field) => new Misfit(field)))
  } catch (error) {
    if (error instanceof Misfit) return undefined
    throw error
  }
}

export const guids = {
  /** EFI_GLOBAL_VARIABLE: SecureBoot, PK, KEK, BootOrder. */
  global: "8be4df61-93ca-11d2-aa0d-00e098032b8c",
  /** EFI_IMAGE_SECURITY_DATABASE: db, dbx. */
  security: "d719b2cb-3d3a-4596-a3bc-dad00e67656f",
  x509: "a5c059a1-94e4-4aa7-87b5-ab155c2bf072",
  sha256: "c1c41626-504c-4092-aca9-41f936934328",
} as const

/** An EFI_GUID as text: the first three parts are little-endian. */
export const guidText = (bytes: Uint8Array): string => {
  const part = (from: number, to: number) => bytes.subarray(from, to)
  const swapped = (from: number, to: number) => Uint8Array.from(part(from, to)).reverse()
  return [swapped(0, 4), swapped(4, 6), swapped(6, 8), part(8, 10), part(10, 16)].map(toHex).join("-")
}

const shownCharacters = 4_096

/** For screens and logs: no control characters, at most 4,096 characters, without the zero at the end. */
export const plainText = (text: string): string =>
  text
    .slice(0, shownCharacters)
    .replace(/\0+$/, "")
    .replaceAll(/[\p{Cc}\p{Cf}\p{Cs}]/gu, (char) => (char === "\n" || char === "\t" ? char : "\ufffd"))

const utf16 = (bytes: Uint8Array): string => plainText(Buffer.from(bytes).toString("utf16le"))

export interface UefiVariable {
  readonly guid: string
  readonly name: string
  readonly value: Uint8Array
}

/** UEFI_VARIABLE_DATA (PC Client Platform Firmware Profile, 10.2.6). */
export const readVariable = (bytes: Uint8Array): UefiVariable | undefined =>
  reading(bytes, (reader) => {
    const guid = guidText(reader.take("guid", 16))
    const nameCharacters = lengthOf(reader.u64("nameLength"))
    const valueBytes = lengthOf(reader.u64("valueLength"))
    const name = utf16(reader.take("name", nameCharacters * 2))
    return { guid, name, value: reader.take("value", valueBytes) }
  })

const lengthOf = (length: bigint): number => {
  if (length > 0xff_ffffn) throw new Misfit("length")
  return Number(length)
}

export interface SignatureEntry {
  readonly kind: "x509" | "sha256" | "other"
  readonly owner: string
  /** SHA-256 of the certificate; the hash itself where the entry is one. Hex. */
  readonly digest: string
}

const signatureEntriesMost = 4_096

/** EFI_SIGNATURE_LISTs, end to end (UEFI 2.10, 32.4.1): what PK, KEK, db and dbx hold. */
export const readSignatureLists = (bytes: Uint8Array): readonly SignatureEntry[] | undefined =>
  reading(bytes, (reader) => {
    const entries: SignatureEntry[] = []
    while (reader.left > 0) entries.push(...readSignatureList(reader, signatureEntriesMost - entries.length))
    return entries
  })

const readSignatureList = (reader: Reader, most: number): readonly SignatureEntry[] => {
  const type = guidText(reader.take("type", 16))
  const listBytes = reader.u32("listSize")
  const headerBytes = reader.u32("headerSize")
  const entryBytes = reader.u32("entrySize")
  const bodyBytes = listBytes - 28 - headerBytes
  if (bodyBytes < 0 || entryBytes <= 16 || bodyBytes % entryBytes !== 0 || bodyBytes / entryBytes > most)
    throw new Misfit("listSize")
  reader.take("header", headerBytes)
  return Array.from({ length: bodyBytes / entryBytes }, () => {
    const owner = guidText(reader.take("owner", 16))
    return { owner, ...readSignature(type, reader.take("signature", entryBytes - 16)) }
  })
}

const readSignature = (type: string, data: Uint8Array): Omit<SignatureEntry, "owner"> => {
  if (type === guids.sha256 && data.length === 32) return { kind: "sha256", digest: toHex(data) }
  return { kind: type === guids.x509 ? "x509" : "other", digest: toHex(crypto.sha256(data)) }
}

/** EFI_SIGNATURE_DATA, what an EV_EFI_VARIABLE_AUTHORITY event names: the certificate that let an image run. */
export const readAuthority = (value: Uint8Array): { owner: string; digest: string } | undefined => {
  const certificate = value.subarray(16)
  const [tag, form, high = 0, low = 0] = certificate
  const isCertificate = tag === 0x30 && form === 0x82 && certificate.length === 4 + high * 256 + low
  return isCertificate
    ? { owner: guidText(value.subarray(0, 16)), digest: toHex(crypto.sha256(certificate)) }
    : undefined
}

const pathNodesMost = 64

/** The file names in the device path of a UEFI_IMAGE_LOAD_EVENT; undefined where it has none. */
export const readImagePath = (bytes: Uint8Array): string | undefined =>
  reading(bytes, (reader) => {
    reader.take("location, length, link-time address", 24)
    const path = new Reader(
      reader.take("devicePath", lengthOf(reader.u64("devicePathLength"))),
      true,
      (field) => new Misfit(field),
    )
    const names: string[] = []
    for (let nodes = 0; path.left > 0 && nodes < pathNodesMost; nodes++) {
      const type = path.u8("type")
      const subtype = path.u8("subtype")
      const length = path.u16("length")
      if (length < 4) throw new Misfit("length")
      const node = path.take("node", length - 4)
      if (type === 0x04 && subtype === 0x04) names.push(utf16(node))
    }
    return names.length === 0 ? undefined : plainText(names.join(""))
  })

/**
 * UEFI images: the digest that firmware measures and signatures cover (Microsoft, Windows Authenticode Portable Executable
 * Signature Format, "Calculating the PE Image Hash"), and the sections of a unified kernel image.
 */
import type { Bank } from "../eventlog/bank.ts"
import { Running } from "./digests.ts"
import { MeasureError, measureLimits, refuser } from "./error.ts"

export interface PeSection {
  readonly name: string
  readonly virtualSize: number
  /** As it lies in the file. */
  readonly data: Uint8Array
}

export interface PeImage {
  readonly bytes: Uint8Array
  readonly sections: readonly PeSection[]
  /** File offsets of what the digest leaves out. */
  readonly checksum: number
  /** Absent in images that have no such directory entry. */
  readonly certificates?: { readonly entry: number; readonly bytes: number }
  readonly headerBytes: number
}

const sectionsMost = 96
/** Zeros that a section may have in memory and not in the file. */
const paddingMost = 1_048_576
const certificateDirectory = 4
const refuse = refuser("IMAGE")

/**
 * @param bytes the whole file, at most 256 MiB
 * @param name for errors
 * @throws MeasureError IMAGE
 */
export const readImage = (bytes: Uint8Array, name = "image"): PeImage => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length > measureLimits.imageBytes)
    throw refuse(name, `${bytes.length} bytes`, `at most ${measureLimits.imageBytes}`)
  const within = (field: string, at: number, length: number): number => {
    if (at + length > bytes.length)
      throw refuse(
        `${name}.${field}`,
        `bytes ${at} to ${at + length}`,
        `a file of more than ${bytes.length} bytes`,
      )
    return at
  }
  const u16 = (field: string, at: number) => view.getUint16(within(field, at, 2), true)
  const u32 = (field: string, at: number) => view.getUint32(within(field, at, 4), true)
  if (u16("dos.magic", 0) !== 0x5a4d)
    throw refuse(`${name}.dos.magic`, u16("dos.magic", 0), "MZ: a UEFI image")
  const coff = u32("dos.header", 0x3c)
  if (u32("signature", coff) !== 0x4550) throw refuse(`${name}.signature`, u32("signature", coff), "PE")
  const sectionCount = u16("sections", coff + 6)
  if (sectionCount > sectionsMost) throw refuse(`${name}.sections`, sectionCount, `at most ${sectionsMost}`)
  const optionalBytes = u16("optionalHeader", coff + 20)
  const optional = coff + 24
  const magic = u16("optionalHeader.magic", optional)
  if (magic !== 0x10b && magic !== 0x20b)
    throw refuse(`${name}.optionalHeader.magic`, magic, "0x10b or 0x20b (PE32, PE32+)")
  const directories = optional + (magic === 0x20b ? 112 : 96)
  if (directories > optional + optionalBytes)
    throw refuse(`${name}.optionalHeader`, `${optionalBytes} bytes`, "room for its own fields")
  const headerBytes = u32("optionalHeader.sizeOfHeaders", optional + 60)
  const table = optional + optionalBytes
  within("headers", 0, headerBytes)
  if (table + 40 * sectionCount > headerBytes)
    throw refuse(`${name}.optionalHeader.sizeOfHeaders`, headerBytes, `at least ${table + 40 * sectionCount}`)
  const hasEntry = u32("directories", directories - 4) > certificateDirectory
  const entry = directories + 8 * certificateDirectory
  if (hasEntry && entry + 8 > table)
    throw refuse(`${name}.directories`, "past the optional header", "room for the certificate table's entry")
  return {
    bytes,
    sections: Array.from({ length: sectionCount }, (_, i) => {
      const at = table + 40 * i
      const size = u32("sections", at + 16)
      const from = size === 0 ? 0 : within(`sections[${i}]`, u32("sections", at + 20), size)
      const label = Buffer.from(bytes.subarray(at, at + 8))
        .toString("latin1")
        .replace(/\0+$/, "")
      return { name: label, virtualSize: u32("sections", at + 8), data: bytes.subarray(from, from + size) }
    }),
    checksum: optional + 64,
    headerBytes,
    ...(hasEntry && { certificates: { entry, bytes: u32("directories", entry + 4) } }),
  }
}

/**
 * Headers, sections in the order of the file, and what follows them, without checksum, directory entry of the certificate
 * table, and that table. Files aren't padded: firmware hashes what is there.
 * @throws MeasureError IMAGE
 */
export const imageDigest = (image: PeImage, bank: Bank, name = "image"): Uint8Array => {
  const { bytes, checksum, certificates, headerBytes } = image
  const afterChecksum = checksum + 4
  const hash = new Running(bank).add(bytes.subarray(0, checksum))
  if (certificates === undefined) hash.add(bytes.subarray(afterChecksum, headerBytes))
  else
    hash.add(
      bytes.subarray(afterChecksum, certificates.entry),
      bytes.subarray(certificates.entry + 8, headerBytes),
    )
  const sections = image.sections
    .filter(({ data }) => data.length > 0)
    .sort((a, b) => a.data.byteOffset - b.data.byteOffset)
  hash.add(...sections.map(({ data }) => data))
  const hashed = sections.reduce((sum, { data }) => sum + data.length, headerBytes)
  const end = bytes.length - (certificates?.bytes ?? 0)
  // Overlapping sections are hashed twice, as firmware does it; what is left can't be less than nothing.
  if (hashed > end)
    throw new MeasureError(
      "IMAGE",
      `${name}.sections`,
      `${hashed} bytes of headers and sections`,
      `at most ${end}, the file without its certificates`,
    )
  return hash.add(bytes.subarray(hashed, end)).end()
}

/** One section by its name, as long as it is in memory. @throws MeasureError IMAGE when it occurs twice or is too long */
export const sectionNamed = (image: PeImage, wanted: string, name = "image"): Uint8Array | undefined => {
  const found = image.sections.filter((section) => section.name === wanted)
  const [section] = found
  if (section === undefined) return undefined
  if (found.length > 1)
    throw refuse(`${name}.sections`, `${found.length} times ${wanted}`, "once: profiles aren't measured here")
  const { data, virtualSize } = section
  if (virtualSize > data.length + paddingMost)
    throw refuse(
      `${name}.sections.${wanted}`,
      virtualSize,
      `at most ${paddingMost} bytes more than in the file`,
    )
  if (virtualSize <= data.length) return data.subarray(0, virtualSize)
  const padded = new Uint8Array(virtualSize)
  padded.set(data)
  return padded
}

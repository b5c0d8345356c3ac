/** The pages that OVMF wants prepared in an SNP guest (edk2, OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm). */
import { Reader } from "../eventlog/reader.ts"
import { measureLimits, refuser } from "./error.ts"
import { pointedFromEnd, readFirmwareTable, tableGuids, tableNumber } from "./firmware-table.ts"

export type SnpSectionKind = "memory" | "secrets" | "cpuid" | "svsm-calling-area" | "kernel-hashes"

const kinds = new Map<number, SnpSectionKind>([
  [1, "memory"],
  [2, "secrets"],
  [3, "cpuid"],
  [4, "svsm-calling-area"],
  [0x10, "kernel-hashes"],
])

export interface SnpSection {
  readonly kind: SnpSectionKind
  /** Guest-physical, at the beginning of a page. */
  readonly address: number
  /** Bytes; whole pages. */
  readonly size: number
}

export interface SnpFirmware {
  readonly sections: readonly SnpSection[]
  /** Where application processors begin. */
  readonly resetAddress: number
  /** Where in memory the hashes go; 0 or absent where this build takes none. */
  readonly hashesAddress?: number
}

export const pageBytes = 4_096
const sectionsMost = 64
const refuse = refuser("FIRMWARE_METADATA")

/** @throws MeasureError FIRMWARE_LENGTH, FIRMWARE_TABLE, FIRMWARE_METADATA */
export const readSnpFirmware = (image: Uint8Array): SnpFirmware => {
  const table = readFirmwareTable(image)
  const described = pointedFromEnd(image, table, tableGuids.sevMetadata, "OVMF built for SEV-SNP")
  const reader = new Reader(described, true, (field, found, wanted) =>
    refuse(`firmware.metadata.${field}`, found, wanted),
  )
  const signature = Buffer.from(reader.take("signature", 4)).toString("latin1")
  if (signature !== "ASEV") throw refuse("firmware.metadata.signature", "something else", "ASEV")
  reader.take("length", 4)
  const version = reader.u32("version")
  if (version !== 1) throw refuse("firmware.metadata.version", version, "1")
  const count = reader.u32("count")
  if (count > sectionsMost) throw refuse("firmware.metadata.count", count, `at most ${sectionsMost}`)
  const sections = Array.from({ length: count }, (_, i) => readSection(reader, i))
  const total = sections.reduce((sum, { size }) => sum + size, 0)
  if (total > 4 * measureLimits.firmwareBytes)
    throw refuse("firmware.metadata.sections", `${total} bytes`, `at most ${4 * measureLimits.firmwareBytes}`)
  const hashesAddress = table.has(tableGuids.sevHashTable)
    ? tableNumber(table, tableGuids.sevHashTable, "an address")
    : 0
  return {
    sections,
    resetAddress: tableNumber(table, tableGuids.sevResetBlock, "where processors begin"),
    ...(hashesAddress !== 0 && { hashesAddress }),
  }
}

const readSection = (reader: Reader, i: number): SnpSection => {
  const field = `firmware.metadata.sections[${i}]`
  const address = reader.u32("sections")
  const size = reader.u32("sections")
  const type = reader.u32("sections")
  const kind = kinds.get(type)
  if (kind === undefined) throw refuse(`${field}.type`, type, `one of ${[...kinds.keys()].join(", ")}`)
  if (address % pageBytes !== 0) throw refuse(`${field}.address`, address, "the beginning of a page")
  if (size === 0 || size % pageBytes !== 0 || size > measureLimits.firmwareBytes)
    throw refuse(`${field}.size`, size, `whole pages, at most ${measureLimits.firmwareBytes} bytes`)
  // One page each: what lies in it is the machine's, and the processor takes no more.
  if ((kind === "secrets" || kind === "cpuid" || kind === "kernel-hashes") && size !== pageBytes)
    throw refuse(`${field}.size`, size, `${pageBytes}`)
  return { kind, address, size }
}
